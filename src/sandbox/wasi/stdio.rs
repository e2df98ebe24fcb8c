//! stdin, stdout, stderr, and the functions they share with files.

use wasmtime::{Caller, Linker};

use super::super::Stream;
use super::super::host::Host;
use super::{Answer, CHUNK_BYTES_MAX, Errno, Guest, MODULE, VECTORS_MAX, files, number, provide};

/// A character device, as programs take stdio for.
const FILETYPE_CHARACTER_DEVICE: u8 = 2;
const RIGHT_FD_READ: u64 = 1 << 1;
const RIGHT_FD_WRITE: u64 = 1 << 6;

/// Visits the vectors at `ptr` until one chunk is done; answers how many bytes that was.
pub(super) fn vectors(
    guest: &mut Guest<'_>,
    ptr: u32,
    count: u32,
    mut visit: impl FnMut(&mut Guest<'_>, u32, u32) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    if count > VECTORS_MAX {
        return Err(Errno::Inval);
    }
    let mut done = 0;
    for index in 0..count {
        let at = index
            .checked_mul(8)
            .and_then(|offset| ptr.checked_add(offset));
        let at = at.ok_or(Errno::Fault)?;
        let start = guest.u32_at(at)?;
        let len = guest.u32_at(at.checked_add(4).ok_or(Errno::Fault)?)?;
        let left = u32::try_from(CHUNK_BYTES_MAX - done).map_err(|_| Errno::Inval)?;
        let count = visit(guest, start, len.min(left))?;
        done += count;
        if done >= CHUNK_BYTES_MAX || count < len as usize {
            break;
        }
    }
    Ok(done)
}

fn fd_write(guest: &mut Guest<'_>, fd: u32, vector: u32, count: u32, written: u32) -> Answer {
    let stream = match fd {
        0 => return Err(Errno::Badf),
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return files::write(guest, (fd, None), (vector, count, written)),
    };
    let size = vectors(guest, vector, count, |guest, ptr, len| {
        let range = super::host::range(ptr, len).ok_or(Errno::Fault)?;
        let bytes = guest.bytes.get(range).ok_or(Errno::Fault)?;
        guest.host.write(stream, bytes);
        Ok(bytes.len())
    })?;
    guest.put_u32(written, size)
}

fn fd_read(guest: &mut Guest<'_>, fd: u32, vector: u32, count: u32, read: u32) -> Answer {
    match fd {
        0 => {}
        1 | 2 => return Err(Errno::Badf),
        _ => return files::read(guest, (fd, None), (vector, count, read)),
    }
    let size = vectors(guest, vector, count, |guest, ptr, len| {
        guest.slice(ptr, len)?;
        let size = guest.host.stdin.len().min(len as usize);
        let bytes = guest.host.stdin.split_to(size);
        guest.put(ptr, &bytes)?;
        Ok(size)
    })?;
    guest.put_u32(read, size)
}

fn fd_fdstat_get(guest: &mut Guest<'_>, fd: u32, ptr: u32) -> Answer {
    let rights = match fd {
        0 => RIGHT_FD_READ,
        1 | 2 => RIGHT_FD_WRITE,
        _ => return files::fdstat(guest, fd, ptr),
    };
    let mut stat = [0_u8; 24];
    stat[0] = FILETYPE_CHARACTER_DEVICE;
    stat[8..16].copy_from_slice(&rights.to_le_bytes());
    guest.put(ptr, &stat)
}

fn fd_filestat_get(guest: &mut Guest<'_>, fd: u32, ptr: u32) -> Answer {
    if fd > 2 {
        return files::filestat(guest, fd, ptr);
    }
    let mut stat = [0_u8; 64];
    stat[16] = FILETYPE_CHARACTER_DEVICE;
    guest.put(ptr, &stat)
}

/// Adds the functions on descriptors that stdio has answers of its own to.
///
/// # Errors
/// When a function is there already: ours.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    provide!(linker, fd_write(fd: u32, vector: u32, count: u32, written: u32));
    provide!(linker, fd_read(fd: u32, vector: u32, count: u32, read: u32));
    provide!(linker, fd_fdstat_get(fd: u32, ptr: u32));
    provide!(linker, fd_filestat_get(fd: u32, ptr: u32));
    Ok(())
}
