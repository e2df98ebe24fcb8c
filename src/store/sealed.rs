//! The log of accepted work, encrypted: it holds what calls were given, and the parameters of what they call.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::seal::Seal;
use super::{Accepted, Pending, Result};
use crate::model::{ActivationId, Namespace};

/// A log whose entries are encrypted on their way in and decrypted on their way out.
pub(crate) struct Sealed {
    inner: Arc<dyn Accepted>,
    seal: Arc<Seal>,
}

impl Sealed {
    /// `inner`, with entries encrypted as `seal` says.
    pub(crate) fn new(inner: Arc<dyn Accepted>, seal: Arc<Seal>) -> Self {
        Self { inner, seal }
    }
}

#[async_trait]
impl Accepted for Sealed {
    async fn accept(&self, namespace: &Namespace, id: ActivationId, work: Bytes) -> Result<()> {
        let work = self.seal.close_entry(id, work)?;
        self.inner.accept(namespace, id, work).await
    }

    fn begin(&self, id: ActivationId) {
        self.inner.begin(id);
    }

    async fn begin_durably(&self, id: ActivationId) -> Result<()> {
        self.inner.begin_durably(id).await
    }

    fn settle(&self, id: ActivationId) {
        self.inner.settle(id);
    }

    async fn pending(&self) -> Result<Vec<Pending>> {
        let mut pending = self.inner.pending().await?;
        for one in &mut pending {
            let kept = std::mem::take(&mut one.work);
            one.work = self.seal.open_entry(one.id, kept);
        }
        Ok(pending)
    }
}
