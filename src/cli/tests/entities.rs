//! Packages, triggers, rules, APIs and actions of other makes: what each command asks, in which order, and what it says.

use serde_json::{Value, json};

use super::{Environment, ID, asked, scripted, wisp};

#[test]
fn packages_are_made_bound_and_deleted() {
    let arguments = [
        "package",
        "create",
        "tools",
        "-p",
        "host",
        "h",
        "-a",
        "description",
        "d",
        "--shared",
        "yes",
    ];
    let (done, lines, bodies) = asked([(200, json!({}))], &arguments);
    assert_eq!(done.out, "ok: created package tools\n");
    assert_eq!(lines, ["PUT _/packages/tools?overwrite=false"]);
    let expected = json!({
        "namespace": "_", "name": "tools", "publish": true,
        "parameters": [{"key": "host", "value": "h"}],
        "annotations": [{"key": "description", "value": "d"}],
    });
    assert_eq!(bodies[0], expected);

    let (done, lines, bodies) = asked(
        [(200, json!({}))],
        &["package", "bind", "/whisk.system/utils", "mine"],
    );
    assert_eq!(done.out, "ok: created binding mine\n");
    assert_eq!(lines, ["PUT _/packages/mine?overwrite=false"]);
    let binding = json!({"namespace": "whisk.system", "name": "utils"});
    assert_eq!(bodies[0]["binding"], binding);

    let full = json!({"error": "Package not empty (contains 1 entity).", "code": "t"});
    let (done, _, _) = asked([(409, full)], &["package", "delete", "tools"]);
    assert!(
        done.exit == 153 && done.err.contains("--force"),
        "{}",
        done.err
    );
    let (done, lines, _) = asked(
        [(200, json!({}))],
        &["package", "delete", "tools", "--force"],
    );
    assert_eq!(done.out, "ok: deleted package tools\n");
    assert_eq!(lines, ["DELETE _/packages/tools?force=true"]);
}

#[test]
fn a_package_is_summed_up_with_what_is_in_it() {
    let package = json!({
        "namespace": "g", "name": "p", "parameters": [], "annotations": [{"key": "description", "value": "Tools"}],
        "actions": [{"name": "a", "annotations": []}], "feeds": [{"name": "f", "annotations": []}],
    });
    let (done, _, _) = asked([(200, package)], &["package", "get", "p", "--summary"]);
    let expected = "package /g/p: Tools\n   (parameters: none defined)\n action /g/p/a\n   (parameters: none defined)\n \
        feed   /g/p/f\n   (parameters: none defined)\n";
    assert_eq!(done.out, expected);
}

#[test]
fn a_refresh_that_is_not_there_says_so() {
    let refused = json!({"error": "no", "code": "t"});
    let (done, lines, _) = asked([(501, refused)], &["package", "refresh"]);
    assert_eq!(lines, ["POST _/packages/refresh"]);
    assert!(
        done.exit != 0 && done.err.contains("not implemented"),
        "{}",
        done.err
    );
    let updates = json!({"added": ["a"], "updated": [], "deleted": ["d"]});
    let (done, _, _) = asked([(200, updates)], &["package", "refresh"]);
    let expected = "'_' refreshed successfully\ncreated bindings:\na\nupdated bindings:\ndeleted bindings:\nd\n";
    assert_eq!(done.out, expected);
}

#[test]
fn a_trigger_with_a_feed_is_made_and_its_feed_told() {
    let record = json!({"activationId": ID, "response": {"success": true, "result": {}}});
    let arguments = [
        "trigger",
        "create",
        "t",
        "--feed",
        "/ns/pkg/f",
        "-p",
        "cron",
        "x",
        "-a",
        "k",
        "v",
    ];
    let (done, lines, bodies) = asked([(200, json!({})), (200, record)], &arguments);
    let said = format!("ok: invoked /ns/pkg/f with id {ID}\nok: created trigger t\n");
    assert_eq!(done.out, said);
    let expected = [
        "PUT _/triggers/t?overwrite=false",
        "POST ns/actions/pkg/f?blocking=true&result=false",
    ];
    assert_eq!(lines, expected);
    let annotations = json!([{"key": "k", "value": "v"}, {"key": "feed", "value": "/ns/pkg/f"}]);
    assert_eq!(
        bodies[0],
        json!({"namespace": "_", "name": "t", "annotations": annotations})
    );
    assert_eq!(bodies[1]["lifecycleEvent"], "CREATE");
    assert_eq!(bodies[1]["triggerName"], "/_/t");
    assert_eq!(bodies[1]["cron"], "x");
    assert!(
        bodies[1]["authKey"]
            .as_str()
            .unwrap()
            .starts_with("23bc46b1-")
    );
}

