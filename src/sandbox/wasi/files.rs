//! Functions on open files and directories, see [`files`](super::super::files). Descriptors 0 to 2 are stdio; 3 is `/tmp`.

use wasmtime::{Caller, Linker};

use super::super::files::{Descriptor, FIRST_FD, Origin, ROOT, Stat, Table};
use super::super::host::{self, Host};
use super::stdio::vectors;
use super::{Answer, Errno, Guest, MODULE, number, provide, wall_nanos};

const FILETYPE_DIRECTORY: u8 = 3;
const FILETYPE_REGULAR_FILE: u8 = 4;
/// What a file of any kind may be asked: its state, times, size, waiting.
const RIGHTS_ANY: u64 = 1 << 3 | 1 << 21 | 1 << 23;
/// What comes with reading a file.
const RIGHTS_READ: u64 = RIGHT_READ | RIGHTS_SEEK;
/// What comes with writing one.
const RIGHTS_WRITE: u64 = RIGHT_WRITE | RIGHTS_SEEK | 1 << 0 | 1 << 4 | 1 << 22;
/// Seek, tell, advise, wait.
const RIGHTS_SEEK: u64 = 1 << 2 | 1 << 5 | 1 << 7 | 1 << 27;
/// Everything paths can be used for, links left out.
const RIGHTS_DIRECTORY: u64 = RIGHTS_ANY
    | 1 << 9
    | 1 << 10
    | 1 << 13
    | 1 << 14
    | 1 << 16
    | 1 << 17
    | 1 << 18
    | 1 << 20
    | 1 << 25
    | 1 << 26;
/// To read a file.
pub(super) const RIGHT_READ: u64 = 1 << 1;
/// To write one.
pub(super) const RIGHT_WRITE: u64 = 1 << 6;
/// Writes go to the end; the other flags say what is so anyway here.
pub(super) const FDFLAG_APPEND: u16 = 1;
const ENTRY_BYTES: usize = 24;

/// The open files, if `fd` can be one: until the first is asked for, only the root is.
pub(super) fn table(host: &mut Host, fd: u32) -> Result<&mut Table, Errno> {
    if host.open.is_none() && fd != FIRST_FD {
        return Err(Errno::Badf);
    }
    Ok(host.table()?)
}

/// What is open as `fd`.
pub(super) fn descriptor(host: &mut Host, fd: u32) -> Result<&mut Descriptor, Errno> {
    Ok(table(host, fd)?.get_mut(fd)?)
}

/// Moves bytes between a descriptor and the guest's vectors, from `at` or its own offset on.
fn transfer(
    guest: &mut Guest<'_>,
    (fd, at): (u32, Option<u64>),
    (vector, count, result): (u32, u32, u32),
    step: impl Fn(&Descriptor, &mut [u8], u64) -> Result<(usize, u64), Errno>,
) -> Answer {
    let mut offset = match at {
        Some(offset) => offset,
        None => descriptor(guest.host, fd)?.offset,
    };
    let mut refused = None;
    let done = vectors(guest, vector, count, |guest, ptr, len| {
        let range = host::range(ptr, len).ok_or(Errno::Fault)?;
        let bytes = guest.bytes.get_mut(range).ok_or(Errno::Fault)?;
        match step(descriptor(guest.host, fd)?, bytes, offset) {
            Ok((count, end)) => {
                offset = end;
                Ok(count)
            }
            Err(errno) => {
                refused = Some(errno);
                Ok(0)
            }
        }
    })?;
    // What was done before something was refused counts; the next call is told.
    if let (Some(errno), 0) = (refused, done) {
        return Err(errno);
    }
    guest.put_u32(result, done)?;
    if at.is_none() {
        descriptor(guest.host, fd)?.offset = offset;
    }
    Ok(())
}

/// `fd_read` and `fd_pread` on what is not stdio.
pub(super) fn read(
    guest: &mut Guest<'_>,
    fd: (u32, Option<u64>),
    vectors: (u32, u32, u32),
) -> Answer {
    transfer(guest, fd, vectors, |file, bytes, offset| {
        let count = file.read_at(offset, bytes)?;
        Ok((count, offset + count as u64))
    })
}

/// `fd_write` and `fd_pwrite` on what is not stdio.
pub(super) fn write(
    guest: &mut Guest<'_>,
    fd: (u32, Option<u64>),
    vectors: (u32, u32, u32),
) -> Answer {
    transfer(guest, fd, vectors, |file, bytes, offset| {
        let offset = (!file.append || fd.1.is_some()).then_some(offset);
        Ok(file.write_at(offset, bytes)?)
    })
}

