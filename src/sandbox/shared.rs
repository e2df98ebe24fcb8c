//! Compiled code that alike machines share, so that a program is compiled once for all of them.
//!
//! What is shared passes through a place that others can write to, and ends as code that this process runs. So it is only
//! taken from who knows a **secret** that all nodes have and that place has not: everything that is offered is
//! authenticated with a key derived from it, together with what it is (settings, shape, program), and verified before a byte of
//! it is used. What does not verify is as if it were not there.
//!
//! | bytes | what |
//! |---:|---|
//! | … | the artefact, LZ4 with its length before it |
//! | 48 | what stands before the MAC of a file on disk, see [`super::cache`] |
//! | 32 | keyed BLAKE3 of the name and everything before |
//!
//! The name has the digest of the settings of the compiler (its version, the processor's features) before that of the program:
//! machines that differ find nothing of each other's.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::abi::Shape;
use super::cache::{self, MAC_BYTES, SIGNED_BYTES};
use crate::model::Digest;
use crate::telemetry::cluster::{self as telemetry, Event};

/// What the key is for, as the hash wants to be told.
const CONTEXT: &str = "wisp 2026-11 compiled code that nodes of one cluster share";

/// Bytes of one artefact that is offered, compressed; larger ones are compiled by everybody.
const OFFER_BYTES_MAX: usize = 64 << 20;

/// A place that keeps bytes by name for a while. It is not believed.
#[async_trait]
pub(crate) trait Artefacts: Send + Sync + 'static {
    /// What is there, if anything is. A failure is as nothing.
    async fn get(&self, name: &str) -> Option<Vec<u8>>;
    /// Keeps it if there is room. A failure is nobody's business.
    async fn put(&self, name: &str, bytes: Vec<u8>);
}

/// A place, and the secret of those who share it.
#[derive(Clone)]
pub(crate) struct Shared {
    place: Arc<dyn Artefacts>,
    key: [u8; 32],
}

impl fmt::Debug for Shared {
    /// The key is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    /// Of those who know `secret`.
    pub(crate) fn new(place: Arc<dyn Artefacts>, secret: &[u8]) -> Self {
        Self {
            place,
            key: blake3::derive_key(CONTEXT, secret),
        }
    }

    /// The artefact of a program, if somebody offered one for these settings and it verifies.
    pub(super) async fn fetch(&self, settings: &str, program: Digest) -> Option<(Shape, Vec<u8>)> {
        let name = name(settings, &program);
        let sealed = self.place.get(&name).await?;
        let key = self.key;
        let opened = tokio::task::spawn_blocking(move || open(&key, &name, &program, &sealed));
        match opened.await {
            Ok(Ok(opened)) => {
                telemetry::count(Event::Fetched, 1);
                Some(opened)
            }
            Ok(Err(why)) => {
                telemetry::count(Event::Forged, 1);
                tracing::error!(%program, why, "compiled code that nodes share does not verify, and is compiled here: somebody who \
                    does not know the cluster's secret wrote it, or nodes have different ones");
                None
            }
            Err(_) => None,
        }
    }

    /// Offers an artefact to the others, behind whoever goes on.
    pub(super) fn offer(
        &self,
        settings: &str,
        program: Digest,
        shape: Shape,
        artefact: Arc<Vec<u8>>,
    ) {
        let (shared, name) = (self.clone(), name(settings, &program));
        tokio::spawn(async move {
            let key = shared.key;
            let sealing = tokio::task::spawn_blocking(move || {
                (seal(&key, &name, &program, shape, &artefact), name)
            });
            if let Ok((sealed, name)) = sealing.await
                && sealed.len() <= OFFER_BYTES_MAX
            {
                shared.place.put(&name, sealed).await;
            }
        });
    }
}

fn name(settings: &str, program: &Digest) -> String {
    format!("{settings}:{program}")
}

fn mac(key: &[u8; 32], name: &str, sealed: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    // Its length is fixed: nothing can be moved from one part to the other.
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes()).update(sealed);
    hasher.finalize()
}

fn seal(key: &[u8; 32], name: &str, program: &Digest, shape: Shape, artefact: &[u8]) -> Vec<u8> {
    let mut sealed = lz4_flex::block::compress_prepend_size(artefact);
    sealed.extend(cache::trailer(shape, program));
    let mac = mac(key, name, &sealed);
    sealed.extend(mac.as_bytes());
    sealed
}

fn open(
    key: &[u8; 32],
    name: &str,
    program: &Digest,
    sealed: &[u8],
) -> Result<(Shape, Vec<u8>), &'static str> {
    let (signed, found) = sealed
        .split_last_chunk::<MAC_BYTES>()
        .ok_or("it is cut short")?;
    // blake3::Hash compares in constant time.
    if mac(key, name, signed) != blake3::Hash::from_bytes(*found) {
        return Err("its bytes are not what a node of this cluster wrote");
    }
    let (packed, trailer) = signed
        .split_last_chunk::<SIGNED_BYTES>()
        .ok_or("it is cut short")?;
    let shape = cache::read_trailer(trailer, program);
    let shape = shape.ok_or("it belongs to another program or format")?;
    let artefact = lz4_flex::block::decompress_size_prepended(packed);
    Ok((shape, artefact.map_err(|_| "it cannot be unpacked")?))
}
