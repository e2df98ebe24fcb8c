//! Compiled artefacts on disk, and the one place that turns a file into code that runs.
//!
//! `<data>/aot/<settings>/<aa>/<digest>` holds what the compiler wrote, then a trailer:
//!
//! | bytes | what |
//! |---:|---|
//! | 8 | `WISPAOT1` |
//! | 1 | ABI |
//! | 1 | size class |
//! | 1 | whether it imports WASI 0.2 |
//! | 5 | zero |
//! | 32 | digest of the program |
//! | 32 | keyed BLAKE3 of everything before |
//!
//! What a language's engine made of an action's source is kept in the same way, under an ABI of its own: data and no code,
//! before it the digest of the engine that made it.
//!
//! Invariants:
//! - `<settings>` is a digest of wasmtime's version, its settings and this format: another build finds nothing here
//!   and compiles anew;
//! - what is mapped was verified: the code of a file is authenticated through the very descriptor that is then mapped,
//!   with a key that only this service can read, and names the program it belongs to;
//! - files are written once, under another name, and renamed when complete; nobody changes one in place;
//! - a file that does not verify is removed and made again. A disk that is full costs time, never correctness.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use wasmtime::Module;
use wasmtime::component::Component;

use super::Abi;
use super::abi::Shape;
use super::engine::{Class, Engines};
use crate::model::Digest;
use crate::model::kind::Language;

const MAGIC: &[u8; 8] = b"WISPAOT1";
const TRAILER_BYTES: usize = 80;
pub(super) const MAC_BYTES: usize = 32;
/// Bytes of a trailer before its MAC.
pub(super) const SIGNED_BYTES: usize = TRAILER_BYTES - MAC_BYTES;
/// Bytes hashed at a time: enough for the widest vectors, little enough for the cache.
const PIECE_BYTES: usize = 64 << 10;
const KEY_FILE: &str = "aot.key";

/// A program's code, mapped or in memory.
pub(super) enum Loaded {
    Module(Module),
    Component(Component),
    Blob(Blob),
}

/// What an engine made of an action's source.
pub(super) struct Blob {
    /// The engine that made it, and the only one that can read it.
    pub(super) engine: Digest,
    pub(super) bytes: Arc<[u8]>,
}

/// What was found under a program's name.
pub(super) struct Found {
    pub(super) shape: Shape,
    pub(super) loaded: Loaded,
    /// Bytes of the artefact.
    pub(super) bytes: usize,
}

/// The artefacts of one set of settings.
pub(super) struct Cache {
    folder: PathBuf,
    key: [u8; 32],
    bytes_max: u64,
    /// Bytes on disk, as far as this process knows.
    bytes: AtomicU64,
    /// Names of files being written.
    serial: AtomicU64,
    /// Files that are not removed to make room: what many programs need.
    pinned: RwLock<Vec<PathBuf>>,
}

impl Cache {
    /// Opens or makes the folder, the key, and removes what other settings left behind.
    ///
    /// # Errors
    /// When folder or key can be neither read nor made: with the path and the reason.
    pub(super) fn open(data: &Path, engines: &Engines, mib_max: u64) -> Result<Self, String> {
        let root = data.join("aot");
        let key = open_key(data)?;
        let settings = settings(engines);
        let folder = root.join(&settings);
        make_folder(&folder)?;
        remove_others(&root, &settings);
        let cache = Self {
            folder,
            key,
            bytes_max: mib_max << 20,
            bytes: AtomicU64::new(0),
            serial: AtomicU64::new(0),
            pinned: RwLock::default(),
        };
        let bytes = cache.files().iter().map(|file| file.bytes).sum();
        cache.bytes.store(bytes, Ordering::Relaxed);
        Ok(cache)
    }

    /// Names what artefacts here depend on besides their programs.
    pub(super) fn settings(&self) -> &str {
        let name = self.folder.file_name().and_then(std::ffi::OsStr::to_str);
        name.unwrap_or_default()
    }

    /// Bytes of a program's file, if there is one.
    pub(super) fn size(&self, program: &Digest) -> Option<u64> {
        Some(std::fs::metadata(self.path(program)).ok()?.len())
    }

