//! From a request to checked values: who calls, which entity, which options, which body.
//!
//! Plain functions on the parts of a request, called in the order in which the contract wants the checks. Nothing is
//! copied that need not be: options are looked up in the query as it stands, a body that came in one piece is passed on.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, StatusCode, Uri};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use percent_encoding::percent_decode_str;
use tokio::sync::SemaphorePermit;

use super::Front;
use super::error::{Error, Result};
use crate::auth::{Identity, SYSTEM_NAMESPACE};
use crate::model::name::BadName;
use crate::model::{EntityName, Fqn, Namespace};

/// Bodies up to here are read without asking for room: a connection costs about as much anyway.
const SMALL_BODY_BYTES: u64 = 64 * 1024;

/// One permit of [`Front::body_room`].
pub(super) const BODY_ROOM_UNIT_BYTES: u64 = 64 * 1024;

/// How much of a body that is too large is read and thrown away, so that its sender gets to see the answer instead of a
/// reset connection.
const DISCARDED_BYTES_MAX: u64 = 64 << 20;

/// Who sent this request.
pub(super) async fn authenticate(front: &Front, headers: &HeaderMap) -> Result<Arc<Identity>> {
    let header = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    Ok(front.state.keys.verify(header).await?)
}

/// As [`authenticate`], and it must be the system.
pub(super) async fn authenticate_system(front: &Front, headers: &HeaderMap) -> Result<()> {
    if authenticate(front, headers).await?.system {
        Ok(())
    } else {
        Err(Error::not_system())
    }
}

/// Segment `index` of the path, decoded; empty when there is none.
pub(super) fn segment(uri: &Uri, index: usize) -> std::result::Result<Cow<'_, str>, BadName> {
    decoded(uri.path().split('/').nth(index + 1).unwrap_or_default())
}

fn decoded(segment: &str) -> std::result::Result<Cow<'_, str>, BadName> {
    percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| BadName::Entity)
}

/// What the path `/api/v1/namespaces/{ns}/{collection}/{a}/{b}` names.
pub(super) struct Place {
    /// The namespace of the path; `_` is the caller's.
    pub(super) namespace: Namespace,
}

impl Place {
    /// The namespace of the path, whoever's it is: for what may be shared.
    pub(super) fn anywhere(uri: &Uri, identity: &Identity) -> Result<Self> {
        let given = segment(uri, 3).map_err(|_| BadName::Namespace)?;
        let namespace = if given == "_" || given == identity.namespace.as_str() {
            identity.namespace.clone()
        } else {
            Namespace::parse(&given)?
        };
        Ok(Self { namespace })
    }

    /// The namespace of the path, if it is the caller's.
    pub(super) fn of(uri: &Uri, identity: &Identity) -> Result<Self> {
        let given = segment(uri, 3).map_err(|_| BadName::Namespace)?;
        if given != "_" && given != identity.namespace.as_str() {
            let other = Namespace::parse(&given)?;
            if other != identity.namespace {
                let rest = uri.path().split('/').skip(6).filter(|s| !s.is_empty());
                let resource = rest.fold(other.to_string(), |all, one| {
                    all + "/" + &percent_decode_str(one).decode_utf8_lossy()
                });
                return Err(Error::forbidden(resource));
            }
        }
        let namespace = identity.namespace.clone();
        Ok(Self { namespace })
    }

    /// The package, trigger or rule that the rest of the path names.
    pub(super) fn entity(self, uri: &Uri) -> Result<Fqn> {
        Ok(Fqn {
            namespace: self.namespace,
            package: None,
            name: EntityName::parse(&segment(uri, 5)?)?,
        })
    }

    /// The action that the rest of the path names: `name` or `package/name`.
    pub(super) fn action(self, uri: &Uri) -> Result<Fqn> {
        let mut rest = uri.path().split('/').skip(6);
        let mut next = || decoded(rest.next().unwrap_or_default());
        let (first, second) = (next()?, next()?);
        let (package, name) = if second.is_empty() {
            (None, first)
        } else {
            (Some(EntityName::parse(&first)?), second)
        };
        Ok(Fqn {
            namespace: self.namespace,
            package,
            name: EntityName::parse(&name)?,
        })
    }
}

/// The namespace in `/admin/v1/namespaces/{ns}/…`.
pub(super) fn administered(uri: &Uri) -> Result<Namespace> {
    let given = segment(uri, 3).map_err(|_| BadName::Namespace)?;
    if given == "_" {
        // It would be somebody's own for everybody.
        return Err(BadName::Namespace.into());
    }
    Ok(Namespace::parse(&given)?)
}

/// As [`administered`], for what must not be done to the system itself.
pub(super) fn administered_tenant(uri: &Uri) -> Result<Namespace> {
    let namespace = administered(uri)?;
    if namespace.as_str() == SYSTEM_NAMESPACE {
        return Err(Error::new(
            StatusCode::CONFLICT,
            "The system namespace cannot be blocked or deleted: nobody could undo it.",
        ));
    }
    Ok(namespace)
}

