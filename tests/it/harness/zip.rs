//! Archives, byte by byte, so that tests can make wrong ones.

use base64::Engine as _;

/// A file of an archive.
struct Entry<'a> {
    name: &'a str,
    /// 0 stored, 8 deflated.
    method: u8,
    crc: u32,
    packed: &'a [u8],
    unpacked_size: usize,
}

/// An archive of stored (not compressed) files, as base64.
pub(crate) fn zip(files: &[(&str, &[u8])]) -> String {
    let entries = files.iter().map(|(name, bytes)| Entry {
        name,
        method: 0,
        crc: crc32(bytes),
        packed: bytes,
        unpacked_size: bytes.len(),
    });
    base64(&archive(&entries.collect::<Vec<_>>()))
}

/// An archive of one module that unpacks to `size` zeros while its header says `stated`, as base64.
pub(crate) fn zip_bomb(size: usize, stated: usize) -> String {
    let packed = deflated_zeros(size);
    base64(&archive(&[Entry {
        name: "bomb.wasm",
        method: 8,
        crc: 0,
        packed: &packed,
        unpacked_size: stated,
    }]))
}

fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let offset = archive.len();
        let fields = entry.header_fields();
        archive.extend_from_slice(b"PK\x03\x04");
        archive.extend_from_slice(&fields);
        archive.extend_from_slice(entry.name.as_bytes());
        archive.extend_from_slice(entry.packed);
        directory.extend_from_slice(b"PK\x01\x02\x14\0");
        directory.extend_from_slice(&fields);
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&word(offset));
        directory.extend_from_slice(entry.name.as_bytes());
    }
    let start = archive.len();
    let count = u16::try_from(entries.len()).expect("few files");
    archive.extend_from_slice(&directory);
    archive.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    archive.extend_from_slice(&count.to_le_bytes());
    archive.extend_from_slice(&count.to_le_bytes());
    archive.extend_from_slice(&word(directory.len()));
    archive.extend_from_slice(&word(start));
    archive.extend_from_slice(&[0, 0]);
    archive
}

impl Entry<'_> {
    /// From "version needed" to "extra length", as both headers have them.
    fn header_fields(&self) -> Vec<u8> {
        let mut fields = vec![0x14, 0, 0, 0, self.method, 0, 0, 0, 0x21, 0];
        fields.extend_from_slice(&self.crc.to_le_bytes());
        fields.extend_from_slice(&word(self.packed.len()));
        fields.extend_from_slice(&word(self.unpacked_size));
        let length = u16::try_from(self.name.len()).expect("a short name");
        fields.extend_from_slice(&length.to_le_bytes());
        fields.extend_from_slice(&[0, 0]);
        fields
    }
}

fn word(value: usize) -> [u8; 4] {
    u32::try_from(value).expect("a small archive").to_le_bytes()
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let lowest = crc & 1;
            crc = (crc >> 1) ^ (0xEDB8_8320 * lowest);
        }
    }
    !crc
}

/// `size` zeros in 13 bits per 258: one literal, and then "the byte before, 258 times" in the fixed code of DEFLATE.
fn deflated_zeros(size: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.push("110"); // the last block, fixed code
    bits.push("00110000"); // literal 0
    for _ in 0..size / 258 {
        bits.push("1100010100000"); // length 258, distance 1
    }
    bits.push("0000000"); // end of block
    bits.bytes
}

/// Bits, the lowest of a byte first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn push(&mut self, bits: &str) {
        for bit in bits.bytes() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().expect("just pushed");
            *last |= (bit - b'0') << (self.used % 8);
            self.used += 1;
        }
    }
}

/// Base64, as clients send bytes.
pub(crate) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
