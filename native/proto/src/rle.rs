//! RLE compression of frames (PS3.5 annex G): bytes to bytes.
//!
//! A frame is cut into planes of bytes, each byte of each sample by itself, the most significant first. Each
//! plane is one segment of PackBits, row by row, behind a header that says where segments begin.

/// Bytes of the header: the number of segments, and 15 offsets.
const HEADER_BYTES: usize = 64;
/// Segments that a header has room for.
pub const SEGMENTS_MAX: usize = 15;
/// Bytes of one run, and of one literal stretch.
const STRETCH_MAX: usize = 128;
/// A shorter run costs as much as its bytes in a literal stretch.
const RUN_MIN: usize = 3;
/// Places looked at together.
const BLOCK: usize = 32;

/// How the samples of a native frame lie (little endian).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLayout {
    /// Rows of the image.
    pub rows: usize,
    /// Pixels of a row.
    pub columns: usize,
    /// Samples of a pixel.
    pub samples: usize,
    /// Bytes of a sample.
    pub sample_bytes: usize,
    /// Whether all first samples come first, then all second ones.
    pub by_plane: bool,
}

impl FrameLayout {
    /// Bytes of a frame.
    pub fn frame_bytes(&self) -> usize {
        self.rows * self.columns * self.samples * self.sample_bytes
    }

    /// First byte of a plane in the frame, and the distance of the bytes that follow it.
    fn plane(&self, sample: usize, byte: usize) -> (usize, usize) {
        if self.by_plane {
            let plane_bytes = self.rows * self.columns * self.sample_bytes;
            (sample * plane_bytes + byte, self.sample_bytes)
        } else {
            let pixel_bytes = self.samples * self.sample_bytes;
            (sample * self.sample_bytes + byte, pixel_bytes)
        }
    }
}

/// Appends a frame's codestream, of an even number of bytes. False, and nothing appended: the frame has not the
/// bytes that its layout says, or too many planes.
pub fn encode(frame: &[u8], layout: FrameLayout, out: &mut Vec<u8>) -> bool {
    let planes = layout.samples * layout.sample_bytes;
    if frame.len() != layout.frame_bytes() || frame.is_empty() || planes > SEGMENTS_MAX {
        return false;
    }
    let begin = out.len();
    out.resize(begin + HEADER_BYTES, 0);
    put(out, begin, planes as u32);
    let mut row = Vec::with_capacity(layout.columns);
    let mut number = 0;
    for sample in 0..layout.samples {
        for byte in (0..layout.sample_bytes).rev() {
            number += 1;
            let at = out.len() - begin;
            put(out, begin + 4 * number, at as u32);
            let (first, distance) = layout.plane(sample, byte);
            for line in frame
                .get(first..)
                .unwrap_or_default()
                .chunks(layout.columns * distance)
                .take(layout.rows)
            {
                row.clear();
                gather(line, distance, &mut row);
                pack(row.get(..layout.columns).unwrap_or(&row), out);
            }
            // Segments are even (PS3.5 section G.3.1).
            out.resize(begin + (out.len() - begin).next_multiple_of(2), 0);
        }
    }
    true
}