#[test]
fn a_trigger_whose_feed_fails_or_is_late_is_taken_back() {
    let failed = |error: Value| json!({"activationId": ID, "response": {"success": false, "result": {"error": error}}});
    let late = json!({ "activationId": ID });
    for (status, answer, exit, says) in [
        (502, failed(json!("bad cron")), 246, "'/ns/f': bad cron\n"),
        (
            502,
            failed(json!({"error": "bad cron"})),
            246,
            "'/ns/f': bad cron\n",
        ),
        (202, late, 202, ID),
    ] {
        let script = [(200, json!({})), (status, answer), (200, json!({}))];
        let (done, lines, _) = asked(script, &["trigger", "create", "t", "-f", "/ns/f"]);
        assert_eq!(done.exit, exit, "{}", done.err);
        assert!(done.err.contains(says), "{}", done.err);
        assert_eq!(lines[2], "DELETE _/triggers/t");
        assert!(!done.out.contains("created"), "{}", done.out);
    }
}

#[test]
fn parameters_are_split_between_trigger_and_feed() {
    let record = json!({ "activationId": ID });
    let arguments = [
        "trigger", "create", "t", "-f", "f", "-T", "mine", "1", "-F", "yours", "2",
    ];
    let (_, _, bodies) = asked([(200, json!({})), (200, record)], &arguments);
    assert_eq!(
        bodies[0]["parameters"],
        json!([{"key": "mine", "value": 1}])
    );
    assert_eq!(
        (&bodies[1]["yours"], bodies[1].get("mine")),
        (&json!(2), None)
    );
    for wrong in [
        &[
            "trigger", "create", "t", "-f", "f", "-p", "a", "1", "-F", "b", "2",
        ][..],
        &["trigger", "create", "t", "-F", "b", "2"],
    ] {
        let nobody = Environment::of([("WISP_APIHOST", "http://127.0.0.1:1")]);
        let done = wisp(&nobody, wrong);
        assert!(
            done.exit == 2 && done.err.contains("Incorrect usage"),
            "{}",
            done.err
        );
    }
}

#[test]
fn a_feed_hears_of_reads_updates_and_deletes() {
    let trigger = json!({"namespace": "g", "name": "t", "annotations": [{"key": "feed", "value": "/ns/pkg/f"}]});
    let record = json!({"activationId": ID, "response": {"result": {"config": 1}}});
    let feed = "POST ns/actions/pkg/f?blocking=true&result=false";
    let script = [(200, trigger.clone()), (200, record)];
    let (done, lines, bodies) = asked(script.clone(), &["trigger", "get", "t"]);
    assert_eq!(lines, ["GET _/triggers/t", feed]);
    assert_eq!(bodies[1]["lifecycleEvent"], "READ");
    let told = format!("ok: invoked /ns/pkg/f with id {ID}\n{{\n    \"config\": 1\n}}\n");
    assert!(done.out.ends_with(&told), "{}", done.out);
    let (done, _, _) = asked(script.clone(), &["trigger", "get", "t", "--json"]);
    let shown: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(shown["feed"], json!({"config": 1}));

    let (_, lines, bodies) = asked(
        script.clone(),
        &["trigger", "update", "t", "-p", "cron", "y"],
    );
    assert_eq!(lines, ["GET _/triggers/t", feed]);
    assert_eq!(bodies[1]["lifecycleEvent"], "UPDATE");
    let script_put = [(200, trigger.clone()), (200, trigger.clone())];
    let (_, lines, bodies) = asked(script_put, &["trigger", "update", "t", "-a", "k", "v"]);
    assert_eq!(lines[1], "PUT _/triggers/t?overwrite=true");
    let kept = json!({"key": "feed", "value": "/ns/pkg/f"});
    assert_eq!(bodies[1]["annotations"][1], kept, "the feed is not lost");

    let [one, two] = script;
    let (done, lines, bodies) = asked([one, two, (200, json!({}))], &["trigger", "delete", "t"]);
    assert_eq!(lines, ["GET _/triggers/t", feed, "DELETE _/triggers/t"]);
    assert_eq!(bodies[1]["lifecycleEvent"], "DELETE");
    assert!(
        done.out.ends_with("ok: deleted trigger t\n"),
        "{}",
        done.out
    );
    let gone = json!({"error": "The requested resource does not exist.", "code": "t"});
    let script = [(200, trigger), (404, gone), (200, json!({}))];
    let (done, _, _) = asked(script, &["trigger", "delete", "t"]);
    assert_eq!(
        (done.exit, done.out.as_str()),
        (0, "ok: deleted trigger t\n")
    );
    assert!(done.err.starts_with("warning: "), "{}", done.err);
}

