//! The link to Redis (7.0 or later) or Valkey: one server, one behind Sentinel, or a Redis Cluster.
//!
//! Everything that is shared by the machines of a cluster goes through a [`Link`]: commands over one multiplexed connection,
//! batched by whoever sends them; and through [`Ears`]: channels and the keys that others changed.
//!
//! Invariants:
//! - a command that was sent is never sent again by the link: whether it was executed before a connection broke is unknown,
//!   and only its sender knows whether twice is harmless;
//! - a server that is away, loads its data, or is no longer the master is [`Error::Unavailable`], and is looked for anew with
//!   the next command; nobody waits for it longer than the configured time;
//! - what Redis answers is not believed: what has another shape than asked for is [`Error::Unexpected`].

mod check;
mod config;
mod connect;
mod ears;
mod error;
mod script;
#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
pub(crate) use redis::{Cmd, FromRedisValue, Value, cmd};
use tokio::time::Instant;

pub(crate) use config::Config;
use connect::Target;
pub(crate) use ears::{Ears, Heard};
pub(crate) use error::{Error, Result};

use crate::telemetry::cluster::{self as telemetry, Event};
pub(crate) use script::Script;

/// Pause between two attempts to connect: those who come in between are told at once that the server is away.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Commands sent together, in order as far as they go to the same server. Their outcomes are independent of each other.
#[derive(Default)]
pub(crate) struct Batch {
    commands: Vec<Cmd>,
    /// Which of them call a script, to be sent with its text where the server does not know it.
    scripts: Vec<(usize, &'static Script)>,
}

impl Batch {
    /// Appends a command.
    pub(crate) fn push(&mut self, command: Cmd) -> &mut Self {
        self.commands.push(command);
        self
    }

    /// Appends a call of a script.
    pub(crate) fn call(&mut self, script: &'static Script, command: Cmd) -> &mut Self {
        self.scripts.push((self.commands.len(), script));
        self.commands.push(command);
        self
    }

    /// How many commands.
    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    target: Target,
    way: Way,
    /// Somebody who listens has said that nothing is heard: the others, who are on the same servers, need not.
    is_deaf: AtomicBool,
    /// Commands sent.
    #[cfg(test)]
    sent: std::sync::atomic::AtomicUsize,
}

/// How commands get there.
enum Way {
    /// To one server, which may be another after a fail-over.
    One {
        current: Mutex<Current>,
        connecting: tokio::sync::Mutex<()>,
    },
    /// To the server that has the key.
    Cluster(Box<ClusterConnection>),
}

#[derive(Default)]
struct Current {
    connection: Option<MultiplexedConnection>,
    /// Counts connections, so that a late failure of an old one does not end the new.
    serial: u64,
    /// When the last attempt failed, and why.
    failed: Option<(Instant, Error)>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", self.0.target)
    }
}

