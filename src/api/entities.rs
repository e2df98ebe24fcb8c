//! What the entities have in common on the wire: how the body of a PUT is read and held to its sizes, how what is stored
//! is found, and how writes that take several steps are kept whole.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::future::Future;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use axum::http::{HeaderMap, Uri};
use tokio::sync::{Mutex, MutexGuard};

use super::Front;
use super::error::{Error, Result};
use super::extract::{Payload, Query, expect_json};
use crate::model::limits::EffectiveLimits;
use crate::model::{Common, Fqn, Namespace, Parameters, Version};
use crate::store::catalog::Found;
use crate::store::entity::Kind;
use crate::store::{Expect, Revision};

/// Writes that take several steps at one time, at least; a name that shares its place with another waits for it.
const TURNS: usize = 64;

/// How often a write starts again because somebody else wrote first. Writers here take turns, so that even one is rare.
pub(super) const ATTEMPTS_MAX: usize = 8;

/// Turns at writing what consists of several entities: a trigger and the links of its rules, a package and what is in it.
///
/// Nobody takes a second turn while holding one; whoever needs several takes them at once.
pub(super) struct Turns([Mutex<()>; TURNS]);

impl Turns {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }

    /// Waits until nobody else writes what belongs to `name`.
    pub(super) async fn take(&self, name: &Fqn) -> MutexGuard<'_, ()> {
        self.0[index(name)].lock().await
    }

    /// As [`Turns::take`], for all of `names`.
    pub(super) async fn take_all(
        &self,
        names: impl Iterator<Item = &Fqn>,
    ) -> Vec<MutexGuard<'_, ()>> {
        // In one order, so that nobody waits for whoever waits for it.
        let indices: BTreeSet<_> = names.map(index).collect();
        let mut turns = Vec::with_capacity(indices.len());
        for index in indices {
            turns.push(self.0[index].lock().await);
        }
        turns
    }
}

fn index(name: &Fqn) -> usize {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    usize::try_from(hasher.finish() % TURNS as u64).unwrap_or_default()
}

/// Runs `steps` to their end even when the request they belong to goes away.
pub(super) async fn to_the_end<T: Send + 'static>(
    steps: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(steps).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal(format!("a write was lost: {error}"))),
    }
}

/// The JSON in the body of a PUT or POST that needs one.
pub(super) fn json_body<'a>(headers: &HeaderMap, body: &'a Payload<'_>) -> Result<&'a [u8]> {
    if body.bytes.is_empty() {
        return Err(Error::no_body());
    }
    expect_json(headers)?;
    Ok(&body.bytes)
}

/// 413 where `size` is more than `max`.
pub(super) fn within(field: &str, size: usize, max: u64) -> Result<()> {
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    if size > max {
        return Err(Error::too_large(field, size, max));
    }
    Ok(())
}

/// Holds parameters and annotations of a body to the limits of size.
pub(super) fn within_sizes(front: &Front, limits: &EffectiveLimits, put: &Common) -> Result<()> {
    let parameters = put.parameters.as_ref().map_or(0, Parameters::size);
    within("parameters", parameters, limits.parameter_size_max)?;
    let annotations = put.annotations.as_ref().map_or(0, |all| all.size());
    within(
        "annotations",
        annotations,
        front.config.annotation_bytes_max,
    )
}

/// Refuses values that are said to be encrypted and that no key opens: they were taken from elsewhere, or are none.
pub(super) fn openable(
    front: &Front,
    namespace: &Namespace,
    parameters: Option<&Parameters>,
) -> Result<()> {
    let Some(parameters) = parameters else {
        return Ok(());
    };
    if parameters.0.iter().all(|one| one.encryption.is_none()) {
        return Ok(());
    }
    let mut opened = parameters.clone();
    front.state.catalog.seal().open(&[namespace], &mut opened);
    match opened.locked() {
        None => Ok(()),
        Some(key) => Err(Error::malformed(format!(
            "parameter '{key}' is said to be encrypted, and not as this server does it for '{namespace}'; leave 'encryption' out"
        ))),
    }
}

/// Notes digests of encrypted values when the query has a salt for them: `digest=SALT`. What is shown is somebody's own.
pub(super) fn digested(uri: &Uri, parameters: &mut Parameters) -> Result<()> {
    if let Some(salt) = Query::of(uri).get("digest")? {
        parameters.digest(&salt);
    }
    Ok(())
}

/// What is stored under `name`; 409 when that is something else.
pub(super) async fn stored<T: Kind>(
    front: &Front,
    name: &Fqn,
) -> Result<Option<(Arc<T>, Revision)>> {
    match front.state.catalog.get::<T>(name).await? {
        Found::Is(entity, revision) => Ok(Some((entity, revision))),
        Found::Other => Err(Error::conformance()),
        Found::Nothing => Ok(None),
    }
}

/// As [`stored`], for a PUT: what is there is replaced only with `overwrite`.
pub(super) async fn replaced<T: Kind>(
    front: &Front,
    name: &Fqn,
    overwrite: bool,
) -> Result<Option<(Arc<T>, Revision)>> {
    let stored = stored(front, name).await?;
    if stored.is_some() && !overwrite {
        return Err(Error::exists());
    }
    Ok(stored)
}

/// What a writer that saw `stored` expects.
pub(super) fn expect<T>(stored: Option<&(Arc<T>, Revision)>) -> Expect {
    stored.map_or(Expect::Absent, |(_, revision)| Expect::Revision(*revision))
}

/// The version that a PUT makes: the one it names, or the next.
pub(super) fn version(put: Option<Version>, old: Option<Version>) -> Version {
    put.unwrap_or_else(|| old.map_or(Version::FIRST, Version::bumped))
}
