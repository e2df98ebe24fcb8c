//! What an uploaded string is, decided from its bytes and never from a name: text of a module (WAT), base64 of a
//! module, of its text or of a zip with exactly one of them, or something to be refused with advice.
//!
//! Invariants: nothing is unpacked beyond the limit, whatever an archive says of itself; no name in an archive is ever
//! used as a path.

use std::io::{Cursor, Read};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zip::ZipArchive;

use super::Refused;

/// How a binary module begins, and a binary component.
pub(super) const WASM_MAGIC: &[u8] = b"\0asm";
pub(super) const ZIP_MAGICS: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];
/// Entries an archive may have; one is a module, the rest are read-me files and the like.
const ZIP_ENTRIES_MAX: usize = 1024;
/// How often its packed size a member may have unpacked; deflate reaches 1,032 on zeros, modules 2 to 10.
const ZIP_RATIO_MAX: u64 = 200;
/// Members below this size may have any ratio.
const ZIP_RATIO_EXEMPT_BYTES: u64 = 1 << 20;
/// Base64 with or without padding, standard alphabet.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn invalid(text: impl Into<String>) -> Refused {
    Refused::Invalid(text.into())
}

/// The module in an uploaded string, as binary.
///
/// # Errors
/// When there is none, or more than one, or it is larger than `bytes_max`; with what to do instead.
pub(super) fn unpack(code: &str, bytes_max: usize) -> Result<Vec<u8>, Refused> {
    let trimmed = code.trim();
    if trimmed.is_empty() {
        return Err(invalid(
            "The code is empty. Send a WebAssembly module as base64, a zip with one module, or WAT text.",
        ));
    }
    if is_mangled(code) {
        return Err(invalid(
            "The WebAssembly module was damaged on its way: the client sent its bytes as text. Send the module as base64 \
             or in a zip; `wisp action create NAME FILE.wasm` does it, and so does `wsk` with a .zip.",
        ));
    }
    if is_wat(trimmed) {
        return assemble(trimmed, bytes_max);
    }
    let bytes = decode_base64(trimmed, bytes_max)?;
    from_bytes(bytes, bytes_max)
}

/// A binary module sent as a string: its magic shows, or what no UTF-8 text holds was replaced.
fn is_mangled(code: &str) -> bool {
    code.as_bytes().starts_with(WASM_MAGIC)
        || code.starts_with("PK\u{3}\u{4}")
        || (code.contains(char::REPLACEMENT_CHARACTER) && code.contains('\0'))
}

/// Whether the text begins, after blanks and comments, with `(module` or `(component`.
fn is_wat(text: &str) -> bool {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    loop {
        if let Some(comment) = rest.strip_prefix(";;") {
            rest = comment
                .split_once('\n')
                .map_or("", |(_, rest)| rest)
                .trim_start();
        } else if rest.starts_with("(;") {
            match end_of_block_comment(rest) {
                Some(after) => rest = after.trim_start(),
                None => return false,
            }
        } else {
            break;
        }
    }
    let Some(word) = rest.strip_prefix('(') else {
        return false;
    };
    let word = word.trim_start();
    ["module", "component"].iter().any(|keyword| {
        word.strip_prefix(keyword)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    })
}

/// What follows a `(; … ;)` comment, which may be nested.
fn end_of_block_comment(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(pair) = bytes.get(at..at + 2) {
        match pair {
            b"(;" => (depth, at) = (depth + 1, at + 2),
            b";)" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return text.get(at..);
        }
    }
    None
}

fn assemble(text: &str, bytes_max: usize) -> Result<Vec<u8>, Refused> {
    let bytes = wat::parse_str(text)
        .map_err(|error| invalid(format!("The WAT text does not assemble: {error}")))?;
    check_size(bytes.len(), bytes_max)?;
    Ok(bytes)
}

fn check_size(size: usize, bytes_max: usize) -> Result<(), Refused> {
    if size > bytes_max {
        return Err(invalid(format!(
            "The module has {size} bytes; at most {bytes_max} are allowed."
        )));
    }
    Ok(())
}

fn decode_base64(text: &str, bytes_max: usize) -> Result<Vec<u8>, Refused> {
    let packed: String;
    let text = if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        packed = text.split_ascii_whitespace().collect();
        packed.as_str()
    } else {
        text
    };
    // An archive may be a little larger than the module in it.
    check_size(text.len() / 4 * 3, bytes_max.saturating_add(1 << 20))?;
    BASE64.decode(text).map_err(|_| {
        invalid(
            "The code is neither WAT text nor base64. Send a WebAssembly module as base64 or in a zip; `wisp action \
             create NAME FILE.wasm` does it.",
        )
    })
}

