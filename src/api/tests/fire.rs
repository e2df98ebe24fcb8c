//! Firing a trigger, as the wire has it: contract section 4.1.

use std::collections::BTreeMap;

use super::*;
use crate::model::trigger::Link;
use crate::model::{Fqn, Parameters, Trigger};
use crate::store::Expect;

fn fqn(name: &str) -> Fqn {
    Fqn {
        namespace: Namespace::parse("guest").expect("legal"),
        package: None,
        name: EntityName::parse(name).expect("legal"),
    }
}

impl Site {
    /// A trigger `t` in `guest`, with rules that are active or not.
    async fn with_trigger(self, rules: &[(&str, bool)]) -> Self {
        let link = |active| Link {
            action: fqn("a"),
            active,
        };
        let rules = rules.iter().map(|(name, active)| {
            let name = EntityName::parse(name).expect("legal");
            (name, link(*active))
        });
        let trigger = Trigger {
            fqn: fqn("t"),
            version: Version::FIRST,
            publish: false,
            updated: Timestamp(1),
            parameters: Parameters::default(),
            annotations: Annotations::default(),
            rules: rules.collect::<BTreeMap<_, _>>(),
        };
        let put = self.catalog.put(trigger, None, Expect::Absent).await;
        put.expect("stored");
        self
    }
}

#[tokio::test]
async fn a_fire_is_answered_202_with_the_id_in_body_and_header() {
    let site = Site::new().await.with_trigger(&[("r", true)]).await;
    let got = site.guest("POST", "_/triggers/t", r#"{"a":1}"#).await;
    let id = format!("{:032x}", 0xf);
    assert_eq!(got.is(202).json(), json!({ "activationId": id }));
    assert_eq!(got.header("x-openwhisk-activation-id"), Some(&*id));
    let fired = site.invoker.fired.lock();
    let (caller, fire) = &fired[0];
    assert_eq!(fire.payload.get(), r#"{"a":1}"#);
    assert_eq!(caller.api_key.as_deref(), Some(WELL_KNOWN_GUEST));
    assert_eq!(caller.record, crate::model::Keep::ALL);
}

#[tokio::test]
async fn a_fire_nobody_listens_to_is_204_and_empty() {
    for rules in [&[][..], &[("r", false)]] {
        let site = Site::new().await.with_trigger(rules).await;
        let got = site.guest("POST", "_/triggers/t", "").await;
        assert_eq!(got.is(204).text, "");
        assert_eq!(got.header("x-openwhisk-activation-id"), None);
    }
}

#[tokio::test]
async fn what_is_no_trigger_is_404_409_or_403() {
    let site = Site::new().await.with_action("a").await;
    let missing = "The requested resource does not exist.";
    site.guest("POST", "_/triggers/none", "")
        .await
        .refuses(404, missing);
    let other = "Resource by this name exists but is not in this collection.";
    site.guest("POST", "_/triggers/a", "")
        .await
        .refuses(409, other);
    let foreign = "The supplied authentication is not authorized to access 'whisk.system/t'.";
    site.guest("POST", "whisk.system/triggers/t", "")
        .await
        .refuses(403, foreign);
    let illegal = "The name of the entity contains illegal characters.";
    site.guest("POST", "_/triggers/-t", "")
        .await
        .refuses(400, illegal);
}

#[tokio::test]
async fn a_payload_that_is_no_object_or_too_large_is_refused() {
    let limits = EffectiveLimits {
        payload_size_max: 10,
        ..EffectiveLimits::default()
    };
    let site = Site::with(limits, Config::default()).await;
    let site = site.with_trigger(&[("r", true)]).await;
    let got = site.guest("POST", "_/triggers/t", "[1]").await;
    let text = "The request content was malformed:\nexpected a JSON object, got an array";
    got.refuses(400, text);
    let got = site.guest("POST", "_/triggers/t", r#"{"abcdef":1}"#).await;
    got.refuses(413, "Request larger than allowed: 12 > 10 bytes.");
    assert!(site.invoker.fired.lock().is_empty());
}

#[tokio::test]
async fn fires_have_a_rate_of_their_own() {
    let limits = EffectiveLimits {
        fires_per_minute: 0,
        ..EffectiveLimits::default()
    };
    let site = Site::with(limits, Config::default()).await;
    let site = site.with_trigger(&[("r", true)]).await;
    let got = site.guest("POST", "_/triggers/none", "").await;
    let text = "Too many requests in the last minute (count: 1, allowed: 0).";
    got.refuses(429, text);
    assert!(got.header("retry-after").is_some());
    // Invocations are counted apart.
    let site = site.with_action("a").await;
    site.guest("POST", "_/actions/a", "").await.is(202);
}

#[tokio::test]
async fn headers_are_handed_on_in_lower_case() {
    let site = Site::new().await.with_trigger(&[("r", true)]).await;
    let request = Request::builder()
        .method("POST")
        .uri(api("_/triggers/t"))
        .header("authorization", basic(WELL_KNOWN_GUEST))
        .header("X-Custom", "one")
        .header("X-Custom", "two")
        .body(Body::empty())
        .expect("a request");
    site.send(request).await.is(202);
    let fired = site.invoker.fired.lock();
    let headers = &fired[0].1.headers;
    let of = |name: &str| headers.iter().find(|(one, _)| one == name);
    assert_eq!(of("x-custom").map(|(_, value)| &**value), Some("one, two"));
    assert!(
        of("authorization").is_some(),
        "what is not shown is decided where it is fired"
    );
}

#[tokio::test]
async fn a_fire_that_cannot_be_promised_is_503() {
    let site = Site::new().await.with_trigger(&[("r", true)]).await;
    site.will(Err(invoke::Refusal::Overload { retry_after_s: 1 }.into()));
    let got = site.guest("POST", "_/triggers/t", "").await;
    assert_eq!(got.is(503).header("retry-after"), Some("1"));
}
