//! Firing a trigger: accepted as one entry in the log, answered, and then its rules are run.
//!
//! A fire is one promise however many rules listen. Its entry pins who fired, the payload, what else the actions are
//! given, and the rules; the action of the n-th rule runs under the id of the fire plus n, so nothing more has to be
//! written down for a later process to know what has run and what has not. Actions are not pinned: they are looked up, and
//! the right to them, when the rules are run ([`super::expand`]), which is at once unless the server stops in between.
//!
//! Invariants:
//! - the entry is on disk before the 202 leaves, and is settled after the trigger's record and those of all its rules'
//!   actions were put;
//! - what is accepted and not settled is bounded in number and bytes, in all and per namespace ([`super::backlog`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::backlog::Place;
use super::detached::Detached;
use super::retry::Policy;
use super::{Caller, Error, Invoker};
use crate::model::json::overlay;
use crate::model::{
    Action, ActivationId, EntityName, Fqn, Json, Keep, Namespace, Timestamp, Trigger, Version,
};
use crate::store::{self, Pending};
use crate::telemetry::metrics::{self, Source};

/// Headers that carry what only the caller should know.
const CREDENTIALS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

/// What is fired, and with what.
#[derive(Debug)]
pub(crate) struct Fire {
    /// Of the trigger's own record; see [`super::new_id`].
    pub(crate) id: ActivationId,
    pub(crate) trigger: Arc<Trigger>,
    /// A JSON object.
    pub(crate) payload: Json,
    /// Headers of the request, names in lower case; empty when it was no request.
    pub(crate) headers: Vec<(String, String)>,
    /// `X-Request-ID`.
    pub(crate) transaction: Arc<str>,
}

/// A fire as it stands in the log of accepted work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Fired {
    /// Tells it apart from other accepted work, and says which version of it this is: 1.
    pub(super) fire: u16,
    pub(super) id: ActivationId,
    /// Who fired: whose rules, queues and records.
    pub(super) namespace: Namespace,
    pub(super) subject: Namespace,
    /// `uuid:key` of the request, only when an action of a rule asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) api_key: Option<String>,
    pub(super) trigger: EntityName,
    pub(super) version: Version,
    /// What came with the fire: the result in the trigger's record.
    pub(super) payload: Json,
    /// What lies below the payload in what actions are given: the trigger's parameters and the request's headers.
    pub(super) below: Json,
    /// By name of the rule; the n-th has the n-th id.
    pub(super) shots: Vec<Shot>,
    pub(super) transaction: Arc<str>,
    pub(super) accepted_at: Timestamp,
    /// Which outcomes leave a record.
    pub(super) record: Keep,
    /// When the clock was to fire it, if it was the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) due: Option<Timestamp>,
    /// Tells this promise from those that other nodes may have made for the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<ActivationId>,
}

/// What a rule was when its trigger fired.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Shot {
    pub(super) rule: EntityName,
    pub(super) action: Fqn,
    pub(super) active: bool,
    /// Whether its action is run again when it fails, as the rule's annotation says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retry: Option<Policy>,
    /// The annotation was there and made no sense.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) bad_retry: bool,
}

/// An action, or why it is not run.
pub(super) type Target = Result<Arc<Action>, String>;

impl Fired {
    pub(super) const VERSION: u16 = 1;

    /// The id of the activation of the action of rule `index`.
    ///
    /// The lower 62 bits of an id are random, so the next few after it are nobody else's.
    pub(super) fn id_of(&self, index: usize) -> ActivationId {
        const RANDOM: u128 = (1 << 62) - 1;
        let next = u128::try_from(index).unwrap_or_default() + 1;
        let random = (self.id.0 & RANDOM).wrapping_add(next) & RANDOM;
        ActivationId(self.id.0 & !RANDOM | random)
    }

    /// What every action is given.
    pub(super) fn arguments(&self) -> Json {
        overlay(&[&self.below, &self.payload])
    }

    /// Where a rule of this name is.
    pub(super) fn fqn(&self, name: &EntityName) -> Fqn {
        Fqn {
            namespace: self.namespace.clone(),
            package: None,
            name: name.clone(),
        }
    }
}

