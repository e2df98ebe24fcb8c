//! SIGTERM and ctrl-c: nothing new, what runs is finished, exit 0; told twice, at once.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::{Request, SLEEP, SYSTEM_KEY, Server, Tenant, eventually};

fn accepts(server: &Server) -> bool {
    server
        .client()
        .try_send(&Request::new("GET", "/ping"))
        .is_ok()
}

#[test]
fn the_operator_of_a_controller_ends_it_as_a_signal_does() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put_action("a", SLEEP);
    for key in [None, Some(tenant.key.as_str())] {
        let request = Request::new("POST", "/disable");
        let request = match key {
            Some(key) => request.key(key),
            None => request,
        };
        let refused = server.client().send(&request).expect(401);
        assert_eq!(refused.text(), "username or password are wrong.");
    }
    std::thread::scope(|scope| {
        let call = scope.spawn(|| tenant.result("a", &json!({ "ms": 1000 })));
        eventually("it runs", || server.runs_at_least(1).then_some(()));
        let count = server.client().get("/activation/count").expect(200);
        assert_eq!(count.json(), 1);
        let request = Request::new("POST", "/disable").key(SYSTEM_KEY);
        let answer = server.client().send(&request).expect(200);
        assert_eq!(answer.text(), "controller is disabled");
        eventually("it accepts no more", || (!accepts(&server)).then_some(()));
        call.join().expect("the call is answered").expect(200);
    });
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_signal_finishes_what_runs_and_exits_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start("");
        let tenant = server.tenant();
        tenant.put_action("a", SLEEP);
        let id = tenant.fire("a", &json!({ "ms": 1500 }));
        std::thread::scope(|scope| {
            let call = scope.spawn(|| tenant.result("a", &json!({ "ms": 1000 })));
            eventually("both run", || server.runs_at_least(2).then_some(()));
            server.signal(signal);
            eventually("it accepts no more", || (!accepts(&server)).then_some(()));
            let reply = call.join().expect("the call is answered");
            assert_eq!(
                reply.expect(200).json(),
                json!({ "ms": 1000 }),
                "{signal:?}"
            );
        });
        assert_eq!(server.wait().code(), Some(0), "{signal:?}");
        let server = server.restart();
        let record = Tenant::new(server.client(), &tenant.namespace, &tenant.key).activation(&id);
        assert_eq!(
            record["response"]["status"], "success",
            "{signal:?}: it was finished, not left"
        );
        assert!(
            crate::harness::annotation(&record, "redelivered").is_none(),
            "{record}"
        );
    }
}

#[test]
fn uploads_that_wait_for_a_compiler_are_refused_and_hold_nothing_up() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let compiler = folder.path().join("compiler");
    std::fs::write(&compiler, "#!/bin/sh\nexec sleep 60\n").expect("a compiler that never ends");
    std::fs::set_permissions(&compiler, std::fs::Permissions::from_mode(0o700)).expect("ours");
    let server = Server::start(&format!("[server]\ncompiler = {compiler:?}"));
    let tenant = server.tenant();
    let script = json!({ "exec": { "kind": "nodejs:20", "code": "function main() {}" } });
    let module = json!({ "exec": { "kind": "wasm:1", "code": SLEEP } });
    std::thread::scope(|scope| {
        let uploads = [("script", script), ("module", module)].map(|(name, body)| {
            let tenant = &tenant;
            scope.spawn(move || tenant.put(&format!("actions/{name}"), &body))
        });
        eventually("both compile", || {
            compilers(server.pid()).ge(&2).then_some(())
        });
        server.signal(Signal::TERM);
        let began = Instant::now();
        for upload in uploads {
            let refused = upload.join().expect("it is answered").expect(503);
            assert!(
                refused.error().contains("shutting down"),
                "{}",
                refused.error()
            );
            assert!(refused.header("retry-after").is_some());
        }
        assert_eq!(server.wait().code(), Some(0));
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
    });
}

/// How many processes the server has started that are there.
fn compilers(server: u32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{server}/task")).expect("it lives");
    let children = |task: std::fs::DirEntry| {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.split_whitespace().count()
    };
    tasks.flatten().map(children).sum()
}

#[test]
fn a_server_with_nothing_to_do_ends_at_once() {
    let server = Server::start("");
    let idle = server
        .client()
        .connect()
        .expect("an idle connection must not hold it up");
    server.signal(Signal::TERM);
    let began = Instant::now();
    assert_eq!(server.wait().code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    drop(idle);
}

#[test]
fn a_second_signal_ends_it_at_once_and_what_was_accepted_runs_at_the_next_start() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put_action("a", SLEEP);
    let id = tenant.fire("a", &json!({ "ms": 3000 }));
    eventually("it runs", || server.runs_at_least(1).then_some(()));
    server.signal(Signal::TERM);
    eventually("it accepts no more", || (!accepts(&server)).then_some(()));
    server.signal(Signal::TERM);
    let began = Instant::now();
    assert_eq!(server.wait().code(), Some(130));
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    let server = server.restart();
    let record = Tenant::new(server.client(), &tenant.namespace, &tenant.key).awaited(&id);
    assert_eq!(record["response"]["status"], "success");
}

#[test]
fn work_that_waits_at_a_drain_runs_at_the_next_start() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put_action_with("a", SLEEP, json!({ "limits": { "instances": 1 } }));
    let ids: Vec<String> = (0..5)
        .map(|_| tenant.fire("a", &json!({ "ms": 400 })))
        .collect();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let server = server.restart();
    let tenant = Tenant::new(server.client(), &tenant.namespace, &tenant.key);
    for id in ids {
        assert_eq!(tenant.awaited(&id)["response"]["status"], "success");
    }
}
