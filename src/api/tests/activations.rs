//! Activation records: one, lists, filters.

use std::time::Duration;

use super::*;

async fn site() -> Site {
    let site = Site::new().await;
    let hi = json!({"greeting": "hi"});
    let records = [
        record(1, "a", 1000, Status::Success, &hi),
        record(
            2,
            "pkg/a",
            2000,
            Status::ApplicationError,
            &json!({"error": "no"}),
        ),
        record(3, "b", 3000, Status::InternalError, &json!({"error": "oh"})),
    ];
    for record in records {
        site.store.put(Arc::new(record)).expect("room");
    }
    site
}

fn id(number: u128) -> String {
    format!("{number:032x}")
}

#[tokio::test]
async fn a_record_is_answered_as_the_wire_has_it() {
    let site = site().await;
    let got = site.get(&format!("_/activations/{}", id(1))).await;
    assert_eq!(
        got.is(200).json(),
        json!({
            "namespace": "guest", "name": "a", "version": "0.0.1", "subject": "guest",
            "activationId": id(1), "start": 1000, "end": 1012, "duration": 12, "publish": false,
            "response": {"status": "success", "success": true, "size": 20, "result": {"greeting": "hi"}},
            "logs": ["2024-01-01T00:00:00.000000000Z stdout: hi"],
            "annotations": [{"key": "path", "value": "guest/a"}]
        })
    );
    let got = site.get(&format!("_/activations/{}/logs", id(1))).await;
    assert_eq!(
        got.json(),
        json!({"logs": ["2024-01-01T00:00:00.000000000Z stdout: hi"]})
    );
    let got = site
        .get(&format!("guest/activations/{}/result", id(2)))
        .await;
    assert_eq!(
        got.json(),
        json!({"status": "application error", "success": false, "size": 20, "result": {"error": "no"}})
    );
}

#[tokio::test]
async fn ids_that_are_none_are_400_and_unknown_ones_404() {
    let site = site().await;
    for path in ["", "/logs", "/result"] {
        let get = async |id: &str| site.get(&format!("_/activations/{id}{path}")).await;
        get("abc")
            .await
            .refuses(400, "Activation id length is 3 but must be 32.");
        get(&"g".repeat(32))
            .await
            .refuses(400, "The activation id is not valid.");
        get(&id(99))
            .await
            .refuses(404, "The requested resource does not exist.");
    }
}

#[tokio::test]
async fn a_record_is_seen_by_its_own_namespace_alone() {
    let site = site().await;
    let path = format!("/api/v1/namespaces/_/activations/{}", id(1));
    site.system("GET", &path, "").await.is(404);
    let list = site
        .system("GET", "/api/v1/namespaces/_/activations", "")
        .await;
    assert_eq!(list.is(200).json(), json!([]));
}

#[tokio::test]
async fn rows_are_newest_first_and_filtered() {
    let site = site().await;
    let rows = site.get("_/activations").await.is(200).json();
    assert_eq!(
        rows[1],
        json!({
            "namespace": "guest", "name": "a", "version": "0.0.1", "publish": false,
            "annotations": [{"key": "path", "value": "guest/pkg/a"}], "activationId": id(2),
            "start": 2000, "end": 2012, "duration": 12, "statusCode": 1
        })
    );
    for (query, ids) in [
        ("", vec![3, 2, 1]),
        ("?limit=1", vec![3]),
        ("?skip=1&limit=1", vec![2]),
        ("?since=2000", vec![3, 2]),
        ("?upto=2000", vec![2, 1]),
        ("?since=2000&upto=2000", vec![2]),
        ("?name=a", vec![2, 1]),
        ("?name=pkg/a", vec![2]),
        ("?name=pkg%2Fa", vec![2]),
        ("?name=", vec![3, 2, 1]),
        ("?docs=true", vec![3, 2, 1]),
    ] {
        let rows = site
            .get(&format!("_/activations{query}"))
            .await
            .is(200)
            .json();
        let found: Vec<_> = rows
            .as_array()
            .expect("rows")
            .iter()
            .map(|r| r["activationId"].clone())
            .collect();
        let expected: Vec<_> = ids.into_iter().map(|one| json!(id(one))).collect();
        assert_eq!(found, expected, "{query}");
    }
    let docs = site
        .get("_/activations?docs=true&limit=1&skip=2")
        .await
        .json();
    let one = site.get(&format!("_/activations/{}", id(1))).await.json();
    assert_eq!(docs[0], one);
    let count = site
        .get("_/activations?count=true&skip=1&name=a")
        .await
        .json();
    assert_eq!(count, json!({"activations": 1}));
}

