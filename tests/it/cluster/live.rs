//! Who follows a namespace at one node is told what runs on the others, as it is written.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::harness::{
    Events, Nodes, Redis, Tenant, annotation, binary, eventually, logs, logs_around_a_sleep,
};

/// A process whose lines are read as they come. It ends with this.
struct Lines {
    child: Child,
    read: Arc<Mutex<Vec<String>>>,
}

impl Lines {
    #[track_caller]
    fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let read = Arc::<Mutex<Vec<String>>>::default();
        let lines = Arc::clone(&read);
        std::thread::spawn(move || {
            for line in stdout.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                lines.lock().expect("not poisoned").push(line);
            }
        });
        Self { child, read }
    }

    fn any(&self, is_it: impl Fn(&str) -> bool) -> bool {
        let read = self.read.lock().expect("not poisoned");
        read.iter().any(|line| is_it(line))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Everything that is published for those who follow a namespace.
#[track_caller]
fn published(redis: &Redis) -> Lines {
    let mut command = Command::new("redis-cli");
    command.args([
        "-p",
        &redis.port.to_string(),
        "PSUBSCRIBE",
        "faults:s:live:*",
    ]);
    command.stdin(Stdio::null());
    let lines = Lines::of(command);
    eventually("it is subscribed", || {
        lines.any(|line| line == "psubscribe").then_some(())
    });
    lines
}

/// `wisp activation poll` at a node.
#[track_caller]
fn poll(nodes: &Nodes, tenant: &Tenant) -> Lines {
    let mut command = binary();
    command.args(["activation", "poll", "--apihost", &nodes.at(0).url()]);
    command.args(["--auth", &tenant.key]);
    Lines::of(command)
}

/// The next line of that activation, after the records of those that had just ended when it was asked.
#[track_caller]
fn next_line(follower: &mut Events, id: &str) -> String {
    loop {
        let (name, data) = follower.next();
        if data["activationId"] == id {
            assert_eq!(name, "log", "{data}");
            return data["line"].as_str().expect("a line").to_owned();
        }
    }
}

#[test]
fn lines_of_a_run_are_told_as_they_are_written_by_whichever_node_one_asks() {
    let redis = Redis::start();
    let nodes = Nodes::start(&redis.url(), &["front", "worker", "worker"], 2, "");
    let (tenant, other) = (nodes.at(0).tenant(), nodes.at(0).tenant());
    // Long enough for all of them to hear of the first line on a busy machine.
    tenant.put_action("talks", &logs_around_a_sleep(4000));
    other.put_action("talks", &logs("theirs", 3));
    nodes.await_action(&tenant, "talks");
    let said = published(&redis);
    // Nobody follows anything: nothing is told.
    tenant.invoke("talks", &json!({})).expect(200);
    other.invoke("talks", &json!({})).expect(200);
    assert!(!said.any(|line| line == "pmessage"), "{:?}", said.read);
    let polling = poll(&nodes, &tenant);
    let mut followers: Vec<Events> = (0..nodes.count())
        .map(|index| Events::of(&nodes.tenant_at(index, &tenant), "&logs=true"))
        .collect();
    // The others have heard that somebody follows.
    eventually("lines are told of", || {
        let watched = redis.cli(&["ZRANGE", "faults:s:watched", "0", "-1"]);
        (watched.matches("l:").count() == nodes.count()).then_some(())
    });
    let is_first = |line: &str| line.contains(" stdout: first");
    for round in 0..3 {
        other.invoke("talks", &json!({})).expect(200);
        let id = tenant.fire("talks", &json!({}));
        let first: Vec<String> = followers
            .iter_mut()
            .map(|follower| next_line(follower, &id))
            .collect();
        tenant.get(&format!("activations/{id}")).expect(404);
        assert!(first.iter().all(|line| is_first(line)), "{first:?}");
        if round == 0 {
            eventually("whoever polls sees it", || {
                polling.any(is_first).then_some(())
            });
        }
        for follower in &mut followers {
            let second = next_line(follower, &id);
            assert!(second.ends_with(" stderr: second"), "{second}");
            let (name, record) = follower.next();
            assert_eq!(
                (name.as_str(), &record["activationId"]),
                ("activation", &json!(id))
            );
            assert_eq!(record["logs"], json!([first[0], second]));
            assert!(annotation(&record, "waitTime").is_some());
        }
    }
    assert!(said.any(is_first), "another way led there");
    assert!(!said.any(|line| line.contains("theirs")), "{:?}", said.read);
    assert!(
        !polling.any(|line| line.contains("theirs")),
        "{:?}",
        polling.read
    );
}
