//! One server per data folder: an advisory lock on a file, held for life.
//!
//! The kernel gives the lock up when the process ends, however it ends, so a crash leaves nothing to clean up. The
//! file also holds the owner's process id, only to name it to whoever is refused.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::OpenError;

const FILE: &str = "wisp.lock";

/// Held while this server may use the folder.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `folder` without waiting for it.
    pub(super) fn take(folder: &Path) -> Result<Self, OpenError> {
        let refused = |source| OpenError::Folder {
            folder: folder.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join(FILE))
            .map_err(refused)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut owner = String::new();
                // Best effort: the owner may be writing it this moment.
                drop(file.read_to_string(&mut owner));
                return Err(OpenError::Locked {
                    folder: folder.to_owned(),
                    pid: owner.trim().parse().ok(),
                });
            }
            Err(errno) => return Err(refused(errno.into())),
        }
        // The lock holds without the note; a full disk must not keep the server from starting.
        if let Err(error) = note_owner(&mut file) {
            tracing::warn!(%error, "could not write the process id into {FILE}");
        }
        Ok(Self { _file: file })
    }
}

fn note_owner(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}
