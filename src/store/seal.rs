//! Encryption at rest: what tenants give and what their actions answer, wherever it is kept: parameters, the platform's own
//! documents (schedules, dead letters, values of guests, …), activation records, the log of accepted work, API keys. Not: names,
//! times and sizes, which what is stored is found by; annotations, which everybody who may read an entity is shown; code, which
//! is kept once for all who have it, and what is compiled of it.
//!
//! Every configured key decrypts, the first one encrypts. Each namespace has a key of its own, derived from it, and a value is
//! bound to the name of its parameter: the text that somebody sees of a value opens nowhere else. AES in Galois/Counter mode
//! tells a wrong key from the right one, so no key has to be named, and what was encrypted under a former key is read as
//! long as that key is configured. What was stored before there was a key is read, and encrypted when it is written next.
//!
//! A small file in the data folder is encrypted with the key in use: a server that is started without a key that opens it
//! stops at once, rather than at the first call that needs a parameter. Nodes of a cluster have that text in Redis.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use uuid::Uuid;

use super::{Error, Result};
use crate::model::params::Parameter;
use crate::model::{ActivationId, Json, Namespace, Parameters};

/// The file that tells whether the right key is there.
const CHECK_FILE: &str = "encryption.check";

/// What that file says.
const CHECK_TEXT: &[u8] = b"wisp";

/// Bytes of a nonce. Random ones are safe for 2^32 values under one key: each namespace has its own.
const NONCE_BYTES: usize = 12;

/// What derived keys are for, as the hash wants to be told; to change it is to lose everything encrypted.
const CONTEXT: &str = "wisp 2026-11 encryption at rest of one namespace";

/// How an encrypted entry of the log begins; one that is not is JSON.
const LOG_MARK: u8 = 0;

/// How encrypted bytes begin. Others are compressed and begin with their length, which this is not.
const BYTES_MARK: [u8; 4] = [0xff; 4];

/// How an encrypted document begins; one that is not is JSON.
const TEXT_MARK: &str = "~";

/// Bytes that name the key, so that what is under a former one is found without decrypting everything.
const KEY_NAME_BYTES: usize = 4;

/// See [`Key::name`].
pub(super) type KeyName = [u8; KEY_NAME_BYTES];

/// Where something is kept: it opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Whose it is.
    pub(crate) namespace: &'a Namespace,
    /// What kind of thing.
    pub(crate) what: &'static str,
    /// Which of them.
    pub(crate) name: &'a [u8],
}

impl Place<'_> {
    /// What keys are derived for; no namespace is called so.
    fn of(&self) -> String {
        format!("{} of\0{}", self.what, self.namespace)
    }
}

/// With what is encrypted.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Keys in base64, 16 bytes for AES-128 or 32 for AES-256, separated by spaces; the first encrypts, all decrypt.
    pub(crate) keys: Option<String>,
    /// A file of more of them, one in each line.
    pub(crate) keys_file: Option<PathBuf>,
}

impl fmt::Debug for Config {
    /// Keys are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("keys", &self.keys.is_some())
            .field("keys_file", &self.keys_file)
            .finish()
    }
}

impl Config {
    /// Key to blame, and the reason.
    pub(crate) fn validate(&self) -> std::result::Result<(), (&'static str, String)> {
        let text = self.keys.as_deref().unwrap_or_default();
        parse(text).map(drop).map_err(|why| ("keys", why))
    }
}

/// One configured key.
enum Key {
    Aes128([u8; 16]),
    Aes256([u8; 32]),
}

