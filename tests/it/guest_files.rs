//! The private `/tmp` of a guest: a program that knows nothing of Wisp works on files with its language's own library, as a
//! command of preview 1 and as a component of WASI 0.2, and nobody else ever sees them.

use serde_json::{Value, json};

use crate::harness::{KEEPS, Tenant, annotation, base64, shared};

/// The guest in `fixtures/guests/files`, both ways.
const GUESTS: [(&str, &[u8]); 2] = [
    (
        "command",
        include_bytes!("../fixtures/guests/files/command.wasm"),
    ),
    (
        "component",
        include_bytes!("../fixtures/guests/files/component.wasm"),
    ),
];

/// A tenant with both guests, which may have `memory` MiB.
fn tenant_with(memory: u32) -> Tenant {
    let tenant = shared().tenant();
    for (name, wasm) in GUESTS {
        let limits = json!({ "limits": { "memory": memory, "timeout": 20_000 } });
        tenant.put_action_with(name, &base64(wasm), limits);
    }
    tenant
}

#[track_caller]
fn does(tenant: &Tenant, name: &str, what: &str) -> Value {
    let reply = tenant.result(name, &json!({ "do": what }));
    reply.expect(200).json()
}

#[test]
fn a_program_works_on_files_with_its_own_library() {
    let tenant = tenant_with(128);
    for (name, _) in GUESTS {
        let expected = json!({
            "missing": "NotFound",
            "appended": "first, second",
            "sought": "SECOND",
            "length": "5",
            "renamed": "first",
            "old": "NotFound",
            "listed": "b/ three",
            "exclusive": "AlreadyExists",
            // ENOTEMPTY, for which Rust has a name on other systems only.
            "not-empty": "55",
            "modified": "true",
            "upward": "PermissionDenied",
            "outside": "NotFound",
            "linked": "Unsupported",
            "many": "300",
            "left": "",
        });
        assert_eq!(does(&tenant, name, "use"), expected, "{name}");
    }
}

#[test]
fn files_are_the_actions_memory_and_a_full_tmp_is_only_full() {
    let tenant = tenant_with(128);
    for (name, _) in GUESTS {
        let reply = tenant.invoke(name, &json!({ "do": "fill" }));
        let record = reply.expect(200).json();
        let result = &record["response"]["result"];
        assert_eq!(result["refused"], "StorageFull", "{name}: {record}");
        assert_eq!(result["again"], "again", "{name}");
        let bytes = |key: &str| result[key].as_str().unwrap().parse::<u64>().unwrap();
        let (written, kept) = (bytes("written"), bytes("kept"));
        // A stream of 0.2 cannot say that it took a part: the last block of the component may be there in part.
        let part = kept - written;
        assert!(
            part == 0 || (name == "component" && part < 64 << 10),
            "{name}: {written} of {kept}"
        );
        assert!(
            (120 << 20..128 << 20).contains(&written),
            "{name}: {written}"
        );
        let peak = annotation(&record, "peakMemory").and_then(Value::as_u64);
        assert!(
            peak.is_some_and(|peak| peak > written && peak <= 128 << 20),
            "{name}: {peak:?}"
        );
    }
}

#[test]
fn a_command_finds_its_tmp_empty_each_time() {
    let (first, second) = (tenant_with(128), tenant_with(128));
    for tenant in [&first, &first, &second] {
        for (name, _) in GUESTS {
            let expected = json!({ "found": "", "now": "left-behind" });
            assert_eq!(does(tenant, name, "leave"), expected, "{name}");
        }
    }
}

#[test]
fn a_warm_instance_keeps_its_files_and_nobody_else_has_them() {
    let (first, second) = (shared().tenant(), shared().tenant());
    let fresh = json!({ "annotations": [{ "key": "fresh-instance", "value": true }] });
    for tenant in [&first, &second] {
        tenant.put_action("keeps", KEEPS);
        tenant.put_action("other", KEEPS);
        tenant.put_action_with("fresh", KEEPS, fresh.clone());
    }
    let count = |tenant: &Tenant, name: &str| does(tenant, name, "")["n"].as_u64().unwrap();
    assert_eq!([(); 3].map(|()| count(&first, "keeps")), [1, 2, 3]);
    assert_eq!([(); 3].map(|()| count(&first, "fresh")), [1, 1, 1]);
    assert_eq!(count(&first, "other"), 1);
    assert_eq!(count(&second, "keeps"), 1);
    assert_eq!(count(&first, "keeps"), 4);
}

#[test]
fn a_component_command_is_told_its_parameters_and_its_status_counts() {
    let tenant = tenant_with(128);
    let record = tenant.invoke("component", &json!({ "do": "leave" }));
    let record = record.expect(200).json();
    assert_eq!(record["response"]["status"], "success", "{record}");
    // It prints an object with `error` and ends with status 1, as commands of preview 1 do.
    let record = tenant.invoke("component", &json!({ "a": 1 }));
    let record = record.expect(502).json();
    assert_eq!(record["response"]["status"], "action developer error");
    assert_eq!(
        record["response"]["result"],
        json!({ "error": "do what?" }),
        "{record}"
    );
}