    /// Loads a program, if its artefact is there and verifies. One that does not is removed.
    pub(super) fn load(&self, program: &Digest, engines: &Engines) -> Option<Found> {
        let path = self.path(program);
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(nofollow())
            .open(&path);
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "an artefact cannot be opened");
                return None;
            }
        };
        match self.load_file(file, program, engines) {
            Ok(found) => Some(found),
            Err(reason) => {
                tracing::warn!(path = %path.display(), reason, "an artefact does not verify; it is made again");
                self.remove(program);
                None
            }
        }
    }

    fn load_file(&self, file: File, program: &Digest, engines: &Engines) -> Result<Found, String> {
        let size = file.metadata().map_err(|error| error.to_string())?.len();
        let loaded;
        let shape;
        if claims_language(&file, size) {
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
            shape = self.verify(&file, size, program, Some(&mut bytes))?;
            loaded = Loaded::Blob(blob(&bytes)?);
        } else {
            shape = self.verify(&file, size, program, None)?;
            loaded = map(file, shape, engines).map_err(|error| format!("{error:#}"))?;
        }
        Ok(Found {
            shape,
            loaded,
            bytes: usize::try_from(size).unwrap_or(usize::MAX),
        })
    }

    /// Checks a whole file and reads its trailer, and adds what stands before that to `keep`. Reads in pieces: fresh memory for all of it would cost more page
    /// faults than the hash costs time.
    fn verify(
        &self,
        file: &File,
        size: u64,
        program: &Digest,
        mut keep: Option<&mut Vec<u8>>,
    ) -> Result<Shape, String> {
        let text = |error: std::io::Error| error.to_string();
        let start = size.checked_sub(TRAILER_BYTES as u64);
        let start = start.ok_or("it is cut short")?;
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let mut piece = vec![0_u8; PIECE_BYTES.min(usize::try_from(start).unwrap_or(PIECE_BYTES))];
        let mut at = 0;
        while at < start {
            let left = usize::try_from(start - at).unwrap_or(usize::MAX);
            let piece = &mut piece[..left.min(PIECE_BYTES)];
            file.read_exact_at(piece, at).map_err(text)?;
            hasher.update(piece);
            if let Some(kept) = &mut keep {
                kept.extend_from_slice(piece);
            }
            at += piece.len() as u64;
        }
        let mut trailer = [0_u8; TRAILER_BYTES];
        file.read_exact_at(&mut trailer, start).map_err(text)?;
        let (signed, mac) = trailer.split_at(TRAILER_BYTES - MAC_BYTES);
        hasher.update(signed);
        let found: [u8; MAC_BYTES] = mac.try_into().map_err(|_| "it is cut short")?;
        // blake3::Hash compares in constant time.
        if hasher.finalize() != blake3::Hash::from_bytes(found) {
            return Err("its bytes are not what this service wrote".into());
        }
        read_trailer(signed, program)
            .ok_or_else(|| "it belongs to another program or format".into())
    }

    /// Keeps an artefact. A failure is logged and only costs a compile later.
    pub(super) fn store(&self, program: &Digest, shape: Shape, artefact: &[u8]) {
        match self.write(program, shape, artefact) {
            Ok(bytes) => {
                let total = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
                if total > self.bytes_max {
                    self.shrink(program);
                }
            }
            Err(error) => {
                tracing::warn!(%program, %error, "an artefact cannot be kept; it will be made again when needed");
            }
        }
    }

    fn write(&self, program: &Digest, shape: Shape, artefact: &[u8]) -> std::io::Result<u64> {
        let path = self.path(program);
        let parent = path.parent().unwrap_or(&self.folder);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let temporary = parent.join(format!(".{}-{serial}", std::process::id()));
        let result = self.write_to(&temporary, program, shape, artefact);
        let result = result.and_then(|bytes| {
            std::fs::rename(&temporary, &path)?;
            Ok(bytes)
        });
        if result.is_err() {
            // Whatever is left of it is swept at the next start.
            std::fs::remove_file(&temporary).unwrap_or_default();
        }
        result
    }

    fn write_to(
        &self,
        path: &Path,
        program: &Digest,
        shape: Shape,
        artefact: &[u8],
    ) -> std::io::Result<u64> {
        let trailer = trailer(shape, program);
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(artefact).update(&trailer);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(artefact)?;
        file.write_all(&trailer)?;
        file.write_all(hasher.finalize().as_bytes())?;
        Ok((artefact.len() + TRAILER_BYTES) as u64)
    }

    /// Keeps the artefact of a program when others are removed to make room.
    pub(super) fn pin(&self, program: &Digest) {
        let path = self.path(program);
        let mut pinned = self.pinned.write();
        if !pinned.contains(&path) {
            pinned.push(path);
        }
    }

    /// Removes a program's artefact, if there is one.
    pub(super) fn remove(&self, program: &Digest) {
        let path = self.path(program);
        if let Some(size) = self.size(program)
            && std::fs::remove_file(path).is_ok()
        {
            self.give_back(size);
        }
    }

    fn give_back(&self, size: u64) {
        self.bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
                Some(bytes.saturating_sub(size))
            })
            .unwrap_or_default();
    }

    /// Removes the longest unused artefacts until an eighth of the room is free.
    fn shrink(&self, newest: &Digest) {
        let mut files = self.files();
        files.sort_unstable_by_key(|file| file.used);
        let target = self.bytes_max - self.bytes_max / 8;
        let keep = self.path(newest);
        let pinned = self.pinned.read();
        for file in files {
            if self.bytes.load(Ordering::Relaxed) <= target {
                return;
            }
            if file.path != keep
                && !pinned.contains(&file.path)
                && std::fs::remove_file(&file.path).is_ok()
            {
                self.give_back(file.bytes);
            }
        }
    }

    /// All artefacts; sweeps what an interrupted write left.
    fn files(&self) -> Vec<Kept> {
        let folders = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten();
        let entries = folders.flat_map(|folder| {
            std::fs::read_dir(folder.path())
                .into_iter()
                .flatten()
                .flatten()
        });
        let mut files = Vec::new();
        for entry in entries {
            if entry.file_name().to_string_lossy().starts_with('.') {
                std::fs::remove_file(entry.path()).unwrap_or_default();
            } else if let Ok(metadata) = entry.metadata() {
                files.push(Kept {
                    path: entry.path(),
                    bytes: metadata.len(),
                    used: metadata.accessed().unwrap_or(std::time::UNIX_EPOCH),
                });
            }
        }
        files
    }

    fn path(&self, program: &Digest) -> PathBuf {
        let name = program.to_string();
        let shard = name.get(..2).unwrap_or("00");
        self.folder.join(shard).join(&name)
    }
}