#[test]
fn firing_tells_the_activation_or_that_nothing_listens() {
    let server = [(202, json!({ "activationId": ID }))];
    let arguments = [
        "trigger",
        "fire",
        "t",
        "-p",
        "a",
        "1",
        "--idempotency-key",
        "k1",
    ];
    let (done, seen) = scripted(server, &arguments);
    assert_eq!(done.out, format!("ok: triggered /_/t with id {ID}\n"));
    assert_eq!(seen[0].line, "POST /api/v1/namespaces/_/triggers/t");
    assert_eq!(
        (&seen[0].body, seen[0].idempotency_key.as_str()),
        (&json!({"a": 1}), "k1")
    );
    let (done, _, _) = asked([(204, Value::Null)], &["trigger", "fire", "t"]);
    let text = "trigger /_/t did not fire as it is not associated with an active rule\n";
    assert_eq!((done.exit, done.out.as_str()), (0, text));
}

#[test]
fn rules_are_made_with_retries_and_switched() {
    let arguments = [
        "rule",
        "create",
        "r",
        "t",
        "pkg/a",
        "--retry",
        "5",
        "--backoff",
        "100",
    ];
    let (done, lines, bodies) = asked([(200, json!({}))], &arguments);
    assert_eq!(done.out, "ok: created rule r\n");
    assert_eq!(lines, ["PUT _/rules/r?overwrite=false"]);
    let retry = json!([{"key": "retry", "value": {"attempts": 5, "backoff": 100}}]);
    let expected = json!({"name": "r", "status": "", "trigger": "/_/t", "action": "/_/pkg/a", "annotations": retry});
    assert_eq!(bodies[0], expected);

    let kept = json!({"annotations": [{"key": "x", "value": 1}]});
    let script = [(200, kept), (200, json!({}))];
    let (_, lines, bodies) = asked(script, &["rule", "update", "r", "t", "a", "--retry", "2"]);
    assert_eq!(lines, ["GET _/rules/r", "PUT _/rules/r?overwrite=true"]);
    let both = json!([{"key": "x", "value": 1}, {"key": "retry", "value": {"attempts": 2}}]);
    assert_eq!(bodies[1]["annotations"], both);

    for (verb, state) in [("enable", "active"), ("disable", "inactive")] {
        let (done, lines, bodies) = asked([(200, Value::Null)], &["rule", verb, "r"]);
        assert_eq!(done.out, format!("ok: {verb}d rule r\n"));
        assert_eq!(lines, ["POST _/rules/r"]);
        assert_eq!(bodies[0], json!({ "status": state }));
    }
    let active = json!({"namespace": "g", "name": "r", "status": "active"});
    let (done, _, _) = asked([(200, active.clone())], &["rule", "status", "r"]);
    assert_eq!(done.out, "ok: rule r is active\n");
    let row = json!([{"namespace": "g", "name": "r", "publish": false}]);
    let (done, lines, _) = asked([(200, row), (200, active)], &["rule", "list"]);
    assert_eq!(done.out, "rules\n/g/r   private  active\n");
    assert_eq!(lines, ["GET _/rules?limit=30&skip=0", "GET g/rules/r"]);
    let script = [(200, Value::Null), (200, json!({}))];
    let (_, lines, _) = asked(script, &["rule", "delete", "r", "--disable"]);
    assert_eq!(lines, ["POST _/rules/r", "DELETE _/rules/r"]);
}

#[test]
fn list_shows_everything_as_wsk_sorts_it() {
    let row = |name: &str| json!({"namespace": "g", "name": name, "publish": true});
    let script = [
        (200, json!(["g"])),
        (200, json!([row("z"), row("b")])),
        (200, json!([])),
        (404, json!({"error": "none", "code": "t"})),
        (200, json!([row("r")])),
        (200, json!({"status": "inactive"})),
    ];
    let (done, lines, _) = asked(script, &["list", "-n"]);
    assert_eq!(lines[1], "GET g/packages?limit=0&skip=0");
    let expected = "Entities in namespace: g\npackages\n/g/b      shared\n/g/z      shared\nactions\ntriggers\n\
        rules\n/g/r   shared  inactive\n";
    assert_eq!(done.out, expected);
}

