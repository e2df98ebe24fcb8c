//! What guests keep, between those who ask for it and who keeps it.

use async_trait::async_trait;

use super::Namespace;

/// Where an entry is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
}

/// Why a guest does not get what it asks for; the texts are for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// No bucket can have this name.
    #[error(
        "there is no bucket `{0}`: names are letters, digits, `-`, `_` and `.`, at most 64 of them"
    )]
    NoBucket(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

type Result<T> = std::result::Result<T, Refused>;

/// Keys and values by namespace and bucket. What is written is durable when a call returns.
#[async_trait]
pub(crate) trait Pairs: std::fmt::Debug + Send + Sync + 'static {
    /// The bucket a guest calls `name`, as the others want it.
    fn bucket(&self, name: &str) -> Result<String>;
    async fn get(&self, place: Place<'_>) -> Result<Option<Vec<u8>>>;
    async fn exists(&self, place: Place<'_>) -> Result<bool>;
    async fn set(&self, place: Place<'_>, value: &[u8]) -> Result<()>;
    async fn delete(&self, place: Place<'_>) -> Result<()>;
    /// Adds to a number; one that is not there is 0. Its value afterwards.
    async fn increment(&self, place: Place<'_>, delta: i64) -> Result<i64>;
    /// Some keys of a bucket from the `skip`-th on, and where to go on when there are more.
    async fn keys(
        &self,
        namespace: &Namespace,
        bucket: &str,
        skip: usize,
    ) -> Result<(Vec<String>, Option<usize>)>;
}
