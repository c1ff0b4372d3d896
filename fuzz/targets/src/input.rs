//! Takes an input apart: a few bytes that choose, strings of their own length, the rest.

/// The bytes of one input, from the front.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The next byte; 0 when there is none.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    /// One of `choices`, chosen by the next byte.
    pub(crate) fn choose<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        let byte = usize::from(self.byte());
        choices.get(byte % choices.len().max(1)).copied()
    }

    /// A line: everything before the next line feed, which is dropped. Lines keep inputs readable and let
    /// the fuzzer move pieces about without breaking lengths.
    pub(crate) fn line(&mut self) -> &'a [u8] {
        let mut parts = self.0.splitn(2, |byte| *byte == b'\n');
        let line = parts.next().unwrap_or_default();
        self.0 = parts.next().unwrap_or_default();
        line
    }

    pub(crate) const fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Bytes per piece that a choosing byte stands for: mostly odd sizes, 1 among them.
pub(crate) fn piece_bytes(choice: u8) -> usize {
    const SIZES: [usize; 8] = [1, 2, 3, 7, 11, 64, 255, 1000];
    SIZES.get(usize::from(choice % 8)).copied().unwrap_or(1)
}
