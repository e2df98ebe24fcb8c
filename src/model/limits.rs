//! Limits: of one action, and of a namespace.

use serde::{Deserialize, Serialize};

use super::keep::{Keep, StoreLevel};
use super::kind::BUILTIN;

/// Limits of one action, as its JSON has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionLimits {
    /// Wall time of one activation, milliseconds; init included.
    pub timeout: u64,
    /// Everything one instance may hold, MiB.
    pub memory: u64,
    /// Log of one activation, MiB; 0 collects none.
    pub logs: u64,
    /// Activations per instance. Instances here run one at a time, so it multiplies `instances`.
    pub concurrency: u64,
    /// Most activations of the action at one time within a namespace; `None` leaves it to the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u64>,
}

impl Default for ActionLimits {
    fn default() -> Self {
        Self {
            timeout: 60_000,
            memory: 256,
            logs: 10,
            concurrency: 1,
            instances: None,
        }
    }
}

impl ActionLimits {
    /// Bytes one instance may hold.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        mib(self.memory)
    }

    /// Bytes of log one activation may keep.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        mib(self.logs)
    }

    /// Most activations of the action at one time.
    #[must_use]
    pub fn runs_max(&self) -> u64 {
        self.instances.map_or(u64::MAX, |instances| {
            instances.saturating_mul(self.concurrency)
        })
    }
}

fn mib(count: u64) -> usize {
    usize::try_from(count)
        .unwrap_or(usize::MAX)
        .saturating_mul(1 << 20)
}

/// What a namespace may use: each field overrides the platform's default when set. Field names are the wire's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespaceLimits {
    /// Invocations accepted per wall-clock minute; 0 blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocations_per_minute: Option<u64>,
    /// Invocations in flight (accepted, not finished); 0 blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_invocations: Option<u64>,
    /// Trigger fires accepted per wall-clock minute; 0 blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fires_per_minute: Option<u64>,
    /// Least memory limit of an action, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_action_memory: Option<u64>,
    /// Largest memory limit of an action, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_action_memory: Option<u64>,
    /// Least log limit of an action, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_action_logs: Option<u64>,
    /// Largest log limit of an action, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_action_logs: Option<u64>,
    /// Least timeout of an action, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_action_timeout: Option<u64>,
    /// Largest timeout of an action, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_action_timeout: Option<u64>,
    /// Least `concurrency` of an action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_action_concurrency: Option<u64>,
    /// Largest `concurrency` of an action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_action_concurrency: Option<u64>,
    /// Largest `instances` of an action; the concurrency of the namespace when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_action_instances: Option<u64>,
    /// Bytes of parameters an entity may bind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parameter_size: Option<u64>,
    /// Bytes of an invocation's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_payload_size: Option<u64>,
    /// Bytes of a result; longer ones are cut and fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncation_size: Option<u64>,
    /// Kinds that may be created and invoked; empty or unset allows all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_kinds: Option<Vec<String>>,
    /// Whether activation records are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_activations: Option<bool>,
    /// Which outcomes of calls that were waited for leave a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_blocking_result_level: Option<StoreLevel>,
    /// Which outcomes of everything else do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_non_blocking_result_level: Option<StoreLevel>,
    /// Instances kept warm beyond the keep-alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmed_container_keeping_count: Option<u64>,
    /// How long those are kept, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmed_container_keeping_timeout: Option<u64>,
}

/// What holds for one namespace: its own limits laid over the platform's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EffectiveLimits {
    /// Invocations accepted per wall-clock minute.
    pub invocations_per_minute: u64,
    /// Invocations in flight.
    pub concurrent_invocations: u64,
    /// Trigger fires accepted per wall-clock minute.
    pub fires_per_minute: u64,
    /// Memory limits an action may ask for, MiB.
    pub memory: Range,
    /// Log limits an action may ask for, MiB.
    pub logs: Range,
    /// Timeouts an action may ask for, milliseconds.
    pub timeout: Range,
    /// Values of `concurrency` an action may ask for.
    pub concurrency: Range,
    /// Largest `instances` of an action; not set by itself, see [`NamespaceLimits::max_action_instances`].
    #[serde(skip)]
    pub instances_max: u64,
    /// Bytes of bound parameters.
    pub parameter_size_max: u64,
    /// Bytes of an invocation's body.
    pub payload_size_max: u64,
    /// Bytes of a result.
    pub result_size_max: u64,
    /// Kinds allowed; empty allows all.
    pub allowed_kinds: Vec<String>,
    /// Kinds whose actions may be read and deleted, and no longer written or invoked; the same for every namespace.
    pub deprecated_kinds: Vec<String>,
    /// Whether activation records are kept at all.
    pub store_activations: bool,
    /// Which outcomes of calls that were waited for leave a record.
    pub store_blocking_result_level: StoreLevel,
    /// Which outcomes of everything else do.
    pub store_non_blocking_result_level: StoreLevel,
}

/// Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Least allowed.
    pub min: u64,
    /// Largest allowed.
    pub max: u64,
}

