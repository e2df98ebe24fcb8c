//! `wasi:cli/environment`: what holds for the run, looked up when the guest asks, so that a warm instance is told of the
//! activation it serves and not of its first.

use wasmtime::component::{HasData, Linker};
use wasmtime_wasi::p2::bindings::cli::environment;
use wasmtime_wasi::p3::bindings::cli::environment as concurrent;

use super::super::host::Host;

/// Puts it in place of what `wasmtime-wasi` has.
///
/// # Errors
/// When the linker has no room: ours.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    environment::add_to_linker::<Host, Environment>(linker, |host| View(host))?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The same for WASI 0.3.
///
/// # Errors
/// When the linker has no room: ours.
pub(in crate::sandbox) fn add_concurrent_to_linker(
    linker: &mut Linker<Host>,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    concurrent::add_to_linker::<Host, Environment>(linker, |host| View(host))?;
    linker.allow_shadowing(false);
    Ok(())
}

struct Environment;

impl HasData for Environment {
    type Data<'a> = View<'a>;
}

struct View<'a>(&'a mut Host);

impl environment::Host for View<'_> {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Ok(self.0.variables().map(owned).collect())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(vec!["action".to_owned()])
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl concurrent::Host for View<'_> {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        environment::Host::get_environment(self)
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        environment::Host::get_arguments(self)
    }

    fn get_initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        environment::Host::initial_cwd(self)
    }
}