/// The options behind the `?`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// Those of `uri`.
    pub(super) fn of(uri: &'a Uri) -> Self {
        Self(uri.query().unwrap_or_default())
    }

    /// The first value of `name`; `None` when it is absent or empty.
    pub(super) fn get(self, name: &str) -> Result<Option<Cow<'a, str>>> {
        let mut left = Some(self.0);
        while let Some(text) = left {
            let (pair, others) = cut(text, b'&');
            left = others;
            let (key, value) = cut(pair, b'=');
            let is_it =
                key == name || (is_encoded(key) && decode(key).is_some_and(|key| key == name));
            if is_it {
                let value = decode(value.unwrap_or_default());
                let value = value.ok_or_else(|| Error::query(name, "invalid UTF-8"))?;
                return Ok((!value.is_empty()).then_some(value));
            }
        }
        Ok(None)
    }

    /// A boolean in any of the ways OpenWhisk knows; false when absent.
    pub(super) fn flag(self, name: &str) -> Result<bool> {
        self.flag_or(name, false)
    }

    /// As [`Query::flag`], with another default.
    pub(super) fn flag_or(self, name: &str, default: bool) -> Result<bool> {
        const TRUE: [&str; 4] = ["true", "yes", "on", "1"];
        const FALSE: [&str; 4] = ["false", "no", "off", "0"];
        let Some(value) = self.get(name)? else {
            return Ok(default);
        };
        let is = |words: [&str; 4]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
        if is(TRUE) {
            Ok(true)
        } else if is(FALSE) {
            Ok(false)
        } else {
            let detail = format!("'{value}' is not a valid Boolean value");
            Err(Error::query(name, detail))
        }
    }
}

/// What stands before the first `at`, an ASCII character, and what stands behind it, if it is there.
///
/// Options are looked up in every call, and their texts are brief: a search that is made for long ones takes twice as long.
fn cut(text: &str, at: u8) -> (&str, Option<&str>) {
    match text.bytes().position(|byte| byte == at) {
        None => (text, None),
        Some(place) => {
            let (before, rest) = text.split_at(place);
            (before, rest.get(1..))
        }
    }
}

fn is_encoded(text: &str) -> bool {
    text.bytes().any(|byte| matches!(byte, b'%' | b'+'))
}

fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !is_encoded(text) {
        return Some(Cow::Borrowed(text));
    }
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
        return Some(Cow::Owned(decoded.into_owned()));
    }
    percent_decode_str(text).decode_utf8().ok()
}

/// A body, and the room it takes until it is dropped.
pub(super) struct Payload<'a> {
    /// All of it.
    pub(super) bytes: Bytes,
    _room: Option<SemaphorePermit<'a>>,
}

/// Reads a body of at most `bytes_max`.
pub(super) async fn payload<'a>(
    front: &'a Front,
    headers: &HeaderMap,
    body: Body,
    bytes_max: u64,
) -> Result<Payload<'a>> {
    let size = body.size_hint();
    if size.lower() > bytes_max {
        let refusal = Error::too_large("Request", size.lower(), bytes_max);
        if !headers.contains_key(EXPECT) {
            discard(front, body, size.lower()).await;
        }
        return Err(refusal);
    }
    let most = size.upper().map_or(bytes_max, |upper| upper.min(bytes_max));
    let room = if most <= SMALL_BODY_BYTES {
        None
    } else {
        let units = u32::try_from(most.div_ceil(BODY_ROOM_UNIT_BYTES)).unwrap_or(u32::MAX);
        let room = front.body_room.try_acquire_many(units);
        Some(room.map_err(|_| Error::unavailable(1, "too many large bodies at one time"))?)
    };
    let reading = read(body, bytes_max);
    let bytes = tokio::time::timeout(front.config.body_timeout(), reading)
        .await
        .map_err(|_| {
            Error::new(
                StatusCode::REQUEST_TIMEOUT,
                "The request body did not arrive in time.",
            )
        })??;
    Ok(Payload { bytes, _room: room })
}

async fn read(mut body: Body, bytes_max: u64) -> Result<Bytes> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::malformed(format!("it broke off: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let count = first.len() + all.len() + data.len();
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        if count > bytes_max {
            return Err(Error::too_large("Request", count, bytes_max));
        }
        if all.is_empty() && first.is_empty() {
            first = data;
            if body.is_end_stream() {
                return Ok(first);
            }
        } else {
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

async fn discard(front: &Front, mut body: Body, size: u64) {
    if size > DISCARDED_BYTES_MAX {
        return;
    }
    let drain = async { while let Some(Ok(_)) = body.frame().await {} };
    // Late or broken off: the answer is the same.
    drop(tokio::time::timeout(front.config.body_timeout(), drain).await);
}

/// Refuses a body that says it is no JSON.
pub(super) fn expect_json(headers: &HeaderMap) -> Result<()> {
    let Some(given) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let given = given.to_str().unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.is_empty() || essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Error::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!(
            "The request's Content-Type [{given}] is not supported. Expected:\napplication/json"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_found_however_it_is_written() {
        let table = [
            ("blocking=true&result=false", Some("false")),
            ("result=a=b", Some("a=b")),
            ("&&result=x&", Some("x")),
            ("r%65sult=%C3%A9", Some("é")),
            ("result=a+b%2B", Some("a b+")),
            ("result=é&result=second", Some("é")),
            ("result", None),
            ("result=", None),
            ("result=&result=second", None),
            ("results=x&resul=y", None),
            ("", None),
        ];
        for (query, expected) in table {
            let found = Query(query).get("result");
            let found = found.unwrap_or_else(|_| panic!("{query} is refused"));
            assert_eq!(found.as_deref(), expected, "{query}");
        }
        assert!(Query("result=%FF").get("result").is_err());
    }
}
