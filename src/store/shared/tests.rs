use std::sync::Arc;

use parking_lot::Mutex;

use super::{Config, Keeper, Shared, open};
use crate::link::test_server;
use crate::store::{Store, suite};

async fn fresh() -> (Store, Shared, Keeper) {
    let (link, config) = test_server::link().await;
    open(link, &config.prefix, &Config::default(), "0123456789abcdef")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_store_passes_the_suite() {
    let keepers = Arc::new(Mutex::new(Vec::new()));
    suite::all(async || {
        let (store, _, keeper) = fresh().await;
        keepers.lock().push(keeper);
        store
    })
    .await;
}
