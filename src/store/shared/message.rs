//! What nodes tell each other of records and lines, as bytes.
//!
//! ```text
//! message   version 1 · who says it (length, name) · to whom (length, name; empty: all) · parts
//! part      kind · length (4, big endian) · 0 probe · 1 record, as stored · 2 line, JSON · 3 count of records lost
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::pipeline::weight;
use super::record;
use crate::model::live::Line;
use crate::model::{Activation, ActivationId, Fqn};
use crate::store::watched::named;

/// Bytes of a message, about.
const MESSAGE_BYTES: usize = 1 << 20;

const VERSION: u8 = 1;
const PROBE_PART: u8 = 0;
const RECORD_PART: u8 = 1;
const LINE_PART: u8 = 2;
const LOST_PART: u8 = 3;

/// A part on its way out.
pub(super) enum Part {
    Probe,
    Record(Arc<Activation>),
    Line(Box<Told>),
    Lost(u64),
}

/// A part that came.
pub(super) enum Heard {
    /// A probe of this node's own.
    Own,
    Record(Arc<Activation>),
    Line(Line),
    Lost(u64),
}

/// A line, as it is told.
#[derive(Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) id: ActivationId,
    pub(super) fqn: Fqn,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reached: Option<Fqn>,
    pub(super) text: String,
}

impl Told {
    fn line(self) -> Line {
        Line {
            id: self.id,
            action: Arc::new(named(self.fqn, self.reached)),
            text: self.text,
        }
    }
}

/// The parts of a message that this node is to hear; `None` when it is none of ours.
pub(super) fn read(payload: &[u8], node: &str) -> Option<Vec<Heard>> {
    let (version, rest) = payload.split_first()?;
    let (from, rest) = short(rest)?;
    let (to, mut rest) = short(rest)?;
    let mut heard = Vec::new();
    if *version != VERSION || !to.is_empty() && to != node {
        return Some(heard);
    }
    let is_own = from == node;
    while let Some((kind, after)) = rest.split_first() {
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (part, after) = after.split_at_checked(length)?;
        rest = after;
        heard.push(match *kind {
            PROBE_PART if is_own => Heard::Own,
            _ if is_own => continue,
            RECORD_PART => Heard::Record(Arc::new(record::unpacked(part, "of live records").ok()?)),
            LINE_PART => Heard::Line(serde_json::from_slice::<Told>(part).ok()?.line()),
            LOST_PART => Heard::Lost(u64::from_be_bytes(*part.first_chunk::<8>()?)),
            _ => continue,
        });
    }
    Some(heard)
}

/// The message of `node` with these parts, to one node or to all.
pub(super) fn write(node: &str, to: &str, parts: &[Part]) -> Vec<u8> {
    let mut message = vec![VERSION];
    for name in [node, to] {
        let name = name.as_bytes();
        message.push(u8::try_from(name.len()).unwrap_or(0));
        message.extend(name);
    }
    for part in parts {
        let (kind, bytes) = match part {
            Part::Probe => (PROBE_PART, Vec::new()),
            Part::Record(record) => match record::packed(record) {
                Ok(bytes) => (RECORD_PART, bytes),
                Err(_) => continue,
            },
            Part::Line(line) => (LINE_PART, serde_json::to_vec(line).unwrap_or_default()),
            Part::Lost(count) => (LOST_PART, count.to_be_bytes().to_vec()),
        };
        message.push(kind);
        message.extend(u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
        message.extend(bytes);
    }
    message
}

/// A text behind its length.
fn short(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((str::from_utf8(text).ok()?, rest))
}

/// Parts in messages that are not too long.
pub(super) fn split(parts: &[Part]) -> Vec<&[Part]> {
    let mut messages = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (index, part) in parts.iter().enumerate() {
        bytes += match part {
            Part::Record(record) => weight(record),
            Part::Line(line) => 256 + line.text.len(),
            Part::Probe | Part::Lost(_) => 16,
        };
        if bytes > MESSAGE_BYTES {
            messages.extend(parts.get(first..=index));
            (first, bytes) = (index + 1, 0);
        }
    }
    messages.extend(parts.get(first..).filter(|rest| !rest.is_empty()));
    messages
}
