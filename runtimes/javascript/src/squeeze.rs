//! Deflate, raw and in the zlib and gzip wrappings.

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::{decompress_to_vec_with_limit, TINFLStatus};

use crate::bytes::{give, slice};

const RAW: u32 = 0;
const ZLIB: u32 = 1;
const GZIP: u32 = 2;

/// Compresses.
///
/// # Safety
/// The bytes must be readable.
#[no_mangle]
pub unsafe extern "C" fn wispjs_deflate(at: *const u8, len: usize, format: u32, level: u8, out_len: &mut usize) -> *mut u8 {
    // SAFETY: the caller's.
    let bytes = unsafe { slice(at, len) };
    let body = compress_to_vec(bytes, level.min(9));
    let out = match format {
        ZLIB => [&[0x78, 0x9c][..], &body, &adler32(bytes).to_be_bytes()].concat(),
        GZIP => {
            let size = u32::try_from(len & 0xffff_ffff).unwrap_or(0);
            let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
            [&head[..], &body, &crc32(bytes, 0).to_le_bytes(), &size.to_le_bytes()].concat()
        }
        _ => body,
    };
    give(out, out_len)
}

/// Decompresses to at most `len_max` bytes. Null, and in `out_len` why not: 1 the end is missing, 2 it is longer, 3 it is something else.
///
/// # Safety
/// The bytes must be readable.
#[no_mangle]
pub unsafe extern "C" fn wispjs_inflate(
    at: *const u8,
    len: usize,
    format: u32,
    len_max: usize,
    out_len: &mut usize,
) -> *mut u8 {
    // SAFETY: the caller's.
    let bytes = unsafe { slice(at, len) };
    let body = match format {
        RAW => Some(bytes),
        ZLIB => zlib_body(bytes),
        GZIP => gzip_body(bytes),
        _ => gzip_body(bytes).or_else(|| zlib_body(bytes)),
    };
    let failed = match body {
        None => 3,
        Some(body) => match decompress_to_vec_with_limit(body, len_max) {
            Ok(out) => return give(out, out_len),
            Err(error) => match error.status {
                TINFLStatus::HasMoreOutput => 2,
                TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput => 1,
                _ => 3,
            },
        },
    };
    *out_len = failed;
    std::ptr::null_mut()
}

fn zlib_body(bytes: &[u8]) -> Option<&[u8]> {
    let head = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
    (head % 31 == 0 && head >> 8 & 15 == 8).then(|| &bytes[2..])
}

fn gzip_body(bytes: &[u8]) -> Option<&[u8]> {
    let (head, mut rest) = bytes.split_at_checked(10)?;
    if head[..3] != [0x1f, 0x8b, 8] {
        return None;
    }
    let flags = head[3];
    if flags & 4 != 0 {
        let extra = usize::from(u16::from_le_bytes([*rest.first()?, *rest.get(1)?]));
        rest = rest.get(2 + extra..)?;
    }
    for text in [8, 16] {
        if flags & text != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & 2 != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    // The sums stay below 2^32 for 5552 bytes.
    for part in bytes.chunks(5552) {
        for byte in part {
            a += u32::from(*byte);
            b += a;
        }
        a %= 65521;
        b %= 65521;
    }
    b << 16 | a
}

fn crc32(bytes: &[u8], before: u32) -> u32 {
    let mut crc = !before;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

/// The CRC-32 of more bytes.
///
/// # Safety
/// The bytes must be readable.
#[no_mangle]
pub unsafe extern "C" fn wispjs_crc32(at: *const u8, len: usize, before: u32) -> u32 {
    // SAFETY: the caller's.
    crc32(unsafe { slice(at, len) }, before)
}
