//! What an operator is told of a cluster: its nodes, its queues, and what waits to be looked after.

use serde::Serialize;

/// A cluster, as one of its nodes sees it. Redis counts the times, so clocks of nodes make no difference.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// What it is called.
    pub name: String,
    /// Who lives, by id.
    pub nodes: Vec<NodeStatus>,
    /// Whose lease has ended, and what they held was not taken over yet.
    pub dead: Vec<DeadNode>,
    /// The queues with the most waiting, the deepest first.
    pub queues: Vec<QueueStatus>,
    /// How many more there are.
    pub queues_more: u64,
    /// Invocations that wait in all queues that were looked at.
    pub waiting: u64,
    /// Whether there are more queues than were looked at: what is said of them is of a part.
    pub partial: bool,
    /// Dead letters of all namespaces.
    pub dead_letters: u64,
    /// Where promised work is written down, by name.
    pub homes: Vec<HomeStatus>,
}

/// One node that lives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its id, as long as its process lives.
    pub id: String,
    /// Whether it is the one that answers.
    pub this: bool,
    /// `all`, `front` or `worker`.
    pub role: &'static str,
    /// Whether it was told to end, and finishes what it has.
    pub leaves: bool,
    /// Where it is found.
    pub address: String,
    /// Which release it is.
    pub version: String,
    /// How long its lease goes on if it is not heard of, milliseconds.
    pub lease_left_ms: u64,
    /// Runs in progress.
    pub runs: u64,
    /// Most runs at one time; 0 for a front.
    pub runs_max: u64,
    /// Bytes of guests' memory in use.
    pub memory_used_bytes: u64,
    /// Most bytes of guests' memory; 0 for a front.
    pub memory_max_bytes: u64,
    /// Warm instances that do nothing.
    pub idle: u64,
    /// Work taken from queues that waits there.
    pub waiting: u64,
    /// Queues that it holds.
    pub lanes: u64,
}

/// A node that is not heard of any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadNode {
    /// Its id.
    pub id: String,
    /// Where it was found; empty when that is not known any more.
    pub address: String,
    /// How long ago its lease ended, milliseconds, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
}

/// The queue of one action of one invoking namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// Who invokes.
    pub namespace: String,
    /// What is invoked, `namespace/[package/]name`.
    pub action: String,
    /// Invocations that nobody has taken.
    pub invocations: u64,
    /// Entries that nobody has taken; one may have several invocations.
    pub entries: u64,
    /// Entries that nodes have taken and not finished.
    pub in_work: u64,
    /// Entries of nodes that died or left, to be taken over.
    pub to_take_over: u64,
    /// Entries that could not be read and were set aside.
    pub unreadable: u64,
    /// How long the oldest that nobody works on has waited, milliseconds; 0 when none waits.
    pub oldest_age_ms: u64,
    /// Most runs of the action in the whole cluster; 0 is no limit.
    pub runs_max: u64,
    /// Who holds it, at most 64 of them.
    pub holders: Vec<HolderStatus>,
    /// How many more there are.
    pub holders_more: u64,
    /// What is wrong with what Redis has of it, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A node that holds a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HolderStatus {
    /// Its id.
    pub node: String,
    /// Runs that it may have at one time, where the action has a limit.
    pub slots: u64,
    /// Whether its lease holds.
    pub alive: bool,
}

/// A list of promised work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HomeStatus {
    /// What it is called.
    pub name: String,
    /// The id of the node that answers for it.
    pub node: String,
    /// Promised work that is not over.
    pub accepted: u64,
}
