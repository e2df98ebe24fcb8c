//! Nodes of one cluster, and everything that can happen to them: killed, stopped, cut off, lied to, left without their Redis.
//!
//! All nodes are real processes on one machine, and so is Redis. What runs is counted from inside the guests, see
//! [`Counter`](crate::harness::Counter).

mod away;
mod bad_input;
mod clock;
mod deliveries;
mod forms;
mod full;
mod kills;
mod letters;
mod limits;
mod live;
mod load;
mod partition;
mod skew;
mod slow;
mod status;
