//! Reading: a few connections, used on blocking threads.
//!
//! The number of permits bounds both the connections and the blocking threads that reading takes. Readers never wait
//! for the writer: each sees the database as it was when its read began.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::store::{Error, Result};

use super::error::closed;
use super::schema;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Readers(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    folder: PathBuf,
    /// Taken to move a connection in or out, never while one is used.
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(folder: PathBuf, count: usize) -> Self {
        Self(Arc::new(Pool {
            folder,
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(count.max(1))),
        }))
    }

    /// Runs `read` in a transaction, off the async threads.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let permit = Arc::clone(&self.0.permits).acquire_owned().await;
        let permit = permit.map_err(|_| closed())?;
        let pool = Arc::clone(&self.0);
        let running = tokio::task::spawn_blocking(move || {
            let connection = pool.take()?;
            let transaction = connection.unchecked_transaction()?;
            let result = read(&transaction);
            drop(transaction);
            pool.give_back(connection);
            drop(permit);
            result
        });
        match running.await {
            Ok(result) => result,
            Err(error) => Err(Error::Unavailable(format!("a read was lost: {error}"))),
        }
    }

    /// Refuses further reads, waits for those that run, and closes the connections.
    pub(super) async fn close(&self, count: usize) {
        let all = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        if let Ok(permits) = self.0.permits.acquire_many(all).await {
            self.0.permits.close();
            drop(permits);
        }
        self.0.idle.lock().clear();
    }
}

impl Pool {
    fn take(&self) -> Result<Connection> {
        if let Some(connection) = self.idle.lock().pop() {
            return Ok(connection);
        }
        Ok(schema::open_reader(&self.folder)?)
    }

    fn give_back(&self, connection: Connection) {
        if !self.permits.is_closed() {
            self.idle.lock().push(connection);
        }
    }
}