/// A file in the cache.
struct Kept {
    path: PathBuf,
    bytes: u64,
    used: std::time::SystemTime,
}

/// `O_NOFOLLOW`: a link in place of an artefact is refused.
fn nofollow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

/// Whether a file says of itself that it is what an engine made: decides how it is read, before that is verified.
fn claims_language(file: &File, size: u64) -> bool {
    let mut head = [0_u8; 9];
    let at = size.checked_sub(TRAILER_BYTES as u64);
    at.is_some_and(|at| file.read_exact_at(&mut head, at).is_ok())
        && matches!(abi_of(head[8]), Some(Abi::Language(_)))
}

/// Takes apart what [`artefact_of`] put together.
fn blob(bytes: &[u8]) -> Result<Blob, String> {
    let (engine, bytes) = bytes.split_first_chunk().ok_or("it is cut short")?;
    Ok(Blob {
        engine: Digest(*engine),
        bytes: bytes.into(),
    })
}

/// What is kept of an engine's work.
pub(super) fn artefact_of(blob: &Blob) -> Vec<u8> {
    [&blob.engine.0, &*blob.bytes].concat()
}

/// Maps a verified file as code.
fn map(file: File, shape: Shape, engines: &Engines) -> wasmtime::Result<Loaded> {
    let engine = engines.get(shape.class);
    if matches!(shape.abi, Abi::Core | Abi::Command) {
        // JUSTIFICATION: mapping an artefact is what makes a cold start take microseconds and its pages shared.
        // SAFETY: the bytes behind this descriptor were just verified to be what this service's own compiler wrote for
        // these settings; files in this private folder are never changed in place, only replaced or removed by name.
        #[expect(unsafe_code, reason = "the one trusted way from bytes to code")]
        let module = unsafe { Module::deserialize_open_file(engine, file) }?;
        return Ok(Loaded::Module(module));
    }
    // Components have no function for an open file; this path names the very file that is open.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // JUSTIFICATION: as above.
    // SAFETY: as above; the descriptor stays open until the file is mapped.
    #[expect(unsafe_code, reason = "the one trusted way from bytes to code")]
    let component = unsafe { Component::deserialize_file(engine, path) }?;
    drop(file);
    Ok(Loaded::Component(component))
}

