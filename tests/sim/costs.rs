//! What a command costs Redis, and what is assumed of the network: every number a simulation's result rests on and that
//! the decision code does not make. Replace them by new measurements here.

/// Microseconds of simulated time.
pub(crate) type Us = u64;

/// One way between a node and Redis, or back. A switched network; loopback is a fifth of it.
pub(crate) const ONE_WAY_US: Us = 250;

/// CPU of Redis for one batch of commands on one connection: the read, the write of the answers, and its share of the wait
/// for events. Measured: 2.2 to 5.7 us (Redis 7.0.15 on loopback, kept busy by 50 or by 1,000 clients that send one command
/// at a time, CPU time from INFO). A Redis that is not busy spends more on each, and has it.
pub(crate) const ROUND_US: f64 = 4.0;

/// CPU of Redis for handing one published message to a connection: a write of its own. Measured 2.2 to 4 us alone.
pub(crate) const DELIVERY_US: f64 = 3.0;

/// What a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Script: group made, XADD, depth and holders answered.
    Push,
    /// ZADD or ZREM of a due list.
    Due,
    /// PUBLISH to the node that is told.
    Wake,
    /// Script: slots claimed, entries read.
    Claim,
    /// The same with slots that are held.
    Read,
    /// XACK and XDEL.
    Ack,
    /// The record and its place in the index.
    Record,
    /// PUBLISH to the front that waits.
    Reply,
    /// Script: slots and due time of one lane, renewed for another lease.
    Renew,
    /// Script: slots given back.
    Give,
    /// Places of a namespace, claimed or given back by a front.
    Places,
    /// Range reads of due lists.
    Look,
    /// A node's own lease, and what it reads of the others.
    Members,
    /// Compiled code, fetched by a node that has not got it.
    Code,
}

impl Kind {
    /// All of them, in the order they are printed.
    pub(crate) const ALL: [Self; 14] = [
        Self::Push,
        Self::Due,
        Self::Wake,
        Self::Claim,
        Self::Read,
        Self::Ack,
        Self::Record,
        Self::Reply,
        Self::Renew,
        Self::Give,
        Self::Places,
        Self::Look,
        Self::Members,
        Self::Code,
    ];

    /// CPU of Redis, and bytes to it and from it: of one command, and of each thing it moves (entries, members, holders).
    ///
    /// CPU time was measured with `redis-benchmark` in batches of 50, so that the round is left out, with payloads of 500 B
    /// and the scripts of `src/queue/cluster` and `src/auth`, us: push 15.4, pull 12 and 4.7 an entry, the same when nothing is
    /// there 7, renewal 5, claim of places 10, however many hold some, ZADD 1.2 to 1.8, ZREM 0.9, PUBLISH 0.8, GET of 243 KiB
    /// 70 to 140, HGETALL 0.1 a field, ZRANGEBYSCORE of 32 1.9; XACK and XDEL together vanish beside the others. A record takes
    /// 10.2 when it is written alone, which is assumed here, 3.8 each of four together and 2.1 of sixty-four (a script of the
    /// same commands, CPU time from INFO).
    /// Bytes are counted from what stands in the commands.
    pub(crate) const fn cost(self) -> Cost {
        match self {
            Self::Push => Cost::new(15.4, 760, 60, 0.0, 0),
            Self::Due => Cost::new(1.8, 110, 4, 0.0, 0),
            Self::Wake => Cost::new(0.8, 110, 4, DELIVERY_US, 90),
            Self::Claim | Self::Read => Cost::new(12.0, 190, 60, 4.7, 540),
            Self::Ack => Cost::new(2.0, 120, 8, 0.0, 0),
            Self::Record => Cost::new(10.2, 600, 8, 0.0, 0),
            Self::Reply => Cost::new(0.8, 530, 4, DELIVERY_US, 520),
            Self::Renew => Cost::new(5.0, 150, 4, 0.0, 0),
            Self::Give => Cost::new(6.0, 140, 4, 0.0, 0),
            Self::Places => Cost::new(10.0, 170, 24, 0.0, 0),
            Self::Look => Cost::new(1.9, 120, 20, 0.1, 40),
            Self::Members => Cost::new(2.0, 120, 20, 0.1, 80),
            Self::Code => Cost::new(100.0, 90, 248_000, 0.0, 0),
        }
    }
}

/// See [`Kind::cost`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) us: f64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) each_us: f64,
    pub(crate) each_bytes: u64,
}

impl Cost {
    const fn new(us: f64, bytes_in: u64, bytes_out: u64, each_us: f64, each_bytes: u64) -> Self {
        Self {
            us,
            bytes_in,
            bytes_out,
            each_us,
            each_bytes,
        }
    }
}

/// What an instance takes to start, and memory: a Rust guest of 100 KiB, from `tests/bench/load`.
pub(crate) mod start {
    use super::Us;

    /// The compiled code is on the node: mapped, linked, instantiated.
    pub(crate) const CODE_US: Us = 400;
    /// It is fetched from Redis first (243 KiB at 1 Gbit/s, two rounds) and verified. Compiled it was at its upload.
    pub(crate) const COLD_US: Us = 4_000;
    /// Bytes of an instance.
    pub(crate) const BYTES: u64 = 2 << 20;
}
