//! What an entry of a stream carries: invocations of one action, by one namespace, that came to one front.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::{Action, ActivationId, Json, Keep, Namespace, Timestamp};
use crate::queue::message::Work;

/// The version this build writes and reads: that of [`Work`], whose parts an entry is made of.
pub(super) const VERSION: u16 = Work::VERSION;

/// Encrypts and decrypts what is kept in Redis; one that does nothing where encryption is not configured.
pub(crate) trait Envelope: Send + Sync + 'static {
    /// What is stored of `clear`.
    fn close(&self, clear: Bytes) -> crate::store::Result<Bytes>;
    /// What was stored; as it is when no key opens it, which then cannot be read.
    fn open(&self, kept: Bytes) -> Bytes;
    /// Decrypts the parameters that came with the action `namespace` invokes.
    fn unseal(&self, namespace: &Namespace, action: &mut Action);
}

/// One invocation, without what all of its entry have in common.
#[derive(Serialize, Deserialize)]
struct Slim {
    id: ActivationId,
    subject: Namespace,
    params: Json,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    transaction: Arc<str>,
    accepted_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<ActivationId>,
    durable: bool,
    record: Keep,
    result_bytes_max: usize,
    #[serde(default)]
    redelivered: u32,
}

#[derive(Serialize)]
struct Outgoing<'a> {
    front: &'a str,
    namespace: &'a Namespace,
    action: &'a RawValue,
    works: Vec<Slim>,
}

#[derive(Deserialize)]
struct Incoming {
    front: String,
    namespace: Namespace,
    action: Box<RawValue>,
    works: Vec<Slim>,
}

/// An action and its JSON, kept from one entry to the next.
#[derive(Default)]
pub(super) struct LastAction {
    written: Option<(Arc<Action>, Box<RawValue>)>,
    read: Option<(Box<RawValue>, Arc<Action>)>,
}

/// What came in an entry.
pub(super) struct Packet {
    /// The id of the node that waits for the outcomes.
    pub(super) front: Arc<str>,
    pub(super) works: Vec<Work>,
}

fn slim(work: Work) -> Slim {
    Slim {
        id: work.id,
        subject: work.subject,
        params: work.params,
        api_key: work.api_key,
        transaction: work.transaction,
        accepted_at: work.accepted_at,
        cause: work.cause,
        durable: work.durable,
        record: work.record,
        result_bytes_max: work.result_bytes_max,
        redelivered: work.redelivered,
    }
}

impl LastAction {
    /// Whether `action` is the one written last: an entry holds works of one version.
    pub(super) fn is_written(&self, action: &Arc<Action>) -> bool {
        self.written
            .as_ref()
            .is_some_and(|(one, _)| Arc::ptr_eq(one, action))
    }

    /// The entry of `works`, which are of one action and namespace, for the front `front`.
    pub(super) fn pack(&mut self, front: &str, works: Vec<Work>) -> serde_json::Result<Vec<u8>> {
        let Some(first) = works.first() else {
            return Ok(Vec::new());
        };
        let (namespace, action) = (first.namespace.clone(), Arc::clone(&first.action));
        if !self.is_written(&action) {
            let json = serde_json::value::to_raw_value(&*action)?;
            self.written = Some((Arc::clone(&action), json));
        }
        let Some((_, json)) = &self.written else {
            return Ok(Vec::new());
        };
        serde_json::to_vec(&Outgoing {
            front,
            namespace: &namespace,
            action: json,
            works: works.into_iter().map(slim).collect(),
        })
    }

    /// What an entry holds.
    pub(super) fn unpack(
        &mut self,
        bytes: &[u8],
        envelope: &dyn Envelope,
    ) -> serde_json::Result<Packet> {
        let Incoming {
            front,
            namespace,
            action,
            works,
        } = serde_json::from_slice(bytes)?;
        let known = self
            .read
            .as_ref()
            .filter(|(raw, _)| raw.get() == action.get());
        let action = match known {
            Some((_, action)) => Arc::clone(action),
            None => {
                let mut parsed: Action = serde_json::from_str(action.get())?;
                envelope.unseal(&namespace, &mut parsed);
                let parsed = Arc::new(parsed);
                self.read = Some((action, Arc::clone(&parsed)));
                parsed
            }
        };
        let fat = |slim: Slim| Work {
            version: VERSION,
            id: slim.id,
            namespace: namespace.clone(),
            subject: slim.subject,
            action: Arc::clone(&action),
            params: slim.params,
            api_key: slim.api_key,
            transaction: slim.transaction,
            accepted_at: slim.accepted_at,
            cause: slim.cause,
            durable: slim.durable,
            record: slim.record,
            result_bytes_max: slim.result_bytes_max,
            redelivered: slim.redelivered,
            exchange: None,
        };
        Ok(Packet {
            front: front.into(),
            works: works.into_iter().map(fat).collect(),
        })
    }
}
