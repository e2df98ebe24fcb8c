//! The operation on the cluster, and the shapes of its answer: those of [`crate::model::cluster`].

use serde_json::{Value, json};

use super::operation::{Operation, array_of, schema};
use super::platform::administered;
use super::refusals::ALONE;
use super::schemas::{Schemas, object};

/// The operation.
pub(super) fn operations() -> Vec<Operation> {
    let says = "How the cluster stands that this server is a node of.";
    let details = "Nodes, queues, dead letters, and promised work. It reads what it tells from Redis, a bounded part of it.";
    let status = administered(("GET", "/admin/v1/cluster"), "getCluster", says).details(details);
    vec![
        status
            .answers(200, "The cluster.", schema("Cluster"))
            .refuses(ALONE),
    ]
}

fn count(says: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "description": says })
}

fn text(says: &str) -> Value {
    json!({ "type": "string", "description": says })
}

fn flag(says: &str) -> Value {
    json!({ "type": "boolean", "description": says })
}

/// Its shapes.
pub(super) fn schemas() -> Schemas {
    let cluster = object(
        json!({
            "name": text("What it is called."),
            "nodes": array_of("ClusterNode"),
            "dead": array_of("DeadNode"),
            "queues": array_of("ClusterQueue"),
            "queuesMore": count("Queues that are not listed: less waits in them."),
            "waiting": count("Invocations that wait in all queues that were looked at."),
            "partial": flag("There are more queues than were looked at."),
            "deadLetters": count("Of all namespaces."),
            "homes": array_of("ClusterHome"),
        }),
        &[],
    );
    let dead = object(
        json!({
            "id": text("Its id."),
            "address": text("Where it was found; empty when that is not known any more."),
            "sinceMs": count("Milliseconds since its lease ended."),
        }),
        &["sinceMs"],
    );
    let holder = object(
        json!({
            "node": text("Its id."),
            "slots": count("Runs that it may have at one time, where the action has a limit."),
            "alive": flag("Its lease holds."),
        }),
        &[],
    );
    let home = object(
        json!({
            "name": text("What it is called."),
            "node": text("The node that answers for it."),
            "accepted": count("Promised work that is not over."),
        }),
        &[],
    );
    vec![
        ("Cluster", cluster),
        ("ClusterNode", node()),
        ("DeadNode", dead),
        ("ClusterQueue", queue()),
        ("QueueHolder", holder),
        ("ClusterHome", home),
    ]
}

fn node() -> Value {
    object(
        json!({
            "id": text("Its id, as long as its process lives."),
            "this": flag("It is the one that answers."),
            "role": { "enum": ["all", "front", "worker"] },
            "leaves": flag("It was told to end, and finishes what it has."),
            "address": text("Where it is found."),
            "version": text("Its release."),
            "leaseLeftMs": count("How long its lease goes on if it is not heard of, milliseconds."),
            "runs": count("Runs in progress."),
            "runsMax": count("Most runs at one time; 0 for a front."),
            "memoryUsedBytes": count("Bytes of guests' memory in use."),
            "memoryMaxBytes": count("Most bytes of guests' memory; 0 for a front."),
            "idle": count("Warm instances that do nothing."),
            "waiting": count("Work taken from queues that waits there."),
            "lanes": count("Queues that it holds."),
        }),
        &[],
    )
}

fn queue() -> Value {
    let holders = json!({ "type": "array", "items": schema("QueueHolder"), "maxItems": 64 });
    object(
        json!({
            "namespace": text("Who invokes."),
            "action": text("What is invoked, `namespace/[package/]name`."),
            "invocations": count("Invocations that nobody has taken."),
            "entries": count("Entries that nobody has taken; one may have several invocations."),
            "inWork": count("Entries that nodes have taken and not finished."),
            "toTakeOver": count("Entries of nodes that died or left."),
            "unreadable": count("Entries that could not be read and were set aside."),
            "oldestAgeMs": count("How long the oldest has waited that nobody works on, milliseconds; 0 when none waits."),
            "runsMax": count("Most runs of the action in the whole cluster; 0 is no limit."),
            "holders": holders,
            "holdersMore": count("Holders that are not listed."),
            "problem": text("What is wrong with what Redis has of it."),
        }),
        &["problem"],
    )
}
