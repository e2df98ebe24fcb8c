//! The Rust half of the engine: digests, UTF-8 and URLs, called from the C half by pointer and length.
//!
//! Invariants:
//! - each function reads only the ranges it is given, and what it returns is freed by [`wispjs_free`] with the same length;
//! - nothing here keeps state between calls.

mod bytes;
mod digest;
mod links;
mod squeeze;
