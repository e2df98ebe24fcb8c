//! The vocabulary: OpenWhisk's nouns and their JSON.
//!
//! Everything else may import this module; it imports nothing of ours. Types here are values: they parse, check,
//! compare and print, and never wait, lock or reach outside.

pub mod action;
pub mod action_put;
pub mod activation;
pub mod cluster;
pub mod dead_letter;
pub mod digest;
pub(crate) mod exchange;
pub mod json;
pub mod keep;
pub(crate) mod keyvalue;
pub mod kind;
pub mod limits;
pub(crate) mod live;
pub mod name;
pub mod package;
pub mod package_put;
pub mod params;
pub mod put;
pub mod rule;
pub mod rule_put;
pub mod schedule;
pub mod tenant;
pub mod time;
pub mod trigger;

pub use action::{Action, Builtin, Code, Exec, Sequence, Version};
pub use action_put::{ActionPut, CodePut, ExecPut};
pub use activation::{Activation, ActivationId, Response, Status};
pub use digest::Digest;
pub use json::Json;
pub use keep::{Keep, StoreLevel};
pub use limits::{ActionLimits, NamespaceLimits};
pub use name::{EntityName, Fqn, Namespace};
pub use package::Package;
pub use package_put::PackagePut;
pub use params::{Annotation, Annotations, Parameters};
pub use put::{Common, NamePut};
pub use rule::Rule;
pub use rule_put::RulePut;
pub use tenant::Tenant;
pub use time::Timestamp;
pub use trigger::Trigger;
