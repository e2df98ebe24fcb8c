//! Counts what Redis is asked: commands, the batches they travel in, bytes and CPU time, by kind.

use crate::costs::{Kind, ONE_WAY_US, ROUND_US, Us};

/// Numbers of Redis shards that batches are counted for, all in one run: the more there are, the fewer commands
/// travel together.
pub(crate) const SHARDS: [usize; 6] = [1, 3, 6, 12, 24, 48];

/// One connection: a batch is on its way, and the next one fills until its answer is there.
///
/// That is how a client that flushes at once when nothing is in flight, and else when the answer comes, behaves.
#[derive(Debug, Clone, Copy, Default)]
struct Connection {
    busy_until: Us,
    /// When the batch that fills will leave.
    leaves: Option<Us>,
}

impl Connection {
    /// Adds a command; whether it opened a batch, and when it leaves.
    fn add(&mut self, now: Us) -> (bool, Us) {
        if let Some(leaves) = self.leaves
            && now >= leaves
        {
            self.busy_until = leaves + 2 * ONE_WAY_US;
            self.leaves = None;
        }
        if let Some(leaves) = self.leaves {
            return (false, leaves);
        }
        if now >= self.busy_until {
            self.busy_until = now + 2 * ONE_WAY_US;
            return (true, now);
        }
        self.leaves = Some(self.busy_until);
        (true, self.busy_until)
    }
}

/// Commands of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) commands: u64,
    pub(crate) exec_us: f64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Batches that a command of this kind opened, one Redis.
    pub(crate) rounds: u64,
}

/// The key that all nodes write.
pub(crate) const SHARED: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Meter {
    nodes: usize,
    connections: Vec<Vec<Connection>>,
    pub(crate) tallies: [Tally; Kind::ALL.len()],
    /// Batches for each of [`SHARDS`].
    pub(crate) rounds: [u64; SHARDS.len()],
    /// Commands to the one key that all nodes write: the list of namespaces with lanes that are due.
    pub(crate) shared: u64,
    /// What was counted before is warm-up.
    since: Us,
}

impl Meter {
    pub(crate) fn new(nodes: usize, since: Us) -> Self {
        let connections = SHARDS.map(|shards| vec![Connection::default(); nodes * shards]);
        Self {
            nodes,
            connections: connections.into(),
            tallies: [Tally::default(); Kind::ALL.len()],
            rounds: [0; SHARDS.len()],
            shared: 0,
            since,
        }
    }

    /// `node` sends a command about `key` that moves `items` things; when it arrives at Redis.
    pub(crate) fn send(&mut self, now: Us, node: usize, key: u64, kind: Kind, items: u64) -> Us {
        let mut arrives = now;
        let counts = now >= self.since;
        let tally = &mut self.tallies[kind as usize];
        for (at, shards) in SHARDS.iter().enumerate() {
            let shard = usize::try_from(key % *shards as u64).expect("small");
            let connection = &mut self.connections[at][shard * self.nodes + node];
            let (is_new, leaves) = connection.add(now);
            if at == 0 {
                arrives = leaves + ONE_WAY_US;
                tally.rounds += u64::from(is_new && counts);
            }
            self.rounds[at] += u64::from(is_new && counts);
        }
        if counts {
            let cost = kind.cost();
            tally.commands += 1;
            self.shared += u64::from(key == SHARED);
            tally.exec_us += cost.us;
            tally.bytes_in += cost.bytes_in;
            tally.bytes_out += cost.bytes_out;
            self.items(now, kind, items);
        }
        arrives
    }

    /// `items` more things were moved by a command sent before, whose number was not known yet.
    pub(crate) fn items(&mut self, now: Us, kind: Kind, items: u64) {
        if now < self.since {
            return;
        }
        let cost = kind.cost();
        let tally = &mut self.tallies[kind as usize];
        tally.exec_us += cost.each_us * items as f64;
        tally.bytes_out += cost.each_bytes * items;
    }

    /// CPU time of all commands, without the rounds.
    pub(crate) fn exec_us(&self) -> f64 {
        self.tallies.iter().map(|tally| tally.exec_us).sum()
    }

    /// CPU time of Redis altogether, over as many shards as [`SHARDS`] says at `at`.
    pub(crate) fn cpu_us(&self, at: usize) -> f64 {
        self.exec_us() + self.rounds[at] as f64 * ROUND_US
    }
}
