//! A small sandbox, a purse of memory, and the way from text to an outcome in one call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::sandbox::{
    CodeSource, Config, Grant, Input, Instance, InstanceLimits, Outcome, Program, Run, Sandbox,
    Source, StartError, Started, Wasmtime,
};

/// A sandbox with a folder of its own.
pub(in crate::sandbox) struct Lab {
    pub(in crate::sandbox) sandbox: Arc<Wasmtime>,
    pub(in crate::sandbox) folder: TempDir,
}

pub(in crate::sandbox) fn config() -> Config {
    Config {
        small_slots: Some(16),
        large_slots: Some(16),
        stacks: 16,
        ..Config::default()
    }
}

impl Lab {
    pub(in crate::sandbox) fn new() -> Self {
        Self::with(config())
    }

    pub(in crate::sandbox) fn with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Wasmtime::new(config, folder.path()).unwrap();
        Self { sandbox, folder }
    }

    /// Uploads `code` and gives its program.
    pub(in crate::sandbox) async fn program(&self, code: &str) -> Arc<dyn Program> {
        let prepared = self.sandbox.prepare(code.into()).await.unwrap();
        self.sandbox.linked(&prepared.program).unwrap()
    }

    /// Uploads, starts.
    pub(in crate::sandbox) async fn start(&self, code: &str) -> Result<Started, StartError> {
        let program = self.program(code).await;
        program.instantiate(limits(), Purse::full()).await
    }

    pub(in crate::sandbox) async fn instance(&self, code: &str) -> Box<dyn Instance> {
        match self.start(code).await {
            Ok(started) => started.instance,
            Err(StartError::Guest(run)) => panic!("{:?}", run.outcome),
            Err(error) => panic!("{error}"),
        }
    }

    /// Uploads, starts, runs once with `{}`.
    pub(in crate::sandbox) async fn outcome(&self, code: &str) -> Outcome {
        self.run(code, input("{}")).await.outcome
    }

    pub(in crate::sandbox) async fn run(&self, code: &str, input: Input) -> Run {
        self.instance(code).await.run(input).await.unwrap()
    }

    /// Why `code` is refused.
    pub(in crate::sandbox) async fn refusal(&self, code: &str) -> String {
        self.sandbox
            .prepare(code.into())
            .await
            .unwrap_err()
            .to_string()
    }
}

pub(in crate::sandbox) fn limits() -> InstanceLimits {
    InstanceLimits {
        memory_bytes_max: 16 << 20,
        env: vec![("__OW_NAMESPACE".to_owned(), "guest".to_owned())].into(),
        deadline: Instant::now() + Duration::from_secs(10),
        log_bytes_max: 1 << 20,
        serves: None,
    }
}

pub(in crate::sandbox) fn input(params: &str) -> Input {
    Input {
        id: crate::model::ActivationId(1),
        params: Bytes::copy_from_slice(params.as_bytes()),
        env: vec![("__OW_ACTIVATION_ID".into(), "abc".to_owned())],
        deadline: Instant::now() + Duration::from_secs(10),
        log_bytes_max: 1 << 20,
        result_bytes_max: 1 << 20,
        exchange: None,
    }
}

pub(in crate::sandbox) fn input_for(time: Duration) -> Input {
    Input {
        deadline: Instant::now() + time,
        ..input("{}")
    }
}

pub(in crate::sandbox) fn answered(text: &str) -> Outcome {
    Outcome::Answered(Bytes::copy_from_slice(text.as_bytes()))
}

pub(in crate::sandbox) fn texts(run: &Run) -> Vec<&str> {
    run.logs.iter().map(|line| line.text.as_str()).collect()
}

/// Memory that can be granted.
pub(in crate::sandbox) struct Purse(AtomicUsize);

impl Purse {
    pub(in crate::sandbox) fn of(bytes: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(bytes)))
    }
    pub(in crate::sandbox) fn full() -> Arc<Self> {
        Self::of(usize::MAX)
    }
}

#[async_trait]
impl Grant for Purse {
    fn try_grow(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
    async fn grow(&self, bytes: usize) -> bool {
        self.try_grow(bytes)
    }
}

/// Code kept somewhere; counts how often it was asked for.
#[derive(Default)]
pub(in crate::sandbox) struct Kept {
    pub(in crate::sandbox) code: Option<Source>,
    pub(in crate::sandbox) asked: AtomicUsize,
}

#[async_trait]
impl CodeSource for Kept {
    async fn source(&self) -> Option<Source> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.code.clone()
    }
}

/// A core module around `run`, the body of `wisp_run`; `extra` stands before it.
pub(in crate::sandbox) fn core(memory: &str, extra: &str, run: &str) -> String {
    format!(
        "(module {extra}
           (memory (export \"memory\") {memory})
           (func (export \"wisp_alloc\") (param i32) (result i32) (i32.const 1024))
           (func (export \"wisp_run\") (param $ptr i32) (param $len i32) (result i64) {run}))"
    )
}

/// Answers its parameters.
pub(in crate::sandbox) const ECHO: &str = "(i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32)) \
                               (i64.extend_i32_u (local.get $len)))";

/// A module like [`core`] that grows memory somewhere, and so is of the large class.
pub(in crate::sandbox) fn large(extra: &str, run: &str) -> String {
    let grows = "(func $grows (result i32) (memory.grow (i32.const 1)))";
    core("1", &format!("{extra} {grows}"), run)
}
