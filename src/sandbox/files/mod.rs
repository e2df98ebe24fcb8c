//! A private, empty `/tmp` in memory for each instance that asks for one.
//!
//! ```text
//! Table (preview 1) ─┐
//!                    ├→ Descriptor → Tree → nodes, each a directory or the bytes of a file
//! resources (0.2)  ──┘                └───→ the instance's account (`limits`)
//! ```
//!
//! Directories and regular files; no links, no devices, no owners, no modes. It lives and dies with its instance: what a
//! warm instance wrote is there in its next activation, and nobody else's.
//!
//! Invariants:
//! - nothing is stored that the account did not take first; what it refuses is "no space left" and changes nothing else;
//! - no path leads out of the directory it is looked up in, and the host's own files are not known here at all;
//! - a node lives as long as a directory names it or a descriptor holds it, as POSIX has it;
//! - everything is bounded, and so is the work of one call: no tick interrupts the host;
//! - an instance that never touches a file has none of this: it is made by the first call that needs it.

mod data;
mod names;
mod open;
#[cfg(test)]
mod tests;
mod tree;

pub(super) use names::Opening;
pub(super) use open::{Descriptor, FIRST_FD, Origin, Shared, Table, root, share};
pub(super) use tree::{Node, Stat, Tree};

/// What the one directory is called that a guest has from its start.
pub(super) const ROOT: &str = "/tmp";

/// Files and directories of one instance: listing all of them at once must stay below a tick.
const NODES_MAX: usize = 8192;
/// Descriptors of one instance, as many as most systems give a process.
pub(super) const OPEN_MAX: usize = 1024;
/// Bytes of one name, as everywhere.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of one path, as everywhere.
pub(super) const PATH_BYTES_MAX: usize = 4096;
/// Directories inside one another: ways to and from the root stay short.
const DEPTH_MAX: usize = 64;
/// Bytes of one file, holes included. Memory ends long before; this keeps sums of offsets small.
const SIZE_BYTES_MAX: u64 = 1 << 40;

/// What a node costs besides its bytes and its name: its place in three maps, rounded up.
const NODE_BYTES: usize = 512;
/// What an open descriptor costs.
const DESCRIPTOR_BYTES: usize = 128;

/// Why something could not be done with files: always the guest's to handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileError {
    /// The descriptor is not open, or not for this.
    BadDescriptor,
    /// Of what must not be there, there is one.
    Exists,
    /// A name that is no text, or has a zero byte.
    IllegalName,
    /// It makes no sense: a directory into itself, an offset before the beginning, …
    Invalid,
    IsDirectory,
    NameTooLong,
    /// The account gives no more, or there are as many nodes as there may be.
    NoSpace,
    NotDirectory,
    NotEmpty,
    NotFound,
    /// The path leads out of its directory.
    Outside,
    TooLarge,
    TooManyOpen,
}