fn from_bytes(bytes: Vec<u8>, bytes_max: usize) -> Result<Vec<u8>, Refused> {
    if bytes.starts_with(WASM_MAGIC) {
        check_size(bytes.len(), bytes_max)?;
        return Ok(bytes);
    }
    if ZIP_MAGICS.iter().any(|magic| bytes.starts_with(magic)) {
        let member = unzip(&bytes, bytes_max)?;
        return module_or_text(member, bytes_max, "the module in the zip");
    }
    module_or_text(bytes, bytes_max, "the code")
}

fn module_or_text(bytes: Vec<u8>, bytes_max: usize, what: &str) -> Result<Vec<u8>, Refused> {
    if bytes.starts_with(WASM_MAGIC) {
        check_size(bytes.len(), bytes_max)?;
        return Ok(bytes);
    }
    match str::from_utf8(&bytes) {
        Ok(text) if is_wat(text) => assemble(text, bytes_max),
        _ => Err(invalid(format!(
            "What was sent is no WebAssembly: {what} begins with {}, not with \\0asm.",
            beginning(&bytes)
        ))),
    }
}

/// The first bytes, for people.
fn beginning(bytes: &[u8]) -> String {
    match bytes {
        [] => "nothing".into(),
        _ => format!("`{}`", bytes[..bytes.len().min(8)].escape_ascii()),
    }
}

/// Bytes of the one module in an archive.
fn unzip(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, Refused> {
    let broken =
        |error: zip::result::ZipError| invalid(format!("The zip cannot be read: {error}."));
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if archive.len() > ZIP_ENTRIES_MAX {
        return Err(invalid(format!(
            "The zip has {} entries; at most {ZIP_ENTRIES_MAX} are allowed.",
            archive.len()
        )));
    }
    let mut modules = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(broken)?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        if is_unsafe_name(&name) {
            return Err(invalid(format!(
                "The zip has an entry with a path out of the archive: `{}`.",
                name.escape_debug()
            )));
        }
        let lower = name.to_ascii_lowercase();
        let is_resource_fork = lower.starts_with("__macosx/");
        if entry.is_file()
            && !is_resource_fork
            && (lower.ends_with(".wasm") || lower.ends_with(".wat"))
        {
            modules.push((index, name, entry.encrypted()));
        }
    }
    let names = |modules: &[(usize, String, bool)]| {
        let names: Vec<String> = modules
            .iter()
            .take(8)
            .map(|(_, name, _)| format!("`{}`", name.escape_debug()))
            .collect();
        names.join(", ")
    };
    let [(index, name, is_encrypted)] = modules.as_slice() else {
        return Err(invalid(if modules.is_empty() {
            "The zip has no .wasm or .wat file.".to_owned()
        } else {
            format!(
                "The zip has {} modules ({}); it must have exactly one.",
                modules.len(),
                names(&modules)
            )
        }));
    };
    if *is_encrypted {
        return Err(invalid(format!(
            "The zip's `{name}` is encrypted; send it as it is."
        )));
    }
    inflate(&mut archive, *index, bytes_max, "The module in the zip")
}

pub(super) fn is_unsafe_name(name: &str) -> bool {
    let drive = name.as_bytes().get(1) == Some(&b':');
    name.starts_with(['/', '\\'])
        || drive
        || name.contains('\0')
        || name.split(['/', '\\']).any(|part| part == "..")
}

/// Unpacks a member, never further than allowed, whatever its header claims.
pub(super) fn inflate(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    index: usize,
    bytes_max: usize,
    what: &str,
) -> Result<Vec<u8>, Refused> {
    let mut member = archive
        .by_index(index)
        .map_err(|error| invalid(format!("{what} cannot be unpacked: {error}.")))?;
    let by_ratio = member
        .compressed_size()
        .saturating_mul(ZIP_RATIO_MAX)
        .max(ZIP_RATIO_EXEMPT_BYTES);
    let allowed = by_ratio.min(bytes_max as u64);
    let mut bytes = Vec::new();
    member
        .by_ref()
        .take(allowed + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| invalid(format!("{what} cannot be unpacked: {error}.")))?;
    if bytes.len() as u64 > allowed {
        return Err(invalid(if allowed < by_ratio {
            format!("{what} has more than {bytes_max} bytes, the most that is allowed.")
        } else {
            format!(
                "{what} unpacks to more than {ZIP_RATIO_MAX} times its size: refused as a zip bomb."
            )
        }));
    }
    Ok(bytes)
}
