//! What was promised holds when the server is killed, when its files are damaged, and when there is no room.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Counter, ECHO, SLEEP, Server, Tenant, annotation, binary, counts, eventually, id_of, is_root,
    pause, run_to_end,
};

fn rows(tenant: &Tenant) -> Vec<Value> {
    let rows = tenant.get("activations?limit=200").expect(200).json();
    rows.as_array().expect("an array").clone()
}

fn at(tenant: &Tenant, server: &Server) -> Tenant {
    Tenant::new(server.client(), &tenant.namespace, &tenant.key)
}

#[test]
fn a_restart_finds_everything_as_it_was() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.limits(&json!({ "invocationsPerMinute": 777 }));
    let parameters =
        json!({ "parameters": [{ "key": "a", "value": 1 }], "limits": { "instances": 3 } });
    let put = tenant.put_action_with("a", ECHO, parameters);
    let id = id_of(&tenant.invoke("a", &json!({ "b": 2 })).expect(200));
    let record = tenant.activation(&id);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let server = server.restart();
    let tenant = at(&tenant, &server);
    assert_eq!(tenant.get("actions/a").expect(200).json(), put);
    assert_eq!(
        tenant.get("limits").expect(200).json()["invocationsPerMinute"],
        777
    );
    assert_eq!(tenant.activation(&id), record);
    assert_eq!(
        tenant.result("a", &json!({})).expect(200).json(),
        json!({ "a": 1 })
    );
}

#[test]
fn what_was_answered_about_entities_survives_a_kill_at_once() {
    let mut server = Server::start("");
    let first = server.tenant();
    let mut last = Value::Null;
    for round in 0..3 {
        let tenant = at(&first, &server);
        last = tenant.put_action(
            "a",
            &crate::harness::answers(&format!("{{\"round\":{round}}}")),
        );
        tenant.put_action("gone", ECHO);
        tenant.delete("actions/gone").expect(200);
        tenant.limits(&json!({ "invocationsPerMinute": 100 + round }));
        server = server.crash_and_restart();
        let tenant = at(&first, &server);
        assert_eq!(tenant.get("actions/a").expect(200).json(), last);
        tenant.get("actions/gone").expect(404);
        assert_eq!(
            tenant.get("limits").expect(200).json()["invocationsPerMinute"],
            100 + round
        );
        assert_eq!(
            tenant.result("a", &json!({})).expect(200).json(),
            json!({ "round": round })
        );
    }
    assert_eq!(last["version"], "0.0.3");
}

#[test]
fn accepted_work_has_exactly_one_record_whenever_the_server_is_killed() {
    let mut server = Server::start("");
    let first = server.tenant();
    first.put_action_with("a", SLEEP, json!({ "limits": { "instances": 4 } }));
    let mut accepted = Vec::new();
    for round in 0..4_u64 {
        let tenant = at(&first, &server);
        // Killed with work in every state: done, running, waiting.
        accepted.extend((0..25).map(|n| tenant.fire("a", &json!({ "ms": 10 + n % 7 * 10 }))));
        pause(std::time::Duration::from_millis(round * 40));
        server = server.crash_and_restart();
    }
    let tenant = at(&first, &server);
    for id in &accepted {
        let record = tenant.awaited(id);
        assert_eq!(record["activationId"], id.as_str());
        assert_eq!(record["response"]["status"], "success", "{record}");
    }
    let mut listed: Vec<String> = rows(&tenant)
        .iter()
        .map(|row| row["activationId"].as_str().unwrap().to_owned())
        .collect();
    listed.sort();
    accepted.sort();
    assert_eq!(listed, accepted, "one each, and none that nobody asked for");
    eventually("nothing is left to do", || {
        let metrics = server.client().get("/metrics").text();
        metrics
            .lines()
            .any(|line| line == "wisp_queue_depth 0")
            .then_some(())
    });
}

#[test]
fn work_whose_run_had_begun_is_run_again_and_says_so() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put_action("a", SLEEP);
    let id = tenant.fire("a", &json!({ "ms": 2500 }));
    running(&server);
    // The note that it runs is written with the next commit; nothing else is there to be written.
    let before = commits(&server);
    eventually("the note is on disk", || {
        (commits(&server) > before).then_some(())
    });
    let server = server.crash_and_restart();
    let record = at(&tenant, &server).awaited(&id);
    assert_eq!(record["response"]["status"], "success", "{record}");
    assert_eq!(
        annotation(&record, "redelivered"),
        Some(&json!(1)),
        "{record}"
    );
}

