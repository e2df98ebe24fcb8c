//! What other nodes change, told to those who keep copies of it.
//!
//! Redis tells, by client tracking, the names of keys that were changed ([`crate::link::Ears`]); the names of ours lead back
//! to entities, namespaces, APIs and schedules. What this node changes itself is told as well.
//!
//! When a connection is lost, nothing is heard of what others do. As long as Redis answers nobody, nobody changes anything
//! that is worth more than what is kept: so copies are used on, and warm calls with them, until the node's lease ends.
//! As soon as Redis does answer while changes are not heard, copies are forgotten again and again, so that none is older than
//! a quarter of a second; and once more when everything is heard again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::keys::{Keys, shelf_name};
use super::live::Live;
use crate::link::{Heard, Link, cmd};
use crate::model::{EntityName, Fqn, Namespace};
use crate::store::Shelf;
use crate::store::watched::Hub;

/// Age of copies while changes are not heard.
const DOUBT: Duration = Duration::from_millis(250);

/// What may have been changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Entity(Fqn),
    /// A namespace's keys and limits.
    Tenant(Namespace),
    /// Some API of a namespace.
    Apis(Namespace),
    /// When a trigger is fired by the clock.
    Schedule(Namespace, EntityName),
    /// Any of this. Told again and again while changes are not heard.
    Doubt,
    /// Any of this; from now on changes are heard.
    Everything,
}

/// What keys begin with whose changes are to be heard.
fn prefixes(keys: &Keys) -> Vec<String> {
    let mut prefixes = vec![keys.kind("e"), keys.kind("t"), keys.watched()];
    for shelf in [Shelf::Apis, Shelf::Schedules] {
        prefixes.push(format!("{}{}:", keys.kind("i"), shelf_name(shelf)));
    }
    prefixes
}

/// What a key is about; `None` when it is none of ours.
fn change(keys: &Keys, key: &str) -> Option<Change> {
    let rest = |kind: &str| key.strip_prefix(&keys.kind(kind));
    if let Some(rest) = rest("e") {
        let (namespace, path) = tagged(rest)?;
        let (package, name) = match path.split_once('/') {
            Some((package, name)) => (Some(EntityName::parse(package).ok()?), name),
            None => (None, path),
        };
        return Some(Change::Entity(Fqn {
            namespace,
            package,
            name: EntityName::parse(name).ok()?,
        }));
    }
    if let Some(rest) = rest("t") {
        return tagged(rest).map(|(namespace, _)| Change::Tenant(namespace));
    }
    let (shelf, rest) = rest("i")?.split_once(':')?;
    let (namespace, name) = tagged(rest)?;
    match shelf {
        shelf if shelf == shelf_name(Shelf::Apis) => Some(Change::Apis(namespace)),
        shelf if shelf == shelf_name(Shelf::Schedules) => {
            Some(Change::Schedule(namespace, EntityName::parse(name).ok()?))
        }
        _ => None,
    }
}

/// The namespace in `{namespace}:rest` or `{namespace}`, and the rest.
fn tagged(text: &str) -> Option<(Namespace, &str)> {
    let (namespace, rest) = text.strip_prefix('{')?.split_once('}')?;
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    Some((Namespace::parse(namespace).ok()?, rest))
}

/// Tells what is heard, until the last handle of `hub` is gone or the task is dropped.
pub(super) async fn follow(
    link: Link,
    keys: Keys,
    (live, hub): (Live, Arc<Hub>),
    tell: impl Fn(Change) + Send + Sync,
) {
    let (ears, mut heard) = link.listen(prefixes(&keys));
    live.begin(&hub, ears);
    let watched = keys.watched();
    let is_deaf = AtomicBool::new(true);
    let listening = async {
        while let Some(heard) = heard.recv().await {
            match heard {
                Heard::Changed(changed) if changed.is_empty() => {
                    live.look();
                    tell(Change::Everything);
                }
                Heard::Changed(changed) => {
                    for key in changed {
                        if key == watched {
                            live.look();
                        } else if let Some(change) = change(&keys, &key) {
                            tell(change);
                        }
                    }
                }
                Heard::Message { channel, payload } => live.hear(&channel, &payload),
                Heard::Lost => {
                    is_deaf.store(true, Ordering::SeqCst);
                    live.lost();
                }
                Heard::Back => {
                    is_deaf.store(false, Ordering::SeqCst);
                    live.back();
                    tell(Change::Everything);
                }
            }
        }
    };
    let doubting = async {
        loop {
            tokio::time::sleep(DOUBT).await;
            if is_deaf.load(Ordering::SeqCst) && link.query::<String>(&cmd("PING")).await.is_ok() {
                tell(Change::Doubt);
            }
        }
    };
    tokio::select! {
        () = listening => {}
        () = doubting => {}
        () = live.register() => {}
        () = live.read() => {}
        () = live.send() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::EntityKey;
    use crate::store::suite::{name, namespace};

    #[test]
    fn keys_lead_back_to_what_they_are_about() {
        let keys = Keys::new("wisp");
        let guest = namespace("a guest@example.com");
        for package in [None, Some(name("p"))] {
            let key = EntityKey {
                namespace: guest.clone(),
                package: package.clone(),
                name: name("a b"),
            };
            let fqn = Fqn {
                namespace: guest.clone(),
                package,
                name: name("a b"),
            };
            let found = change(&keys, &keys.entity(&key));
            assert_eq!(found, Some(Change::Entity(fqn)));
        }
        let found = change(&keys, &keys.tenant(&guest));
        assert_eq!(found, Some(Change::Tenant(guest.clone())));
        let found = change(&keys, &keys.item(&guest, Shelf::Apis, "/v1/{id}"));
        assert_eq!(found, Some(Change::Apis(guest.clone())));
        let found = change(&keys, &keys.item(&guest, Shelf::Schedules, "t"));
        assert_eq!(found, Some(Change::Schedule(guest, name("t"))));
        for key in [
            "",
            "wisp:s:e:{",
            "wisp:s:e:{}:",
            "wisp:s:e:{a}:/",
            "other:s:t:{a}",
        ] {
            assert_eq!(change(&keys, key), None, "{key}");
        }
    }
}
