//! Keys and values that a namespace's guests keep: items of a shelf of their own, held to a quota.
//!
//! What a namespace uses is summed up when it is first asked for, and counted on from there. Another node's writes, or a
//! namespace that was deleted and made again, make the count wrong; so before anything is refused, it is summed up anew, and
//! where the store itself keeps count, which it does where several nodes write, every second: by so much of writing at most a
//! quota is passed.
//! Writes of one key wait for each other; an increment also expects what it read, so it is exact however many nodes write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dashmap::DashMap;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Error, Expect, Item, Items, Page, Shelf};
use crate::model::Namespace;
use crate::model::keyvalue::{Pairs, Place, Refused};

/// Keys whose writes may wait for each other although they differ: the price of a bounded number of locks.
const TURNS: usize = 256;
/// Bytes of a key.
const KEY_BYTES_MAX: usize = 512;
/// Bytes of a bucket's name.
const BUCKET_BYTES_MAX: usize = 64;
/// Items looked at in one step of a sum, and keys of one page.
const PAGE_COUNT: usize = 500;
/// How often an increment that others overtook is tried again.
const INCREMENTS_MAX: usize = 16;
/// What an entry takes beside key and value, about.
const ENTRY_BYTES: u64 = 64;

/// The quota of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Entries of a namespace, in all its buckets.
    pub(crate) entries_max: u64,
    /// Bytes of keys and values of a namespace, and 64 for each entry.
    pub(crate) bytes_max: u64,
    /// Bytes of one value.
    pub(crate) value_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            entries_max: 10_000,
            bytes_max: 64 << 20,
            value_bytes_max: 1 << 20,
        }
    }
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// More than it may have.
    #[error("{0}")]
    TooMuch(String),
    /// It is no number that can be added to.
    #[error("the value is no integer")]
    NoNumber,
    /// Ours.
    #[error("the store cannot be used now: {0}")]
    Store(#[from] Error),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Other(failure.to_string())
    }
}

type Result<T> = std::result::Result<T, Failure>;
type Asked<T> = std::result::Result<T, Refused>;

/// How long a sum is good for that the store can tell at once.
const SUM_AGE: Duration = Duration::from_secs(1);

/// What a namespace uses.
#[derive(Debug)]
struct Usage {
    entries: AtomicU64,
    bytes: AtomicU64,
    /// When it was summed up last.
    since: parking_lot::Mutex<Instant>,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            since: parking_lot::Mutex::new(Instant::now()),
        }
    }
}

/// See the module.
pub(crate) struct KeyValue {
    items: Arc<dyn Items>,
    config: Config,
    used: DashMap<Namespace, Arc<Usage>>,
    turns: Vec<Mutex<()>>,
}

impl std::fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyValue")
    }
}

/// What the item is called.
fn name(place: &Place<'_>) -> Result<String> {
    let Place { bucket, key, .. } = place;
    if key.len() > KEY_BYTES_MAX {
        return Err(Failure::TooMuch(format!(
            "the key has {} bytes; at most {KEY_BYTES_MAX} are allowed",
            key.len()
        )));
    }
    Ok(format!("{bucket}/{key}"))
}

/// A value as JSON: text as text, which it mostly is, anything else in base64.
fn written(value: &[u8]) -> Arc<str> {
    let json = match str::from_utf8(value) {
        Ok(text) => serde_json::Value::from(text),
        Err(_) => serde_json::json!([STANDARD.encode(value)]),
    };
    json.to_string().into()
}

fn read(body: &str) -> Result<Vec<u8>> {
    let corrupt = || Failure::Store(Error::Corrupt("a kept value".to_owned()));
    match serde_json::from_str(body) {
        Ok(serde_json::Value::String(text)) => Ok(text.into_bytes()),
        Ok(serde_json::Value::Array(parts)) => {
            let text = parts.first().and_then(serde_json::Value::as_str);
            let text = text.ok_or_else(corrupt)?;
            STANDARD.decode(text).map_err(|_| corrupt())
        }
        _ => Err(corrupt()),
    }
}

fn size(name: &str, body: &str) -> u64 {
    let bytes = u64::try_from(name.len() + body.len()).unwrap_or(u64::MAX);
    bytes.saturating_add(ENTRY_BYTES)
}