impl Default for EffectiveLimits {
    fn default() -> Self {
        Self {
            invocations_per_minute: 60_000,
            concurrent_invocations: 1_000,
            fires_per_minute: 60_000,
            memory: Range { min: 128, max: 512 },
            logs: Range { min: 0, max: 10 },
            timeout: Range {
                min: 100,
                max: 300_000,
            },
            concurrency: Range { min: 1, max: 1 },
            instances_max: 1_000,
            parameter_size_max: 1 << 20,
            payload_size_max: 1 << 20,
            result_size_max: 1 << 20,
            allowed_kinds: Vec::new(),
            deprecated_kinds: Vec::new(),
            store_activations: true,
            store_blocking_result_level: StoreLevel::StoreAlways,
            store_non_blocking_result_level: StoreLevel::StoreAlways,
        }
    }
}

/// Why actions of a kind may not be written or run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KindRefused {
    /// It has had its time.
    #[error(
        "The '{0}' runtime is no longer supported. You may read and delete but not update or invoke this action."
    )]
    Deprecated(String),
    /// The namespace may not use it.
    #[error("The supplied authentication is not authorized to access actions of kind '{0}'.")]
    NotAllowed(String),
}

impl EffectiveLimits {
    /// Whether actions of this concrete kind may be written and run.
    ///
    /// # Errors
    /// Why not.
    pub fn permit_kind(&self, kind: &str) -> Result<(), KindRefused> {
        // What the server does itself is no runtime that somebody could be kept from.
        if kind == BUILTIN {
            return Ok(());
        }
        let is_among = |kinds: &[String]| kinds.iter().any(|one| one == kind);
        if is_among(&self.deprecated_kinds) {
            return Err(KindRefused::Deprecated(kind.to_owned()));
        }
        if !self.allowed_kinds.is_empty() && !is_among(&self.allowed_kinds) {
            return Err(KindRefused::NotAllowed(kind.to_owned()));
        }
        Ok(())
    }

    /// Whether something fits between every least and largest.
    ///
    /// # Errors
    /// With the first pair between which nothing does: which (`memory`, `logs`, `timeout`, `concurrency`), and its ends.
    pub fn possible(&self) -> Result<(), (&'static str, Range)> {
        let ranges = [
            ("memory", self.memory),
            ("logs", self.logs),
            ("timeout", self.timeout),
            ("concurrency", self.concurrency),
        ];
        match ranges.into_iter().find(|(_, range)| range.min > range.max) {
            Some(impossible) => Err(impossible),
            None => Ok(()),
        }
    }

    /// `self`, the platform's defaults, with what `own` sets laid over.
    #[must_use]
    pub fn with(&self, own: &NamespaceLimits) -> Self {
        let range = |default: Range, min: Option<u64>, max: Option<u64>| Range {
            min: min.unwrap_or(default.min),
            max: max.unwrap_or(default.max),
        };
        let concurrent = own
            .concurrent_invocations
            .unwrap_or(self.concurrent_invocations);
        Self {
            invocations_per_minute: own
                .invocations_per_minute
                .unwrap_or(self.invocations_per_minute),
            concurrent_invocations: concurrent,
            fires_per_minute: own.fires_per_minute.unwrap_or(self.fires_per_minute),
            memory: range(self.memory, own.min_action_memory, own.max_action_memory),
            logs: range(self.logs, own.min_action_logs, own.max_action_logs),
            timeout: range(self.timeout, own.min_action_timeout, own.max_action_timeout),
            concurrency: range(
                self.concurrency,
                own.min_action_concurrency,
                own.max_action_concurrency,
            ),
            instances_max: own.max_action_instances.unwrap_or(concurrent),
            parameter_size_max: own.max_parameter_size.unwrap_or(self.parameter_size_max),
            payload_size_max: own.max_payload_size.unwrap_or(self.payload_size_max),
            result_size_max: own.truncation_size.unwrap_or(self.result_size_max),
            allowed_kinds: own
                .allowed_kinds
                .clone()
                .unwrap_or_else(|| self.allowed_kinds.clone()),
            deprecated_kinds: self.deprecated_kinds.clone(),
            store_activations: own.store_activations.unwrap_or(self.store_activations),
            store_blocking_result_level: own
                .store_blocking_result_level
                .unwrap_or(self.store_blocking_result_level),
            store_non_blocking_result_level: own
                .store_non_blocking_result_level
                .unwrap_or(self.store_non_blocking_result_level),
        }
    }

    /// Which records a call leaves; all, when it asks for them (`forced`).
    #[must_use]
    pub fn keep(&self, waited_for: bool, forced: bool) -> Keep {
        match (forced, self.store_activations, waited_for) {
            (true, ..) => Keep::ALL,
            (false, false, _) => Keep::NOTHING,
            (false, true, true) => Keep::at(self.store_blocking_result_level),
            (false, true, false) => Keep::at(self.store_non_blocking_result_level),
        }
    }
}
