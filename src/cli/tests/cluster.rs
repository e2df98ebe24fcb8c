//! `wisp cluster`.

use super::*;

fn node(id: &str, this: bool) -> Value {
    json!({"id": id, "this": this, "role": "all", "address": "10.0.0.1:3233", "version": "0.1.0", "leaseLeftMs": 4321,
        "runs": 3, "runsMax": 8, "memoryUsedBytes": 5 << 20, "memoryMaxBytes": 1 << 30, "idle": 2, "waiting": 1, "lanes": 4})
}

fn queue(action: &str, waiting: u64, oldest: u64, unreadable: u64) -> Value {
    json!({"namespace": "guest", "action": action, "invocations": waiting, "entries": waiting, "inWork": 1,
        "toTakeOver": 2, "unreadable": unreadable, "oldestAgeMs": oldest, "runsMax": 5,
        "holders": [{"node": "0123456789abcdef", "slots": 3, "alive": true}], "holdersMore": 0})
}

#[test]
fn a_cluster_that_is_well_is_said_to_be() {
    let status = json!({"name": "default", "nodes": [node("0123456789abcdef", true)], "dead": [], "queues": [],
        "queuesMore": 0, "waiting": 0, "partial": false, "deadLetters": 0, "homes": []});
    let (done, seen) = scripted([(200, status)], &["cluster", "status"]);
    assert_eq!(seen[0].line, "GET /admin/v1/cluster");
    assert!(seen[0].authorization.starts_with("Basic Nzg5YzQ2YjEt"));
    assert_eq!(
        done.out,
        "cluster default: 1 node, 0 invocations waiting, 0 dead letters\n\n\
         Node               Role  Address        Version  Lease  Runs  Memory      Idle  Waiting  Queues\n\
         0123456789abcdef*  all   10.0.0.1:3233  0.1.0    4.3 s  3/8   5/1024 MiB  2     1        4\n\n\
         ok: nothing is wrong\n"
    );
}

#[test]
fn what_is_wrong_with_a_cluster_stands_at_the_end() {
    let queues = [
        queue("guest/slow", 7, 12_345, 0),
        queue("guest/ok", 1, 9_000, 1),
    ];
    let status = json!({"name": "default", "nodes": [node("0123456789abcdef", false)],
        "dead": [{"id": "dead", "address": "", "sinceMs": 1500}, {"id": "older", "address": ""}], "queues": queues,
        "queuesMore": 9, "waiting": 8, "partial": true, "deadLetters": 1,
        "homes": [{"name": "x.0", "node": "x", "accepted": 2}]});
    let (done, _) = scripted([(200, status.clone())], &["cluster", "status"]);
    for line in [
        "wrong: node dead died 1.5 s ago, and what it had is not taken over yet",
        "wrong: node older died, and what it had is not taken over yet",
        "wrong: the queue of guest/slow for guest: the oldest has waited 12.3 s",
        "wrong: the queue of guest/ok for guest: 1 entry cannot be read and set aside; what they are is in the nodes' logs",
        "wrong: there are more queues than were looked at",
        "guest      guest/slow  7        7 +2 left behind  1        12.3 s  01234567 (3)",
        "and 9 queues more",
        "promised and not over: 2 pieces of work",
    ] {
        assert!(
            done.out.lines().any(|one| one == line),
            "{line}\n{}",
            done.out
        );
    }
    assert!(!done.out.contains("nothing is wrong") && !done.out.contains("9.0 s\nwrong"));
    let (done, _) = scripted([(200, status.clone())], &["cluster", "status", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&done.out).unwrap(), status);
}

#[test]
fn a_server_that_is_alone_is_no_cluster() {
    let refused = json!({"error": "This server is alone", "code": "t"});
    let (done, _) = scripted([(404, refused)], &["cluster", "status"]);
    assert_eq!(done.exit, 148);
    assert!(done.err.contains("This server is alone"), "{}", done.err);
}