/// Code from a compiler's own bytes, when there is no file to map.
///
/// `artefact` must come from our compiler and nowhere else; callers hand over what [`super::compile`] gave them.
pub(super) fn from_compiler(
    artefact: &[u8],
    shape: Shape,
    engines: &Engines,
) -> wasmtime::Result<Loaded> {
    let engine = engines.get(shape.class);
    if matches!(shape.abi, Abi::Core | Abi::Command) {
        // JUSTIFICATION: a full disk must not make an action unusable.
        // SAFETY: the bytes are what this service's own compiler just wrote for these settings.
        #[expect(unsafe_code, reason = "the one trusted way from bytes to code")]
        let module = unsafe { Module::deserialize(engine, artefact) }?;
        return Ok(Loaded::Module(module));
    }
    // JUSTIFICATION: as above.
    // SAFETY: as above.
    #[expect(unsafe_code, reason = "the one trusted way from bytes to code")]
    let component = unsafe { Component::deserialize(engine, artefact) }?;
    Ok(Loaded::Component(component))
}

/// What stands between an artefact and its MAC.
pub(super) fn trailer(shape: Shape, program: &Digest) -> Vec<u8> {
    let abi = match shape.abi {
        Abi::Core => 1,
        Abi::Handler => 2,
        Abi::Command => 3,
        Abi::CommandComponent => 4,
        Abi::Language(Language::JavaScript) => 16,
        Abi::Language(Language::Python) => 17,
        Abi::Http => 5,
    };
    let class = match shape.class {
        Class::Small => 1,
        Class::Large => 2,
        Class::Concurrent => 3,
    };
    let mut bytes = Vec::with_capacity(TRAILER_BYTES - MAC_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[abi, class, u8::from(shape.imports_wasi), 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&program.0);
    bytes
}

/// The shape in a trailer of `program`; `None` when it is another's, or of another format.
pub(super) fn read_trailer(bytes: &[u8], program: &Digest) -> Option<Shape> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (flags, digest) = rest.split_first_chunk::<8>()?;
    if magic != MAGIC || digest != program.0 {
        return None;
    }
    let [abi, class, imports_wasi, ..] = *flags;
    Some(Shape {
        abi: abi_of(abi)?,
        class: match class {
            1 => Class::Small,
            2 => Class::Large,
            3 => Class::Concurrent,
            _ => return None,
        },
        imports_wasi: imports_wasi == 1,
    })
}

fn abi_of(number: u8) -> Option<Abi> {
    Some(match number {
        1 => Abi::Core,
        2 => Abi::Handler,
        3 => Abi::Command,
        4 => Abi::CommandComponent,
        5 => Abi::Http,
        16 => Abi::Language(Language::JavaScript),
        17 => Abi::Language(Language::Python),
        _ => return None,
    })
}

/// Names what an artefact depends on besides its module.
fn settings(engines: &Engines) -> String {
    struct Blake(blake3::Hasher);
    impl Hasher for Blake {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = Blake(blake3::Hasher::new());
    hasher.write(MAGIC);
    for engine in engines.all() {
        engine.precompile_compatibility_hash().hash(&mut hasher);
    }
    let name = hasher.0.finalize().to_hex();
    name.get(..16).unwrap_or("settings").to_owned()
}

fn make_folder(folder: &Path) -> Result<(), String> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| {
            format!(
                "{}: the folder of compiled code cannot be made: {error}",
                folder.display()
            )
        })
}

/// Artefacts of other settings serve nobody.
fn remove_others(root: &Path, settings: &str) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_name() != *settings {
            std::fs::remove_dir_all(entry.path()).unwrap_or_default();
        }
    }
}

/// Reads the key, or makes one that nobody else can read.
fn open_key(data: &Path) -> Result<[u8; 32], String> {
    let path = data.join(KEY_FILE);
    let problem = |what: &str, error: &dyn std::fmt::Display| {
        format!(
            "{}: the key of compiled code cannot be {what}: {error}",
            path.display()
        )
    };
    match std::fs::read(&path) {
        Ok(bytes) => {
            if let Ok(key) = bytes.try_into() {
                return Ok(key);
            }
            // An interrupted first start; nothing can verify with it, so nothing is lost by another.
            tracing::warn!(path = %path.display(), "the key of compiled code is damaged; a new one is made");
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(problem("read", &error)),
    }
    std::fs::create_dir_all(data).map_err(|error| problem("made", &error))?;
    let mut key = [0_u8; 32];
    getrandom::fill(&mut key).map_err(|error| problem("made", &error))?;
    let temporary = data.join(format!(".{KEY_FILE}-{}", std::process::id()));
    std::fs::remove_file(&temporary).unwrap_or_default();
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(&key)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, &path));
    written.map_err(|error| problem("written", &error))?;
    Ok(key)
}
