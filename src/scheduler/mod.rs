//! The head: pure decisions, with no clock, no lock and no I/O of its own. Callers bring the facts and the time.
//!
//! - [`fairness`]: whose turn it is, by CPU time used;
//! - [`idle`]: how long an idle instance is kept, and which goes first when memory is wanted;
//! - [`placement`]: in a cluster, who is told of work, who leaves it to whom, and what to claim and give back.

pub(crate) mod fairness;
pub(crate) mod idle;
pub(crate) mod placement;
