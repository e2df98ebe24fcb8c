//! Media types, as far as it matters how a body is carried inside JSON: as JSON, as text, or as base64.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// What stands in for a type that a request does not name.
pub(super) const OCTETS: &str = "application/octet-stream";

/// Standard alphabet; padding may be missing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How a body of some type is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// `application/json`.
    Json,
    /// `*+json`.
    JsonLike,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Text, whose charset a type may name.
    Text,
    /// Text by its looks, bytes by its registration: `image/svg+xml`.
    Drawing,
    /// Anything else.
    Binary,
}

/// A media type, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Media {
    pub(super) nature: Nature,
    /// Whether it names a charset.
    pub(super) has_charset: bool,
}

impl Media {
    /// Reads `type/subtype; name=value…`; `None` when it is no media type.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        let (main, sub) = essence.trim().split_once('/')?;
        if !is_token(main) || !is_token(sub) {
            return None;
        }
        let mut has_charset = false;
        for parameter in parameters.split(';').map(str::trim) {
            if parameter.is_empty() {
                continue;
            }
            let (name, value) = parameter.split_once('=')?;
            let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
            if !is_token(name) || (quoted.is_none() && !is_token(value)) {
                return None;
            }
            has_charset |= name.eq_ignore_ascii_case("charset");
        }
        let (main, sub) = (main.to_ascii_lowercase(), sub.to_ascii_lowercase());
        let nature = nature(&main, &sub, has_charset);
        Some(Self {
            nature,
            has_charset,
        })
    }
}

fn nature(main: &str, sub: &str, has_charset: bool) -> Nature {
    match (main, sub) {
        ("application", "json") => Nature::Json,
        ("application", "x-www-form-urlencoded") => Nature::Form,
        ("image", "svg+xml") => Nature::Drawing,
        (_, sub) if sub.ends_with("+json") => Nature::JsonLike,
        ("multipart", _) => Nature::Binary,
        ("text", _) => Nature::Text,
        (_, sub) if sub.ends_with("+xml") || is_text(sub) || has_charset => Nature::Text,
        _ => Nature::Binary,
    }
}

/// Types under `application` that are text.
fn is_text(sub: &str) -> bool {
    const TEXT: [&str; 15] = [
        "base64",
        "ecmascript",
        "graphql",
        "javascript",
        "jsonl",
        "n-triples",
        "ndjson",
        "sql",
        "toml",
        "x-javascript",
        "x-ndjson",
        "x-yaml",
        "xml",
        "xml-dtd",
        "yaml",
    ];
    TEXT.contains(&sub)
}

fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// The bytes that base64 text stands for.
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

/// The text that stands for bytes.
pub(super) fn encoded(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Whether text could be base64: groups of four, padded.
pub(super) fn looks_encoded(text: &str) -> bool {
    let text = text.trim();
    let body = text.trim_end_matches('=');
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    text.len().is_multiple_of(4) && text.len() - body.len() <= 2 && body.bytes().all(is_base64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_what_they_are_registered_as() {
        for (text, nature) in [
            ("application/json", Nature::Json),
            ("Application/JSON; charset=utf-8", Nature::Json),
            ("application/vnd.x+json", Nature::JsonLike),
            ("text/plain", Nature::Text),
            ("text/anything", Nature::Text),
            ("application/xml", Nature::Text),
            ("application/atom+xml", Nature::Text),
            ("application/javascript", Nature::Text),
            ("application/what; charset=\"utf-8\"", Nature::Text),
            ("application/what", Nature::Binary),
            ("application/x-www-form-urlencoded", Nature::Form),
            ("image/svg+xml", Nature::Drawing),
            ("image/png", Nature::Binary),
            ("multipart/form-data; boundary=x", Nature::Binary),
            (OCTETS, Nature::Binary),
        ] {
            let read = Media::parse(text).map(|media| media.nature);
            assert_eq!(read, Some(nature), "{text}");
        }
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for text in [
            "",
            "x",
            "a/",
            "/b",
            "a b/c",
            "a/b; c",
            "a/b; c=d e",
            "a/b/c",
            "xyz, a/b",
        ] {
            assert_eq!(Media::parse(text), None, "{text}");
        }
    }

    #[test]
    fn base64_has_a_shape() {
        for text in ["", "aaaa", "aGk=", "YQ==", " aaaa\n"] {
            assert!(looks_encoded(text), "{text:?}");
        }
        for text in ["a", "a===", "{\"a\":1}", "aaa\u{e4}", "aa aa"] {
            assert!(!looks_encoded(text), "{text:?}");
        }
    }
}