impl Invoker {
    /// Accepts a fire; `None` when no active rule listens and there is nothing to do. Its rules run afterwards.
    pub(super) async fn fire_trigger(
        &self,
        caller: Caller,
        fire: Fire,
    ) -> Result<Option<ActivationId>, Error> {
        let accepted = self.accept_fire(caller, fire).await;
        let outcome = match &accepted {
            Ok(Some(_)) => metrics::Fire::Accepted,
            Ok(None) => metrics::Fire::Unheard,
            Err(_) => metrics::Fire::Refused,
        };
        metrics::fired(Source::Request, outcome);
        accepted
    }

    async fn accept_fire(&self, caller: Caller, fire: Fire) -> Result<Option<ActivationId>, Error> {
        let Some((fired, targets)) = self.aim(&caller, fire).await? else {
            return Ok(None);
        };
        let this = self.clone();
        // A caller that leaves in between must not leave an entry behind that nobody works on.
        Detached::new(async move {
            let id = fired.id;
            let place = this.promise_fire(&fired).await?;
            this.launch(fired, caller, targets, place);
            Ok(Some(id))
        })
        .await
    }

    /// What the fire comes to, given the rules that listen now; `None` when none is active.
    pub(super) async fn aim(
        &self,
        caller: &Caller,
        fire: Fire,
    ) -> Result<Option<(Fired, Vec<Target>)>, Error> {
        let trigger = &fire.trigger;
        if !trigger.rules.values().any(|link| link.active) {
            return Ok(None);
        }
        if !self.0.store.activations.has_room() {
            return Err(store::Error::Full.into());
        }
        let mut shots = Vec::with_capacity(trigger.rules.len());
        let mut targets = Vec::with_capacity(trigger.rules.len());
        for (rule, link) in &trigger.rules {
            let mut shot = Shot {
                rule: rule.clone(),
                action: link.action.clone(),
                active: link.active,
                retry: None,
                bad_retry: false,
            };
            if link.active {
                self.follow_rule(trigger, &mut shot).await?;
                targets.push(self.target(caller, &shot.action).await?);
            } else {
                targets.push(Err(String::new()));
            }
            shots.push(shot);
        }
        let wants_key = |target: &Target| target.as_ref().is_ok_and(|action| action.wants_key());
        let api_key = caller.api_key.as_ref();
        let api_key = api_key.filter(|_| targets.iter().any(wants_key));
        let fired = Fired {
            fire: Fired::VERSION,
            id: fire.id,
            namespace: caller.namespace.clone(),
            subject: caller.subject.clone(),
            api_key: api_key.map(|key| key.to_string()),
            trigger: trigger.fqn.name.clone(),
            version: trigger.version,
            below: self.below(trigger, fire.headers)?,
            payload: fire.payload,
            shots,
            transaction: fire.transaction,
            accepted_at: Timestamp::now(),
            record: caller.record,
            due: None,
            by: None,
        };
        Ok(Some((fired, targets)))
    }

    /// What lies below the payload: the trigger's own parameters, and the headers over them.
    fn below(&self, trigger: &Trigger, mut headers: Vec<(String, String)>) -> Result<Json, Error> {
        if let Some(key) = trigger.parameters.locked() {
            return Err(Error::locked(key, &trigger.fqn));
        }
        let own = match trigger.parameters.0.is_empty() {
            true => Json::empty_object(),
            false => trigger.parameters.run_object(),
        };
        if !self.0.events.config.forward_authorization {
            headers.retain(|(name, _)| !CREDENTIALS.contains(&name.as_str()));
        }
        if headers.is_empty() {
            return Ok(own);
        }
        let headers: BTreeMap<String, String> = headers.into_iter().collect();
        let headers = Json::from_serialize(&serde_json::json!({ "__ow_headers": headers }));
        Ok(overlay(&[&own, &headers]))
    }

    /// What the rule itself says: which action it runs, and whether it wants failures tried again.
    async fn follow_rule(&self, trigger: &Trigger, shot: &mut Shot) -> Result<(), Error> {
        let catalog = self.0.resolver.catalog();
        let Some(rule) = catalog.listener(trigger, &shot.rule).await? else {
            return Ok(());
        };
        shot.action.clone_from(&rule.action);
        if let Some(annotation) = rule.annotations.get("retry") {
            shot.retry = Policy::parse(annotation);
            shot.bad_retry = shot.retry.is_none() && annotation.get() != "null";
        }
        Ok(())
    }

