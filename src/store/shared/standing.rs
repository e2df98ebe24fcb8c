//! What is kept for later, as an operator is told of it.

use super::accepted::Home;
use super::keys::All;
use super::{Shared, codes, failed};
use crate::link::{Batch, FromRedisValue, cmd, read};
use crate::model::Namespace;
use crate::model::cluster::HomeStatus;
use crate::store::{Result, Shelf};

/// Commands sent together.
const PIPELINE_MAX: usize = 256;
/// Namespaces whose dead letters are counted: a bound on the work of one look.
const NAMESPACES_MAX: usize = 100_000;

impl Shared {
    /// Every home, how much is in it and who answers for it; by name.
    ///
    /// # Errors
    /// When Redis does not tell.
    pub(crate) async fn homes_standing(&self) -> Result<Vec<HomeStatus>> {
        let mut homes = self.homes.homes().await?;
        homes.sort_by(|a, b| a.name.cmp(&b.name));
        let keys = homes.iter().map(|home| self.keys.accepted(&home.name));
        let counts = self.counts("HLEN", keys.collect()).await?;
        let status = |(home, accepted): (Home, u64)| HomeStatus {
            name: home.name,
            node: home.owner,
            accepted,
        };
        Ok(homes.into_iter().zip(counts).map(status).collect())
    }

    /// Dead letters of all namespaces.
    ///
    /// # Errors
    /// When Redis does not tell.
    pub(crate) async fn dead_letters(&self) -> Result<u64> {
        let shelf = Shelf::DeadLetters;
        let all = self.keys.all(All::Shelf(shelf));
        let (mut cursor, mut total, mut seen) = (0_u64, 0, std::collections::BTreeSet::new());
        loop {
            let mut scan = cmd("SSCAN");
            scan.arg(&all).arg(cursor).arg("COUNT").arg(PIPELINE_MAX);
            let (next, names): (u64, Vec<String>) = self.ask(&scan, &all).await?;
            let fresh = names.into_iter().filter(|name| seen.insert(name.clone()));
            let keys = fresh
                .filter_map(|name| Namespace::parse(&name).ok())
                .map(|namespace| self.keys.names(&namespace, shelf))
                .collect();
            total += self.counts("ZCARD", keys).await?.iter().sum::<u64>();
            cursor = next;
            if cursor == 0 || seen.len() > NAMESPACES_MAX {
                return Ok(total);
            }
        }
    }

    async fn ask<T: FromRedisValue>(&self, command: &crate::link::Cmd, key: &str) -> Result<T> {
        let answer = self.link.query(command).await;
        answer.map_err(|error| failed(error, key))
    }

    /// What `command` counts in each of `keys`.
    async fn counts(&self, command: &str, keys: Vec<String>) -> Result<Vec<u64>> {
        let mut counts = Vec::with_capacity(keys.len());
        for some in keys.chunks(PIPELINE_MAX) {
            let mut batch = Batch::default();
            for key in some {
                batch.push(cmd(command).arg(key).clone());
            }
            let key = some.first().map_or("", String::as_str);
            let answers = self.link.run(&batch).await;
            let answers = codes::all(answers.map_err(|error| failed(error, key))?, key)?;
            let answers = answers.into_iter().map(read::<u64>);
            counts.extend(answers.map(|count| count.unwrap_or(0)));
        }
        Ok(counts)
    }
}
