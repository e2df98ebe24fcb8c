//! An activation record as Redis keeps it.
//!
//! ```text
//! value    1 · JSON                                  where packing gains nothing
//!          2 · length (4, little endian) · LZ4 block of the JSON, against a dictionary of what records have in common
//! member   id (16) · hash of the name (8) · hash of the package (4), of the sorted set by start
//! ```
//!
//! Records are small and alike; alone, LZ4 finds little in one. With the dictionary a plain record of 620 bytes takes
//! about 260. The hashes let lists by name pass over other records without reading them, for 12 bytes that the allocator would round up
//! to anyway; an index by name would cost every record about 100 bytes and every put another insertion.

use crate::model::{Activation, ActivationId};
use crate::store::{ActivationFilter, Error, Result, package_of};

use super::answer::corrupt;

/// What a record costs Redis beside its value, about: entries of a hash table and of a sorted set.
pub(super) const FIXED_BYTES: usize = 200;

/// Longest JSON that is unpacked: the length is not believed.
const JSON_BYTES_MAX: usize = 256 << 20;

const PLAIN: u8 = 1;
const PACKED: u8 = 2;

/// What records have in common, the commonest last. Not to be changed: what is stored was packed against it.
const DICTIONARY: &[u8] = br#""application error","action developer error","whisk internal error","error":"The action did not produce a valid response","cause":"logs":["stdout: stderr: {"key":"binding","value":{"key":"causedBy","value":"sequence"},{"key":"conductor","value":true},{"key":"redelivered","value":{"key":"initTime","value":{"key":"cpuTime","value":{"key":"peakMemory","value":{"key":"timeout","value":true{"namespace":"guest","name":"version":"0.0.1","subject":"guest","activationId":"0","start":17,"end":17,"duration":1,"response":{"status":"success","statusCode":0,"success":true,"size":2,"result":{"body":"ok":true,"message":"greeting":"Hello, "}},"logs":[],"annotations":[{"key":"path","value":"guest/"},{"key":"kind","value":"nodejs:20"},{"key":"kind","value":"python:3"},{"key":"kind","value":"wasm:1"},{"key":"limits","value":{"concurrency":1,"logs":10,"memory":256,"timeout":60000}},{"key":"waitTime","value":1}],"publish":false}"#;

/// The value.
pub(super) fn packed(record: &Activation) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(record)
        .map_err(|error| Error::Unavailable(format!("record {}: {error}", record.id)))?;
    let mut value = vec![PACKED];
    value.extend(lz4_flex::block::compress_prepend_size_with_dict(
        &json, DICTIONARY,
    ));
    if value.len() > json.len() {
        value.clear();
        value.push(PLAIN);
        value.extend(&json);
    }
    Ok(value)
}

/// The record in a value; `key` is where it was found.
pub(super) fn unpacked(value: &[u8], key: &str) -> Result<Activation> {
    let json = match value.split_first() {
        Some((&PLAIN, json)) => return read(json, key),
        Some((&PACKED, packed)) => packed,
        _ => return Err(corrupt(key, "it has a record of an unknown form")),
    };
    let (length, block) = lz4_flex::block::uncompressed_size(json)
        .map_err(|error| corrupt(key, &error.to_string()))?;
    if length > JSON_BYTES_MAX {
        return Err(corrupt(key, "it has a record that says it is huge"));
    }
    let json = lz4_flex::block::decompress_with_dict(block, length, DICTIONARY)
        .map_err(|error| corrupt(key, &error.to_string()))?;
    read(&json, key)
}

fn read(json: &[u8], key: &str) -> Result<Activation> {
    serde_json::from_slice(json).map_err(|error| corrupt(key, &format!("a record: {error}")))
}

/// How the record is called in the index.
pub(super) fn member(record: &Activation) -> Vec<u8> {
    let mut member = record.id.0.to_be_bytes().to_vec();
    member.extend(name_hash(record.name.as_str()));
    let package = package_of(record);
    member.extend(package_hash(package.as_deref().unwrap_or_default()));
    member
}

/// The id in a member of the index.
pub(super) fn id_of(member: &[u8]) -> Option<ActivationId> {
    let id = member.first_chunk::<16>()?;
    Some(ActivationId(u128::from_be_bytes(*id)))
}

/// What members of the records that are asked for have behind their id; empty for all of them.
pub(super) fn wanted(filter: &ActivationFilter) -> Vec<u8> {
    let mut wanted = Vec::new();
    if let Some(name) = &filter.name {
        wanted.extend(name_hash(name.as_str()));
        if let Some(package) = &filter.package {
            wanted.extend(package_hash(package.as_str()));
        }
    }
    wanted
}

fn name_hash(name: &str) -> [u8; 8] {
    let hash = blake3::hash(name.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    first
}

fn package_hash(name: &str) -> [u8; 4] {
    let hash = blake3::hash(name.as_bytes());
    let mut first = [0; 4];
    first.copy_from_slice(&hash.as_bytes()[..4]);
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::suite;

    #[test]
    fn what_was_packed_is_read_back_and_takes_less() {
        let record = suite::record("p/a", 1_700_000_000_000, 7);
        let value = packed(&record).unwrap();
        assert_eq!(unpacked(&value, "k").unwrap(), record);
        let json = serde_json::to_vec(&record).unwrap();
        assert!(
            value.len() * 10 < json.len() * 7,
            "{} of {}",
            value.len(),
            json.len()
        );
        assert_eq!(id_of(&member(&record)), Some(record.id));
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let value = packed(&suite::record("a", 1, 7)).unwrap();
        for length in 0..value.len() {
            assert!(unpacked(&value[..length], "k").is_err());
        }
        let huge = [PACKED, 255, 255, 255, 255, 0];
        assert!(matches!(unpacked(&huge, "k"), Err(Error::Corrupt(_))));
    }
}