fn put(out: &mut [u8], at: usize, number: u32) {
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

/// Every n-th byte. Numbers cut to their low byte are what the compiler makes wide moves of.
fn gather(line: &[u8], distance: usize, row: &mut Vec<u8>) {
    let rest = match distance {
        1 => {
            row.extend_from_slice(line);
            return;
        }
        2 => {
            let (whole, rest) = line.as_chunks();
            row.extend(whole.iter().map(|bytes| u16::from_le_bytes(*bytes) as u8));
            rest
        }
        4 => {
            let (whole, rest) = line.as_chunks();
            row.extend(whole.iter().map(|bytes| u32::from_le_bytes(*bytes) as u8));
            rest
        }
        _ => line,
    };
    row.extend(rest.iter().step_by(distance));
}

/// PackBits of one row.
fn pack(row: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < row.len() {
        let run = next_run(row, at);
        literal(row.get(at..run).unwrap_or_default(), out);
        at = run;
        let Some(&value) = row.get(run) else {
            return;
        };
        let mut left = run_length(row.get(run..).unwrap_or_default(), value);
        at += left;
        while left >= RUN_MIN {
            let now = left.min(STRETCH_MAX);
            out.extend_from_slice(&[(257 - now) as u8, value]);
            left -= now;
        }
        // One or two are left of a run of more than a stretch; what follows takes them along.
        at -= left;
    }
}

fn literal(mut bytes: &[u8], out: &mut Vec<u8>) {
    while !bytes.is_empty() {
        let (now, later) = bytes.split_at(bytes.len().min(STRETCH_MAX));
        out.push((now.len() - 1) as u8);
        out.extend_from_slice(now);
        bytes = later;
    }
}

/// Where the next run of at least [`RUN_MIN`] begins, or the end of the row.
fn next_run(row: &[u8], from: usize) -> usize {
    let mut at = from;
    // Many places at once, without a branch for each.
    while let Some(block) = row
        .get(at..)
        .and_then(|rest| rest.first_chunk::<{ BLOCK + 2 }>())
    {
        let pairs = block.iter().zip(block.iter().skip(1));
        let mut found = false;
        for ((a, b), c) in pairs.zip(block.iter().skip(2)) {
            found |= ((a ^ b) | (a ^ c)) == 0;
        }
        if found {
            break;
        }
        at += BLOCK;
    }
    let rest = row.get(at..).unwrap_or_default();
    let found = rest
        .windows(RUN_MIN)
        .position(|w| matches!(w, [a, b, c] if a == b && a == c));
    found.map_or(row.len(), |place| at + place)
}

fn run_length(bytes: &[u8], value: u8) -> usize {
    let mut length = 0;
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    for block in blocks {
        let mut apart = 0;
        for byte in block {
            apart |= byte ^ value;
        }
        if apart != 0 {
            break;
        }
        length += BLOCK;
    }
    let rest = bytes.get(length..).unwrap_or_default();
    length + rest.iter().take_while(|byte| **byte == value).count()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// PackBits undone, as PS3.5 section G.3.2 has it.
    fn unpack(mut packed: &[u8], bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < bytes {
            let (head, rest) = packed.split_first().unwrap();
            let count = *head as i8;
            match count {
                0.. => {
                    out.extend_from_slice(&rest[..=count as usize]);
                    packed = &rest[count as usize + 1..];
                }
                -127.. => {
                    out.resize(out.len() + (1 - isize::from(count)) as usize, rest[0]);
                    packed = &rest[1..];
                }
                -128 => packed = rest,
            }
        }
        assert_eq!(out.len(), bytes);
        out
    }

    fn decode(stream: &[u8], layout: FrameLayout) -> Vec<u8> {
        let word = |n: usize| u32::from_le_bytes(*stream[4 * n..].first_chunk().unwrap()) as usize;
        assert_eq!(word(0), layout.samples * layout.sample_bytes);
        let mut frame = vec![0; layout.frame_bytes()];
        let mut number = 0;
        for sample in 0..layout.samples {
            for byte in (0..layout.sample_bytes).rev() {
                number += 1;
                assert_eq!(word(number) % 2, 0);
                let plane = unpack(&stream[word(number)..], layout.rows * layout.columns);
                for (pixel, value) in plane.into_iter().enumerate() {
                    let at = if layout.by_plane {
                        (sample * layout.rows * layout.columns + pixel) * layout.sample_bytes
                    } else {
                        (pixel * layout.samples + sample) * layout.sample_bytes
                    };
                    frame[at + byte] = value;
                }
            }
        }
        frame
    }

    fn packed(row: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        pack(row, &mut out);
        out
    }

    #[test]
    fn runs_and_literals_are_those_of_packbits() {
        assert_eq!(packed(b""), b"");
        assert_eq!(packed(b"a"), b"\x00a");
        assert_eq!(packed(b"aab"), b"\x02aab");
        assert_eq!(packed(b"aaa"), b"\xfea");
        assert_eq!(packed(b"abbbbc"), b"\x00a\xfdb\x00c");
        assert_eq!(packed(&[7; 128]), [0x81, 7]);
        assert_eq!(packed(&[7; 129]), [0x81, 7, 0, 7]);
        assert_eq!(packed(&[7; 259]), [0x81, 7, 0x81, 7, 0xfe, 7]);
        let many: Vec<u8> = (0..=200).collect();
        assert_eq!(packed(&many).len(), many.len() + 2);
        assert_eq!(packed(b"0123456789aaa0123"), b"\x090123456789\xfea\x030123");
    }

    #[test]
    fn a_frame_without_its_bytes_is_refused() {
        let layout = FrameLayout {
            rows: 2,
            columns: 2,
            samples: 1,
            sample_bytes: 2,
            by_plane: false,
        };
        let mut out = Vec::new();
        assert!(!encode(&[0; 7], layout, &mut out));
        assert!(!encode(
            &[0; 64],
            FrameLayout {
                samples: 8,
                ..layout
            },
            &mut out
        ));
        assert!(!encode(&[], FrameLayout { rows: 0, ..layout }, &mut out));
        assert!(out.is_empty());
        assert!(encode(&[0; 8], layout, &mut out));
    }

    proptest! {
        #[test]
        fn frames_come_back(
            (rows, columns) in (1usize..5, 1usize..300),
            (samples, sample_bytes) in (1usize..4, 1usize..5),
            by_plane in any::<bool>(),
            seed in proptest::collection::vec((any::<u8>(), 1usize..140), 1..40),
        ) {
            let layout = FrameLayout { rows, columns, samples, sample_bytes, by_plane };
            let stretches = seed.iter().flat_map(|(value, count)| std::iter::repeat_n(*value, *count % 7 + count / 60 * 100));
            let frame: Vec<u8> = stretches.chain([0, 1, 2, 3]).cycle().take(layout.frame_bytes()).collect();
            let mut out = vec![9, 9, 9];
            prop_assert!(encode(&frame, layout, &mut out));
            prop_assert_eq!(out.len() % 2, 1);
            prop_assert_eq!(decode(&out[3..], layout), frame);
        }

        #[test]
        fn rows_never_grow_by_more_than_their_heads(row in proptest::collection::vec(0u8..3, 0..600)) {
            let out = packed(&row);
            prop_assert!(out.len() <= row.len() + row.len().div_ceil(128));
            prop_assert_eq!(unpack(&out, row.len()), row);
        }
    }
}
