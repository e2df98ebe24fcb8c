//! `wasi:keyvalue` and `wasi:config` for components.
//!
//! Keys and values are the namespace's own, behind [`Pairs`], which somebody else implements. The configuration is the
//! action's bound parameters, its package's and binding's among them: what whoever made the action set, never what a
//! caller sends.
//!
//! Both are proposals: each of their drafts has a name of its own, and those in use are all provided.

mod config;
mod draft2;
mod store;

use std::sync::Arc;

use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::host::Host;
use crate::model::keyvalue::{Pairs, Refused};
use crate::model::{Action, ActivationId, Namespace};

/// The action an instance serves, and for whom.
#[derive(Debug, Clone)]
pub(crate) struct Serves {
    pub(crate) namespace: Namespace,
    pub(crate) action: Arc<Action>,
    /// The activation that its start is part of.
    pub(crate) begun_by: ActivationId,
}

/// Why a guest does not get what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
enum KeyValueError {
    /// No bucket has this name.
    #[component(name = "no-such-store")]
    NoSuchStore,
    /// The guest may not.
    #[component(name = "access-denied")]
    AccessDenied,
    /// Anything else, in words.
    #[component(name = "other")]
    Other(String),
}

type Result<T> = std::result::Result<T, KeyValueError>;

impl From<Refused> for KeyValueError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoBucket(_) => Self::NoSuchStore,
            Refused::Other(text) => Self::Other(text),
        }
    }
}

/// Adds both to what components may import.
///
/// # Errors
/// When a function is there already: ours.
pub(super) fn add_to_linker(
    linker: &mut Linker<Host>,
    pairs: Option<&Arc<dyn Pairs>>,
) -> wasmtime::Result<()> {
    config::add_to_linker(linker)?;
    store::add_to_linker(linker, "0.2.0-draft", pairs)?;
    store::add_to_linker(linker, "0.2.0-draft2", pairs)?;
    store::add_keys(linker)?;
    draft2::add_keys(linker)?;
    Ok(())
}
