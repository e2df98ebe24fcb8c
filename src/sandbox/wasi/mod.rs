//! WASI preview 1, the least that programs need: arguments, environment, clocks, randomness, stdin, stdout, stderr,
//! files in a private `/tmp`, waiting, and an end. No links, no sockets. All 46 functions exist, so that any module links;
//! those that make no sense here answer an error number.
//!
//! Written here and not taken from a crate because a command runs in some ten microseconds, of which a general
//! implementation takes a third.
//!
//! Invariants:
//! - nothing the guest says is believed: every pointer, length and count is checked against its memory;
//! - one call does a bounded amount of work ([`CHUNK_BYTES_MAX`], [`VECTORS_MAX`]), because no tick interrupts the host;
//! - the guest never makes the host panic, and a wrong pointer is an error number, not a trap.

mod absent;
mod files;
mod paths;
mod stdio;
mod wait;

use wasmtime::{Caller, Linker};

use super::files::FileError;
use super::host::{self, Host, Stop};
use crate::model::time::nanos_now;

/// Bytes read, written or made random by one call; more is cut short, as POSIX allows.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Vectors of one read or write, subscriptions of one wait.
const VECTORS_MAX: u32 = 1024;

/// Error numbers of preview 1, as far as they are answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
enum Errno {
    Badf = 8,
    Exist = 20,
    Fault = 21,
    Fbig = 22,
    Ilseq = 25,
    Inval = 28,
    Isdir = 31,
    Mfile = 33,
    Nametoolong = 37,
    Noent = 44,
    Nospc = 51,
    Nosys = 52,
    Notdir = 54,
    Notempty = 55,
    Notsock = 57,
    Notsup = 58,
    Perm = 63,
    Spipe = 70,
}

impl From<FileError> for Errno {
    fn from(error: FileError) -> Self {
        match error {
            FileError::BadDescriptor => Self::Badf,
            FileError::Exists => Self::Exist,
            FileError::IllegalName => Self::Ilseq,
            FileError::Invalid => Self::Inval,
            FileError::IsDirectory => Self::Isdir,
            FileError::NameTooLong => Self::Nametoolong,
            FileError::NoSpace => Self::Nospc,
            FileError::NotDirectory => Self::Notdir,
            FileError::NotEmpty => Self::Notempty,
            FileError::NotFound => Self::Noent,
            FileError::Outside => Self::Perm,
            FileError::TooLarge => Self::Fbig,
            FileError::TooManyOpen => Self::Mfile,
        }
    }
}

/// What a function answers: 0 or an error number.
type Answer = Result<(), Errno>;

fn number(answer: Answer) -> i32 {
    match answer {
        Ok(()) => 0,
        Err(errno) => i32::from(errno as u16),
    }
}

/// The guest's memory and the host beside it.
struct Guest<'a> {
    bytes: &'a mut [u8],
    host: &'a mut Host,
}

impl<'a> Guest<'a> {
    fn of(caller: &'a mut Caller<'_, Host>) -> Result<Self, Errno> {
        let memory = host::memory(caller).ok_or(Errno::Fault)?;
        let (bytes, host) = memory.data_and_store_mut(caller);
        Ok(Self { bytes, host })
    }

    fn slice(&self, ptr: u32, len: u32) -> Result<&[u8], Errno> {
        host::range(ptr, len)
            .and_then(|range| self.bytes.get(range))
            .ok_or(Errno::Fault)
    }

    fn slice_mut(&mut self, ptr: u32, len: u32) -> Result<&mut [u8], Errno> {
        host::range(ptr, len)
            .and_then(|range| self.bytes.get_mut(range))
            .ok_or(Errno::Fault)
    }

    fn u32_at(&self, ptr: u32) -> Result<u32, Errno> {
        let bytes = self.slice(ptr, 4)?.first_chunk().ok_or(Errno::Fault)?;
        Ok(u32::from_le_bytes(*bytes))
    }

    fn u64_at(&self, ptr: u32) -> Result<u64, Errno> {
        let bytes = self.slice(ptr, 8)?.first_chunk().ok_or(Errno::Fault)?;
        Ok(u64::from_le_bytes(*bytes))
    }

    fn put(&mut self, ptr: u32, bytes: &[u8]) -> Answer {
        let len = u32::try_from(bytes.len()).map_err(|_| Errno::Fault)?;
        self.slice_mut(ptr, len)?.copy_from_slice(bytes);
        Ok(())
    }

    fn put_u32(&mut self, ptr: u32, value: usize) -> Answer {
        let value = u32::try_from(value).map_err(|_| Errno::Inval)?;
        self.put(ptr, &value.to_le_bytes())
    }

    fn put_u64(&mut self, ptr: u32, value: u64) -> Answer {
        self.put(ptr, &value.to_le_bytes())
    }

