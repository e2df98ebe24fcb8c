//! A deployment from the command line to the wire: what is asked, changed and said.

use serde_json::{Value, json};

use super::scripted;

const MANIFEST: &str = "\
packages:
  default:
    triggers:
      tick: {feed: /whisk.system/alarms/alarm, inputs: {cron: '* * * * *'}}
      tock:
";

#[test]
fn a_deployment_is_shown_then_done() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manifest.yaml");
    std::fs::write(&file, MANIFEST).unwrap();
    let missing = || {
        (
            404,
            json!({"error": "The requested resource does not exist.", "code": "t"}),
        )
    };
    let record = json!({"activationId": super::ID, "response": {"result": {}}});
    let script = [
        (200, json!(["guest"])),
        (200, json!({"runtimes": {}})),
        missing(),
        missing(),
        (200, json!({})),
        (200, record),
        (200, json!({})),
        (200, json!({})),
    ];
    let file = file.to_str().unwrap();
    let (done, seen) = scripted(script, &["project", "deploy", "-m", file]);
    let expected = "Namespace guest:\n  + trigger   tick\n  + trigger   tock\n2 to create.\n\
        ok: created trigger tick\nok: created trigger tock\n";
    assert_eq!(
        (done.exit, done.out.as_str(), done.err.as_str()),
        (0, expected, "")
    );
    // What digests are made with is the client's own, and another each time.
    let lines = seen
        .iter()
        .map(|seen| match seen.line.split_once("?digest=") {
            Some((path, salt)) if salt.len() == 32 => path,
            _ => seen.line.as_str(),
        });
    let lines: Vec<&str> = lines.collect();
    let expected = [
        "GET /api/v1/namespaces",
        "GET /",
        "GET /api/v1/namespaces/guest/triggers/tick",
        "GET /api/v1/namespaces/guest/triggers/tock",
        "PUT /api/v1/namespaces/guest/triggers/tick?overwrite=false",
        "POST /api/v1/namespaces/whisk.system/actions/alarms/alarm?blocking=true&result=false",
        "PUT /api/v1/namespaces/guest/triggers/tick?overwrite=true",
        "PUT /api/v1/namespaces/guest/triggers/tock?overwrite=false",
    ];
    assert_eq!(lines, expected);
    assert_eq!(seen[5].body["cron"], "* * * * *");
    assert_eq!(seen[5].body["triggerName"], "/guest/tick");
    let keys = |at: usize| {
        let annotations = seen[at].body["annotations"].as_array().unwrap();
        annotations
            .iter()
            .map(|one| one["key"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(4), ["feed"]);
    assert_eq!(
        keys(6),
        ["feed", "feed-inputs"],
        "only once the feed has agreed"
    );

    a_second_changes_nothing(file, &seen[6].body["annotations"]);
}

/// As it is now, a second deployment changes nothing, and a diff says so.
fn a_second_changes_nothing(file: &str, annotations: &Value) {
    let tick = json!({"annotations": annotations, "parameters": []});
    let script = [
        (200, json!(["guest"])),
        (200, json!({"runtimes": {}})),
        (200, tick),
        (200, json!({})),
    ];
    let (done, _) = scripted(script.clone(), &["project", "deploy", "-m", file]);
    assert_eq!(
        done.out,
        "Namespace guest: nothing changes (2 as they should be).\n"
    );
    let (done, _) = scripted(
        script,
        &[
            "project", "diff", "-m", file, "--param", "cron", "x", "--json",
        ],
    );
    let shown: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(shown["changes"][0]["fields"], json!(["feed inputs"]));
    assert_eq!((done.exit, &shown["applied"]), (1, &json!(false)));
}

#[test]
fn a_feed_that_refuses_ends_the_deployment_and_its_trigger() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manifest.yaml");
    std::fs::write(&file, MANIFEST).unwrap();
    let missing = || (404, json!({"error": "none", "code": "t"}));
    let script = [
        (200, json!(["guest"])),
        (200, json!({})),
        missing(),
        missing(),
        (200, json!({})),
        (502, json!({"response": {"result": {"error": "bad cron"}}})),
        (200, json!({})),
    ];
    let (done, seen) = scripted(script, &["project", "deploy", "-m", file.to_str().unwrap()]);
    assert_eq!(done.exit, 246);
    assert!(
        done.err.contains("Unable to create trigger 'tick'") && done.err.contains("bad cron"),
        "{}",
        done.err
    );
    assert!(done.err.contains("0 done, 2 left."), "{}", done.err);
    assert_eq!(
        seen[6].line,
        "DELETE /api/v1/namespaces/guest/triggers/tick"
    );
}
