//! `/api/{tenant}/{base}/{rel}`: requests to APIs, handed on to the web actions they lead to, in process.
//!
//! What an API's document says is read once and kept; a change, made here or heard of, makes the next request read it again. A tenant
//! is known by its uuid, which goes with its namespace: a namespace that was deleted, blocked or made anew has no APIs
//! under the old one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::ALLOW;
use axum::http::{HeaderValue, Method, Uri};
use axum::response::Response;
use dashmap::DashMap;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use uuid::Uuid;

use super::document::{Api, Backend, Route, Segment};
use crate::api::error::{Error, Result};
use crate::api::{Front, web};
use crate::model::Namespace;
use crate::store::{Page, Shelf};

/// Bytes of documents whose routes are kept; beyond it all are forgotten, and read again when they are asked for.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// What a tenant costs beside its documents.
const OVERHEAD_BYTES: usize = 1024;

/// Characters of a uuid, in its usual form.
const UUID_CHARS: usize = 36;

/// The APIs of one tenant.
struct Gate {
    namespace: Namespace,
    /// Longest base path first.
    apis: Vec<Api>,
}

/// The APIs of tenants, ready to be looked up.
#[derive(Default)]
pub(crate) struct Gates {
    kept: DashMap<Uuid, Arc<Gate>>,
    /// Bytes of the documents behind what is kept, as they were when they were read.
    bytes: AtomicUsize,
    changes: AtomicU64,
}

impl std::fmt::Debug for Gates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gates({} kept)", self.kept.len())
    }
}

impl Gates {
    /// To be called after every write to an API of `tenant`.
    pub(super) fn forget(&self, tenant: Uuid) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.kept.remove(&tenant);
    }

    /// Another node changed an API of `namespace`.
    pub(crate) fn forget_namespace(&self, namespace: &Namespace) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.kept.retain(|_, gate| gate.namespace != *namespace);
    }

    /// Any may have changed.
    pub(crate) fn forget_all(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.kept.clear();
    }

    async fn of(&self, front: &Front, tenant: Uuid) -> Result<Option<Arc<Gate>>> {
        let kept = self.kept.get(&tenant).map(|gate| Arc::clone(&gate));
        let gate = match kept {
            Some(gate) => gate,
            None => match Box::pin(self.read(front, tenant)).await? {
                Some(gate) => gate,
                None => return Ok(None),
            },
        };
        let owner = front.state.keys.owner(&gate.namespace).await?;
        Ok(owner.filter(|owner| owner.uuid == tenant).map(|_| gate))
    }

    async fn read(&self, front: &Front, tenant: Uuid) -> Result<Option<Arc<Gate>>> {
        let changes_seen = self.changes.load(Ordering::SeqCst);
        let store = &front.state.store;
        let Some(owner) = store.tenants.by_uuid(tenant).await? else {
            return Ok(None);
        };
        let namespace = owner.namespace;
        let page = Page {
            skip: 0,
            limit: usize::try_from(front.config.apis_max)
                .unwrap_or(usize::MAX)
                .max(1),
        };
        let items = store.items.list(&namespace, Shelf::Apis, "", page).await?;
        let bytes = items.iter().map(|item| item.body.len()).sum::<usize>() + OVERHEAD_BYTES;
        let mut apis: Vec<_> = items
            .iter()
            .filter_map(|item| {
                let document: Value = serde_json::from_str(&item.body).unwrap_or_default();
                let api = Api::read(&document).inspect_err(|why| {
                    tracing::error!(%namespace, api = item.name, why, "an API cannot be served");
                });
                api.ok()
            })
            .collect();
        apis.sort_by_key(|api| std::cmp::Reverse(api.base.len()));
        let gate = Arc::new(Gate { namespace, apis });
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > KEPT_BYTES_MAX {
            self.kept.clear();
            self.bytes.store(bytes, Ordering::Relaxed);
        }
        self.kept.insert(tenant, Arc::clone(&gate));
        if self.changes.load(Ordering::SeqCst) != changes_seen {
            // It may be this tenant's that changed while it was read.
            self.kept.remove(&tenant);
        }
        Ok(Some(gate))
    }
}

