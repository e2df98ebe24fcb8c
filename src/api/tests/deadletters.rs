//! Dead letters, as the wire has them.

use super::*;
use crate::store::{Item, Items, Shelf};

impl Site {
    pub(super) async fn with_letter(self, id: u128, action: &str) -> Self {
        let letter = DeadLetter {
            id: ActivationId(id),
            time: Timestamp(7),
            trigger: Some(EntityName::parse("t").expect("legal")),
            rule: None,
            action: action.to_owned(),
            activation_id: ActivationId(id),
            attempts: 3,
            error: Json::from_serialize("no"),
            payload: Json::from_serialize(&json!({ "a": 1 })),
        };
        let item = Item {
            name: letter.id.to_string(),
            body: Json::from_serialize(&letter).get().into(),
            code: None,
            expires: None,
        };
        let guest = Namespace::parse("guest").expect("legal");
        let put = Items::put(&*self.store, &guest, Shelf::DeadLetters, item, None);
        put.await.expect("stored");
        self
    }
}

fn path(id: u128) -> String {
    format!("_/deadletters/{id:032x}")
}

#[tokio::test]
async fn letters_are_listed_counted_and_shown() {
    let site = Site::new().await.with_letter(1, "guest/a").await;
    let site = site.with_letter(2, "guest/a").await;
    let rows = site.get("_/deadletters").await.is(200).json();
    assert_eq!(rows[0]["id"], format!("{:032x}", 2), "newest first");
    assert_eq!(rows[1]["payload"], json!({ "a": 1 }));
    let rows = site
        .get("_/deadletters?limit=1&skip=1")
        .await
        .is(200)
        .json();
    assert_eq!(rows.as_array().map(Vec::len), Some(1));
    let count = site.get("_/deadletters?count=true&skip=1").await;
    assert_eq!(count.is(200).json(), json!({ "deadletters": 1 }));
    let one = site.get(&path(1)).await.is(200).json();
    assert_eq!((&one["rule"], &one["attempts"]), (&Value::Null, &json!(3)));
    site.get(&path(3)).await.is(404);
    site.get("_/deadletters/abc").await.is(400);
    site.get("whisk.system/deadletters").await.is(403);
    let bad = "The query parameter 'limit' was malformed:\nThe value '201' is not in the range of 0 to 200 for deadletters.";
    site.get("_/deadletters?limit=201").await.refuses(400, bad);
}

#[tokio::test]
async fn a_letter_can_be_run_again_or_thrown_away() {
    let site = Site::new().await.with_action("a").await;
    let site = site
        .with_letter(1, "guest/a")
        .await
        .with_letter(2, "guest/none")
        .await;
    let got = site.guest("POST", &path(1), "").await;
    let id = format!("{:032x}", 0xabc);
    assert_eq!(got.is(202).json(), json!({ "activationId": id }));
    assert_eq!(site.invoker.replayed.lock().len(), 1);
    site.guest("POST", &path(2), "").await.is(404);
    site.guest("DELETE", &path(2), "").await.is(200);
    site.guest("DELETE", &path(2), "").await.is(404);
    let site = site.with_letter(3, "guest/a").await;
    let purged = site.guest("DELETE", "_/deadletters", "").await;
    assert_eq!(purged.is(200).json(), json!({ "purged": 2 }));
    let none = site.get("_/deadletters").await;
    assert_eq!(none.is(200).json(), json!([]));
}
