//! Bad guests: each must be refused at upload with its cause, or fail by itself, and leave everything else as it was.

use serde_json::{Value, json};

use crate::harness::{
    ECHO, SPIN, Tenant, answers_letters, answers_outside, base64, finds_traces, imports,
    leaves_traces, logs, memory_bomb, recurses, shared, spins_in_init, traps, wants_pages,
    wants_table, zip, zip_bomb,
};

/// Uploads what must be refused; the text that says why.
#[track_caller]
fn refused(tenant: &Tenant, what: &str, code: &str) -> String {
    let reply = tenant.put(
        "actions/bad",
        &json!({ "exec": { "kind": "wasm:1", "code": code } }),
    );
    assert_eq!(reply.status, 400, "{what}: {}", reply.shown());
    tenant.get("actions/bad").expect(404);
    reply.error()
}

fn wasm(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).expect("the test's own module")
}

#[test]
fn every_guest_of_the_harness_assembles() {
    use crate::harness::*;
    let all = [
        answers("{}"),
        answers_letters(9),
        answers_object_of(99),
        answers_outside(),
        big_echo(),
        command("{}", 1),
        command_echo(),
        counts(),
        finds_traces(3),
        imports("a", "b"),
        leaves_traces(3),
        logs("x", 2),
        memory_bomb(),
        recurses(),
        spins_in_init(),
        traps(),
        traps_in_init(),
        variable("A"),
        wants_pages(3),
        wants_table(3),
    ];
    for text in all {
        assert!(
            wat::parse_str(&text).is_ok(),
            "{text}\n{:?}",
            wat::parse_str(&text)
        );
    }
}

#[test]
fn what_is_no_module_is_refused() {
    let tenant = shared().tenant();
    let good = wasm(ECHO);
    let mut other_version = good.clone();
    other_version[4] = 9;
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle..].fill(0xFF);
    let elf = std::fs::read("/bin/true").unwrap();
    let table = [
        ("text", "this is no module".to_owned()),
        ("JavaScript", "function main() { return {} }".to_owned()),
        ("a shell script", "#!/bin/sh\necho {}\n".to_owned()),
        ("half a text", "(module (func".to_owned()),
        ("bytes", base64(&[0, 1, 2, 3, 4, 5, 6, 7, 8])),
        ("a native program", base64(&elf[..4096.min(elf.len())])),
        ("a header alone, cut", base64(&good[..6])),
        ("truncated", base64(&good[..good.len() - 5])),
        ("truncated more", base64(&good[..good.len() / 2])),
        ("of another version", base64(&other_version)),
        ("damaged", base64(&flipped)),
        ("an empty archive", zip(&[])),
        ("an archive without a module", zip(&[("index.js", b"x")])),
        ("an archive, truncated", base64(b"PK\x03\x04 not really")),
    ];
    for (what, code) in table {
        let text = refused(&tenant, what, &code);
        assert!(text.len() > 10, "{what}: {text:?} says nothing");
    }
}

#[test]
fn exports_that_match_no_abi_are_refused_and_the_abis_named() {
    let tenant = shared().tenant();
    let table = [
        ("nothing", "(module)"),
        (
            "no memory",
            "(module (func (export \"wisp_alloc\") (param i32) (result i32) unreachable) (func (export \"wisp_run\") (param i32 i32) (result i64) unreachable))",
        ),
        (
            "no alloc",
            "(module (memory (export \"memory\") 1) (func (export \"wisp_run\") (param i32 i32) (result i64) unreachable))",
        ),
        (
            "a wrong type",
            "(module (memory (export \"memory\") 1) (func (export \"wisp_alloc\") (param i64) (result i32) unreachable) (func (export \"wisp_run\") (param i32 i32) (result i64) unreachable))",
        ),
        (
            "a global for a function",
            "(module (memory (export \"memory\") 1) (global (export \"wisp_alloc\") i32 (i32.const 0)) (func (export \"wisp_run\") (param i32 i32) (result i64) unreachable))",
        ),
        ("an empty component", "(component)"),
    ];
    for (what, code) in table {
        let text = refused(&tenant, what, code);
        assert!(
            text.contains("wisp_") || text.contains("handler"),
            "{what}: names no ABI: {text}"
        );
    }
}

