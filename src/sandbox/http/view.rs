//! `wasi:http` as components import it: types from `wasmtime-wasi-http`, requests out through the egress policy.

use std::pin::Pin;
use std::sync::Arc;

use http::Request;
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::CHUNK_BYTES_MAX;
use crate::model::Namespace;
use crate::sandbox::egress::{Client, Usage};
use crate::sandbox::host::Host;
use crate::sandbox::{Traffic, egress};

/// What an instance has to do with HTTP.
pub(in crate::sandbox) struct Http {
    ctx: WasiHttpCtx,
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
        WasiHttpCtxView {
            hooks: &mut p2.http.hooks,
            table: &mut p2.table,
            ctx: &mut p2.http.ctx,
        }
    }
}
