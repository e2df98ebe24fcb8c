//! APIs: what `wsk api` manages, under the paths of OpenWhisk's own web actions `/whisk.system/apimgmt/{createApi, getApi,
//! deleteApi}`, answered here without an action; and the APIs themselves ([`gateway`]).
//!
//! An API is a document ([`document`]) of a namespace, under its base path. Documents are changed by reading, changing and
//! writing them back if nobody else did in between.
//!
//! Failures are those of a web action, as the clients expect them: 502 and `{"error"}`. Bounds: documents per namespace,
//! bytes per document.

mod ask;
mod document;
mod gateway;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{HOST, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

pub(crate) use gateway::Gates;
pub(super) use gateway::{answer, tenant};

use super::error::{Error, Result};
use super::extract::payload;
use super::{Front, web, wire};
use crate::auth::{Denied, Identity};
use crate::store::{self, Expect, Item, Page, Revision, Shelf};
use ask::Asked;
use document::Api;

/// Where OpenWhisk has the actions that manage APIs, below [`web::PREFIX`].
const PACKAGE: &str = "whisk.system/apimgmt/";

/// How the client reached us, as a proxy before us says.
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How often a change is tried anew because somebody else changed the document meanwhile.
const ATTEMPTS_MAX: usize = 5;

/// What is done with APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Create,
    Get,
    Delete,
}

impl Operation {
    /// What `path` is for, if it is for this.
    pub(super) fn of(path: &str) -> Option<Self> {
        let name = path.strip_prefix(web::PREFIX)?.strip_prefix(PACKAGE)?;
        match name.split_once('.').unwrap_or((name, "http")) {
            ("createApi", "http" | "json") => Some(Self::Create),
            ("getApi", "http" | "json") => Some(Self::Get),
            ("deleteApi", "http" | "json") => Some(Self::Delete),
            _ => None,
        }
    }
}

/// Why an operation is not done: as the server refuses requests, or as the action would say it.
enum Refused {
    Error(Error),
    Said(String),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<store::Error> for Refused {
    fn from(error: store::Error) -> Self {
        Self::Error(error.into())
    }
}

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Self::Said(text)
    }
}

type Done<T> = std::result::Result<T, Refused>;

/// Answers a request that an [`Operation`] is for.
pub(super) async fn manage(
    front: &Front,
    operation: Operation,
    request: Request,
    transaction: &HeaderValue,
) -> Response {
    let cors = web::CorsAsked::of(request.headers());
    let mut response = if request.method() == Method::OPTIONS {
        Response::new(Body::empty())
    } else {
        let done = Box::pin(perform(front, operation, request)).await;
        let answered = match done {
            Ok(body) => wire::ok(&body),
            Err(Refused::Said(text)) => {
                wire::json(StatusCode::BAD_GATEWAY, &json!({ "error": text }))
            }
            Err(Refused::Error(error)) => Err(error),
        };
        answered.unwrap_or_else(|error| {
            let mut response = Response::new(Body::empty());
            error.fill_pretty(&mut response, transaction);
            response
        })
    };
    cors.allow(response.headers_mut());
    response
}

async fn perform(front: &Front, operation: Operation, request: Request) -> Done<Value> {
    let (parts, body) = request.into_parts();
    let identity = identity(front, &parts.headers).await?;
    // A document may come as a string within a document, which takes more bytes than it has.
    let bytes_max = front.config.api_bytes_max.saturating_mul(2);
    let body = payload(front, &parts.headers, body, bytes_max).await?;
    let asked = Asked::read(parts.uri.query().unwrap_or_default(), &body.bytes)?;
    let desk = Desk {
        front,
        identity: &identity,
        origin: origin(&parts.headers),
    };
    match operation {
        Operation::Create => desk.create(&asked).await,
        Operation::Get => desk.get(&asked).await,
        Operation::Delete => desk.delete(&asked).await,
    }
}

async fn identity(front: &Front, headers: &HeaderMap) -> Result<Arc<Identity>> {
    let given = headers.get(http::header::AUTHORIZATION);
    let verified = front
        .state
        .keys
        .verify(given.map(HeaderValue::as_bytes))
        .await;
    verified.map_err(|denied| match denied {
        Denied::Store(error) => error.into(),
        Denied::Missing | Denied::Invalid => web::unauthorized(),
    })
}

/// Scheme and host by which the client reached us.
fn origin(headers: &HeaderMap) -> String {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let scheme = text(X_FORWARDED_PROTO).unwrap_or_default();
    let scheme = scheme.split(',').next().unwrap_or_default().trim();
    let scheme = if scheme.eq_ignore_ascii_case("https") {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{}", text(HOST).unwrap_or("localhost"))
}

/// Where one tenant's APIs are managed.
struct Desk<'a> {
    front: &'a Front,
    identity: &'a Identity,
    origin: String,
}

