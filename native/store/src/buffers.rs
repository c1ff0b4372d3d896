//! Buffers that outlive one object, so that receiving does not allocate and fault in fresh pages each time.

use parking_lot::Mutex;

/// Buffers kept. LIMIT: with the largest kept size this is 64 MiB.
const KEPT_MAX: usize = 128;
/// A larger buffer is given back to the system.
const KEPT_BYTES_MAX: usize = 512 * 1024;

/// The buffers nobody uses.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.free.lock().pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > KEPT_BYTES_MAX {
            return;
        }
        buffer.clear();
        let mut free = self.free.lock();
        if free.len() < KEPT_MAX {
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_huge_ones_go() {
        let buffers = Buffers::default();
        buffers.give(vec![1; 1000]);
        buffers.give(Vec::with_capacity(KEPT_BYTES_MAX + 1));
        let buffer = buffers.take();
        assert!(buffer.is_empty() && buffer.capacity() >= 1000);
        assert_eq!(buffers.take().capacity(), 0);
    }
}
