//! Items and sub-items of A-ASSOCIATE PDUs: one byte type, one reserved byte, two byte length
//! (PS3.8 9.3.1).
//!
//! The reader guarantees one thing, that no item runs past its parent; the writer that the lengths
//! are right. What an item means is decided by the callers.

use super::PduError;
use crate::uid::Uid;

/// Walks items of one byte type, one reserved byte, two byte length (PS3.8 9.3.1).
pub(super) struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    pub(super) fn next_item(
        &mut self,
        what: &'static str,
    ) -> Result<Option<(u8, &'a [u8])>, PduError> {
        let truncated = |need, have| PduError::Truncated { what, need, have };
        let (kind, length, rest) = match *self.rest {
            [] => return Ok(None),
            [kind, _, a, b, ref rest @ ..] => (kind, usize::from(u16::from_be_bytes([a, b])), rest),
            _ => return Err(truncated(4, self.rest.len())),
        };
        let (value, rest) = rest
            .split_at_checked(length)
            .ok_or(truncated(length, rest.len()))?;
        self.rest = rest;
        Ok(Some((kind, value)))
    }
}

/// A UID without the padding that some writers add; `None` if it cannot be one.
pub(super) fn read_uid(value: &[u8]) -> Option<Uid> {
    Uid::from_value(value).ok().filter(|uid| !uid.is_empty())
}

/// Fills a slot that may be filled once.
pub(super) fn once<T>(slot: &mut Option<T>, what: &'static str, value: T) -> Result<(), PduError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(PduError::Duplicate(what)),
    }
}

pub(super) fn expect_uid(what: &'static str, value: &[u8]) -> Result<Uid, PduError> {
    read_uid(value).ok_or(PduError::Invalid {
        what,
        value: value.len() as u32,
    })
}

pub(super) fn put_uid_item(kind: u8, uid: &Uid, out: &mut Vec<u8>) {
    put_item(kind, out, |out| out.extend_from_slice(uid.as_bytes()));
}

/// Writes an item and then its length.
pub(super) fn put_item(kind: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend([kind, 0, 0, 0]);
    let start = out.len();
    body(out);
    // LIMIT: what a caller puts into one item; a longer one is cut so that the frame stays whole.
    let length = (out.len() - start).min(usize::from(u16::MAX));
    out.truncate(start + length);
    if let Some(field) = out.get_mut(start - 2..start) {
        field.copy_from_slice(&(length as u16).to_be_bytes());
    }
}
