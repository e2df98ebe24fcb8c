//! What a Redis may hold, and be, that the service cannot believe: a clear error, nothing lost, nothing crashing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::json;

use super::load::Load;
use crate::harness::{ECHO, Nodes, Redis, Tenant, binary, eventually, node_config, run_to_end};

/// Two nodes, a tenant, and the stream of its action `a`.
fn set_up() -> (Redis, Nodes, Tenant, String) {
    let redis = Redis::start();
    let nodes = Nodes::start(&redis.url(), &["front", "worker"], 2, "");
    let tenant = nodes.at(0).tenant();
    tenant.put_action("a", ECHO);
    let name = &tenant.namespace;
    let lane = format!("faults:q:{{{name}|{name}/a}}");
    (redis, nodes, tenant, lane)
}

/// Both nodes live, and say no word of a panic.
#[track_caller]
fn assert_sound(nodes: &Nodes) {
    for index in 0..nodes.count() {
        assert!(nodes.at(index).ended().is_none(), "node {index} ended");
        let log = nodes.at(index).log();
        assert!(!log.contains("panic"), "{log}");
        nodes.at(index).client().get("/ping").expect(200);
    }
}

#[test]
fn entries_that_cannot_be_read_are_set_aside_and_hold_nobody_up() {
    let (redis, nodes, tenant, lane) = set_up();
    let (stream, aside, load) = (format!("{lane}:s"), format!("{lane}:u"), Load::default());
    // Whoever takes the lane may drop it at any moment while it is empty: all of it is put in until it is there.
    for (round, entry) in [
        &["what", "ever"][..],
        &["v", "99", "n", "1", "b", "{}"],
        &["v", "1", "n", "1", "b", "\u{1}poison"],
        &["v", "1", "n", "-7", "k", "faults:q:{nowhere}"],
        &[
            "v",
            "1",
            "n",
            "1",
            "b",
            "{\"front\":\"x\",\"namespace\":\"guest\",\"action\":{},\"works\":[]}",
        ],
    ]
    .into_iter()
    .enumerate()
    {
        load.call(&tenant, "a", &json!({}));
        redis.cli(&["XGROUP", "CREATE", &stream, "w", "0", "MKSTREAM"]);
        let mut command = vec!["XADD", &stream, "*"];
        command.extend(entry);
        redis.cli(&command);
        for _ in 0..5 {
            load.call(&tenant, "a", &json!({}));
        }
        eventually("the entry is set aside", || {
            let kept: usize = redis.cli(&["XLEN", &aside]).parse().unwrap_or(0);
            (kept > round).then_some(())
        });
    }
    let found = load.settle(&tenant);
    assert_eq!(found.redelivered, 0, "{found:?}");
    assert!(nodes.at(1).log().contains("set aside"));
    // They are kept for whoever looks for them, and the stream is as if they had never been.
    assert_eq!(redis.cli(&["XLEN", &aside]), "5");
    eventually("the stream is cleared away", || {
        (redis.cli(&["EXISTS", &stream]) == "0").then_some(())
    });
    let commands = || {
        let info = redis.cli(&["INFO", "stats"]);
        let mut lines = info.lines();
        let line = lines.find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.and_then(|text| text.trim().parse::<u64>().ok())
            .expect("a count")
    };
    let (before, began) = (commands(), tokio::time::Instant::now());
    crate::harness::pause(std::time::Duration::from_secs(2));
    let rate = (commands() - before) / began.elapsed().as_secs().max(1);
    println!("two idle nodes beside 5 entries that were set aside: {rate} commands/s");
    assert!(rate < 200, "{rate} commands a second for nothing");
    assert_sound(&nodes);
}

