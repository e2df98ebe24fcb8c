//! What the server says about itself.

pub(crate) mod metrics;
