//! A lone activation record, as channels carry it, and what records have in common.
//!
//! ```text
//! value    1 · JSON                                  where packing gains nothing
//!          2 · length (4, little endian) · LZ4 block of the JSON, against a dictionary of what records have in common
//! ```
//!
//! Records are small and alike; alone, LZ4 finds little in one. With the dictionary a plain record of 404 bytes takes 149.

use crate::model::Activation;
use crate::store::{Error, Result};

use super::answer::corrupt;

/// Longest JSON that is unpacked: the length is not believed.
const JSON_BYTES_MAX: usize = 256 << 20;

const PLAIN: u8 = 1;
const PACKED: u8 = 2;

/// What records have in common, the commonest last. Not to be changed: what is stored was packed against it.
pub(super) const DICTIONARY: &[u8] = br#""application error","action developer error","whisk internal error","error":"The action did not produce a valid response","cause":"logs":["stdout: stderr: {"key":"binding","value":{"key":"causedBy","value":"sequence"},{"key":"conductor","value":true},{"key":"redelivered","value":{"key":"initTime","value":{"key":"cpuTime","value":{"key":"peakMemory","value":{"key":"timeout","value":true{"namespace":"guest","name":"version":"0.0.1","subject":"guest","activationId":"0","start":17,"end":17,"duration":1,"response":{"status":"success","statusCode":0,"success":true,"size":2,"result":{"body":"ok":true,"message":"greeting":"Hello, "}},"logs":[],"annotations":[{"key":"path","value":"guest/"},{"key":"kind","value":"nodejs:20"},{"key":"kind","value":"python:3"},{"key":"kind","value":"wasm:1"},{"key":"limits","value":{"concurrency":1,"logs":10,"memory":256,"timeout":60000}},{"key":"waitTime","value":1}],"publish":false}"#;

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