#[test]
fn keys_deleted_or_replaced_by_hand_are_an_error_for_those_who_need_them_alone() {
    let (redis, mut nodes, tenant, lane) = set_up();
    let load = Load::default();
    tenant.put_action("b", ECHO);
    for _ in 0..3 {
        for key in ["s", "h", "b"].map(|part| format!("{lane}:{part}")) {
            load.call(&tenant, "a", &json!({}));
            redis.cli(&["DEL", &key]);
            redis.cli(&["SET", &key, "not ours"]);
            let status = load.call(&tenant, "a", &json!({}));
            println!("{key} is a string: {status:?}");
            tenant.result("b", &json!({ "x": 1 })).expect(200);
            redis.cli(&["DEL", &key]);
            eventually("it works again", || {
                let id = tenant.request("POST", "actions/a").json(&json!({}));
                let reply = tenant.client.send(&id);
                if reply.status != 202 {
                    return None;
                }
                let id = crate::harness::id_of(&reply);
                eventually("what was accepted is recorded", || {
                    (tenant.get(&format!("activations/{id}")).status == 200).then_some(())
                });
                Some(())
            });
        }
    }
    assert_sound(&nodes);
    // Everything of the action, and then everything of the cluster.
    for pattern in [
        format!("faults:*{}*", tenant.namespace),
        "faults:*".to_owned(),
    ] {
        for key in redis.keys(&pattern) {
            redis.cli(&["DEL", &key]);
        }
        let reply = tenant.post("actions/a", &json!({}));
        println!("without {pattern}: {}", reply.shown());
        assert!(reply.status < 504, "{}", reply.shown());
        assert_sound(&nodes);
    }
    // Nobody has a key any more. A node that starts makes it a cluster again, as it does with an empty Redis.
    nodes.kill(0);
    nodes.start_again(0);
    let tenant = eventually("a new tenant", || {
        let name = Tenant::fresh_name();
        let path = format!("/admin/v1/namespaces/{name}");
        let request = crate::harness::Request::new("PUT", &path).key(crate::harness::SYSTEM_KEY);
        let reply = nodes.at(0).client().send(&request);
        let key = reply.json()["key"].as_str()?.to_owned();
        Some(Tenant::new(nodes.at(0).client(), &name, &key))
    });
    tenant.put_action("a", ECHO);
    eventually("calls are run", || {
        (tenant.result("a", &json!({ "x": 1 })).status == 200).then_some(())
    });
}

#[test]
fn a_due_list_that_is_none_keeps_no_work_of_others_from_being_found() {
    let (redis, mut nodes, tenant, _) = set_up();
    let other = nodes.at(0).tenant();
    other.put_action("a", ECHO);
    // Nobody can be told of it.
    nodes.kill(1);
    let reply = other.post("actions/a", &json!({})).expect(202);
    let due = format!("faults:q:due:{}", tenant.namespace);
    redis.cli(&["SET", &due, "not ours"]);
    redis.cli(&["ZADD", "faults:q:due", "1", &tenant.namespace]);
    nodes.start_again(1);
    other.awaited(&crate::harness::id_of(&reply));
    assert!(
        nodes
            .at(1)
            .log()
            .contains("what Redis holds of a namespace's due list is not ours")
    );
    redis.cli(&["DEL", &due]);
    tenant.result("a", &json!({ "x": 1 })).expect(200);
    assert_sound(&nodes);
}

/// What `wisp serve` says, which must not start.
#[track_caller]
fn refused(config: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("wisp.toml");
    std::fs::write(&file, config).expect("a configuration file");
    let mut command = binary();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]);
    command
        .arg(folder.path().join("data"))
        .arg("--config")
        .arg(&file);
    let (code, _, errors) = run_to_end(command);
    println!("{errors}");
    assert!(matches!(code, Some(1..)), "{code:?} {errors}");
    assert!(!errors.contains("panic"), "{errors}");
    errors
}

#[test]
fn a_wrong_password_an_eviction_policy_and_another_cluster_are_refused_with_what_to_do() {
    let redis = Redis::with(&["--requirepass", "right"]);
    let url = |login: &str| format!("redis://{login}127.0.0.1:{}", redis.port);
    for login in ["", ":wrong@", "nobody:right@"] {
        let errors = refused(&node_config(&url(login), "all", 2, ""));
        assert!(errors.contains("Redis refused"), "{errors}");
        assert!(!errors.contains("wrong@"), "a password is shown: {errors}");
    }
    let right = url(":right@");
    redis.cli(&[
        "-a",
        "right",
        "CONFIG",
        "SET",
        "maxmemory-policy",
        "allkeys-lru",
    ]);
    let errors = refused(&node_config(&right, "all", 2, ""));
    assert!(errors.contains("noeviction"), "{errors}");
    redis.cli(&[
        "-a",
        "right",
        "CONFIG",
        "SET",
        "maxmemory-policy",
        "noeviction",
    ]);
    let _nodes = Nodes::start(&right, &["all"], 2, "");
    let other =
        node_config(&right, "all", 2, "").replace("[redis]\n", "[redis]\ncluster = \"other\"\n");
    let errors = refused(&other);
    assert!(
        errors.contains("prefix") && errors.contains("\"other\""),
        "{errors}"
    );
}