#[test]
fn actions_of_other_makes() {
    let (_, _, bodies) = asked(
        [(200, json!({}))],
        &["action", "create", "s", "--sequence", "a, /ns/p/b,p/c"],
    );
    let components = ["/_/a", "/ns/p/b", "/_/p/c"];
    assert_eq!(
        bodies[0]["exec"],
        json!({"kind": "sequence", "components": components})
    );

    let existing = json!({"annotations": [{"key": "web-export", "value": true}]});
    let script = [(200, existing), (200, json!({}))];
    let (_, lines, bodies) = asked(script, &["action", "update", "a", "--web-secure", "mine"]);
    assert_eq!(
        lines,
        [
            "GET _/actions/a?code=false",
            "PUT _/actions/a?overwrite=true"
        ]
    );
    let secret = json!([{"key": "require-whisk-auth", "value": "mine"}]);
    assert_eq!(bodies[1]["annotations"], secret);

    let web = json!({"namespace": "g/p", "name": "a", "annotations": [{"key": "web-export", "value": true}]});
    let (done, _, _) = asked([(200, web)], &["action", "get", "p/a", "--url", "--json"]);
    let url: Value = serde_json::from_str(&done.out).unwrap();
    assert!(
        url["url"].as_str().unwrap().ends_with("/api/v1/web/g/p/a"),
        "{url}"
    );
}

#[test]
fn an_api_is_made_of_a_web_action() {
    let action = json!({"namespace": "g/p", "name": "a", "annotations": [
        {"key": "web-export", "value": true}, {"key": "require-whisk-auth", "value": 7},
    ]});
    let made = json!({"gwApiUrl": "http://h/api/t/shop", "apidoc": {}});
    let arguments = [
        "api",
        "create",
        "/shop",
        "/o/{id}",
        "get",
        "p/a",
        "--response-type",
        "http",
    ];
    let (done, lines, bodies) = asked([(200, action), (200, made)], &arguments);
    let text = "ok: created API /shop/o/{id} GET for action /_/p/a\nhttp://h/api/t/shop/o/{id}\n";
    assert_eq!(done.out, text);
    assert_eq!(lines[0], "GET _/actions/p/a?code=false");
    let create = "POST /api/v1/web/whisk.system/apimgmt/createApi.http?accesstoken=DUMMY%20TOKEN\
        &spaceguid=23bc46b1-71f6-4ed5-8c54-816aa4f8c502&responsetype=http";
    assert_eq!(lines[1], create);
    let doc = &bodies[1]["apidoc"];
    assert_eq!(
        (&doc["id"], &doc["gatewayMethod"]),
        (&json!("API:_:/shop"), &json!("GET"))
    );
    assert_eq!(doc["action"]["secureKey"], 7);
    let url = doc["action"]["backendUrl"].as_str().unwrap();
    assert!(url.ends_with("/api/v1/web/g/p/a.http"), "{url}");
    assert_eq!(doc["pathParameters"][0]["name"], "id");

    let plain = json!({"namespace": "g", "name": "a", "annotations": []});
    let (done, _, _) = asked([(200, plain)], &["api", "create", "/x", "get", "a"]);
    assert!(
        done.exit == 1 && done.err.contains("is not a web action"),
        "{}",
        done.err
    );
}

#[test]
fn apis_are_listed_shown_and_deleted() {
    let api = json!({"apis": [{"value": {"gwApiUrl": "http://h/t/b", "apidoc": {
        "basePath": "/b", "info": {"title": "B"},
        "paths": {"/p": {"get": {"x-openwhisk": {"namespace": "g", "action": "a"}}}},
    }}}]});
    let (done, lines, _) = asked([(200, api.clone())], &["api", "list"]);
    let table = "ok: APIs\nAction  Verb  API Name  URL\n/g/a    get   B         http://h/t/b/p\n";
    assert_eq!(done.out, table);
    assert!(lines[0].ends_with("&limit=30&skip=0"), "{}", lines[0]);
    let (done, lines, _) = asked([(200, api)], &["api", "get", "/b", "--format", "yaml"]);
    assert!(done.out.starts_with("basePath: /b\n"), "{}", done.out);
    assert!(lines[0].ends_with("&basepath=%2Fb"), "{}", lines[0]);
    let (done, lines, _) = asked([(200, json!({}))], &["api", "delete", "/b", "/p", "get"]);
    assert_eq!(done.out, "ok: deleted /p GET from /b\n");
    assert!(
        lines[0].ends_with("&basepath=%2Fb&relpath=%2Fp&operation=GET"),
        "{}",
        lines[0]
    );
}
