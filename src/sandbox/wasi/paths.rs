//! Functions on paths below an open directory, see [`files`](super::super::files).

use wasmtime::{Caller, Linker};

use super::super::files::{FIRST_FD, FileError, Node, Opening, PATH_BYTES_MAX, Tree};
use super::super::host::{self, Host};
use super::files::{FDFLAG_APPEND, RIGHT_READ, RIGHT_WRITE, Times, descriptor, put_stat, table};
use super::{Answer, Errno, Guest, MODULE, number, provide};

/// A path as the guest says it: from which directory, and where its text is.
#[derive(Clone, Copy)]
struct Path {
    fd: u32,
    ptr: u32,
    len: u32,
}

impl Path {
    fn text(self, bytes: &[u8]) -> Result<&str, Errno> {
        if self.len as usize > PATH_BYTES_MAX {
            return Err(Errno::Nametoolong);
        }
        let range = host::range(self.ptr, self.len).ok_or(Errno::Fault)?;
        let bytes = bytes.get(range).ok_or(Errno::Fault)?;
        str::from_utf8(bytes).map_err(|_| Errno::Ilseq)
    }

    /// The directory it starts in.
    fn base(self, host: &mut Host) -> Result<Node, Errno> {
        if self.fd < FIRST_FD {
            return Err(Errno::Notdir);
        }
        let directory = descriptor(host, self.fd)?;
        let tree = directory.tree();
        Ok(tree.as_directory(directory.node)?)
    }
}

/// Does something with the tree and a path in it.
fn with<T>(
    guest: &mut Guest<'_>,
    path: Path,
    act: impl FnOnce(&mut Tree, Node, &str) -> Result<T, FileError>,
) -> Result<T, Errno> {
    let base = path.base(guest.host)?;
    let text = path.text(guest.bytes)?;
    let tree = table(guest.host, path.fd)?.tree();
    Ok(act(&mut tree.lock(), base, text)?)
}

fn path_create_directory(guest: &mut Guest<'_>, fd: u32, ptr: u32, len: u32) -> Answer {
    with(guest, Path { fd, ptr, len }, |tree, base, path| {
        tree.make_directory(base, path)
    })
}

fn path_remove_directory(guest: &mut Guest<'_>, fd: u32, ptr: u32, len: u32) -> Answer {
    with(guest, Path { fd, ptr, len }, |tree, base, path| {
        tree.remove_directory(base, path)
    })
}

fn path_unlink_file(guest: &mut Guest<'_>, fd: u32, ptr: u32, len: u32) -> Answer {
    with(guest, Path { fd, ptr, len }, |tree, base, path| {
        tree.remove_file(base, path)
    })
}

fn path_rename(guest: &mut Guest<'_>, from: Path, to: Path) -> Answer {
    let new_base = to.base(guest.host)?;
    let base = from.base(guest.host)?;
    let (path, new_path) = (from.text(guest.bytes)?, to.text(guest.bytes)?);
    let tree = table(guest.host, from.fd)?.tree();
    Ok(tree.lock().rename((base, path), (new_base, new_path))?)
}

fn path_filestat_get(
    guest: &mut Guest<'_>,
    fd: u32,
    _follow: u32,
    ptr: u32,
    len: u32,
    result: u32,
) -> Answer {
    let stat = with(guest, Path { fd, ptr, len }, |tree, base, path| {
        let node = tree.find(base, path)?;
        tree.stat(node)
    })?;
    put_stat(guest, result, &stat)
}

fn path_filestat_set_times(
    guest: &mut Guest<'_>,
    path: Path,
    (accessed, modified, flags): (u64, u64, u32),
) -> Answer {
    let times = Times::new(accessed, modified, flags)?;
    with(guest, path, |tree, base, path| {
        let node = tree.find(base, path)?;
        tree.set_times(node, times.accessed, times.modified)
    })
}

/// There are no links, so nothing is one.
fn path_readlink(guest: &mut Guest<'_>, fd: u32, ptr: u32, len: u32) -> Answer {
    with(guest, Path { fd, ptr, len }, |tree, base, path| {
        tree.find(base, path)
    })?;
    Err(Errno::Inval)
}

/// How something is opened, from preview 1's flags and rights.
fn opening(open_flags: u32, rights: u64, flags: u32) -> Opening {
    Opening {
        create: open_flags & 1 != 0,
        directory: open_flags & 2 != 0,
        exclusive: open_flags & 4 != 0,
        truncate: open_flags & 8 != 0,
        read: rights & RIGHT_READ != 0,
        write: rights & RIGHT_WRITE != 0,
        append: flags & u32::from(FDFLAG_APPEND) != 0,
    }
}

fn path_open(guest: &mut Guest<'_>, path: Path, how: Opening, result: u32) -> Answer {
    // Looked at first: what is opened must not get lost.
    guest.slice(result, 4)?;
    path.base(guest.host)?;
    let text = path.text(guest.bytes)?;
    let table = table(guest.host, path.fd)?;
    let opened = table.get(path.fd)?.open(text, how)?;
    let fd = table.insert(opened)?;
    guest.put(result, &fd.to_le_bytes())
}

/// Adds the functions on paths.
///
/// # Errors
/// When a function is there already: ours.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    provide!(linker, path_create_directory(fd: u32, ptr: u32, len: u32));
    provide!(linker, path_remove_directory(fd: u32, ptr: u32, len: u32));
    provide!(linker, path_unlink_file(fd: u32, ptr: u32, len: u32));
    provide!(linker, path_filestat_get(fd: u32, follow: u32, ptr: u32, len: u32, result: u32));
    linker
        .func_wrap(
            MODULE,
            "path_readlink",
            |mut caller: Caller<'_, Host>, fd: u32, ptr: u32, len: u32, _: u32, _: u32, _: u32| {
                let read = |mut guest: Guest<'_>| path_readlink(&mut guest, fd, ptr, len);
                number(Guest::of(&mut caller).and_then(read))
            },
        )?
        .func_wrap(
            MODULE,
            "path_rename",
            |mut caller: Caller<'_, Host>,
             fd: u32,
             ptr: u32,
             len: u32,
             new_fd: u32,
             new_ptr: u32,
             new_len: u32| {
                let from = Path { fd, ptr, len };
                let to = Path {
                    fd: new_fd,
                    ptr: new_ptr,
                    len: new_len,
                };
                let rename = |mut guest: Guest<'_>| path_rename(&mut guest, from, to);
                number(Guest::of(&mut caller).and_then(rename))
            },
        )?
        .func_wrap(
            MODULE,
            "path_filestat_set_times",
            |mut caller: Caller<'_, Host>,
             fd: u32,
             _follow: u32,
             ptr: u32,
             len: u32,
             accessed: u64,
             modified: u64,
             flags: u32| {
                let path = Path { fd, ptr, len };
                let times = (accessed, modified, flags);
                let set = |mut guest: Guest<'_>| path_filestat_set_times(&mut guest, path, times);
                number(Guest::of(&mut caller).and_then(set))
            },
        )?
        .func_wrap(
            MODULE,
            "path_open",
            |mut caller: Caller<'_, Host>,
             fd: u32,
             _follow: u32,
             ptr: u32,
             len: u32,
             open_flags: u32,
             rights: u64,
             _inherited: u64,
             flags: u32,
             result: u32| {
                let path = Path { fd, ptr, len };
                let how = opening(open_flags, rights, flags);
                let open = |mut guest: Guest<'_>| path_open(&mut guest, path, how, result);
                number(Guest::of(&mut caller).and_then(open))
            },
        )?;
    Ok(())
}