#[test]
fn a_redis_of_another_form_than_its_url_says_is_refused_with_the_url_it_wants() {
    let redis = Redis::start();
    let of = format!("127.0.0.1 {}", redis.port);
    let replica = Redis::with(&["--replicaof", &of]);
    let member = Redis::with(&["--cluster-enabled", "yes"]);
    let (sentinel, closed) = (
        Redis::sentinel(&redis),
        Redis::with(&["--requirepass", "right"]),
    );
    let may = "on >pw ~faults:* resetchannels &other:* +@all";
    for line in [format!("few {may}"), format!("deaf {may} &faults:* -zadd")] {
        let words: Vec<&str> = line.split(' ').collect();
        let set = ["--no-auth-warning", "-a", "right", "ACL", "SETUSER"];
        assert_eq!(closed.cli(&[&set[..], &words].concat()), "OK");
    }
    let at = |server: &Redis| format!("127.0.0.1:{}", server.port);
    let table = [
        (
            format!("redis+cluster://{}", at(&redis)),
            "begins with redis://",
        ),
        (format!("redis://{}", at(&member)), "redis+cluster://"),
        (format!("redis://{}", at(&sentinel)), "redis+sentinel://"),
        (
            format!("redis+sentinel://{}/wisp", at(&redis)),
            "not a sentinel",
        ),
        (
            format!("redis+sentinel://{}/other", at(&sentinel)),
            "no service other",
        ),
        (
            format!("redis://{}", at(&replica)),
            &*format!("master is {}", at(&redis)),
        ),
        (format!("redis://{}", at(&closed)), "WISP_REDIS_URL"),
        // What is missing is found where it is first needed: the channels at once, a command when a lease is taken.
        (
            format!("redis://few:pw@{}", at(&closed)),
            "secret.example.yaml",
        ),
        (format!("redis://deaf:pw@{}", at(&closed)), "Redis refused"),
    ];
    for (url, advice) in table {
        let errors = refused(&node_config(&url, "all", 2, ""));
        assert!(errors.contains(advice), "{url}: {errors}");
    }
}

/// Answers as a Redis 6.2 does, as far as it is asked here.
fn old_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drop(answer(stream)));
        }
    });
    port
}

fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let count: usize = line.trim_start_matches('*').trim().parse().unwrap_or(0);
        let mut words = Vec::new();
        for _ in 0..count {
            let mut size = String::new();
            stream.read_line(&mut size)?;
            let mut word = vec![0; size.trim_start_matches('$').trim().parse().unwrap_or(0) + 2];
            stream.read_exact(&mut word)?;
            words.push(String::from_utf8_lossy(&word).trim().to_uppercase());
        }
        let info = "# Server\r\nredis_version:6.2.14\r\n";
        let answer = match words.first().map(String::as_str) {
            Some("HELLO") => "%1\r\n$5\r\nproto\r\n:3\r\n".to_owned(),
            Some("INFO") => format!("${}\r\n{info}\r\n", info.len()),
            _ => "+OK\r\n".to_owned(),
        };
        stream.get_mut().write_all(answer.as_bytes())?;
    }
}

#[test]
fn a_redis_that_is_too_old_or_not_there_is_refused_with_its_version_or_address() {
    let old = format!("redis://127.0.0.1:{}", old_server());
    let errors = refused(&node_config(&old, "all", 2, ""));
    assert!(errors.contains("6.2.14 is too old: 7.0"), "{errors}");
    let gone = crate::harness::free_port();
    let errors = refused(&node_config(
        &format!("redis://127.0.0.1:{gone}"),
        "all",
        2,
        "",
    ));
    assert!(errors.contains(&format!("127.0.0.1:{gone}")), "{errors}");
}