/// `fd_fdstat_get` on what is not stdio.
pub(super) fn fdstat(guest: &mut Guest<'_>, fd: u32, ptr: u32) -> Answer {
    let file = descriptor(guest.host, fd)?;
    let mut stat = [0_u8; 24];
    let (rights, inherited) = if file.is_directory() {
        stat[0] = FILETYPE_DIRECTORY;
        let files = RIGHTS_ANY | RIGHTS_READ | RIGHTS_WRITE;
        (RIGHTS_DIRECTORY, RIGHTS_DIRECTORY | files)
    } else {
        stat[0] = FILETYPE_REGULAR_FILE;
        let read = if file.read { RIGHTS_READ } else { 0 };
        let write = if file.write { RIGHTS_WRITE } else { 0 };
        (RIGHTS_ANY | read | write, 0)
    };
    stat[2] = u8::from(file.append);
    stat[8..16].copy_from_slice(&rights.to_le_bytes());
    stat[16..24].copy_from_slice(&inherited.to_le_bytes());
    guest.put(ptr, &stat)
}

/// `fd_filestat_get` on what is not stdio.
pub(super) fn filestat(guest: &mut Guest<'_>, fd: u32, ptr: u32) -> Answer {
    let file = descriptor(guest.host, fd)?;
    let stat = file.tree().stat(file.node)?;
    put_stat(guest, ptr, &stat)
}

/// Writes what is known of a file.
pub(super) fn put_stat(guest: &mut Guest<'_>, ptr: u32, stat: &Stat) -> Answer {
    let kind = filetype(stat.is_directory);
    let fields = [
        1,
        stat.node.number(),
        u64::from(kind),
        stat.links,
        stat.size,
        stat.accessed,
        stat.modified,
        stat.changed,
    ];
    let mut bytes = [0_u8; 64];
    for (target, field) in bytes.chunks_exact_mut(8).zip(fields) {
        target.copy_from_slice(&field.to_le_bytes());
    }
    guest.put(ptr, &bytes)
}

fn filetype(is_directory: bool) -> u8 {
    if is_directory {
        FILETYPE_DIRECTORY
    } else {
        FILETYPE_REGULAR_FILE
    }
}

/// Times to set, from their values and the flags that say which of them is meant.
pub(super) struct Times {
    pub(super) accessed: Option<u64>,
    pub(super) modified: Option<u64>,
}

impl Times {
    pub(super) fn new(accessed: u64, modified: u64, flags: u32) -> Result<Self, Errno> {
        let chosen = |value, flags| match flags {
            0 => Ok(None),
            1 => Ok(Some(value)),
            2 => Ok(Some(wall_nanos())),
            _ => Err(Errno::Inval),
        };
        Ok(Self {
            accessed: chosen(accessed, flags & 3)?,
            modified: chosen(modified, flags >> 2)?,
        })
    }
}

/// Whether `fd` is the directory that was open from the start.
fn prestat(guest: &Guest<'_>, fd: u32) -> Answer {
    let is_first = match &guest.host.open {
        None => fd == FIRST_FD,
        Some(table) => table.is_first(fd),
    };
    if is_first { Ok(()) } else { Err(Errno::Badf) }
}

// Programs ask for directories opened before their start, from 3 up, until this answers "bad descriptor".
fn fd_prestat_get(guest: &mut Guest<'_>, fd: u32, ptr: u32) -> Answer {
    prestat(guest, fd)?;
    guest.put(ptr, &[0; 4])?;
    guest.put_u32(ptr.checked_add(4).ok_or(Errno::Fault)?, ROOT.len())
}

fn fd_prestat_dir_name(guest: &mut Guest<'_>, fd: u32, ptr: u32, len: u32) -> Answer {
    prestat(guest, fd)?;
    if (len as usize) < ROOT.len() {
        return Err(Errno::Nametoolong);
    }
    guest.put(ptr, ROOT.as_bytes())
}

fn fd_pread(
    guest: &mut Guest<'_>,
    fd: u32,
    vector: u32,
    count: u32,
    offset: u64,
    result: u32,
) -> Answer {
    not_stdio(fd, Errno::Spipe)?;
    read(guest, (fd, Some(offset)), (vector, count, result))
}

fn fd_pwrite(
    guest: &mut Guest<'_>,
    fd: u32,
    vector: u32,
    count: u32,
    offset: u64,
    result: u32,
) -> Answer {
    not_stdio(fd, Errno::Spipe)?;
    write(guest, (fd, Some(offset)), (vector, count, result))
}

/// Refuses stdio with `errno`.
fn not_stdio(fd: u32, errno: Errno) -> Answer {
    if fd < FIRST_FD { Err(errno) } else { Ok(()) }
}

/// What is accepted of stdio and of anything else open, without doing anything: there is nothing slower to write to.
fn accept(guest: &mut Guest<'_>, fd: u32) -> Answer {
    if fd >= FIRST_FD {
        descriptor(guest.host, fd)?;
    }
    Ok(())
}

fn fd_sync(guest: &mut Guest<'_>, fd: u32) -> Answer {
    accept(guest, fd)
}

fn fd_datasync(guest: &mut Guest<'_>, fd: u32) -> Answer {
    accept(guest, fd)
}

fn fd_advise(guest: &mut Guest<'_>, fd: u32, _offset: u64, _len: u64, advice: u32) -> Answer {
    not_stdio(fd, Errno::Badf)?;
    descriptor(guest.host, fd)?;
    if advice > 5 {
        Err(Errno::Inval)
    } else {
        Ok(())
    }
}