#[test]
fn work_that_kills_its_server_is_given_up_after_three_deliveries() {
    let mut server = Server::start("");
    let first = server.tenant();
    first.put_action("a", SLEEP);
    let id = first.fire("a", &json!({ "ms": 15_000 }));
    let mut deliveries = 0;
    // Killed as soon as it runs: as a guest would that breaks its server.
    let record = loop {
        let reply = at(&first, &server).get(&format!("activations/{id}"));
        if reply.status == 200 {
            break reply.json();
        }
        if server.runs_at_least(1) {
            deliveries += 1;
            assert!(deliveries <= 4, "delivered again and again");
            server = server.crash_and_restart();
        }
        pause(std::time::Duration::from_millis(1));
    };
    assert_eq!(
        record["response"]["status"], "whisk internal error",
        "{record}"
    );
    // Of the very first the note may be lost with the process; from then on every one counts.
    assert!((3..=4).contains(&deliveries), "{deliveries}");
    let letters = at(&first, &server).get("deadletters").expect(200).json();
    assert_eq!(letters[0]["activationId"], id, "{letters}");
}

#[test]
fn what_was_told_to_stop_stays_stopped_whenever_the_server_is_killed() {
    let mut server = Server::start("");
    let first = server.tenant();
    first.put_action_with("a", SLEEP, json!({ "limits": { "instances": 1 } }));
    let sequence = json!({ "exec": { "kind": "sequence", "components": ["/_/a", "/_/a"] } });
    first.put("actions/s", &sequence).expect(200);
    for round in 0..3 {
        let tenant = at(&first, &server);
        // One runs, the others wait behind it; each is the last to be told once.
        let mut ids = [
            tenant.fire("a", &json!({ "ms": 4000 })),
            tenant.fire("a", &json!({ "ms": 4000 })),
            tenant.fire("s", &json!({ "ms": 4000 })),
        ];
        running(&server);
        ids.rotate_left(round);
        for id in &ids {
            tenant.delete(&format!("activations/{id}")).expect(202);
        }
        let kept = tenant.fire("a", &json!({ "ms": 1 }));
        server = server.crash_and_restart();
        let tenant = at(&first, &server);
        for id in &ids {
            let record = tenant.awaited(id);
            let result = &record["response"]["result"];
            assert_eq!(result["error"], "The activation was cancelled.", "{record}");
        }
        let record = tenant.awaited(&kept);
        assert_eq!(record["response"]["status"], "success", "{record}");
    }
}

#[test]
fn at_most_once_is_not_run_again_but_recorded() {
    let counter = Counter::start();
    let server = Server::start(&counter.egress());
    let tenant = server.tenant();
    let once = json!({ "annotations": [{ "key": "at-most-once", "value": true }] });
    Counter::put_action(&tenant, "a", once);
    let id = tenant.fire("a", &counter.params("a", 2000));
    // In its guest: a run is counted before it is noted to have begun, and one that is not is begun again.
    eventually("it runs", || (counter.now("a") == 1).then_some(()));
    let server = server.crash_and_restart();
    let record = at(&tenant, &server).awaited(&id);
    assert_ne!(record["response"]["status"], "success", "{record}");
    assert_eq!(rows(&at(&tenant, &server)).len(), 1);
}

#[test]
fn a_blocking_call_is_not_replayed() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put_action("a", SLEEP);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| {
            let request = tenant
                .request("POST", "actions/a?blocking=true")
                .json(&json!({ "ms": 5000 }));
            tenant.client.try_send(&request)
        });
        running(&server);
        server.kill();
        assert!(
            call.join().unwrap().is_err(),
            "the caller saw the connection end"
        );
    });
    let server = server.restart();
    let tenant = at(&tenant, &server);
    tenant.result("a", &json!({ "ms": 1 })).expect(200);
    assert_eq!(rows(&tenant).len(), 1, "only the second call has a record");
}

