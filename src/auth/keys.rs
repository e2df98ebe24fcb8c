//! Keys: made, read, checked, and the checks remembered.
//!
//! A key is `uuid:` and 64 characters of randomness; the store keeps its digest. A check costs a read of the store, so
//! the outcome is remembered under a keyed hash of the header's bytes: the warm path is one hash and one look-up, and
//! the memory of this process holds neither a key nor a digest that could be tried elsewhere. Where values are encrypted at
//! rest, the key is kept as well, encrypted: what runs in its owner's name may ask for it.
//!
//! Invariants:
//! - only successes are remembered, at most [`CACHED_MAX`] of them; a flood of bad keys costs reads, not memory;
//! - after [`Keys::forget`] returned, nothing that was read before it is ever used again: whoever remembers an identity
//!   looks at the generation before the read and again after, and takes it back if it moved.

use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use dashmap::DashMap;
use foldhash::quality::RandomState;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{Denied, Identity, SYSTEM_NAMESPACE};
use crate::model::limits::EffectiveLimits;
use crate::model::{Digest, Namespace, Tenant};
use crate::store::seal::Seal;
use crate::store::{self, Tenants};

/// Characters of the password part of a key.
pub(crate) const KEY_LEN: usize = 64;

/// Identities remembered; beyond it all are forgotten at once and read again, which is rare and cheap.
const CACHED_MAX: usize = 65_536;

/// Longest `Authorization` header looked into: a key takes 140 bytes.
const HEADER_BYTES_MAX: usize = 1024;

/// Standard alphabet; padding may be missing, as some clients send it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `uuid:key` in clear text, on its way in or, once, out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    /// The user part.
    pub(crate) uuid: Uuid,
    key: String,
}

impl Credential {
    /// A new key under a new uuid.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        Self::generate_for(Uuid::new_v4())
    }

    /// A new key under `uuid`.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub(crate) fn generate_for(uuid: Uuid) -> Result<Self, getrandom::Error> {
        const ALPHABET: &[u8; 62] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut key = String::with_capacity(KEY_LEN);
        while key.len() < KEY_LEN {
            let mut random = [0; 32];
            getrandom::fill(&mut random)?;
            // 248 is the largest multiple of 62 in a byte: what lies above would favour some characters.
            for byte in random.into_iter().filter(|byte| *byte < 248) {
                key.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
            }
        }
        key.truncate(KEY_LEN);
        Ok(Self { uuid, key })
    }

    /// What an `Authorization: Basic …` header says.
    pub(crate) fn from_header(header: &[u8]) -> Option<Self> {
        const SCHEME: &[u8] = b"basic ";
        let (scheme, rest) = header.split_at_checked(SCHEME.len())?;
        if header.len() > HEADER_BYTES_MAX || !scheme.eq_ignore_ascii_case(SCHEME) {
            return None;
        }
        let clear = BASE64.decode(rest.trim_ascii()).ok()?;
        String::from_utf8(clear).ok()?.parse().ok()
    }

    /// What the store keeps of the key.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.key.as_bytes())
    }
}

impl FromStr for Credential {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (uuid, key) = text
            .split_once(':')
            .ok_or("a key is a uuid, a colon and 64 characters")?;
        let uuid = Uuid::parse_str(uuid).map_err(|_| "what stands before the colon is no uuid")?;
        if key.chars().count() != KEY_LEN {
            return Err("what stands behind the colon must have 64 characters");
        }
        let key = key.to_owned();
        Ok(Self { uuid, key })
    }
}

/// `uuid:key`; for whoever the key is made for.
impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uuid, self.key)
    }
}

/// Without the key: this is what ends up in logs.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:…", self.uuid)
    }
}

/// The key part of `credential`, encrypted.
pub(super) fn sealed(
    seal: &Seal,
    namespace: &Namespace,
    credential: &Credential,
) -> store::Result<Option<String>> {
    seal.close_api_key(namespace, credential.uuid, &credential.key)
}

/// Keyed hash of a header. It is as good as random, so its first bytes serve as the hash of the map.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fingerprint([u8; 32]);

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

#[derive(Default)]
struct Unhashed(u64);

impl Hasher for Unhashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Checks keys.
pub(crate) struct Keys {
    tenants: Arc<dyn Tenants>,
    defaults: EffectiveLimits,
    secret: [u8; 32],
    seal: Arc<Seal>,
    cached: DashMap<Fingerprint, Arc<Identity>, BuildHasherDefault<Unhashed>>,
    /// Owners of namespaces, for what needs no key.
    owners: DashMap<Namespace, Arc<Identity>, RandomState>,
    generation: AtomicU64,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} cached)", self.cached.len())
    }
}

