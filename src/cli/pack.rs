//! A folder of source to the zip that is uploaded.
//!
//! The same files give the same bytes, whatever their times: the server knows by them whether it has the code already.
//! What belongs to a working copy and not to the program stays out: names that begin with a dot (they may hold
//! secrets), what says how the folder is built, what Python makes for itself.

use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::failure::{Failure, Result};
use super::folder::FILES;

/// Bytes of all files together; servers take less.
const BYTES_MAX: u64 = 256 << 20;
/// Files, with those of packages that come along.
const FILES_MAX: usize = 50_000;
/// Folders inside one another. Links are followed, as `zip -r` does, and may lead in circles, which the system follows 40 times.
const DEPTH_MAX: usize = 30;

/// What never belongs to a program.
const LEFT_OUT: [&str; 2] = ["__pycache__", "__MACOSX"];

/// The zip of what is in `folder`.
pub(super) fn pack(folder: &Path) -> Result<Vec<u8>> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::general(format!("cannot zip '{}': {why}", folder.display()))
    };
    let files = files(folder)?;
    if files.is_empty() {
        return Err(failed(&"there is nothing in it"));
    }
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(zip::DateTime::default());
    let mut left = BYTES_MAX;
    for name in files {
        let path = folder.join(&name);
        let unreadable = |error: std::io::Error| {
            Failure::general(format!("cannot read '{}': {error}", path.display()))
        };
        let bytes = std::fs::read(&path).map_err(unreadable)?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        left = left.checked_sub(size).ok_or_else(|| {
            failed(&format_args!(
                "its files have more than {} MiB",
                BYTES_MAX >> 20
            ))
            .advise("Leave out what is not needed to run, as development dependencies.")
        })?;
        let name = name.to_string_lossy().replace('\\', "/");
        zip.start_file(name, options)
            .map_err(|error| failed(&error))?;
        zip.write_all(&bytes).map_err(|error| failed(&error))?;
    }
    let zip = zip.finish().map_err(|error| failed(&error))?;
    Ok(zip.into_inner())
}

/// The files that belong to the program, relative to `folder`, in the order of their names.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    collect(folder, Path::new(""), 0, &mut files)?;
    files.sort();
    Ok(files)
}

fn collect(root: &Path, below: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let folder = root.join(below);
    let failed = |why: &dyn std::fmt::Display| {
        Failure::general(format!("cannot zip '{}': {why}", folder.display()))
    };
    if depth > DEPTH_MAX {
        return Err(failed(&"folders lie too deep in one another"));
    }
    for entry in std::fs::read_dir(&folder).map_err(|error| failed(&error))? {
        let name = entry.map_err(|error| failed(&error))?.file_name();
        let text = name.to_string_lossy();
        let is_said = depth == 0 && FILES.contains(&&*text);
        if text.starts_with('.') || LEFT_OUT.contains(&&*text) || is_said {
            continue;
        }
        let path = below.join(&name);
        // A link that leads nowhere is no file of the program.
        let Ok(data) = std::fs::metadata(root.join(&path)) else {
            continue;
        };
        if data.is_dir() {
            collect(root, &path, depth + 1, files)?;
        } else if data.is_file() && !is_made(&path, depth) {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            return Err(failed(&format_args!("it has more than {FILES_MAX} files")));
        }
    }
    Ok(())
}

/// Whether it is made from other files; of zips, the one that is being made may lie in the top folder.
fn is_made(path: &Path, depth: usize) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("zip") => depth == 0,
        Some("pyc") => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for name in names {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        root
    }

    #[test]
    fn a_zip_has_what_belongs_to_the_program_and_the_same_bytes_each_time() {
        let names = [
            "index.js",
            "lib/b.js",
            "lib/a.js",
            "node_modules/x/package.json",
        ];
        let others = [
            ".env",
            ".git/config",
            "node_modules/.bin/x",
            "action.toml",
            "__pycache__/a.pyc",
            "old.zip",
        ];
        let (root, again) = (folder(&[&names[..], &others[..]].concat()), folder(&names));
        let bytes = pack(root.path()).unwrap();
        assert_eq!(bytes, pack(again.path()).unwrap());
        let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let mut found = Vec::new();
        for index in 0..zip.len() {
            let mut file = zip.by_index(index).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            found.push(text);
        }
        assert_eq!(
            found,
            [
                "index.js",
                "lib/a.js",
                "lib/b.js",
                "node_modules/x/package.json"
            ]
        );
    }

    #[test]
    fn a_folder_that_leads_into_itself_is_refused() {
        let root = folder(&["index.js"]);
        std::os::unix::fs::symlink(root.path(), root.path().join("again")).unwrap();
        let Err(refused) = pack(root.path()) else {
            panic!("it has no end");
        };
        assert!(refused.message.contains("too deep"), "{refused:?}");
        assert!(pack(&folder(&[]).path().join("nowhere")).is_err());
        assert!(pack(folder(&[".hidden"]).path()).is_err());
    }
}
