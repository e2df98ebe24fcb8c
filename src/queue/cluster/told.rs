//! What is said to other nodes, and what is done about what they say.

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::lane::Hungry;
use super::news::{How, News};
use super::{DOOM, Shared, lane, news};
use crate::model::{ActivationId, Namespace};
use crate::queue::Queue;
use crate::queue::message::Outcome;

impl Shared {
    /// Says something to a node, or to all, with the next batch.
    pub(super) fn tell(&self, to: &Arc<str>, what: impl FnOnce(&mut News)) {
        what(self.news.lock().entry(Arc::clone(to)).or_default());
        self.work.notify_one();
    }

    /// Something was said to this node, or to all.
    pub(super) fn told(self: &Arc<Self>, payload: &[u8]) {
        let news: News = match serde_json::from_slice(payload) {
            Ok(news) => news,
            Err(error) => {
                tracing::warn!(%error, "what another node said cannot be read, and is ignored");
                return;
            }
        };
        let now_ms = self.node.redis_now_ms();
        for name in &news.wake {
            if let Some(key) = lane::parse(name) {
                self.hunger(
                    &key,
                    Hungry {
                        since_ms: now_ms,
                        told: true,
                    },
                );
            }
        }
        for ended in news.ended {
            let Some(replies) = self.replies() else {
                return;
            };
            match ended.how {
                How::Done(record) => replies.complete(ended.id, Outcome::Done(record)),
                How::Over { .. } => replies.over(ended.id),
                How::Dropped {
                    backlog,
                    retry_after_s,
                } => {
                    let refusal = news::refusal(backlog, retry_after_s);
                    replies.complete(ended.id, Outcome::Dropped(refusal));
                }
            }
        }
        for (namespace, id) in &news.cancel {
            self.local.cancel(namespace, *id);
        }
        for (from, namespace, id) in news.stop {
            if *from != *self.node.id() {
                self.stop_for(&Arc::from(from), namespace, id);
            }
        }
        for id in news.stopped {
            let mut stopping = self.stopping.lock();
            if let Some(index) = stopping.iter().position(|(one, _)| *one == id) {
                // Fails when the caller has gone.
                stopping.swap_remove(index).1.send(()).unwrap_or_default();
            }
        }
        for (namespace, text) in news.give_up {
            self.local.give_up_all(&namespace, &text);
            self.doomed.lock().push((namespace, text, Instant::now()));
        }
    }

    /// Ends an activation because `from` asks, if it is in flight here, and says so.
    fn stop_for(self: &Arc<Self>, from: &Arc<str>, namespace: Namespace, id: ActivationId) {
        let Some(salvage) = self.salvage.get().and_then(Weak::upgrade) else {
            return;
        };
        let (shared, from) = (Arc::clone(self), Arc::clone(from));
        tokio::spawn(async move {
            if salvage.stop(&namespace, id).await {
                shared.tell(&from, |news| news.stopped.push(id));
            }
        });
    }

    /// Why work of that namespace is given up, if it is.
    pub(super) fn doom(&self, namespace: &Namespace) -> Option<String> {
        let mut doomed = self.doomed.lock();
        if doomed.is_empty() {
            return None;
        }
        doomed.retain(|(_, _, when)| when.elapsed() < DOOM);
        let found = doomed.iter().find(|(one, ..)| one == namespace);
        found.map(|(_, text, _)| text.clone())
    }
}
