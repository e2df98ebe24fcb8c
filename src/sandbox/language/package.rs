//! What an upload of source is, and the form in which an engine is given it.
//!
//! Source is text, or base64 of text or of a zip. A *package* is the same for both: `count`, then for each file
//! `name_len`, name, `data_len`, data; all numbers are 32 bits, little endian. The first file has no name and is a JSON
//! object: `{"kind", "main", "zip"}`.
//!
//! Invariants: names are UTF-8, relative, with `/`, lead nowhere out of the package and are there once; files and bytes are
//! bounded, whatever an archive says of itself.

use std::collections::HashSet;
use std::io::Cursor;

use base64::Engine as _;
use serde_json::json;
use zip::ZipArchive;

use super::super::code::{BASE64, WASM_MAGIC, ZIP_MAGICS, inflate, is_unsafe_name};
use super::super::{Refused, Source};
use crate::model::Digest;
use crate::model::kind::Language;

/// Files and folders an archive may have: a middling `node_modules`.
const ENTRIES_MAX: usize = 20_000;
/// Says what the digest is of, so that no module's digest can be meant.
const DIGEST_CONTEXT: &[u8] = b"wisp source 1\0";

/// Source in the form that engines read.
pub(in super::super) struct Package {
    /// Names it: the digest of all of it.
    pub(in super::super) program: Digest,
    pub(in super::super) bytes: Vec<u8>,
}

fn invalid(text: impl Into<String>) -> Refused {
    Refused::Invalid(text.into())
}

/// A file of a package.
type File = (String, Vec<u8>);

/// What was uploaded.
enum Upload {
    Text(String),
    Zip(Vec<u8>),
}

/// The package of an upload.
///
/// # Errors
/// When it is no source, or an archive that cannot be taken: with what to do instead.
pub(in super::super) fn build(
    language: Language,
    source: &Source,
    bytes_max: usize,
) -> Result<Package, Refused> {
    let upload = read(language, &source.code, bytes_max)?;
    let is_zip = matches!(upload, Upload::Zip(_));
    let files = match upload {
        Upload::Text(text) => vec![(single(language).to_owned(), text.into_bytes())],
        Upload::Zip(bytes) => unzip(&bytes, bytes_max)?,
    };
    let head = json!({ "kind": source.kind, "main": source.main, "zip": is_zip }).to_string();
    let mut bytes = Vec::with_capacity(
        files
            .iter()
            .map(|(name, data)| name.len() + data.len() + 8)
            .sum::<usize>()
            + head.len()
            + 12,
    );
    number(&mut bytes, files.len() + 1)?;
    file(&mut bytes, "", head.as_bytes())?;
    for (name, data) in &files {
        file(&mut bytes, name, data)?;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(DIGEST_CONTEXT);
    hasher.update(language.name().as_bytes());
    hasher.update(&bytes);
    Ok(Package {
        program: Digest(*hasher.finalize().as_bytes()),
        bytes,
    })
}

/// What the one file is called of an upload that is no archive.
fn single(language: Language) -> &'static str {
    match language {
        Language::JavaScript => "index.js",
        Language::Python => "__main__.py",
    }
}

fn number(bytes: &mut Vec<u8>, value: usize) -> Result<(), Refused> {
    let value = u32::try_from(value).map_err(|_| invalid("The code does not fit into 32 bits."))?;
    bytes.extend_from_slice(&value.to_le_bytes());
    Ok(())
}

fn file(bytes: &mut Vec<u8>, name: &str, data: &[u8]) -> Result<(), Refused> {
    number(bytes, name.len())?;
    bytes.extend_from_slice(name.as_bytes());
    number(bytes, data.len())?;
    bytes.extend_from_slice(data);
    Ok(())
}

