//! What preview 1 has and a guest here has not: files, directories, sockets, signals. Each answers why.

use wasmtime::Linker;

use super::super::host::Host;
use super::{Errno, MODULE, number};

/// No descriptor but stdio is ever open.
fn badf() -> i32 {
    number(Err(Errno::Badf))
}

fn notsup() -> i32 {
    number(Err(Errno::Notsup))
}

/// Adds the functions that only ever refuse.
///
/// # Errors
/// When a function is there already: ours.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    files(linker)?;
    paths(linker)?;
    linker
        .func_wrap(MODULE, "proc_raise", |_: u32| notsup())?
        .func_wrap(MODULE, "sock_accept", |_: u32, _: u32, _: u32| {
            number(Err(Errno::Notsock))
        })?
        .func_wrap(
            MODULE,
            "sock_recv",
            |_: u32, _: u32, _: u32, _: u32, _: u32, _: u32| number(Err(Errno::Notsock)),
        )?
        .func_wrap(
            MODULE,
            "sock_send",
            |_: u32, _: u32, _: u32, _: u32, _: u32| number(Err(Errno::Notsock)),
        )?
        .func_wrap(MODULE, "sock_shutdown", |_: u32, _: u32| {
            number(Err(Errno::Notsock))
        })?;
    Ok(())
}

fn files(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker
        .func_wrap(MODULE, "fd_advise", |_: u32, _: u64, _: u64, _: u32| badf())?
        .func_wrap(MODULE, "fd_allocate", |_: u32, _: u64, _: u64| badf())?
        .func_wrap(MODULE, "fd_fdstat_set_rights", |_: u32, _: u64, _: u64| badf())?
        .func_wrap(MODULE, "fd_filestat_set_size", |_: u32, _: u64| badf())?
        .func_wrap(MODULE, "fd_filestat_set_times", |_: u32, _: u64, _: u64, _: u32| badf())?
        .func_wrap(MODULE, "fd_pread", |_: u32, _: u32, _: u32, _: u64, _: u32| badf())?
        .func_wrap(MODULE, "fd_pwrite", |_: u32, _: u32, _: u32, _: u64, _: u32| badf())?
        // Programs ask for directories opened before their start, from 3 up, until this answer.
        .func_wrap(MODULE, "fd_prestat_get", |_: u32, _: u32| badf())?
        .func_wrap(MODULE, "fd_prestat_dir_name", |_: u32, _: u32, _: u32| badf())?
        .func_wrap(MODULE, "fd_readdir", |_: u32, _: u32, _: u32, _: u64, _: u32| badf())?
        .func_wrap(MODULE, "fd_renumber", |_: u32, _: u32| badf())?;
    Ok(())
}

fn paths(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker
        .func_wrap(MODULE, "path_create_directory", |_: u32, _: u32, _: u32| {
            badf()
        })?
        .func_wrap(
            MODULE,
            "path_filestat_get",
            |_: u32, _: u32, _: u32, _: u32, _: u32| badf(),
        )?
        .func_wrap(
            MODULE,
            "path_filestat_set_times",
            |_: u32, _: u32, _: u32, _: u32, _: u64, _: u64, _: u32| badf(),
        )?
        .func_wrap(
            MODULE,
            "path_link",
            |_: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32| badf(),
        )?
        .func_wrap(
            MODULE,
            "path_open",
            |_: u32, _: u32, _: u32, _: u32, _: u32, _: u64, _: u64, _: u32, _: u32| badf(),
        )?
        .func_wrap(
            MODULE,
            "path_readlink",
            |_: u32, _: u32, _: u32, _: u32, _: u32, _: u32| badf(),
        )?
        .func_wrap(MODULE, "path_remove_directory", |_: u32, _: u32, _: u32| {
            badf()
        })?
        .func_wrap(
            MODULE,
            "path_rename",
            |_: u32, _: u32, _: u32, _: u32, _: u32, _: u32| badf(),
        )?
        .func_wrap(
            MODULE,
            "path_symlink",
            |_: u32, _: u32, _: u32, _: u32, _: u32| badf(),
        )?
        .func_wrap(MODULE, "path_unlink_file", |_: u32, _: u32, _: u32| badf())?;
    Ok(())
}
