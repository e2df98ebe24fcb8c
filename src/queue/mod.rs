//! Carries work from the front to the workers, and outcomes back.

pub(crate) mod message;