impl Link {
    /// Connects, and checks that the server is one that the service can rely on.
    ///
    /// # Errors
    /// With what is wrong and what to do: the address, the password, the version, the eviction policy, another cluster's
    /// data under the same prefix.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        let target = Target::parse(config)?;
        let opened = Self::open_at(target.clone(), config).await;
        opened.map_err(|error| check::explained(error, &target))
    }

    async fn open_at(target: Target, config: &Config) -> Result<Self> {
        let way = if target.is_cluster() {
            Way::Cluster(Box::new(target.connect_cluster().await?))
        } else {
            Way::One {
                current: Mutex::default(),
                connecting: tokio::sync::Mutex::default(),
            }
        };
        let link = Self(Arc::new(Inner {
            target,
            way,
            is_deaf: AtomicBool::new(false),
            #[cfg(test)]
            sent: std::sync::atomic::AtomicUsize::new(0),
        }));
        check::check(&link, config, &link.0.target).await?;
        Ok(link)
    }

    /// Where Redis is, without what lets one in.
    pub(crate) fn target(&self) -> String {
        self.0.target.to_string()
    }

    /// Whether all keys are on one server, whose clock is that of all scripts.
    pub(crate) fn has_one_clock(&self) -> bool {
        !self.0.target.is_cluster()
    }

    /// Commands sent so far.
    #[cfg(test)]
    pub(crate) fn sent(&self) -> usize {
        self.0.sent.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn count(&self, commands: usize) {
        telemetry::count(Event::Sent, commands);
        #[cfg(test)]
        self.0
            .sent
            .fetch_add(commands, std::sync::atomic::Ordering::Relaxed);
    }

    /// Sends a command and reads its answer.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        self.count(1);
        let began = Instant::now();
        let value = match &self.0.way {
            Way::Cluster(connection) => {
                connection
                    .as_ref()
                    .clone()
                    .req_packed_command(command)
                    .await
            }
            Way::One { .. } => {
                let connected = self.connection().await;
                let (mut connection, serial) =
                    connected.inspect_err(|_| telemetry::count(Event::Failed, 1))?;
                let answer = connection.req_packed_command(command).await;
                if let Err(error) = &answer {
                    self.note(error, serial);
                }
                answer
            }
        };
        telemetry::round_trip(began.elapsed());
        let value = value.and_then(Value::extract_error).map_err(|error| {
            telemetry::count(Event::Failed, 1);
            Error::of(error)
        })?;
        T::from_redis_value(value).map_err(|error| Error::Unexpected(error.to_string()))
    }

    /// Calls a script; `command` is what [`Script::call`] made.
    pub(crate) async fn call<T: FromRedisValue>(
        &self,
        script: &'static Script,
        command: &Cmd,
    ) -> Result<T> {
        match self.query(command).await {
            Err(Error::NoScript) => self.query(&script.with_text(command)).await,
            answer => answer,
        }
    }

    /// Sends commands together and gives each one's answer; one that fails holds up no other.
    pub(crate) async fn run(&self, batch: &Batch) -> Result<Vec<Result<Value>>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let mut answers = self.send(&batch.commands).await?;
        for (index, script) in &batch.scripts {
            if matches!(answers.get(*index), Some(Err(Error::NoScript)))
                && let Some(command) = batch.commands.get(*index)
                && let Some(answer) = answers.get_mut(*index)
            {
                *answer = self.query(&script.with_text(command)).await;
            }
        }
        Ok(answers)
    }

    async fn send(&self, commands: &[Cmd]) -> Result<Vec<Result<Value>>> {
        let Way::One { .. } = &self.0.way else {
            // Each goes its own way; the connections below put together what goes to the same server.
            let sent = commands.iter().map(|command| self.query::<Value>(command));
            return Ok(join_all(sent).await);
        };
        self.count(commands.len());
        let failed = |many: usize| telemetry::count(Event::Failed, many);
        let connected = self.connection().await;
        let (mut connection, serial) = connected.inspect_err(|_| failed(commands.len()))?;
        let began = Instant::now();
        let mut pipeline = redis::Pipeline::with_capacity(commands.len());
        for command in commands {
            pipeline.add_command(command.clone());
        }
        pipeline.ignore_errors();
        let answers = connection
            .req_packed_commands(&pipeline, 0, commands.len())
            .await;
        telemetry::round_trip(began.elapsed());
        let answers = answers.map_err(|error| {
            failed(commands.len());
            self.note(&error, serial);
            Error::of(error)
        })?;
        let each = answers.into_iter().map(|value| {
            value.extract_error().map_err(|error| {
                failed(1);
                self.note(&error, serial);
                Error::of(error)
            })
        });
        Ok(each.collect())
    }

    /// The connection to the one server, made anew when there is none.
    async fn connection(&self) -> Result<(MultiplexedConnection, u64)> {
        let Way::One {
            current,
            connecting,
        } = &self.0.way
        else {
            return Err(Error::Unavailable(
                "a cluster has many connections".to_owned(),
            ));
        };
        let found = |current: &Mutex<Current>| {
            let current = current.lock();
            current
                .connection
                .clone()
                .map(|connection| (connection, current.serial))
        };
        if let Some(found) = found(current) {
            return Ok(found);
        }
        let _connecting = connecting.lock().await;
        if let Some(found) = found(current) {
            return Ok(found);
        }
        if let Some((when, error)) = &current.lock().failed
            && when.elapsed() < CONNECT_PAUSE
        {
            return Err(error.clone());
        }
        let made = self.0.target.connect().await;
        let mut current = current.lock();
        match made {
            Ok(connection) => {
                current.serial += 1;
                current.connection = Some(connection.clone());
                current.failed = None;
                Ok((connection, current.serial))
            }
            Err(error) => {
                current.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Gives the connection up when it is of no more use: broken, or to a server that takes no writes any more.
    fn note(&self, error: &redis::RedisError, serial: u64) {
        let Way::One { current, .. } = &self.0.way else {
            return;
        };
        if error::ends_connection(error) {
            let mut current = current.lock();
            if current.serial == serial {
                current.connection = None;
            }
        }
    }

    /// Listens to channels and changes; see [`Ears`].
    pub(crate) fn listen(
        &self,
        prefixes: Vec<String>,
    ) -> (Ears, tokio::sync::mpsc::Receiver<Heard>) {
        ears::listen(self.clone(), prefixes)
    }
}

/// What an answer, or a part of one, says; `None` when it has another shape.
pub(crate) fn read<T: FromRedisValue>(value: Value) -> Option<T> {
    T::from_redis_value(value).ok()
}
