//! Compiled code that machines share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::harness::*;
use crate::sandbox::{Artefacts, Config, Sandbox, Shared};

#[derive(Default)]
struct Place(Mutex<HashMap<String, Vec<u8>>>);

#[async_trait]
impl Artefacts for Place {
    async fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.0.lock().get(name).cloned()
    }

    async fn put(&self, name: &str, bytes: Vec<u8>) {
        self.0.lock().insert(name.to_owned(), bytes);
    }
}

fn lab(place: &Arc<Place>, secret: &str) -> Lab {
    Lab::with(Config {
        shared: Some(Shared::new(Arc::clone(place) as _, secret.as_bytes())),
        ..config()
    })
}

async fn is_offered(place: &Place, before: Option<&[u8]>) {
    let is_there = || {
        let place = place.0.lock();
        place.values().any(|bytes| Some(&**bytes) != before)
    };
    tokio::time::timeout(Duration::from_secs(60), async {
        while !is_there() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("what was compiled is offered");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_compiled_another_runs_without_its_code() {
    let place = Arc::new(Place::default());
    let code = core("1 1", "", ECHO);
    let first = lab(&place, "the same secret");
    let prepared = first.sandbox.prepare(code.as_str().into()).await.unwrap();
    assert!(prepared.compiled);
    is_offered(&place, None).await;
    let second = lab(&place, "the same secret");
    let nothing = Kept::default();
    assert!(
        second
            .sandbox
            .load(&prepared.program, &nothing)
            .await
            .is_ok()
    );
    let third = lab(&place, "the same secret");
    assert!(
        !third
            .sandbox
            .prepare(code.as_str().into())
            .await
            .unwrap()
            .compiled
    );
    assert_eq!(
        third.run(&code, input("{\"n\":1}")).await.outcome,
        answered("{\"n\":1}")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_verify_is_compiled_anew_and_replaced() {
    let place = Arc::new(Place::default());
    let code = core("1 1", "", ECHO);
    let first = lab(&place, "the same secret");
    first.sandbox.prepare(code.as_str().into()).await.unwrap();
    is_offered(&place, None).await;
    let (name, good) = {
        let place = place.0.lock();
        let (name, bytes) = place.iter().next().unwrap();
        (name.clone(), bytes.clone())
    };
    let mut forgeries = vec![Vec::new(), vec![0; 100], good[..good.len() - 1].to_vec()];
    for at in [0, good.len() / 2, good.len() - 80, good.len() - 1] {
        let mut forged = good.clone();
        forged[at] ^= 1;
        forgeries.push(forged);
    }
    for forged in forgeries {
        place.0.lock().insert(name.clone(), forged.clone());
        let lab = lab(&place, "the same secret");
        assert!(
            lab.sandbox
                .prepare(code.as_str().into())
                .await
                .unwrap()
                .compiled
        );
        is_offered(&place, Some(&forged)).await;
    }
    // Who has another secret believes nothing, and nobody believes them.
    place.0.lock().insert(name.clone(), good.clone());
    let other = lab(&place, "another secret");
    assert!(
        other
            .sandbox
            .prepare(code.as_str().into())
            .await
            .unwrap()
            .compiled
    );
    is_offered(&place, Some(&good)).await;
    let again = lab(&place, "the same secret");
    assert!(
        again
            .sandbox
            .prepare(code.as_str().into())
            .await
            .unwrap()
            .compiled
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_programs_code_is_not_taken_for_anothers() {
    let place = Arc::new(Place::default());
    let (one, other) = (core("1 1", "", ECHO), core("2 2", "", ECHO));
    let first = lab(&place, "the same secret");
    let prepared = first.sandbox.prepare(one.as_str().into()).await.unwrap();
    is_offered(&place, None).await;
    let sealed = place.0.lock().drain().next().unwrap();
    let second = lab(&place, "the same secret");
    let target = second.sandbox.prepare(other.as_str().into()).await.unwrap();
    // Its own is there before it is written over.
    is_offered(&place, None).await;
    let moved = sealed
        .0
        .replace(&prepared.program.to_string(), &target.program.to_string());
    place.0.lock().insert(moved, sealed.1);
    let third = lab(&place, "the same secret");
    assert!(
        third
            .sandbox
            .prepare(other.as_str().into())
            .await
            .unwrap()
            .compiled
    );
}