impl Key {
    /// The cipher, as OpenWhisk calls it.
    fn cipher(&self) -> &'static str {
        match self {
            Self::Aes128(_) => "aes-128",
            Self::Aes256(_) => "aes-256",
        }
    }

    /// The key of what is called `of`, a namespace or a purpose that cannot be the name of one.
    fn derived(&self, of: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        match self {
            Self::Aes128(key) => hasher.update(key),
            Self::Aes256(key) => hasher.update(key),
        };
        hasher.update(of.as_bytes());
        *hasher.finalize().as_bytes()
    }

    /// Tells it from others, and nothing about it.
    fn name(&self) -> KeyName {
        let [a, b, c, d, ..] = self.derived("\0name");
        [a, b, c, d]
    }

    /// Length of the nonce (4 bytes), nonce, and `plain` encrypted, bound to `to`.
    fn encrypt(&self, of: &str, to: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| {
            Error::Unavailable(format!("the system has no randomness: {error}"))
        })?;
        let (key, payload) = (
            self.derived(of),
            Payload {
                msg: plain,
                aad: to,
            },
        );
        let at = Nonce::from(nonce);
        let encrypted = match self {
            Self::Aes128(_) => {
                Aes128Gcm::new_from_slice(&key[..16]).map(|cipher| cipher.encrypt(&at, payload))
            }
            Self::Aes256(_) => {
                Aes256Gcm::new_from_slice(&key).map(|cipher| cipher.encrypt(&at, payload))
            }
        };
        let Ok(Ok(encrypted)) = encrypted else {
            return Err(Error::Unavailable(
                "a value was too long to encrypt".to_owned(),
            ));
        };
        let mut whole = Vec::with_capacity(4 + NONCE_BYTES + encrypted.len());
        whole.extend([0, 0, 0, 12]);
        whole.extend(nonce);
        whole.extend(encrypted);
        Ok(whole)
    }

    /// What was encrypted, if it was with this key, for `of`, bound to `to`.
    fn decrypt(&self, of: &str, to: &[u8], whole: &[u8]) -> Option<Vec<u8>> {
        let rest = whole.strip_prefix(&[0, 0, 0, 12])?;
        let (nonce, encrypted) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let (key, at) = (self.derived(of), Nonce::from(*nonce));
        let payload = Payload {
            msg: encrypted,
            aad: to,
        };
        match self {
            Self::Aes128(_) => {
                let cipher = Aes128Gcm::new_from_slice(&key[..16]).ok()?;
                cipher.decrypt(&at, payload).ok()
            }
            Self::Aes256(_) => {
                let cipher = Aes256Gcm::new_from_slice(&key).ok()?;
                cipher.decrypt(&at, payload).ok()
            }
        }
    }
}

/// The keys in `text`, first to last.
fn parse(text: &str) -> std::result::Result<Vec<Key>, String> {
    let key = |(index, word): (usize, &str)| {
        let bytes = STANDARD.decode(word).unwrap_or_default();
        let is = bytes.len();
        if let Ok(key) = bytes.as_slice().try_into() {
            return Ok(Key::Aes256(key));
        }
        if let Ok(key) = bytes.as_slice().try_into() {
            return Ok(Key::Aes128(key));
        }
        // The key itself is not repeated: this is printed.
        Err(format!(
            "key {} is {is} bytes in base64; 16 (AES-128) or 32 (AES-256) are needed, as `openssl rand -base64 32` prints",
            index + 1
        ))
    };
    text.split_whitespace().enumerate().map(key).collect()
}

/// See the module. Without keys, it leaves everything as it is.
#[derive(Default)]
pub(crate) struct Seal {
    /// The one that encrypts first.
    keys: Vec<Key>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({} keys)", self.keys.len())
    }
}

impl Seal {
    /// Whether the keys open what the data folder was used with; notes the first of them there.
    ///
    /// # Errors
    /// With what is wrong: a file that cannot be read, a key that is missing.
    pub(crate) fn check_folder(&self, folder: &Path) -> std::result::Result<(), String> {
        self.check(&folder.join(CHECK_FILE))
    }

    /// The configured keys, not yet compared with those that the store was used with.
    ///
    /// # Errors
    /// With what is wrong: a key that is none, a file that cannot be read.
    pub(crate) fn of(config: &Config) -> std::result::Result<Self, String> {
        let mut keys = parse(config.keys.as_deref().unwrap_or_default())
            .map_err(|why| format!("encryption.keys: {why}"))?;
        if let Some(file) = &config.keys_file {
            let name = file.display();
            let text = fs::read_to_string(file)
                .map_err(|error| format!("encryption.keys_file: {name}: {error}"))?;
            let more =
                parse(&text).map_err(|why| format!("encryption.keys_file: {name}: {why}"))?;
            if more.is_empty() {
                return Err(format!(
                    "encryption.keys_file: {name}: there is no key in it"
                ));
            }
            keys.extend(more);
        }
        Ok(Self { keys })
    }

    /// Names the key in use, if there is one.
    pub(super) fn key_name(&self) -> Option<KeyName> {
        self.keys.first().map(Key::name)
    }

    /// What bytes begin with that were encrypted with the key in use.
    pub(super) fn mark(&self) -> Option<Vec<u8>> {
        let name = self.key_name()?;
        Some([BYTES_MARK, name].concat())
    }

    /// Whether anything is encrypted.
    pub(crate) fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether one of the keys is that of a check, and whether it is the first.
    pub(super) fn opens_check(&self, noted: &[u8]) -> (bool, bool) {
        let opens = |key: &Key| key.decrypt("", &[], noted).as_deref() == Some(CHECK_TEXT);
        let first = self.keys.first().is_some_and(opens);
        (first || self.keys.iter().any(opens), first)
    }

    /// How many keys there are.
    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    /// A check that only the first of the keys opens; `None` without any.
    pub(super) fn new_check(&self) -> Result<Option<Vec<u8>>> {
        let key = self.keys.first();
        key.map(|key| key.encrypt("", &[], CHECK_TEXT)).transpose()
    }

