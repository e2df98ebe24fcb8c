//! stdin, stdout, stderr.

use wasmtime::{Caller, Linker};

use super::super::Stream;
use super::super::host::Host;
use super::{Answer, CHUNK_BYTES_MAX, Errno, Guest, MODULE, VECTORS_MAX, number};

/// A character device, as programs take stdio for.
const FILETYPE_CHARACTER_DEVICE: u8 = 2;
const RIGHT_FD_READ: u64 = 1 << 1;
const RIGHT_FD_WRITE: u64 = 1 << 6;

/// The stream behind a descriptor that can be written to.
fn writable(fd: u32) -> Result<Stream, Errno> {
    match fd {
        1 => Ok(Stream::Stdout),
        2 => Ok(Stream::Stderr),
        _ => Err(Errno::Badf),
    }
}

/// Visits the vectors at `ptr` until one chunk is done; answers how many bytes that was.
fn vectors(
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
    let stream = writable(fd)?;
    let size = vectors(guest, vector, count, |guest, ptr, len| {
        let range = super::host::range(ptr, len).ok_or(Errno::Fault)?;
        let bytes = guest.bytes.get(range).ok_or(Errno::Fault)?;
        guest.host.write(stream, bytes);
        Ok(bytes.len())
    })?;
    guest.put_u32(written, size)
}

fn fd_read(guest: &mut Guest<'_>, fd: u32, vector: u32, count: u32, read: u32) -> Answer {
    if fd != 0 {
        return Err(Errno::Badf);
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
        _ => return Err(Errno::Badf),
    };
    let mut stat = [0_u8; 24];
    stat[0] = FILETYPE_CHARACTER_DEVICE;
    stat[8..16].copy_from_slice(&rights.to_le_bytes());
    guest.put(ptr, &stat)
}

fn fd_filestat_get(guest: &mut Guest<'_>, fd: u32, ptr: u32) -> Answer {
    if fd > 2 {
        return Err(Errno::Badf);
    }
    let mut stat = [0_u8; 64];
    stat[16] = FILETYPE_CHARACTER_DEVICE;
    guest.put(ptr, &stat)
}

/// What stdio answers to calls that only files know: `known` for 0 to 2, a bad descriptor otherwise.
fn on_stdio(fd: u32, known: Errno) -> i32 {
    number(Err(if fd <= 2 { known } else { Errno::Badf }))
}

/// What stdio accepts without doing anything.
fn accepted(fd: u32) -> i32 {
    number(if fd <= 2 { Ok(()) } else { Err(Errno::Badf) })
}

/// Adds the functions on open descriptors.
///
/// # Errors
/// When a function is there already: ours.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker
        .func_wrap(
            MODULE,
            "fd_write",
            |mut caller: Caller<'_, Host>, fd: u32, vector: u32, count: u32, written: u32| {
                number(
                    Guest::of(&mut caller)
                        .and_then(|mut guest| fd_write(&mut guest, fd, vector, count, written)),
                )
            },
        )?
        .func_wrap(
            MODULE,
            "fd_read",
            |mut caller: Caller<'_, Host>, fd: u32, vector: u32, count: u32, read: u32| {
                number(
                    Guest::of(&mut caller)
                        .and_then(|mut guest| fd_read(&mut guest, fd, vector, count, read)),
                )
            },
        )?
        .func_wrap(
            MODULE,
            "fd_fdstat_get",
            |mut caller: Caller<'_, Host>, fd: u32, ptr: u32| {
                number(
                    Guest::of(&mut caller).and_then(|mut guest| fd_fdstat_get(&mut guest, fd, ptr)),
                )
            },
        )?
        .func_wrap(
            MODULE,
            "fd_filestat_get",
            |mut caller: Caller<'_, Host>, fd: u32, ptr: u32| {
                number(
                    Guest::of(&mut caller)
                        .and_then(|mut guest| fd_filestat_get(&mut guest, fd, ptr)),
                )
            },
        )?
        .func_wrap(MODULE, "fd_fdstat_set_flags", |fd: u32, _flags: u32| {
            accepted(fd)
        })?
        .func_wrap(MODULE, "fd_close", accepted)?
        .func_wrap(MODULE, "fd_sync", accepted)?
        .func_wrap(MODULE, "fd_datasync", accepted)?
        .func_wrap(
            MODULE,
            "fd_seek",
            |fd: u32, _offset: i64, _whence: u32, _ptr: u32| on_stdio(fd, Errno::Spipe),
        )?
        .func_wrap(MODULE, "fd_tell", |fd: u32, _ptr: u32| {
            on_stdio(fd, Errno::Spipe)
        })?;
    Ok(())
}