/// Moves `counter` from a part of `old` to one of `new`, unless it would pass `most`; less is always possible.
fn change(counter: &AtomicU64, old: u64, new: u64, most: u64) -> bool {
    let change = |now: u64| {
        let then = now.saturating_sub(old).saturating_add(new);
        (then <= most || new <= old).then_some(then)
    };
    counter
        .fetch_update(Ordering::AcqRel, Ordering::Relaxed, change)
        .is_ok()
}

impl KeyValue {
    /// Over `items`, within `config`.
    pub(crate) fn new(items: Arc<dyn Items>, config: Config) -> Self {
        Self {
            items,
            config,
            used: DashMap::new(),
            turns: (0..TURNS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Takes room for the value, writes it, and gives the room back when that fails.
    async fn put(
        &self,
        namespace: &Namespace,
        name: String,
        value: &[u8],
        old: Option<&Item>,
        expect: Option<Expect>,
    ) -> Result<()> {
        if value.len() > self.config.value_bytes_max {
            return Err(Failure::TooMuch(format!(
                "the value has {} bytes; at most {} are allowed",
                value.len(),
                self.config.value_bytes_max
            )));
        }
        let body = written(value);
        let old_bytes = old.map_or(0, |item| size(&item.name, &item.body));
        let old_entries = u64::from(old.is_some());
        let bytes = size(&name, &body);
        let used = self.used(namespace).await?;
        if !self.take(&used, (old_entries, old_bytes), bytes) {
            self.sum(namespace, &used).await?;
            if !self.take(&used, (old_entries, old_bytes), bytes) {
                return Err(Failure::TooMuch(format!(
                    "the namespace's quota is used up: {} entries and {} bytes",
                    self.config.entries_max, self.config.bytes_max
                )));
            }
        }
        let item = Item {
            name,
            body,
            code: None,
            expires: None,
        };
        let put = self
            .items
            .put(namespace, Shelf::KeyValue, item, expect)
            .await;
        if put.is_err() {
            change(&used.entries, 1, old_entries, u64::MAX);
            change(&used.bytes, bytes, old_bytes, u64::MAX);
        }
        put?;
        Ok(())
    }

    fn take(&self, used: &Usage, (entries, bytes): (u64, u64), more: u64) -> bool {
        if !change(&used.entries, entries, 1, self.config.entries_max) {
            return false;
        }
        let taken = change(&used.bytes, bytes, more, self.config.bytes_max);
        if !taken {
            change(&used.entries, 1, entries, u64::MAX);
        }
        taken
    }

    async fn turn(&self, name: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let hash = blake3::hash(name.as_bytes());
        let index = usize::from(hash.as_bytes()[0]) % TURNS;
        self.turns[index].lock().await
    }

    async fn used(&self, namespace: &Namespace) -> Result<Arc<Usage>> {
        let used = self.used.get(namespace).map(|used| Arc::clone(&used));
        if let Some(used) = used {
            if used.since.lock().elapsed() >= SUM_AGE {
                self.sum_at_once(namespace, &used).await?;
            }
            return Ok(used);
        }
        let used = Arc::new(Usage::default());
        self.sum(namespace, &used).await?;
        let entry = self.used.entry(namespace.clone());
        Ok(Arc::clone(&entry.or_insert(used)))
    }

    /// Notes what the store says is there; whether it does.
    async fn sum_at_once(&self, namespace: &Namespace, used: &Usage) -> Result<bool> {
        let found = self.items.usage(namespace, Shelf::KeyValue).await?;
        *used.since.lock() = Instant::now();
        let Some((entries, bytes)) = found else {
            return Ok(false);
        };
        let bytes = bytes.saturating_add(entries.saturating_mul(ENTRY_BYTES));
        used.entries.store(entries, Ordering::Release);
        used.bytes.store(bytes, Ordering::Release);
        Ok(true)
    }

    /// Counts what is there.
    async fn sum(&self, namespace: &Namespace, used: &Usage) -> Result<()> {
        if self.sum_at_once(namespace, used).await? {
            return Ok(());
        }
        let (mut entries, mut bytes) = (0_u64, 0_u64);
        let mut page = Page {
            skip: 0,
            limit: PAGE_COUNT,
        };
        loop {
            let items = self
                .items
                .list(namespace, Shelf::KeyValue, "", page)
                .await?;
            let sizes = items.iter().map(|item| size(&item.name, &item.body));
            bytes = sizes.fold(bytes, u64::saturating_add);
            entries += u64::try_from(items.len()).unwrap_or(0);
            if items.len() < PAGE_COUNT {
                break;
            }
            page.skip += PAGE_COUNT;
        }
        used.entries.store(entries, Ordering::Release);
        used.bytes.store(bytes, Ordering::Release);
        Ok(())
    }

    async fn get_value(&self, place: Place<'_>) -> Result<Option<Vec<u8>>> {
        let name = name(&place)?;
        let found = self
            .items
            .get(place.namespace, Shelf::KeyValue, &name)
            .await?;
        found.map(|(item, _)| read(&item.body)).transpose()
    }

    async fn has(&self, place: Place<'_>) -> Result<bool> {
        let name = name(&place)?;
        let found = self
            .items
            .get(place.namespace, Shelf::KeyValue, &name)
            .await?;
        Ok(found.is_some())
    }

    async fn set_value(&self, place: Place<'_>, value: &[u8]) -> Result<()> {
        let name = name(&place)?;
        let _turn = self.turn(&name).await;
        let old = self
            .items
            .get(place.namespace, Shelf::KeyValue, &name)
            .await?;
        let old = old.map(|(item, _)| item);
        self.put(place.namespace, name, value, old.as_ref(), None)
            .await
    }

    async fn remove(&self, place: Place<'_>) -> Result<()> {
        let name = name(&place)?;
        let _turn = self.turn(&name).await;
        let old = self
            .items
            .get(place.namespace, Shelf::KeyValue, &name)
            .await?;
        let Some((old, _)) = old else {
            return Ok(());
        };
        self.items
            .delete(place.namespace, Shelf::KeyValue, &name)
            .await?;
        let used = self.used(place.namespace).await?;
        change(&used.entries, 1, 0, u64::MAX);
        change(&used.bytes, size(&name, &old.body), 0, u64::MAX);
        Ok(())
    }

    async fn add(&self, place: Place<'_>, delta: i64) -> Result<i64> {
        let name = name(&place)?;
        let _turn = self.turn(&name).await;
        for _ in 0..INCREMENTS_MAX {
            let old = self
                .items
                .get(place.namespace, Shelf::KeyValue, &name)
                .await?;
            let (number, expect) = match &old {
                None => (0, Expect::Absent),
                Some((item, revision)) => {
                    let text = String::from_utf8(read(&item.body)?);
                    let number = text.ok().and_then(|text| text.trim().parse::<i64>().ok());
                    (
                        number.ok_or(Failure::NoNumber)?,
                        Expect::Revision(*revision),
                    )
                }
            };
            let sum = number.checked_add(delta).ok_or(Failure::NoNumber)?;
            let (namespace, text) = (place.namespace, sum.to_string());
            let old = old.map(|(item, _)| item);
            let put = self.put(
                namespace,
                name.clone(),
                text.as_bytes(),
                old.as_ref(),
                Some(expect),
            );
            match put.await {
                Err(Failure::Store(Error::Conflict)) => {}
                put => return put.map(|()| sum),
            }
        }
        Err(Failure::Store(Error::Conflict))
    }

    async fn page(
        &self,
        namespace: &Namespace,
        bucket: &str,
        skip: usize,
    ) -> Result<(Vec<String>, Option<usize>)> {
        let prefix = format!("{bucket}/");
        let page = Page {
            skip,
            limit: PAGE_COUNT,
        };
        let items = self
            .items
            .list(namespace, Shelf::KeyValue, &prefix, page)
            .await?;
        let next = (items.len() == PAGE_COUNT).then_some(skip.saturating_add(PAGE_COUNT));
        let key = |item: &Item| {
            item.name
                .strip_prefix(&prefix)
                .unwrap_or_default()
                .to_owned()
        };
        Ok((items.iter().map(key).collect(), next))
    }
}

#[async_trait]
impl Pairs for KeyValue {
    fn bucket(&self, name: &str) -> Asked<String> {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        match name {
            "" => Ok("default".to_owned()),
            _ if name.len() > BUCKET_BYTES_MAX || !name.chars().all(is_legal) => {
                Err(Refused::NoBucket(name.chars().take(100).collect()))
            }
            _ => Ok(name.to_owned()),
        }
    }

    async fn get(&self, place: Place<'_>) -> Asked<Option<Vec<u8>>> {
        Ok(self.get_value(place).await?)
    }

    async fn exists(&self, place: Place<'_>) -> Asked<bool> {
        Ok(self.has(place).await?)
    }

    async fn set(&self, place: Place<'_>, value: &[u8]) -> Asked<()> {
        Ok(self.set_value(place, value).await?)
    }

    async fn delete(&self, place: Place<'_>) -> Asked<()> {
        Ok(self.remove(place).await?)
    }

    async fn increment(&self, place: Place<'_>, delta: i64) -> Asked<i64> {
        Ok(self.add(place, delta).await?)
    }

    async fn keys(
        &self,
        namespace: &Namespace,
        bucket: &str,
        skip: usize,
    ) -> Asked<(Vec<String>, Option<usize>)> {
        Ok(self.page(namespace, bucket, skip).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fake::Fake;

    fn pairs(config: Config) -> KeyValue {
        KeyValue::new(Arc::new(Fake::default()), config)
    }

    fn guest() -> Namespace {
        Namespace::parse("guest").unwrap()
    }

    fn at<'a>(namespace: &'a Namespace, key: &'a str) -> Place<'a> {
        Place {
            namespace,
            bucket: "default",
            key,
        }
    }

    #[tokio::test]
    async fn what_is_set_is_got_whatever_its_bytes_are() {
        let (pairs, guest) = (pairs(Config::default()), guest());
        for value in [&b"text \"quoted\""[..], b"\xff\0\x80", b""] {
            pairs.set(at(&guest, "k"), value).await.unwrap();
            assert_eq!(
                pairs.get(at(&guest, "k")).await.unwrap().as_deref(),
                Some(value)
            );
        }
        pairs.delete(at(&guest, "k")).await.unwrap();
        assert_eq!(pairs.get(at(&guest, "k")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_quota_of_entries_and_bytes_holds_and_what_goes_makes_room() {
        let config = Config {
            entries_max: 2,
            bytes_max: 300,
            value_bytes_max: 200,
        };
        let (pairs, guest) = (pairs(config), guest());
        pairs.set(at(&guest, "a"), b"1").await.unwrap();
        pairs.set(at(&guest, "b"), b"2").await.unwrap();
        assert!(pairs.set(at(&guest, "c"), b"3").await.is_err());
        pairs.set(at(&guest, "a"), b"4").await.unwrap();
        assert!(pairs.set(at(&guest, "a"), &[b'x'; 150]).await.is_err());
        pairs.delete(at(&guest, "b")).await.unwrap();
        pairs.set(at(&guest, "a"), &[b'x'; 150]).await.unwrap();
        assert!(pairs.set(at(&guest, "a"), &[b'x'; 201]).await.is_err());
        assert_eq!(
            pairs.get(at(&guest, "a")).await.unwrap().unwrap().len(),
            150
        );
    }

    #[tokio::test]
    async fn increments_of_many_are_all_counted() {
        let (pairs, guest) = (Arc::new(pairs(Config::default())), guest());
        let increments = (0..50).map(|_| {
            let (pairs, guest) = (Arc::clone(&pairs), guest.clone());
            tokio::spawn(async move { pairs.increment(at(&guest, "n"), 2).await.unwrap() })
        });
        for increment in increments.collect::<Vec<_>>() {
            increment.await.unwrap();
        }
        assert_eq!(pairs.increment(at(&guest, "n"), 0).await.unwrap(), 100);
        pairs.set(at(&guest, "n"), b"x").await.unwrap();
        assert!(pairs.increment(at(&guest, "n"), 1).await.is_err());
    }

    #[tokio::test]
    async fn namespaces_and_buckets_are_apart_and_keys_are_paged() {
        let (pairs, guest) = (pairs(Config::default()), guest());
        let other = Namespace::parse("other").unwrap();
        for index in 0..501 {
            pairs
                .set(at(&guest, &format!("k{index}")), b"")
                .await
                .unwrap();
        }
        let (first, next) = pairs.keys(&guest, "default", 0).await.unwrap();
        let (last, none) = pairs.keys(&guest, "default", next.unwrap()).await.unwrap();
        assert_eq!((first.len(), last.len(), none), (500, 1, None));
        assert_eq!(pairs.get(at(&other, "k1")).await.unwrap(), None);
        assert_eq!(
            pairs.keys(&guest, "other", 0).await.unwrap().0,
            Vec::<String>::new()
        );
        assert!(pairs.bucket("a/b").is_err() && pairs.bucket("").unwrap() == "default");
    }
}
