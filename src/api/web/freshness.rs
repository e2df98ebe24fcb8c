//! What HTTP says about keeping answers: which may be kept, for how long, for whom, and when a client has one already.

use std::time::Duration;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, HeaderName, IF_NONE_MATCH, PRAGMA, SET_COOKIE, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use super::answer::Made;

/// Most headers an answer may depend on; each is compared for each request.
const VARY_MAX: usize = 16;

/// Bytes of a digest that tell bodies apart.
const DIGEST_BYTES: usize = 16;

/// How an answer may be kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Keeping {
    pub(super) fresh: Duration,
    /// Whether it is for everybody, even if whoever asked said who they are.
    pub(super) public: bool,
    /// The headers of the request that it depends on.
    pub(super) vary: Vec<HeaderName>,
}

impl Keeping {
    /// As the answer says; `None` when it may not be kept, or not for any time.
    pub(super) fn of(made: &Made) -> Option<Self> {
        if !is_kept(made.status) || made.headers.contains_key(SET_COOKIE) {
            return None;
        }
        let (mut shared, mut any, mut public) = (None, None, false);
        for (name, value) in directives(&made.headers) {
            let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
            if is("no-store") || is("no-cache") || is("private") {
                return None;
            }
            public |= is("public");
            if is("s-maxage") {
                shared = Some(seconds(value)?);
            } else if is("max-age") {
                any = Some(seconds(value)?);
            }
        }
        let fresh = shared.or(any).filter(|fresh| *fresh > 0)?;
        Some(Self {
            fresh: Duration::from_secs(fresh),
            public,
            vary: vary(&made.headers)?,
        })
    }
}

/// Answers that are of use to the next one who asks.
fn is_kept(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 302 | 307 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

fn directives(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let values = headers.get_all(CACHE_CONTROL).iter();
    let all = values.flat_map(|value| value.to_str().unwrap_or("no-store").split(','));
    all.map(|one| {
        let (name, value) = one.split_once('=').unwrap_or((one, ""));
        (name.trim(), value.trim().trim_matches('"'))
    })
}

/// More than can be counted is the most that can; what is no number is not believed at all.
fn seconds(text: &str) -> Option<u64> {
    const MAX: u64 = 1 << 31;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().map_or(MAX, |seconds: u64| seconds.min(MAX)))
}

/// The names in `Vary`; `None` when nothing but the request itself tells (`*`), or they are too many.
fn vary(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for value in headers.get_all(VARY) {
        for name in value.to_str().ok()?.split(',').map(str::trim) {
            if name == "*" {
                return None;
            }
            if !name.is_empty() {
                names.push(HeaderName::from_bytes(name.as_bytes()).ok()?);
            }
        }
    }
    (names.len() <= VARY_MAX).then_some(names)
}

/// Whether a request will not have what is kept, and whether its answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) takes_kept: bool,
    pub(super) keeps: bool,
}

impl Wishes {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut wishes = Self {
            takes_kept: true,
            keeps: true,
        };
        if headers.contains_key(CACHE_CONTROL) {
            for (name, value) in directives(headers) {
                let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
                wishes.keeps &= !is("no-store");
                let fresh_only =
                    is("no-store") || is("no-cache") || (is("max-age") && value == "0");
                wishes.takes_kept &= !fresh_only;
            }
        } else if let Some(pragma) = headers.get(PRAGMA) {
            wishes.takes_kept = !pragma.as_bytes().eq_ignore_ascii_case(b"no-cache");
        }
        wishes
    }
}

/// A validator for a body that has none.
pub(super) fn etag(body: &Bytes) -> HeaderValue {
    let digest = blake3::hash(body);
    let (short, _) = digest.as_bytes().split_at(DIGEST_BYTES);
    let quoted = format!("\"{}\"", URL_SAFE_NO_PAD.encode(short));
    HeaderValue::try_from(quoted).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether the client of a GET or HEAD has this answer already.
pub(super) fn is_known(request: &HeaderMap, made: &Made) -> bool {
    if !request.contains_key(IF_NONE_MATCH) || made.status != StatusCode::OK {
        return false;
    }
    let Some(tag) = made.headers.get(ETAG).and_then(|tag| tag.to_str().ok()) else {
        return false;
    };
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let tag = bare(tag);
    request.get_all(IF_NONE_MATCH).iter().any(|given| {
        let given = given.to_str().unwrap_or_default();
        given.trim() == "*" || given.split(',').any(|one| bare(one) == tag)
    })
}

/// 304 in place of an answer the client has.
pub(super) fn not_modified(mut made: Made) -> Made {
    made.status = StatusCode::NOT_MODIFIED;
    made.body = Bytes::new();
    for of_body in [
        CONTENT_ENCODING,
        CONTENT_LANGUAGE,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
    ] {
        made.headers.remove(of_body);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> Made {
        let headers = headers.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).expect("legal");
            (HeaderName::from_static(name), value)
        });
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        Made {
            status: StatusCode::from_u16(status).expect("legal"),
            headers: map,
            body: Bytes::from_static(b"x"),
        }
    }

    fn fresh(control: &str) -> Option<(u64, bool)> {
        let keeping = Keeping::of(&answer(200, &[("cache-control", control)]))?;
        Some((keeping.fresh.as_secs(), keeping.public))
    }

    #[test]
    fn an_answer_says_how_long_it_may_be_kept() {
        assert_eq!(fresh("max-age=60"), Some((60, false)));
        assert_eq!(fresh("Public, Max-Age=\"60\""), Some((60, true)));
        assert_eq!(fresh("max-age=0, s-maxage=5"), Some((5, false)));
        assert_eq!(
            fresh("max-age=99999999999999999999"),
            Some((1 << 31, false))
        );
        for never in [
            "",
            "public",
            "max-age=0",
            "max-age=60, s-maxage=0",
            "max-age=60, no-store",
            "private, max-age=60",
            "max-age=60, no-cache",
            "max-age=x",
            "max-age=-1",
        ] {
            assert_eq!(fresh(never), None, "{never}");
        }
    }

    #[test]
    fn some_answers_are_never_kept() {
        let control = ("cache-control", "max-age=60");
        assert!(Keeping::of(&answer(500, &[control])).is_none());
        assert!(Keeping::of(&answer(200, &[control, ("set-cookie", "a=b")])).is_none());
        assert!(Keeping::of(&answer(200, &[control, ("vary", "accept, *")])).is_none());
        let kept = Keeping::of(&answer(404, &[control, ("vary", "Accept,, x-y")])).expect("kept");
        assert_eq!(kept.vary, ["accept", "x-y"]);
    }

    #[test]
    fn a_client_says_which_answer_it_has() {
        let mut request = HeaderMap::new();
        let made = answer(200, &[("etag", "\"a\"")]);
        assert!(!is_known(&request, &made));
        for (given, known) in [
            ("\"a\"", true),
            ("\"b\", W/\"a\"", true),
            ("*", true),
            ("\"b\"", false),
        ] {
            request.insert(IF_NONE_MATCH, HeaderValue::from_str(given).expect("legal"));
            assert_eq!(is_known(&request, &made), known, "{given}");
        }
        assert!(!is_known(&request, &answer(200, &[])));
    }
}