    /// Writes `texts`, each with a zero byte after it, to `buffer`, and where each begins to `pointers`.
    fn put_texts(&mut self, texts: &[String], mut pointers: u32, mut buffer: u32) -> Answer {
        for text in texts {
            self.put(pointers, &buffer.to_le_bytes())?;
            self.put(buffer, text.as_bytes())?;
            let size = u32::try_from(text.len()).map_err(|_| Errno::Fault)?;
            let end = buffer.checked_add(size).ok_or(Errno::Fault)?;
            self.put(end, &[0])?;
            buffer = end.checked_add(1).ok_or(Errno::Fault)?;
            pointers = pointers.checked_add(4).ok_or(Errno::Fault)?;
        }
        Ok(())
    }

    fn put_sizes(&mut self, texts: &[String], count_ptr: u32, size_ptr: u32) -> Answer {
        self.put_u32(count_ptr, texts.len())?;
        self.put_u32(size_ptr, texts.iter().map(|text| text.len() + 1).sum())
    }
}

/// The one argument: the name of the program.
fn arguments() -> Vec<String> {
    vec!["action".into()]
}

/// `NAME=value` of every variable that can be said so.
fn environment(host: &Host) -> Vec<String> {
    let clean = |text: &str| !text.contains('\0');
    host.variables()
        .filter(|(name, value)| clean(name) && clean(value) && !name.contains('='))
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

const MODULE: &str = "wasi_snapshot_preview1";

/// Adds a function that takes the guest and these arguments.
macro_rules! provide {
    ($linker:expr, $name:ident($($arg:ident: $ty:ty),*)) => {
        $linker.func_wrap(
            MODULE,
            stringify!($name),
            |mut caller: Caller<'_, Host>, $($arg: $ty),*| {
                number(Guest::of(&mut caller).and_then(|mut guest| $name(&mut guest, $($arg),*)))
            },
        )?
    };
}
use provide;

/// Adds all of preview 1.
///
/// # Errors
/// When a function is there already: ours.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    stdio::add_to_linker(linker)?;
    files::add_to_linker(linker)?;
    paths::add_to_linker(linker)?;
    wait::add_to_linker(linker)?;
    absent::add_to_linker(linker)?;
    linker
        .func_wrap(
            MODULE,
            "args_get",
            |mut caller: Caller<'_, Host>, pointers: u32, buffer: u32| {
                number(
                    Guest::of(&mut caller)
                        .and_then(|mut guest| guest.put_texts(&arguments(), pointers, buffer)),
                )
            },
        )?
        .func_wrap(
            MODULE,
            "args_sizes_get",
            |mut caller: Caller<'_, Host>, count: u32, size: u32| {
                number(
                    Guest::of(&mut caller)
                        .and_then(|mut guest| guest.put_sizes(&arguments(), count, size)),
                )
            },
        )?
        .func_wrap(
            MODULE,
            "environ_get",
            |mut caller: Caller<'_, Host>, pointers: u32, buffer: u32| {
                number(Guest::of(&mut caller).and_then(|mut guest| {
                    let environment = environment(guest.host);
                    guest.put_texts(&environment, pointers, buffer)
                }))
            },
        )?
        .func_wrap(
            MODULE,
            "environ_sizes_get",
            |mut caller: Caller<'_, Host>, count: u32, size: u32| {
                number(Guest::of(&mut caller).and_then(|mut guest| {
                    let environment = environment(guest.host);
                    guest.put_sizes(&environment, count, size)
                }))
            },
        )?;
    clocks_and_end(linker)
}

fn clocks_and_end(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker
        .func_wrap(
            MODULE,
            "random_get",
            |mut caller: Caller<'_, Host>, ptr: u32, len: u32| {
                number(Guest::of(&mut caller).and_then(|mut guest| random(&mut guest, ptr, len)))
            },
        )?
        .func_wrap(MODULE, "proc_exit", proc_exit)?
        .func_wrap(
            MODULE,
            "clock_res_get",
            |mut caller: Caller<'_, Host>, clock: u32, ptr: u32| {
                number(Guest::of(&mut caller).and_then(|mut guest| {
                    wait::Clock::try_from(clock)?;
                    guest.put_u64(ptr, 1)
                }))
            },
        )?
        .func_wrap(
            MODULE,
            "clock_time_get",
            |mut caller: Caller<'_, Host>, clock: u32, _precision: u64, ptr: u32| {
                number(Guest::of(&mut caller).and_then(|mut guest| {
                    let now = wait::Clock::try_from(clock)?.now();
                    guest.put_u64(ptr, now)
                }))
            },
        )?;
    Ok(())
}

fn random(guest: &mut Guest<'_>, ptr: u32, len: u32) -> Answer {
    let target = guest.slice_mut(ptr, len)?;
    if target.len() > CHUNK_BYTES_MAX {
        return Err(Errno::Inval);
    }
    getrandom::fill(target).map_err(|_| Errno::Nosys)
}

fn proc_exit(status: i32) -> wasmtime::Result<()> {
    Err(Stop::Exit(status).into())
}

/// Nanoseconds since some moment before the server began; never steps.
fn monotonic_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Nanoseconds since 1970.
fn wall_nanos() -> u64 {
    nanos_now()
}