    /// The action a rule means to `caller`, if it may run it.
    ///
    /// # Errors
    /// When that cannot be told now.
    pub(super) async fn target(&self, caller: &Caller, name: &Fqn) -> Result<Target, store::Error> {
        use super::resolve::Unresolved;
        let resolver = &self.0.resolver;
        let action = match resolver.at_hand(&caller.namespace, name) {
            Some(action) => action,
            None => match resolver.action(&caller.namespace, name).await {
                Ok(action) => action,
                Err(Unresolved::Store(error)) => return Err(error),
                Err(unresolved) => return Ok(Err(unresolved.to_string())),
            },
        };
        let permitted = caller.limits.permit_kind(action.exec.kind());
        Ok(permitted
            .map(|()| action)
            .map_err(|refused| refused.to_string()))
    }

    /// Makes the fire durable; what it takes of the backlog is given back when it is settled.
    pub(super) async fn promise_fire(&self, fired: &Fired) -> Result<Place, Error> {
        let bytes = serde_json::to_vec(fired)
            .map_err(|error| Error::Unavailable(format!("a fire has no JSON: {error}")))?;
        let backlog = &self.0.events.backlog;
        let place = backlog.place(&self.0.events.config, &fired.namespace, bytes.len())?;
        let accepted = &self.0.store.accepted;
        accepted
            .accept(&fired.namespace, fired.id, bytes.into())
            .await?;
        Ok(place)
    }

    /// Takes up what a former process accepted, if it is a fire or a run that is to be tried again; whether it was.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn recover_event(&self, pending: &Pending) -> store::Result<bool> {
        #[derive(Deserialize)]
        struct Kind {
            fire: Option<u16>,
            retry: Option<u16>,
        }
        let Ok(kind) = serde_json::from_slice::<Kind>(&pending.work) else {
            return Ok(false);
        };
        match kind {
            Kind { fire: Some(1), .. } => match serde_json::from_slice(&pending.work) {
                Ok(fired) => self.recover_fire(fired, pending).await?,
                Err(error) => {
                    tracing::error!(activation = %pending.id, %error, "an accepted fire cannot be read and is left alone");
                }
            },
            Kind { retry: Some(1), .. } => match serde_json::from_slice(&pending.work) {
                Ok(again) => self.recover_retry(again, pending.begun).await?,
                Err(error) => {
                    tracing::error!(activation = %pending.id, %error, "an accepted retry cannot be read and is left alone");
                }
            },
            Kind {
                fire: None,
                retry: None,
            } => return Ok(false),
            Kind { .. } => {
                tracing::error!(activation = %pending.id, "an accepted fire of another release is left alone");
            }
        }
        Ok(true)
    }

    async fn recover_fire(&self, fired: Fired, pending: &Pending) -> store::Result<()> {
        if let Some(due) = fired.due
            && !self.note_rung(&fired, due).await?
        {
            // Another node fired for this time.
            self.0.store.accepted.settle(fired.id);
            return Ok(());
        }
        let caller = self
            .former_caller(
                &fired.namespace,
                &fired.subject,
                fired.api_key.as_deref(),
                fired.record,
            )
            .await?;
        let place = self
            .0
            .events
            .backlog
            .keep(&fired.namespace, pending.work.len());
        self.resume(fired, caller, pending.begun, place);
        Ok(())
    }

    /// Who accepted work was promised to; `None` when the namespace is blocked.
    pub(super) async fn former_caller(
        &self,
        namespace: &Namespace,
        subject: &Namespace,
        api_key: Option<&str>,
        record: Keep,
    ) -> store::Result<Option<Caller>> {
        let owner = self.0.keys.owner(namespace).await?;
        Ok(owner.map(|owner| Caller {
            namespace: namespace.clone(),
            subject: subject.clone(),
            api_key: api_key.map(Arc::from),
            limits: Arc::clone(&owner.limits),
            record,
        }))
    }
}

#[cfg(test)]
#[path = "trigger_tests.rs"]
pub(super) mod tests;
