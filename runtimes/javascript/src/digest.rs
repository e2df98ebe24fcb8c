//! Digests and keyed digests (HMAC), one object for each that is under way.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};

use crate::bytes::slice;

/// One digest under way.
#[derive(Clone)]
pub enum Digest {
    Md5(Md5),
    Sha1(Sha1),
    Sha224(Sha224),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
    HmacMd5(Hmac<Md5>),
    HmacSha1(Hmac<Sha1>),
    HmacSha224(Hmac<Sha224>),
    HmacSha256(Hmac<Sha256>),
    HmacSha384(Hmac<Sha384>),
    HmacSha512(Hmac<Sha512>),
}

/// Does the same to whichever digest it is.
macro_rules! each {
    ($digest:expr, $inner:ident => $plain:expr, $keyed:expr) => {
        match $digest {
            Digest::Md5($inner) => $plain,
            Digest::Sha1($inner) => $plain,
            Digest::Sha224($inner) => $plain,
            Digest::Sha256($inner) => $plain,
            Digest::Sha384($inner) => $plain,
            Digest::Sha512($inner) => $plain,
            Digest::HmacMd5($inner) => $keyed,
            Digest::HmacSha1($inner) => $keyed,
            Digest::HmacSha224($inner) => $keyed,
            Digest::HmacSha256($inner) => $keyed,
            Digest::HmacSha384($inner) => $keyed,
            Digest::HmacSha512($inner) => $keyed,
        }
    };
}

/// A new digest; null for an algorithm that there is not.
///
/// # Safety
/// The key must be readable.
#[no_mangle]
pub unsafe extern "C" fn wispjs_digest_new(algorithm: u32, key: *const u8, key_len: usize, keyed: bool) -> *mut Digest {
    // SAFETY: the caller's.
    let key = unsafe { slice(key, key_len) };
    let digest = match (algorithm, keyed) {
        (0, false) => Digest::Md5(Md5::new()),
        (1, false) => Digest::Sha1(Sha1::new()),
        (2, false) => Digest::Sha224(Sha224::new()),
        (3, false) => Digest::Sha256(Sha256::new()),
        (4, false) => Digest::Sha384(Sha384::new()),
        (5, false) => Digest::Sha512(Sha512::new()),
        (0, true) => keyed_by(key, Digest::HmacMd5),
        (1, true) => keyed_by(key, Digest::HmacSha1),
        (2, true) => keyed_by(key, Digest::HmacSha224),
        (3, true) => keyed_by(key, Digest::HmacSha256),
        (4, true) => keyed_by(key, Digest::HmacSha384),
        (5, true) => keyed_by(key, Digest::HmacSha512),
        _ => return std::ptr::null_mut(),
    };
    Box::into_raw(Box::new(digest))
}

fn keyed_by<M: KeyInit>(key: &[u8], make: impl Fn(M) -> Digest) -> Digest {
    make(M::new_from_slice(key).expect("HMAC takes keys of every length"))
}

/// A copy that goes on by itself.
#[no_mangle]
pub extern "C" fn wispjs_digest_clone(digest: &Digest) -> *mut Digest {
    Box::into_raw(Box::new(digest.clone()))
}

/// Takes more bytes in.
///
/// # Safety
/// The bytes must be readable.
#[no_mangle]
pub unsafe extern "C" fn wispjs_digest_update(digest: &mut Digest, at: *const u8, len: usize) {
    // SAFETY: the caller's.
    let bytes = unsafe { slice(at, len) };
    each!(digest, inner => sha2::Digest::update(inner, bytes), Mac::update(inner, bytes));
}

/// Ends the digest, frees it and writes it out: at most 64 bytes; answers how many.
///
/// # Safety
/// `digest` must come from this library and is gone afterwards; `out` must have room for 64 bytes.
#[no_mangle]
pub unsafe extern "C" fn wispjs_digest_finish(digest: *mut Digest, out: *mut u8) -> usize {
    // SAFETY: the caller's.
    let digest = *unsafe { Box::from_raw(digest) };
    let copy = |bytes: &[u8]| {
        // SAFETY: no digest is longer than 64 bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), out, bytes.len()) };
        bytes.len()
    };
    each!(digest, inner => copy(&inner.finalize()), copy(&inner.finalize().into_bytes()))
}

/// Frees a digest that nobody ended.
///
/// # Safety
/// `digest` must come from this library and is gone afterwards.
#[no_mangle]
pub unsafe extern "C" fn wispjs_digest_drop(digest: *mut Digest) {
    // SAFETY: the caller's.
    drop(unsafe { Box::from_raw(digest) });
}