/// How often the store has written.
fn commits(server: &Server) -> u64 {
    let metrics = server.client().get("/metrics").text();
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix("wisp_store_commit_seconds_count "));
    count.map_or(0, |count| count.parse().expect("a number"))
}

/// Waits until something runs.
fn running(server: &Server) {
    eventually("a run begins", || server.runs_at_least(1).then_some(()));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("entry").path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push(path),
        }
    }
    all
}

/// The compiled programs in a data folder: the files that are native code.
fn artefacts(server: &Server) -> Vec<PathBuf> {
    let is_code = |path: &PathBuf| {
        fs::read(path).is_ok_and(|bytes| bytes.windows(4).any(|w| w == b"\x7fELF"))
    };
    let all = files(&server.data()).into_iter();
    all.filter(|path| {
        !path.to_string_lossy().contains("sqlite") && !path.to_string_lossy().ends_with(".db")
    })
    .filter(is_code)
    .collect()
}

#[test]
fn damaged_artefacts_are_made_again() {
    type Damage = fn(&Path);
    let table: [(&str, Damage); 6] = [
        ("a flipped bit", |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("a flipped bit at the end", |path| {
            let mut bytes = fs::read(path).unwrap();
            *bytes.last_mut().unwrap() ^= 0x80;
            fs::write(path, bytes).unwrap();
        }),
        ("truncated", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 3]).unwrap();
        }),
        ("empty", |path| fs::write(path, b"").unwrap()),
        ("foreign", |path| {
            fs::write(path, fs::read("/bin/true").unwrap()).unwrap();
        }),
        ("gone", |path| fs::remove_file(path).unwrap()),
    ];
    let mut server = Server::start("");
    let first = server.tenant();
    first.put_action("a", &counts());
    assert!(
        !artefacts(&server).is_empty(),
        "no artefact found in {:?}",
        files(&server.data())
    );
    for (what, damage) in table {
        server.kill();
        let found = artefacts(&server);
        assert!(!found.is_empty(), "{what}: it was not made again");
        found.iter().for_each(|path| damage(path));
        server = server.restart();
        let reply = at(&first, &server).result("a", &json!({})).expect(200);
        assert_eq!(reply.json(), json!({ "n": 1 }), "{what}");
    }
}

#[test]
fn an_artefact_of_another_program_is_not_taken_for_it() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put_action("a", &counts());
    let of_a = artefacts(&server);
    tenant.put_action("b", &crate::harness::answers("{\"evil\":true}"));
    let of_b: Vec<PathBuf> = artefacts(&server)
        .into_iter()
        .filter(|path| !of_a.contains(path))
        .collect();
    let [of_b] = of_b.as_slice() else {
        panic!("one artefact for b: {of_b:?}")
    };
    server.kill();
    for path in &of_a {
        fs::copy(of_b, path).unwrap();
    }
    let server = server.restart();
    let reply = at(&tenant, &server).result("a", &json!({})).expect(200);
    assert_eq!(reply.json(), json!({ "n": 1 }), "it is made again instead");
}

/// `wisp serve` on `data`, which must not start: what it says.
fn refused(data: &Path) -> String {
    let mut command = binary();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data);
    let (code, _, stderr) = run_to_end(command);
    assert!(
        code.is_some_and(|code| code != 0),
        "it started, or hangs: {code:?} {stderr}"
    );
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

#[test]
fn a_second_server_on_one_folder_is_refused_and_the_first_goes_on() {
    let server = Server::start("");
    let text = refused(&server.data());
    assert!(text.contains("data"), "says which folder: {text}");
    let tenant = server.tenant();
    tenant.put_action("a", ECHO);
    tenant.result("a", &json!({})).expect(200);
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_and_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let text = refused(&file.join("data"));
    assert!(text.contains("file"), "{text}");
    assert!(refused(Path::new("/proc/wisp-data")).contains("/proc/wisp-data"));
    let empty = TempDir::new().unwrap();
    if let Some(mount) = Mount::tmpfs(empty.path(), "ro") {
        let text = refused(&mount.0.join("data"));
        assert!(text.to_lowercase().contains("read-only"), "{text}");
    }
}