impl Keys {
    /// Checks against `tenants`; `defaults` are the limits of a namespace that sets none.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub(crate) fn new(
        tenants: Arc<dyn Tenants>,
        defaults: EffectiveLimits,
    ) -> Result<Self, getrandom::Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Self {
            tenants,
            defaults,
            secret,
            seal: Arc::default(),
            cached: DashMap::default(),
            owners: DashMap::default(),
            generation: AtomicU64::new(0),
        })
    }

    /// With `seal`, which opens the keys of owners.
    pub(crate) fn opening(self, seal: Arc<Seal>) -> Self {
        Self { seal, ..self }
    }

    /// What is kept of `credential` as the key of `namespace`, beside its digest.
    pub(crate) fn sealed(
        &self,
        namespace: &Namespace,
        credential: &Credential,
    ) -> store::Result<Option<String>> {
        sealed(&self.seal, namespace, credential)
    }

    /// `uuid:key` of an owner, for an action that is to have it. `None` when it was made while nothing was encrypted, or
    /// under a key that is not configured any more: a digest of it is all there is then.
    pub(crate) fn api_key(&self, owner: &Identity) -> Option<Arc<str>> {
        let kept = owner.sealed_key.as_deref()?;
        let key = self.seal.open_api_key(&owner.namespace, owner.uuid, kept)?;
        Some(format!("{}:{key}", owner.uuid).into())
    }

    /// Who sent this `Authorization` header.
    pub(crate) async fn verify(&self, header: Option<&[u8]>) -> Result<Arc<Identity>, Denied> {
        let header = header.ok_or(Denied::Missing)?;
        if header.len() > HEADER_BYTES_MAX {
            return Err(Denied::Invalid);
        }
        let fingerprint = Fingerprint(*blake3::keyed_hash(&self.secret, header).as_bytes());
        if let Some(identity) = self.cached.get(&fingerprint) {
            return Ok(Arc::clone(&identity));
        }
        Box::pin(self.verify_stored(header, fingerprint)).await
    }

    async fn verify_stored(
        &self,
        header: &[u8],
        fingerprint: Fingerprint,
    ) -> Result<Arc<Identity>, Denied> {
        let credential = Credential::from_header(header).ok_or(Denied::Invalid)?;
        let generation = self.generation.load(Ordering::SeqCst);
        let tenant = self.tenants.by_uuid(credential.uuid).await?;
        let tenant = tenant.ok_or(Denied::Invalid)?;
        let same = tenant.key_digest.0.ct_eq(&credential.digest().0);
        if !bool::from(same) || tenant.blocked {
            return Err(Denied::Invalid);
        }
        let identity = self.identity(tenant);
        if self.cached.len() >= CACHED_MAX {
            self.cached.clear();
        }
        self.cached.insert(fingerprint, Arc::clone(&identity));
        if self.generation.load(Ordering::SeqCst) != generation {
            // Something was forgotten while this was read; it may have been this.
            self.cached.remove(&fingerprint);
        }
        Ok(identity)
    }

    fn identity(&self, tenant: Tenant) -> Arc<Identity> {
        Arc::new(Identity {
            system: tenant.namespace.as_str() == SYSTEM_NAMESPACE,
            limits: Arc::new(self.defaults.with(&tenant.limits)),
            uuid: tenant.uuid,
            sealed_key: tenant.sealed_key,
            namespace: tenant.namespace,
        })
    }

    /// Who owns `namespace`, for what runs in its name without its key: web actions, and triggers fired by the clock.
    /// `None` when it does not exist or is blocked.
    pub(crate) async fn owner(
        &self,
        namespace: &Namespace,
    ) -> Result<Option<Arc<Identity>>, store::Error> {
        if let Some(identity) = self.owners.get(namespace) {
            return Ok(Some(Arc::clone(&identity)));
        }
        let generation = self.generation.load(Ordering::SeqCst);
        let tenant = self.tenants.get(namespace).await?;
        let Some(tenant) = tenant.filter(|tenant| !tenant.blocked) else {
            return Ok(None);
        };
        let identity = self.identity(tenant);
        if self.owners.len() >= CACHED_MAX {
            self.owners.clear();
        }
        self.owners.insert(namespace.clone(), Arc::clone(&identity));
        if self.generation.load(Ordering::SeqCst) != generation {
            self.owners.remove(namespace);
        }
        Ok(Some(identity))
    }

    /// To be called after every write to a tenant, here or on another node: what was known of `namespace` is read again.
    pub(crate) fn forget(&self, namespace: &Namespace) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.cached
            .retain(|_, identity| identity.namespace != *namespace);
        self.owners.remove(namespace);
    }

    /// Any tenant may have been changed by others.
    pub(crate) fn forget_all(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.cached.clear();
        self.owners.clear();
    }
}
