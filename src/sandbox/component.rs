//! Components: handlers (`wisp:action/handler`) and commands (`wasi:cli/run`).

use std::sync::Arc;

use wasmtime::ResourcesRequired;
use wasmtime::component::InstancePre;

use super::host::Host;
use super::program::Linked;
use super::{Grant, InstanceLimits, StartError, Started};

/// State of WASI 0.2 in a store.
pub(super) struct P2;

/// A linked component.
pub(super) struct ComponentCode {
    pub(super) pre: InstancePre<Host>,
}

impl ComponentCode {
    pub(super) fn resources_required(&self) -> Option<ResourcesRequired> {
        self.pre.component().resources_required()
    }
}

/// Starts an instance.
pub(super) async fn start(
    _program: Arc<Linked>,
    _limits: InstanceLimits,
    _grant: Arc<dyn Grant>,
) -> Result<Started, StartError> {
    Err(StartError::Host("components are not supported yet".into()))
}

impl ComponentCode {
    pub(super) fn new(
        linker: &wasmtime::component::Linker<Host>,
        component: &wasmtime::component::Component,
        _abi: super::Abi,
    ) -> wasmtime::Result<Self> {
        Ok(Self {
            pre: linker.instantiate_pre(component)?,
        })
    }
}

/// Everything a component may import.
pub(super) fn linker(
    engine: &wasmtime::Engine,
) -> wasmtime::Result<wasmtime::component::Linker<Host>> {
    Ok(wasmtime::component::Linker::new(engine))
}