fn fd_close(guest: &mut Guest<'_>, fd: u32) -> Answer {
    if fd >= FIRST_FD {
        table(guest.host, fd)?.close(fd)?;
    }
    Ok(())
}

fn fd_renumber(guest: &mut Guest<'_>, from: u32, to: u32) -> Answer {
    not_stdio(from.min(to), Errno::Notsup)?;
    Ok(table(guest.host, from)?.renumber(from, to)?)
}

fn fd_fdstat_set_flags(guest: &mut Guest<'_>, fd: u32, flags: u32) -> Answer {
    if fd >= FIRST_FD {
        let append = flags & u32::from(FDFLAG_APPEND) != 0;
        descriptor(guest.host, fd)?.append = append;
    }
    Ok(())
}

fn fd_seek(guest: &mut Guest<'_>, fd: u32, delta: i64, whence: u32, ptr: u32) -> Answer {
    not_stdio(fd, Errno::Spipe)?;
    let origin = match whence {
        0 => Origin::Start,
        1 => Origin::Here,
        2 => Origin::End,
        _ => return Err(Errno::Inval),
    };
    guest.slice(ptr, 8)?;
    let offset = descriptor(guest.host, fd)?.seek(origin, delta)?;
    guest.put_u64(ptr, offset)
}

fn fd_tell(guest: &mut Guest<'_>, fd: u32, ptr: u32) -> Answer {
    fd_seek(guest, fd, 0, 1, ptr)
}

fn fd_filestat_set_size(guest: &mut Guest<'_>, fd: u32, size: u64) -> Answer {
    not_stdio(fd, Errno::Inval)?;
    Ok(descriptor(guest.host, fd)?.set_size(size)?)
}

fn fd_filestat_set_times(
    guest: &mut Guest<'_>,
    fd: u32,
    accessed: u64,
    modified: u64,
    flags: u32,
) -> Answer {
    not_stdio(fd, Errno::Badf)?;
    let times = Times::new(accessed, modified, flags)?;
    let file = descriptor(guest.host, fd)?;
    let node = file.node;
    Ok(file
        .tree()
        .set_times(node, times.accessed, times.modified)?)
}

/// As many lines as fit; the last may be cut, which is how the guest knows that there are more.
fn fd_readdir(
    guest: &mut Guest<'_>,
    fd: u32,
    ptr: u32,
    len: u32,
    cookie: u64,
    result: u32,
) -> Answer {
    not_stdio(fd, Errno::Notdir)?;
    let range = host::range(ptr, len).ok_or(Errno::Fault)?;
    let buffer = guest.bytes.get_mut(range).ok_or(Errno::Fault)?;
    let directory = descriptor(guest.host, fd)?;
    let tree = directory.tree();
    let mut done = 0;
    for line in tree.list(directory.node, cookie)? {
        let mut head = [0_u8; ENTRY_BYTES];
        head[..8].copy_from_slice(&line.next.to_le_bytes());
        head[8..16].copy_from_slice(&line.node.number().to_le_bytes());
        let size = u32::try_from(line.name.len()).map_err(|_| Errno::Nametoolong)?;
        head[16..20].copy_from_slice(&size.to_le_bytes());
        head[20] = filetype(line.is_directory);
        for part in [&head[..], line.name.as_bytes()] {
            let count = part.len().min(buffer.len() - done);
            buffer[done..done + count].copy_from_slice(&part[..count]);
            done += count;
        }
        if done == buffer.len() {
            break;
        }
    }
    drop(tree);
    guest.put_u32(result, done)
}

/// Adds the functions on descriptors that stdio has no other answer to.
///
/// # Errors
/// When a function is there already: ours.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    provide!(linker, fd_prestat_get(fd: u32, ptr: u32));
    provide!(linker, fd_prestat_dir_name(fd: u32, ptr: u32, len: u32));
    provide!(linker, fd_pread(fd: u32, vector: u32, count: u32, offset: u64, result: u32));
    provide!(linker, fd_pwrite(fd: u32, vector: u32, count: u32, offset: u64, result: u32));
    provide!(linker, fd_sync(fd: u32));
    provide!(linker, fd_datasync(fd: u32));
    provide!(linker, fd_advise(fd: u32, offset: u64, len: u64, advice: u32));
    provide!(linker, fd_close(fd: u32));
    provide!(linker, fd_renumber(from: u32, to: u32));
    provide!(linker, fd_fdstat_set_flags(fd: u32, flags: u32));
    provide!(linker, fd_seek(fd: u32, delta: i64, whence: u32, ptr: u32));
    provide!(linker, fd_tell(fd: u32, ptr: u32));
    provide!(linker, fd_filestat_set_size(fd: u32, size: u64));
    provide!(linker, fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, flags: u32));
    provide!(linker, fd_readdir(fd: u32, ptr: u32, len: u32, cookie: u64, result: u32));
    Ok(())
}