#[test]
fn a_folder_of_another_program_is_refused_not_overwritten() {
    let server = Server::start("");
    server.kill();
    let database = files(&server.data())
        .into_iter()
        .filter(|path| fs::read(path).unwrap().starts_with(b"SQLite format 3"));
    let databases: Vec<PathBuf> = database.collect();
    assert!(!databases.is_empty(), "{:?}", files(&server.data()));
    for path in &databases {
        fs::write(path, "this is somebody's diary\n".repeat(500)).unwrap();
        for suffix in ["-wal", "-shm"] {
            drop(fs::remove_file(format!("{}{suffix}", path.display())));
        }
    }
    refused(&server.data());
    for path in &databases {
        assert!(
            fs::read(path)
                .unwrap()
                .starts_with(b"this is somebody's diary"),
            "it was overwritten"
        );
    }
}

/// A file system of its own, gone with the test.
struct Mount(PathBuf);

impl Mount {
    /// `None` where this user may not mount.
    fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let mut mount = Command::new("mount");
        let mounted = mount
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(at)
            .output()
            .ok()?;
        mounted.status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_refuses_accepted_work_and_resumes_when_there_is_room() {
    let folder = Arc::new(TempDir::new().unwrap());
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let Some(mount) = Mount::tmpfs(&data, "size=24m") else {
        return a_file_size_limit_stands_in();
    };
    let server = Server::start_in(&folder, "");
    let tenant = server.tenant();
    tenant.put_action("a", ECHO);
    let before = tenant.fire("a", &json!({ "before": true }));
    tenant.awaited(&before);
    fill(&data.join("ballast"));
    // What is left inside the database's own files may take a few more.
    let big = json!({ "pad": "x".repeat(60_000) });
    let refused = eventually("the disk is full", || {
        let reply = tenant.post("actions/a", &big);
        (reply.status != 202).then_some(reply)
    });
    assert_eq!(refused.status, 503, "{}", refused.shown());
    assert!(
        refused.header("retry-after").is_some(),
        "{}",
        refused.shown()
    );
    let upload = tenant.put("actions/new", &json!({ "exec": { "kind": "wasm:1", "code": format!("{ECHO};;{}", "x".repeat(200_000)) } }));
    assert_eq!(upload.status, 503, "{}", upload.shown());
    tenant.get("actions/a").expect(200);
    server.client().get("/ping").expect(200);
    fs::remove_file(data.join("ballast")).unwrap();
    let id = eventually("it resumes", || {
        let reply = tenant.post("actions/a", &json!({ "after": true }));
        (reply.status == 202).then(|| id_of(&reply))
    });
    assert_eq!(tenant.awaited(&id)["response"]["status"], "success");
    tenant.put_action("new", ECHO);
    let server = server.crash_and_restart();
    let tenant = at(&tenant, &server);
    // Its record may have waited for the disk until the crash: then the promise is kept now.
    assert_eq!(
        tenant.awaited(&before)["response"]["result"],
        json!({ "before": true }),
        "nothing is corrupted"
    );
    tenant.awaited(&id);
    tenant.result("new", &json!({})).expect(200);
    drop(server);
    drop(mount);
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = fs::File::create(path).unwrap();
    let block = vec![7; 64 << 10];
    while file.write_all(&block).is_ok() {}
    while file.write_all(&[7; 512]).is_ok() {}
}

/// Where nobody may mount: no file of the server's may grow beyond what it has now.
fn a_file_size_limit_stands_in() {
    let server = Server::start_without_file_size_signal();
    let tenant = server.tenant();
    tenant.put_action("a", ECHO);
    let largest = files(&server.data())
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|data| data.len())
        .max();
    let limit = |bytes: &str| {
        let pid = server.pid().to_string();
        Command::new("prlimit")
            .args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")])
            .status()
            .expect("util-linux")
    };
    limit(&largest.unwrap_or_default().to_string());
    let big = json!({ "pad": "x".repeat(60_000) });
    let refused = eventually("the disk is full", || {
        let reply = tenant.post("actions/a", &big);
        (reply.status != 202).then_some(reply)
    });
    assert_eq!(refused.status, 503, "{}", refused.shown());
    limit("unlimited");
    let id = eventually("it resumes", || {
        let reply = tenant.post("actions/a", &json!({}));
        (reply.status == 202).then(|| id_of(&reply))
    });
    tenant.awaited(&id);
}
