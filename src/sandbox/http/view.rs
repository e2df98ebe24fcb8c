//! `wasi:http` as components import it: types from `wasmtime-wasi-http`, requests out through the egress policy.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;

use http::Request;
use http_body_util::BodyExt as _;
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::p2::types::{
    HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::{
    Error, FieldMap, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

use super::CHUNK_BYTES_MAX;
use crate::model::Namespace;
use crate::sandbox::egress::{Client, Usage};
use crate::sandbox::host::Host;
use crate::sandbox::{Traffic, egress};

/// Things with headers that an instance may hold at one time, [`HEADERS_BYTES_MAX`] each at most.
const HEADED_MAX: usize = 1024;
/// Bytes of headers one of them may have, as they are kept: what `wasmtime` has for a default.
const HEADERS_BYTES_MAX: usize = 128 << 10;
/// Fewest calls until they are counted again: counting looks at everything an instance holds.
const RECOUNT_CALLS_MIN: usize = 64;

/// What an instance has to do with HTTP.
pub(in crate::sandbox) struct Http {
    ctx: WasiHttpCtx,
    headed: Headed,
    hooks: Hooks,
}

struct Hooks {
    client: Arc<Client>,
    usage: Arc<Usage>,
}

impl Http {
    /// For an instance that serves `namespace`, whose requests go out through `client`.
    pub(in crate::sandbox) fn new(client: &Arc<Client>, namespace: Option<Namespace>) -> Self {
        Self {
            ctx: WasiHttpCtx::new(),
            headed: Headed::default(),
            hooks: Hooks {
                client: Arc::clone(client),
                usage: Usage::of(namespace),
            },
        }
    }

    /// What its requests have moved since the last [`Http::begin`].
    pub(in crate::sandbox) fn traffic(&self) -> Traffic {
        self.hooks.usage.traffic()
    }

    /// Where it is counted.
    pub(in crate::sandbox) fn usage(&self) -> Arc<Usage> {
        Arc::clone(&self.hooks.usage)
    }

    /// Begins a run: nothing was moved yet.
    pub(in crate::sandbox) fn begin(&self) {
        self.hooks.usage.begin();
    }
}

/// Bounds how much of headers is kept for an instance.
///
/// A call makes at most one more thing that has some, so they are counted once there may be too many; until there are fewer,
/// new ones stay empty.
struct Headed {
    calls_left: usize,
}

impl Default for Headed {
    fn default() -> Self {
        Self {
            calls_left: HEADED_MAX,
        }
    }
}

impl Headed {
    /// Before each call: what new headers may take from now on, where that may have changed.
    fn next(&mut self, table: &mut ResourceTable) -> Option<usize> {
        if let Some(left) = self.calls_left.checked_sub(1) {
            self.calls_left = left;
            return None;
        }
        let held = table.iter_mut().filter(|entry| is_headed(*entry)).count();
        let room = HEADED_MAX.saturating_sub(held);
        self.calls_left = room.max(RECOUNT_CALLS_MIN);
        Some(if room > 0 { HEADERS_BYTES_MAX } else { 0 })
    }
}

fn is_headed(entry: &(dyn Any + Send)) -> bool {
    entry.is::<FieldMap>()
        || entry.is::<HostIncomingRequest>()
        || entry.is::<HostIncomingResponse>()
        || entry.is::<HostOutgoingRequest>()
        || entry.is::<HostOutgoingResponse>()
}

type Sent = Result<(http::Response<WasiBody>, Driven), Error>;
type Driven = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _answered: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let (client, usage) = (Arc::clone(&self.client), Arc::clone(&self.usage));
        let patience = patience(&client, options);
        Box::new(async move {
            let (response, connection) = client.send(request, patience, usage).await?;
            let drive = async move {
                match connection {
                    Some(connection) => Pin::new(&mut Box::pin(connection))
                        .await
                        .map_err(Error::from),
                    None => Ok(()),
                }
            };
            let response = response.map(|body| body.boxed_unsync());
            Ok((response, Box::new(drive) as Driven))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }
}

/// What the guest asks for, as far as it is no more than the operator's.
fn patience(client: &Client, options: Option<RequestOptions>) -> egress::Patience {
    let most = client.patience();
    let Some(options) = options else {
        return most;
    };
    let least =
        |asked: Option<std::time::Duration>, most| asked.map_or(most, |asked| asked.min(most));
    egress::Patience {
        connect: least(options.connect_timeout, most.connect),
        first_byte: least(options.first_byte_timeout, most.first_byte),
        between_bytes: least(options.between_bytes_timeout, most.between_bytes),
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let p2 = self
            .p2
            .as_deref_mut()
            .expect("a component that imports WASI has its context from the start");
        if let Some(bytes) = p2.http.headed.next(&mut p2.table) {
            p2.http.ctx.set_field_size_limit(bytes);
        }
        WasiHttpCtxView {
            hooks: &mut p2.http.hooks,
            table: &mut p2.table,
            ctx: &mut p2.http.ctx,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_stay_empty_while_too_many_are_held() {
        let mut headed = Headed::default();
        let mut table = ResourceTable::new();
        let mut held = Vec::new();
        let mut limit = HEADERS_BYTES_MAX;
        for _ in 0..3 * HEADED_MAX {
            if let Some(bytes) = headed.next(&mut table) {
                limit = bytes;
            }
            if limit > 0 {
                held.push(table.push(FieldMap::new_mutable(limit)).unwrap());
            }
        }
        let most = HEADED_MAX..=HEADED_MAX + RECOUNT_CALLS_MIN;
        assert!(most.contains(&held.len()), "{}", held.len());
        for fields in held {
            table.delete(fields).unwrap();
        }
        let next = (0..=RECOUNT_CALLS_MIN).find_map(|_| headed.next(&mut table));
        assert_eq!(next, Some(HEADERS_BYTES_MAX));
    }
}