    /// Compares the keys with those the folder was used with, and notes the first of them.
    fn check(&self, file: &Path) -> std::result::Result<(), String> {
        let name = file.display();
        let failed = |error: std::io::Error| format!("{name}: {error}");
        match fs::read(file) {
            Ok(noted) => {
                if !self.opens_check(&noted).0 {
                    return Err(format!(
                        "this data folder is encrypted with a key that is not configured ({} are). \
                         Give it with keys or keys_file in the [encryption] section, or WISP_ENCRYPTION_KEYS; it may come \
                         after a new one. If it is lost, so is what it encrypts: remove {name} to start without that",
                        self.keys.len()
                    ));
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let noted = self.new_check();
        let Some(noted) = noted.map_err(|error| format!("{name}: {error}"))? else {
            return Ok(());
        };
        // Whole or not at all: half of it would look like another key's.
        let new = file.with_extension("new");
        let mut written = fs::File::create(&new).map_err(failed)?;
        written.write_all(&noted).map_err(failed)?;
        written.sync_all().map_err(failed)?;
        fs::rename(&new, file).map_err(failed)
    }

    /// Encrypts for `namespace` what is not encrypted with the key in use, and says how many values that were; they stay at
    /// hand.
    pub(super) fn close(
        &self,
        namespace: &Namespace,
        parameters: &mut Parameters,
    ) -> Result<usize> {
        let mut count = 0;
        let Some(key) = self.keys.first() else {
            self.open(&[namespace], parameters);
            return Ok(count);
        };
        for one in &mut parameters.0 {
            if one.encryption.is_some() && !self.comes_from_former_key(namespace, one) {
                continue;
            }
            let plain = one.value.get().as_bytes();
            let whole = key.encrypt(namespace.as_str(), one.key.as_bytes(), plain)?;
            let value = Json::from_serialize(&STANDARD.encode(whole));
            one.opened = Some(std::mem::replace(&mut one.value, value));
            one.encryption = Some(key.cipher().to_owned());
            count += 1;
        }
        self.open(&[namespace], parameters);
        Ok(count)
    }

    /// Decrypts what is encrypted for one of `namespaces`. What no key opens stays closed; without any keys, values that
    /// are said to be encrypted are what they are.
    pub(crate) fn open(&self, namespaces: &[&Namespace], parameters: &mut Parameters) {
        for one in &mut parameters.0 {
            if one.encryption.is_none() || one.opened.is_some() {
                continue;
            }
            one.opened = match self.keys.is_empty() {
                true => Some(one.value.clone()),
                false => self.opened(namespaces, one),
            };
        }
    }

    /// Whether a former key opens it; then its value is what that says.
    fn comes_from_former_key(&self, namespace: &Namespace, one: &mut Parameter) -> bool {
        let Some((first, former)) = self.keys.split_first() else {
            return false;
        };
        let text: Option<String> = serde_json::from_str(one.value.get()).ok();
        let Some(whole) = text.and_then(|text| STANDARD.decode(text).ok()) else {
            return false;
        };
        let (of, to) = (namespace.as_str(), one.key.as_bytes());
        if former.is_empty() || first.decrypt(of, to, &whole).is_some() {
            return false;
        }
        let plain = former.iter().find_map(|key| key.decrypt(of, to, &whole));
        let plain = plain.and_then(|plain| Json::parse(&plain).ok());
        plain.map(|plain| one.value = plain).is_some()
    }

    fn opened(&self, namespaces: &[&Namespace], one: &Parameter) -> Option<Json> {
        let text: String = serde_json::from_str(one.value.get()).ok()?;
        let whole = STANDARD.decode(text).ok()?;
        let mut tries = namespaces
            .iter()
            .flat_map(|namespace| self.keys.iter().map(move |key| (namespace, key)));
        let plain = tries.find_map(|(namespace, key)| {
            key.decrypt(namespace.as_str(), one.key.as_bytes(), &whole)
        })?;
        Json::parse(&plain).ok()
    }

    /// The API key of `namespace` under `uuid` as it is kept; `None` without keys to encrypt it with.
    pub(crate) fn close_api_key(
        &self,
        namespace: &Namespace,
        uuid: Uuid,
        api_key: &str,
    ) -> Result<Option<String>> {
        let Some(key) = self.keys.first() else {
            return Ok(None);
        };
        let whole = key.encrypt(&api_key_of(namespace), uuid.as_bytes(), api_key.as_bytes())?;
        Ok(Some(STANDARD.encode(whole)))
    }

    /// That key again; `None` when no key opens it.
    pub(crate) fn open_api_key(
        &self,
        namespace: &Namespace,
        uuid: Uuid,
        kept: &str,
    ) -> Option<String> {
        let (of, whole) = (api_key_of(namespace), STANDARD.decode(kept).ok()?);
        let mut keys = self.keys.iter();
        let plain = keys.find_map(|key| key.decrypt(&of, uuid.as_bytes(), &whole))?;
        String::from_utf8(plain).ok()
    }

    /// Whether that key is kept as it would be now.
    pub(crate) fn is_current_api_key(&self, namespace: &Namespace, uuid: Uuid, kept: &str) -> bool {
        let (of, whole) = (api_key_of(namespace), STANDARD.decode(kept));
        let whole = whole.unwrap_or_default();
        let mut first = self.keys.iter().take(1);
        first.all(|key| key.decrypt(&of, uuid.as_bytes(), &whole).is_some())
    }

    /// `plain`, which begins with its length, as it is kept in `place`: as it is without keys.
    pub(crate) fn close_bytes(&self, place: Place<'_>, plain: Vec<u8>) -> Result<Vec<u8>> {
        let Some(key) = self.keys.first() else {
            return Ok(plain);
        };
        let mut kept = BYTES_MARK.to_vec();
        kept.extend(key.name());
        kept.extend(key.encrypt(&place.of(), place.name, &plain)?);
        Ok(kept)
    }

    /// What [`Seal::close_bytes`] was given.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when no key opens it, or it was kept elsewhere.
    pub(crate) fn open_bytes(&self, place: Place<'_>, kept: Vec<u8>) -> Result<Vec<u8>> {
        match kept.strip_prefix(&BYTES_MARK) {
            None => Ok(kept),
            Some(named) => self.opened_named(place, named),
        }
    }

    /// The document `plain`, which is JSON, as it is kept in `place`: as it is without keys.
    pub(crate) fn close_text(&self, place: Place<'_>, plain: Arc<str>) -> Result<Arc<str>> {
        let Some(key) = self.keys.first() else {
            return Ok(plain);
        };
        let mut named = key.name().to_vec();
        named.extend(key.encrypt(&place.of(), place.name, plain.as_bytes())?);
        let mut kept = TEXT_MARK.to_owned();
        STANDARD.encode_string(named, &mut kept);
        Ok(kept.into())
    }

    /// What [`Seal::close_text`] was given.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when no key opens it, or it was kept elsewhere.
    pub(crate) fn open_text(&self, place: Place<'_>, kept: Arc<str>) -> Result<Arc<str>> {
        let Some(text) = kept.strip_prefix(TEXT_MARK) else {
            return Ok(kept);
        };
        let named = STANDARD.decode(text).unwrap_or_default();
        let plain = String::from_utf8(self.opened_named(place, &named)?);
        plain.map(Arc::from).map_err(|_| unopened(place))
    }

    /// Whether a document is kept as it would be now.
    pub(crate) fn is_current_text(&self, kept: &str) -> bool {
        let first = self.keys.first();
        first.is_none_or(|key| {
            // Four digits of base64 for each three bytes: the name and two bytes that follow it.
            let named = kept.strip_prefix(TEXT_MARK).and_then(|text| text.get(..8));
            let named = named.and_then(|named| STANDARD.decode(named).ok());
            named.is_some_and(|named| named.starts_with(&key.name()))
        })
    }

    fn opened_named(&self, place: Place<'_>, named: &[u8]) -> Result<Vec<u8>> {
        let opened = named
            .split_at_checked(KEY_NAME_BYTES)
            .and_then(|(name, whole)| {
                let mut keys = self.keys.iter().filter(|key| key.name() == name);
                keys.find_map(|key| key.decrypt(&place.of(), place.name, whole))
            });
        opened.ok_or_else(|| unopened(place))
    }

    /// An entry of the log of accepted work as it is kept.
    pub(crate) fn close_entry(&self, id: ActivationId, work: Bytes) -> Result<Bytes> {
        let Some(key) = self.keys.first() else {
            return Ok(work);
        };
        let mut kept = vec![LOG_MARK];
        kept.extend(key.encrypt("log of accepted work", &id.0.to_be_bytes(), &work)?);
        Ok(kept.into())
    }

    /// An entry of that log as it was given; as it is kept when no key opens it.
    pub(crate) fn open_entry(&self, id: ActivationId, kept: Bytes) -> Bytes {
        let Some(whole) = kept.strip_prefix(&[LOG_MARK]) else {
            return kept;
        };
        let to = id.0.to_be_bytes();
        let mut keys = self.keys.iter();
        let opened = keys.find_map(|key| key.decrypt("log of accepted work", &to, whole));
        opened.map_or_else(|| kept.clone(), Bytes::from)
    }
}

/// No key opens it.
fn unopened(place: Place<'_>) -> Error {
    Error::Corrupt(format!(
        "{} of {} are encrypted with a key that is not configured, or were changed",
        place.what, place.namespace
    ))
}

/// What API keys are encrypted for: no namespace can be called so, and no parameter is opened by it.
fn api_key_of(namespace: &Namespace) -> String {
    format!("API key of\0{namespace}")
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
