//! Memory for whole objects that is used again: a new piece costs the system a page for every 4 KB, which takes
//! as long as copying what goes into it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;

/// Pieces kept for later (LIMIT: times `KEPT_BYTES_MAX` is what idles).
const KEPT_MAX: usize = 8;
/// More is given back to the system.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// The pieces that nobody uses.
#[derive(Debug, Default)]
pub(crate) struct SpareMemory {
    free: Mutex<Vec<Vec<u8>>>,
}

impl SpareMemory {
    /// An empty piece.
    pub(crate) fn take(self: &Arc<Self>) -> SpareBytes {
        SpareBytes {
            bytes: self.free.lock().pop().unwrap_or_default(),
            memory: Arc::clone(self),
        }
    }
}

/// Bytes; dropping them keeps their memory for the next.
#[derive(Debug)]
pub struct SpareBytes {
    bytes: Vec<u8>,
    memory: Arc<SpareMemory>,
}

impl SpareBytes {
    /// The bytes, whose memory is not used again.
    pub fn into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl Deref for SpareBytes {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for SpareBytes {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for SpareBytes {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if !(1..=KEPT_BYTES_MAX).contains(&bytes.capacity()) {
            return;
        }
        let mut free = self.memory.free.lock();
        if free.len() < KEPT_MAX {
            bytes.clear();
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_unless_it_is_large() {
        let memory = Arc::new(SpareMemory::default());
        let mut first = memory.take();
        first.extend_from_slice(b"before");
        let place = first.as_ptr();
        drop(first);
        let again = memory.take();
        assert!(again.is_empty() && again.as_ptr() == place);
        let kept = again.into_vec();
        assert_eq!(kept.as_ptr(), place);
        assert!(memory.free.lock().is_empty());
        let mut large = memory.take();
        large.reserve(KEPT_BYTES_MAX + 1);
        drop(large);
        drop(memory.take());
        assert!(memory.free.lock().is_empty());
        let many: Vec<_> = (0..=KEPT_MAX).map(|_| memory.take()).collect();
        for mut bytes in many {
            bytes.push(1);
        }
        assert_eq!(memory.free.lock().len(), KEPT_MAX);
    }
}