impl Desk<'_> {
    async fn create(&self, asked: &Asked) -> Done<Value> {
        let wanted = asked.creation(&self.identity.namespace)?;
        let failed = |why: String| Refused::Said(format!("API creation failure: {why}"));
        for _ in 0..ATTEMPTS_MAX {
            let known = self.read(&wanted.base).await?;
            let expect = match &known {
                Some((_, revision)) => Expect::Revision(*revision),
                None => Expect::Absent,
            };
            let document = wanted.applied(known.map(|(document, _)| document));
            let document = document.map_err(failed)?;
            Api::read(&document).map_err(failed)?;
            if expect == Expect::Absent {
                let count_max = self.front.config.apis_max;
                if u64::try_from(self.count().await?).unwrap_or(u64::MAX) >= count_max {
                    let why = format!("a namespace can have {count_max} APIs, delete one first.");
                    return Err(failed(why));
                }
            }
            let (is, max) = (document.to_string().len(), self.front.config.api_bytes_max);
            if u64::try_from(is).unwrap_or(u64::MAX) > max {
                let why = format!("API larger than allowed: {is} > {max} bytes.");
                return Err(failed(why));
            }
            if self.write(&wanted.base, &document, expect).await? {
                return Ok(self.shown(document));
            }
        }
        Err(store::Error::Conflict.into())
    }

    async fn get(&self, asked: &Asked) -> Done<Value> {
        let listing = asked.listing()?;
        let documents = self.all().await?;
        let wanted = |document: &Value| {
            let name = listing.name.as_deref();
            name.is_none_or(|name| is_called(document, name))
        };
        let wanted = documents.into_iter().filter(wanted);
        let page = wanted.skip(listing.skip).take(listing.limit);
        let rows = page.map(|document| {
            let base = document["basePath"].as_str().unwrap_or_default();
            let id = format!("API:{}:{base}", self.identity.namespace);
            json!({ "id": id, "key": id, "value": self.shown(document) })
        });
        Ok(json!({ "apis": rows.collect::<Vec<_>>() }))
    }

    async fn delete(&self, asked: &Asked) -> Done<Value> {
        let wanted = asked.deletion()?;
        let failed = |why: String| Refused::Said(format!("API deletion failure: {why}"));
        for _ in 0..ATTEMPTS_MAX {
            let base = self.base_of(&wanted.name).await?;
            let known = match &base {
                Some(base) => self.read(base).await?,
                None => None,
            };
            let (Some(base), Some((mut document, revision))) = (base, known) else {
                return Err(failed(format!("API '{}' does not exist.", wanted.name)));
            };
            if let Some(path) = &wanted.path {
                let method = wanted.method.as_deref();
                document::remove(&mut document, path, method).map_err(failed)?;
                if !document::is_empty(&document) {
                    let expect = Expect::Revision(revision);
                    if self.write(&base, &document, expect).await? {
                        return Ok(json!({}));
                    }
                    continue;
                }
            }
            let (items, namespace) = (&self.front.state.store.items, &self.identity.namespace);
            let deleted = items.delete(namespace, Shelf::Apis, &base).await;
            self.front.state.gates.forget(self.identity.uuid);
            deleted?;
            return Ok(json!({}));
        }
        Err(store::Error::Conflict.into())
    }

    /// What clients are shown of an API.
    fn shown(&self, document: Value) -> Value {
        let base = document["basePath"].as_str().unwrap_or_default();
        let tenant = self.identity.uuid.to_string();
        json!({
            "namespace": self.identity.namespace.as_str(),
            "gwApiUrl": format!("{}/api/{tenant}{}", self.origin, base.trim_end_matches('/')),
            "gwApiActivated": true,
            "tenantId": tenant,
            "apidoc": document,
        })
    }

    async fn read(&self, base: &str) -> Done<Option<(Value, Revision)>> {
        let items = &self.front.state.store.items;
        let item = items
            .get(&self.identity.namespace, Shelf::Apis, base)
            .await?;
        item.map(|(item, revision)| Ok((parsed(&item)?, revision)))
            .transpose()
    }

    /// Whether nobody else wrote it in between.
    async fn write(&self, base: &str, document: &Value, expect: Expect) -> Done<bool> {
        let item = Item {
            name: base.to_owned(),
            body: document.to_string().into(),
            code: None,
            expires: None,
        };
        let (items, namespace) = (&self.front.state.store.items, &self.identity.namespace);
        let written = items.put(namespace, Shelf::Apis, item, Some(expect)).await;
        self.front.state.gates.forget(self.identity.uuid);
        match written {
            Ok(_) => Ok(true),
            Err(store::Error::Conflict) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn count(&self) -> Done<usize> {
        let items = &self.front.state.store.items;
        Ok(items
            .count(&self.identity.namespace, Shelf::Apis, "")
            .await?)
    }

    async fn all(&self) -> Done<Vec<Value>> {
        let (items, namespace) = (&self.front.state.store.items, &self.identity.namespace);
        let count_max = usize::try_from(self.front.config.apis_max).unwrap_or(usize::MAX);
        let page = Page {
            skip: 0,
            limit: count_max.max(1),
        };
        let mut all = items.list(namespace, Shelf::Apis, "", page).await?;
        all.reverse();
        all.iter().map(parsed).collect()
    }

    /// The base path of the API that `name`, a base path or a title, means.
    async fn base_of(&self, name: &str) -> Done<Option<String>> {
        if name.starts_with('/') {
            return Ok(Some(name.to_owned()));
        }
        let all = self.all().await?;
        let named = all.iter().find(|document| is_called(document, name));
        let base = named.and_then(|document| document["basePath"].as_str());
        Ok(base.map(str::to_owned))
    }
}

fn parsed(item: &Item) -> Done<Value> {
    let corrupt = |error: serde_json::Error| store::Error::Corrupt(error.to_string());
    Ok(serde_json::from_str(&item.body).map_err(corrupt)?)
}

/// Whether `name` is the base path or the title of this API.
fn is_called(document: &Value, name: &str) -> bool {
    if name.starts_with('/') {
        document["basePath"] == name
    } else {
        document["info"]["title"] == name
    }
}
