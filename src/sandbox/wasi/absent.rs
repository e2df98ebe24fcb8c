//! What preview 1 has and a guest here has not: links, sockets, signals. Each answers why.

use wasmtime::Linker;

use super::super::host::Host;
use super::{Errno, MODULE, number};

fn notsup() -> i32 {
    number(Err(Errno::Notsup))
}

fn notsock() -> i32 {
    number(Err(Errno::Notsock))
}

/// Adds the functions that only ever refuse.
///
/// # Errors
/// When a function is there already: ours.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker
        .func_wrap(MODULE, "proc_raise", |_: u32| notsup())?
        .func_wrap(MODULE, "sock_accept", |_: u32, _: u32, _: u32| notsock())?
        .func_wrap(
            MODULE,
            "sock_recv",
            |_: u32, _: u32, _: u32, _: u32, _: u32, _: u32| notsock(),
        )?
        .func_wrap(
            MODULE,
            "sock_send",
            |_: u32, _: u32, _: u32, _: u32, _: u32| notsock(),
        )?
        .func_wrap(MODULE, "sock_shutdown", |_: u32, _: u32| notsock())?
        .func_wrap(
            MODULE,
            "path_link",
            |_: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32| notsup(),
        )?
        .func_wrap(
            MODULE,
            "path_symlink",
            |_: u32, _: u32, _: u32, _: u32, _: u32| notsup(),
        )?
        // Rights are what something was opened with; room is taken when it is written to, not before.
        .func_wrap(MODULE, "fd_fdstat_set_rights", |_: u32, _: u64, _: u64| {
            notsup()
        })?
        .func_wrap(MODULE, "fd_allocate", |_: u32, _: u64, _: u64| notsup())?;
    Ok(())
}