#[test]
fn imports_nobody_provides_are_refused_and_named() {
    let tenant = shared().tenant();
    for (module, name) in [
        ("env", "system"),
        ("wasi_snapshot_preview1", "sock_open_everything"),
        ("wisp", "no_such"),
        ("wasi_unstable", "fd_write"),
    ] {
        let text = refused(&tenant, module, &imports(module, name));
        assert!(text.contains(module) && text.contains(name), "{text}");
    }
    let memory = "(module (import \"env\" \"memory\" (memory 1)) (export \"memory\" (memory 0)) (func (export \"wisp_alloc\") (param i32) (result i32) unreachable) (func (export \"wisp_run\") (param i32 i32) (result i64) unreachable))";
    assert!(refused(&tenant, "an imported memory", memory).contains("memory"));
}

#[test]
fn a_wrong_type_of_a_known_import_is_refused() {
    let tenant = shared().tenant();
    let text = refused(
        &tenant,
        "fd_write without parameters",
        &imports("wasi_snapshot_preview1", "fd_write"),
    );
    assert!(text.contains("fd_write"), "{text}");
}

#[test]
fn more_memory_or_tables_than_allowed_are_refused_or_fail_alone() {
    let tenant = shared().tenant();
    // 65,536 pages are 4 GiB, 5,000 are 312 MiB; the action may have 256.
    let table = [
        ("pages", wants_pages(65_536)),
        ("some", wants_pages(5_000)),
        ("table", wants_table(10_000_000)),
    ];
    let mut wrong = Vec::new();
    for (name, code) in table {
        let body = json!({ "exec": { "kind": "wasm:1", "code": code } });
        let put = tenant.put(&format!("actions/{name}"), &body);
        if put.status == 400 && put.error().len() > 10 {
            continue;
        }
        let reply = tenant.result(name, &json!({}));
        let text = "The action exhausted its memory and was aborted.";
        if reply.status != 502 || reply.error_text() != Some(text.to_owned()) {
            wrong.push(format!(
                "section 3.3: {name}: {} then {}",
                put.status,
                reply.shown()
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_memory_bomb_ends_at_the_actions_limit_and_nobody_elses() {
    let tenant = shared().tenant();
    tenant.put_action_with(
        "bomb",
        &memory_bomb(),
        json!({ "limits": { "memory": 128 } }),
    );
    tenant.put_action("bystander", ECHO);
    let record = tenant.invoke("bomb", &json!({})).expect(502).json();
    let result = &record["response"]["result"];
    assert_eq!(
        result,
        &json!({ "error": "The action exhausted its memory and was aborted." }),
        "section 3.3"
    );
    let peak = crate::harness::annotation(&record, "peakMemory")
        .and_then(Value::as_u64)
        .unwrap();
    assert!(
        ((100 << 20)..=(128 << 20)).contains(&peak),
        "peakMemory {peak}"
    );
    tenant.result("bystander", &json!({})).expect(200);
}

#[test]
fn recursion_ends_at_the_stack() {
    let tenant = shared().tenant();
    tenant.put_action("deep", &recurses());
    let record = tenant.invoke("deep", &json!({})).expect(502).json();
    assert_eq!(record["response"]["status"], "action developer error");
    tenant.get("actions/deep").expect(200);
}

#[test]
fn a_pointer_outside_the_memory_is_the_guests_fault() {
    let tenant = shared().tenant();
    let alloc = |value: i32| {
        format!(
            "(module (memory (export \"memory\") 1) (func (export \"wisp_alloc\") (param i32) (result i32) (i32.const {value})) (func (export \"wisp_run\") (param i32 i32) (result i64) (i64.const 0)))"
        )
    };
    let huge = "(module (memory (export \"memory\") 1) (func (export \"wisp_alloc\") (param i32) (result i32) (i32.const 16)) (func (export \"wisp_run\") (param i32 i32) (result i64) (i64.const -1)))";
    let table = [
        ("result", answers_outside()),
        ("everything", huge.to_owned()),
        ("alloc-end", alloc(65_535)),
        ("alloc-negative", alloc(-1)),
        ("alloc-none", alloc(0)),
        ("empty", alloc(16)),
    ];
    for (name, code) in table {
        tenant.put_action(name, &code);
        let record = tenant
            .invoke(name, &json!({ "some": "parameters" }))
            .expect(502)
            .json();
        assert_eq!(
            record["response"]["status"], "action developer error",
            "{name}: {record}"
        );
    }
}

#[test]
fn letters_without_end_are_too_much() {
    let tenant = shared().tenant();
    tenant.put_action("letters", &answers_letters(8 << 20));
    let reply = tenant.invoke("letters", &json!({})).expect(502);
    let text = reply.json()["response"]["result"]["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(text.starts_with("The action produced a response that exceeded the allowed length: 8388608 > 1048576 bytes."), "section 3.3: {}", text.chars().take(200).collect::<String>());
    assert!(reply.body.len() < 2 << 20, "{} bytes", reply.body.len());
}

#[test]
fn a_flood_of_logs_costs_its_action_only() {
    let tenant = shared().tenant();
    tenant.put_action_with(
        "flood",
        &logs(&"y".repeat(400), 200_000),
        json!({ "limits": { "logs": 1, "timeout": 20_000 } }),
    );
    let reply = tenant.invoke("flood", &json!({}));
    assert!(matches!(reply.status, 200 | 502), "{}", reply.shown());
    let id = crate::harness::id_of(&reply);
    let stored = tenant.get(&format!("activations/{id}/logs")).expect(200);
    assert!(stored.body.len() < 3 << 20, "{} bytes", stored.body.len());
}

#[test]
fn archives_that_are_traps_are_refused() {
    let tenant = shared().tenant();
    let good = wasm(ECHO);
    let table = [
        ("a bomb", zip_bomb(512 << 20, 512 << 20)),
        ("a bomb that lies about its size", zip_bomb(256 << 20, 1000)),
        ("two modules", zip(&[("a.wasm", &good), ("b.wasm", &good)])),
        ("a path upward", zip(&[("../../evil.wasm", &good)])),
        ("an absolute path", zip(&[("/etc/evil.wasm", &good)])),
        ("a backslash path", zip(&[("..\\evil.wasm", &good)])),
        (
            "an archive in an archive",
            base64(zip(&[("a.zip", b"PK\x03\x04")]).as_bytes()),
        ),
    ];
    for (what, code) in table {
        refused(&tenant, what, &code);
    }
    let beside = zip(&[("../readme.txt", b"x"), ("a.wasm", &good)]);
    refused(&tenant, "a path upward beside a module", &beside);
    assert!(!std::path::Path::new("/etc/evil.wasm").exists());
}

#[test]
fn a_guest_finds_no_traces_of_another_tenant() {
    let (first, second) = (shared().tenant(), shared().tenant());
    for pages in [2, 16, 64] {
        first.put_action_with(
            "leaves",
            &leaves_traces(pages),
            json!({ "annotations": [{ "key": "fresh-instance", "value": true }] }),
        );
        second.put_action_with(
            "finds",
            &finds_traces(pages),
            json!({ "annotations": [{ "key": "fresh-instance", "value": true }] }),
        );
        for round in 0..20 {
            first.result("leaves", &json!({})).expect(200);
            let found = second.result("finds", &json!({})).expect(200).json();
            assert_eq!(found, json!({ "found": 0 }), "{pages} pages, round {round}");
        }
    }
}

#[test]
fn the_same_code_of_two_tenants_shares_no_instance() {
    let (first, second) = (shared().tenant(), shared().tenant());
    for tenant in [&first, &second] {
        tenant.put_action("counts", &crate::harness::counts());
    }
    let count =
        |tenant: &Tenant| tenant.result("counts", &json!({})).expect(200).json()["n"].clone();
    assert_eq!((count(&first), count(&first)), (json!(1), json!(2)));
    assert_eq!(count(&second), json!(1), "an instance never changes tenant");
    first.put_action("twin", &crate::harness::counts());
    let twin = first.result("twin", &json!({})).expect(200).json();
    assert_eq!(twin["n"], 1, "nor action");
}

#[test]
fn bad_guests_by_the_dozen_leave_the_server_well() {
    let tenant = shared().tenant();
    let quick = json!({ "limits": { "timeout": 200, "memory": 128 } });
    for (name, code) in [
        ("spin", SPIN.to_owned()),
        ("init", spins_in_init()),
        ("trap", traps()),
        ("deep", recurses()),
        ("bomb", memory_bomb()),
    ] {
        tenant.put_action_with(name, &code, quick.clone());
    }
    tenant.put_action("good", ECHO);
    std::thread::scope(|scope| {
        for name in ["spin", "init", "trap", "deep", "bomb"] {
            let tenant = &tenant;
            scope.spawn(move || {
                for _ in 0..4 {
                    tenant.invoke(name, &json!({})).expect(502);
                }
            });
        }
        for _ in 0..20 {
            let reply = tenant.result("good", &json!({ "a": 1 })).expect(200);
            assert_eq!(reply.json(), json!({ "a": 1 }));
        }
    });
    shared().client().get("/health").expect(200);
}