fn read(language: Language, code: &str, bytes_max: usize) -> Result<Upload, Refused> {
    let text = code.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Err(invalid(format!(
            "The code is empty. Send {} source, or a zip of it as base64.",
            language.name()
        )));
    }
    if code.as_bytes().starts_with(WASM_MAGIC) {
        return Err(is_wasm(language));
    }
    if code.starts_with("PK\u{3}\u{4}") {
        return Err(invalid(
            "The zip was damaged on its way: the client sent its bytes as text. Send it as base64; `wisp action create NAME \
             FILE.zip` does it.",
        ));
    }
    // No program is written in nothing but the letters, digits, `+` and `/` of base64: it has a bracket or a colon somewhere.
    let packed: String = text.split_ascii_whitespace().collect();
    let decoded = match BASE64.decode(&packed) {
        Ok(decoded) if !decoded.is_empty() => decoded,
        _ => return sized(text.to_owned(), bytes_max),
    };
    if decoded.starts_with(WASM_MAGIC) {
        return Err(is_wasm(language));
    }
    if ZIP_MAGICS.iter().any(|magic| decoded.starts_with(magic)) {
        return Ok(Upload::Zip(decoded));
    }
    match String::from_utf8(decoded) {
        Ok(text) => sized(text, bytes_max),
        Err(_) => Err(invalid(format!(
            "The code is base64 of something that is neither a zip nor text. Send {} source, or a zip of it as base64.",
            language.name()
        ))),
    }
}

fn sized(text: String, bytes_max: usize) -> Result<Upload, Refused> {
    if text.len() > bytes_max {
        return Err(too_large(text.len() as u64, bytes_max));
    }
    Ok(Upload::Text(text))
}

fn too_large(size: u64, bytes_max: usize) -> Refused {
    invalid(format!(
        "The code has {size} bytes when it is unpacked; at most {bytes_max} are allowed."
    ))
}

fn is_wasm(language: Language) -> Refused {
    invalid(format!(
        "This is a WebAssembly module and no {} source. Send it with the kind `wasm:default`.",
        language.name()
    ))
}

/// All files of an archive, in the order they are in.
fn unzip(bytes: &[u8], bytes_max: usize) -> Result<Vec<File>, Refused> {
    let broken =
        |error: zip::result::ZipError| invalid(format!("The zip cannot be read: {error}."));
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if archive.len() > ENTRIES_MAX {
        return Err(invalid(format!(
            "The zip has {} entries; at most {ENTRIES_MAX} are allowed. Bundling a program into few files (with esbuild, for \
             example) makes it start sooner, too.",
            archive.len()
        )));
    }
    let (mut names, mut claimed) = (HashSet::new(), 0_u64);
    let mut members = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(broken)?;
        let name = name_of(entry.name_raw())?;
        if entry.is_dir() || is_litter(&name) {
            continue;
        }
        if entry.is_symlink() {
            // Package managers link commands, which no action runs.
            if name.contains("node_modules/.bin/") {
                continue;
            }
            return Err(invalid(format!(
                "The zip's `{}` is a symbolic link; make the zip with what links lead to (`zip -r` without `-y`).",
                name.escape_debug()
            )));
        }
        if entry.encrypted() {
            return Err(invalid(format!(
                "The zip's `{}` is encrypted; send it as it is.",
                name.escape_debug()
            )));
        }
        if !names.insert(name.clone()) {
            return Err(invalid(format!(
                "The zip has two entries called `{}`.",
                name.escape_debug()
            )));
        }
        claimed = claimed.saturating_add(entry.size());
        members.push((index, name));
    }
    if claimed > bytes_max as u64 {
        return Err(too_large(claimed, bytes_max));
    }
    let mut left = bytes_max;
    let mut files = Vec::with_capacity(members.len());
    for (index, name) in members {
        let what = format!("The file `{}` in the zip", name.escape_debug());
        let data = inflate(&mut archive, index, left, &what)?;
        left -= data.len();
        files.push((name, data));
    }
    Ok(files)
}

/// A name as engines have it: UTF-8, `/` between its parts.
fn name_of(raw: &[u8]) -> Result<String, Refused> {
    let Ok(name) = str::from_utf8(raw) else {
        return Err(invalid(format!(
            "The zip has a name that is no UTF-8: `{}`.",
            raw.escape_ascii()
        )));
    };
    if is_unsafe_name(name) {
        return Err(invalid(format!(
            "The zip has an entry with a path out of the archive: `{}`.",
            name.escape_debug()
        )));
    }
    let name = name.replace('\\', "/");
    let parts = name.split('/').filter(|part| !matches!(*part, "" | "."));
    Ok(parts.collect::<Vec<_>>().join("/"))
}

/// What archivers add of their own.
fn is_litter(name: &str) -> bool {
    name.is_empty()
        || name.starts_with("__MACOSX/")
        || name == ".DS_Store"
        || name.ends_with("/.DS_Store")
}

#[cfg(test)]
#[path = "package_tests.rs"]
mod tests;