#[tokio::test]
async fn wrong_filters_are_400() {
    let site = site().await;
    site.get("_/activations?count=true&docs=true")
        .await
        .refuses(400, "The parameter 'docs' is not permitted with 'count'.");
    let instant = "Parameter is not a valid value for epoch seconds: x";
    for (query, name, detail) in [
        ("since=x", "since", instant),
        ("upto=x", "upto", instant),
        (
            "name=a/b/c",
            "name",
            "Parameter may be a 'simple' name or 'package-name/simple' name: a/b/c",
        ),
        (
            "name=$x",
            "name",
            "The name of the entity contains illegal characters.",
        ),
        (
            "limit=201",
            "limit",
            "The value '201' is not in the range of 0 to 200 for activations.",
        ),
    ] {
        let text = format!("The query parameter '{name}' was malformed:\n{detail}");
        site.get(&format!("_/activations?{query}"))
            .await
            .refuses(400, &text);
    }
}

#[tokio::test]
async fn what_has_no_end_shows_none() {
    let site = Site::new().await;
    let mut fired = record(7, "t", 1, Status::Success, &json!({}));
    (fired.end, fired.duration) = (None, None);
    site.store.put(Arc::new(fired)).expect("room");
    let rows = site.get("_/activations").await.json();
    for absent in ["end", "duration", "statusCode", "cause"] {
        assert_eq!(rows[0].get(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn what_is_in_flight_can_be_cancelled_and_nothing_else() {
    let site = site().await;
    site.invoker.in_flight.lock().push(ActivationId(9));
    let path = format!("_/activations/{}", id(9));
    let got = site.guest("DELETE", &path, "").await;
    assert_eq!(got.is(202).json(), json!({ "activationId": id(9) }));
    let ended = format!("_/activations/{}", id(1));
    site.guest("DELETE", &ended, "")
        .await
        .refuses(409, "The activation has ended already.");
    let unknown = format!("_/activations/{}", id(8));
    site.guest("DELETE", &unknown, "")
        .await
        .refuses(404, "The requested resource does not exist.");
}

#[tokio::test(start_paused = true)]
async fn a_record_can_be_waited_for() {
    let site = site().await;
    site.invoker.in_flight.lock().push(ActivationId(9));
    let path = format!("_/activations/{}?wait=20", id(9));
    let late = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        for number in [8, 9] {
            let record = record(number, "a", 1000, Status::Success, &json!({}));
            site.activations.put(Arc::new(record)).expect("room");
        }
    };
    let (got, ()) = tokio::join!(site.get(&path), late);
    assert_eq!(got.is(200).json()["activationId"], json!(id(9)));
    // Nothing to wait for, or not long enough.
    site.invoker.in_flight.lock().push(ActivationId(10));
    for number in [7, 10] {
        let path = format!("_/activations/{}?wait=20", id(number));
        site.get(&path)
            .await
            .refuses(404, "The requested resource does not exist.");
    }
    for bad in ["61", "-1", "x"] {
        let path = format!("_/activations/{}?wait={bad}", id(9));
        site.get(&path).await.is(400);
    }
}

#[tokio::test]
async fn activations_are_told_as_they_end() {
    let site = site().await;
    let request = Request::builder()
        .uri("/api/v1/namespaces/_/activations?events=true&name=a")
        .header("authorization", basic(WELL_KNOWN_GUEST))
        .header("accept", "text/event-stream")
        .header("last-event-id", id(0))
        .body(Body::empty())
        .expect("a request");
    let response = site.edge.respond(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    for (number, name) in [(4, "b"), (5, "a")] {
        let record = record(number, name, 5000, Status::Success, &json!({}));
        site.activations.put(Arc::new(record)).expect("room");
    }
    let mut body = response.into_body();
    for number in [1, 2, 5] {
        let frame = body.frame().await.expect("goes on").expect("unbroken");
        let text = String::from_utf8(frame.into_data().expect("data").to_vec()).expect("text");
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(format!("id: {}", id(number)).as_str()));
        assert_eq!(lines.next(), Some("event: activation"));
        let data = lines.next().and_then(|line| line.strip_prefix("data: "));
        let record: Value = serde_json::from_str(data.expect("data")).expect("JSON");
        assert_eq!(record["activationId"], json!(id(number)));
    }
}
