//! Clocks and waiting. A wait is the only place where a guest gives its thread up by itself; the deadline of its run
//! ends it, because the run's future is then dropped or polled past it.

use std::time::Duration;

use wasmtime::{Caller, Linker};

use super::super::host::Host;
use super::{Answer, Errno, Guest, MODULE, VECTORS_MAX, monotonic_nanos, number, wall_nanos};

const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;
const EVENT_CLOCK: u8 = 0;
const EVENT_FD_READ: u8 = 1;
const EVENT_FD_WRITE: u8 = 2;
const FLAG_ABSOLUTE: u8 = 1;

/// A clock a guest may read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Clock {
    Wall,
    Monotonic,
}

impl TryFrom<u32> for Clock {
    type Error = Errno;

    fn try_from(id: u32) -> Result<Self, Errno> {
        match id {
            0 => Ok(Self::Wall),
            // CPU time of process and thread: what they would say here, nobody should know; a steady clock will do.
            1..=3 => Ok(Self::Monotonic),
            _ => Err(Errno::Inval),
        }
    }
}

impl Clock {
    pub(super) fn now(self) -> u64 {
        match self {
            Self::Wall => wall_nanos(),
            Self::Monotonic => monotonic_nanos(),
        }
    }
}

/// One thing waited for.
struct Subscription {
    userdata: u64,
    kind: u8,
    /// When it comes, in nanoseconds from now; 0 for what is ready at once.
    after: u64,
    error: Option<Errno>,
}

fn subscription(guest: &Guest<'_>, at: u32) -> Result<Subscription, Errno> {
    let offset = |offset: u32| at.checked_add(offset).ok_or(Errno::Fault);
    let userdata = guest.u64_at(at)?;
    let kind = guest.slice(offset(8)?, 1)?[0];
    let mut found = Subscription {
        userdata,
        kind,
        after: 0,
        error: None,
    };
    match kind {
        EVENT_CLOCK => {
            let timeout = guest.u64_at(offset(24)?)?;
            let flags = guest.slice(offset(40)?, 1)?[0];
            match Clock::try_from(guest.u32_at(offset(16)?)?) {
                Ok(clock) if flags & FLAG_ABSOLUTE != 0 => {
                    found.after = timeout.saturating_sub(clock.now());
                }
                Ok(_) => found.after = timeout,
                Err(errno) => found.error = Some(errno),
            }
        }
        EVENT_FD_READ | EVENT_FD_WRITE => {
            if guest.u32_at(offset(16)?)? > 2 {
                found.error = Some(Errno::Badf);
            }
        }
        _ => return Err(Errno::Inval),
    }
    Ok(found)
}

fn subscriptions(guest: &Guest<'_>, input: u32, count: u32) -> Result<Vec<Subscription>, Errno> {
    if count == 0 || count > VECTORS_MAX {
        return Err(Errno::Inval);
    }
    (0..count)
        .map(|index| {
            let at = index.checked_mul(SUBSCRIPTION_BYTES);
            let at = at.and_then(|offset| input.checked_add(offset));
            subscription(guest, at.ok_or(Errno::Fault)?)
        })
        .collect()
}

fn report(
    guest: &mut Guest<'_>,
    all: &[Subscription],
    waited: u64,
    output: u32,
    count: u32,
) -> Answer {
    let mut at = output;
    let mut events = 0;
    for found in all.iter().filter(|found| found.after <= waited) {
        let mut event = [0_u8; EVENT_BYTES as usize];
        event[..8].copy_from_slice(&found.userdata.to_le_bytes());
        let errno = found.error.map_or(0, |errno| errno as u16);
        event[8..10].copy_from_slice(&errno.to_le_bytes());
        event[10] = found.kind;
        // Bytes that can be read or written without waiting: at least one.
        event[16] = 1;
        guest.put(at, &event)?;
        at = at.checked_add(EVENT_BYTES).ok_or(Errno::Fault)?;
        events += 1;
    }
    guest.put_u32(count, events)
}

async fn poll_oneoff(
    caller: &mut Caller<'_, Host>,
    input: u32,
    output: u32,
    count: u32,
    events: u32,
) -> Answer {
    let all = subscriptions(&Guest::of(caller)?, input, count)?;
    let soonest = all.iter().map(|found| found.after).min().unwrap_or(0);
    if soonest > 0 {
        tokio::time::sleep(Duration::from_nanos(soonest)).await;
    }
    report(&mut Guest::of(caller)?, &all, soonest, output, events)
}

/// Adds what waits.
///
/// # Errors
/// When a function is there already: ours.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker
        .func_wrap_async(
            MODULE,
            "poll_oneoff",
            |mut caller: Caller<'_, Host>, (input, output, count, events): (u32, u32, u32, u32)| {
                Box::new(async move {
                    number(poll_oneoff(&mut caller, input, output, count, events).await)
                })
            },
        )?
        .func_wrap_async(MODULE, "sched_yield", |_: Caller<'_, Host>, (): ()| {
            Box::new(async {
                tokio::task::yield_now().await;
                0_i32
            })
        })?;
    Ok(())
}