/// The tenant that `path` is addressed to, and what follows it.
pub(in crate::api) fn tenant(path: &str) -> Option<(Uuid, &str)> {
    let rest = path.strip_prefix("/api/")?;
    let (tenant, rest) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if tenant.len() != UUID_CHARS {
        return None;
    }
    Some((Uuid::parse_str(tenant).ok()?, rest))
}

/// Answers a request whose path has a [`tenant`].
pub(in crate::api) async fn answer(
    front: &Front,
    request: Request,
    transaction: &HeaderValue,
) -> Response {
    match enter(front, request).await {
        Ok(Entered::Backend(request)) => web::answer(front, request, transaction).await,
        Ok(Entered::Preflight(response)) => response,
        Err(refused) => {
            let mut response = Response::new(Body::empty());
            if let Some(allow) = refused.allow {
                response.headers_mut().insert(ALLOW, allow);
            }
            refused.error.fill(&mut response, transaction);
            response
        }
    }
}

enum Entered {
    /// On its way to a web action.
    Backend(Request),
    /// It only asked whether it may.
    Preflight(Response),
}

struct Refused {
    error: Error,
    allow: Option<HeaderValue>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, allow: None }
    }
}

async fn enter(front: &Front, mut request: Request) -> std::result::Result<Entered, Refused> {
    let nothing = || Refused::from(Error::no_route());
    let (tenant, path) = tenant(request.uri().path()).ok_or_else(nothing)?;
    let gate = front
        .state
        .gates
        .of(front, tenant)
        .await?
        .ok_or_else(nothing)?;
    let (api, route) = find(&gate.apis, path).ok_or_else(nothing)?;
    let method = request.method();
    let Some(backend) = operation(route, method) else {
        if api.cors && *method == Method::OPTIONS {
            let mut response = Response::new(Body::empty());
            web::CorsAsked::of(request.headers()).allow(response.headers_mut());
            return Ok(Entered::Preflight(response));
        }
        let methods: Vec<_> = route
            .operations
            .iter()
            .map(|(own, _)| own.as_str())
            .collect();
        return Err(Refused {
            error: Error::wrong_method(),
            allow: HeaderValue::try_from(methods.join(", ")).ok(),
        });
    };
    let mut target = backend.target.clone();
    if backend.gets_path {
        target.push_str(path);
    }
    if let Some(query) = request.uri().query() {
        target.push('?');
        target.push_str(query);
    }
    let uri = Uri::try_from(target).map_err(|error| Error::internal(error.to_string()))?;
    *request.uri_mut() = uri;
    if let Some(method) = &backend.method {
        *request.method_mut() = method.clone();
    }
    for (name, value) in &backend.headers {
        request.headers_mut().insert(name.clone(), value.clone());
    }
    Ok(Entered::Backend(request))
}

/// The operation for `method`; a HEAD is a GET whose body is not wanted.
fn operation<'a>(route: &'a Route, method: &Method) -> Option<&'a Backend> {
    let of = |wanted: &Method| {
        let mut all = route.operations.iter();
        all.find(|(own, _)| own == wanted)
            .map(|(_, backend)| backend)
    };
    of(method).or_else(|| of(&Method::GET).filter(|_| *method == Method::HEAD))
}

/// The API with the longest base path that has `path`, and its route that says most of it literally, from the left.
fn find<'a>(apis: &'a [Api], path: &str) -> Option<(&'a Api, &'a Route)> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let path: Vec<_> = path
        .split('/')
        .skip(1)
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy())
        .collect();
    apis.iter().find_map(|api| {
        let (base, rest) = path.split_at_checked(api.base.len())?;
        if base != api.base {
            return None;
        }
        let fits = |route: &&Route| {
            let mut pairs = route.path.iter().zip(rest);
            route.path.len() == rest.len()
                && pairs.all(|(segment, given)| match segment {
                    Segment::Any => !given.is_empty(),
                    Segment::Literal(text) => text == given,
                })
        };
        let literally = |route: &&Route| {
            let is_literal = |segment: &Segment| *segment != Segment::Any;
            route.path.iter().map(is_literal).collect::<Vec<_>>()
        };
        let route = api.routes.iter().filter(fits).max_by_key(literally)?;
        Some((api, route))
    })
}
