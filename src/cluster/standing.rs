//! Nodes, as an operator is told of them.

use super::members::LOOK;
use super::{Member, Members, Node};
use crate::link::{self, Link, Value};
use crate::model::cluster::{DeadNode, NodeStatus};

impl Members {
    /// Who lives and who is dead, looked at now.
    ///
    /// # Errors
    /// When Redis does not tell.
    pub(crate) async fn standing(
        &self,
        link: &Link,
        node: &Node,
    ) -> link::Result<(Vec<NodeStatus>, Vec<DeadNode>)> {
        let answer: Vec<Value> = link.call(&LOOK, &self.asked(node)).await?;
        let mut answer = answer.into_iter();
        let Some(Value::Int(now)) = answer.next() else {
            return Err(link::Error::Unexpected(
                "a list of nodes without a time".to_owned(),
            ));
        };
        let (mut living, mut dead) = (Vec::new(), Vec::new());
        for one in answer {
            let Some((id, until, facts)) = link::read::<(String, i64, String)>(one) else {
                continue;
            };
            let facts: Member = serde_json::from_str(&facts).unwrap_or_default();
            match u64::try_from(until.saturating_sub(now)) {
                Ok(left) => living.push(status(id, left, facts, node)),
                Err(_) => dead.push(DeadNode {
                    id,
                    address: facts.address,
                    since_ms: Some(now.abs_diff(until)),
                }),
            }
        }
        living.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((living, dead))
    }
}

fn status(id: String, lease_left_ms: u64, facts: Member, node: &Node) -> NodeStatus {
    let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    NodeStatus {
        this: id == node.id(),
        id,
        role: facts.role.name(),
        leaves: facts.leaves,
        address: facts.address,
        version: facts.version,
        lease_left_ms,
        runs: count(facts.runs),
        runs_max: count(facts.runs_max),
        memory_used_bytes: count(facts.memory_used),
        memory_max_bytes: count(facts.memory_max),
        idle: count(facts.idle),
        waiting: count(facts.waiting),
        lanes: count(facts.lanes),
    }
}
