//! The object that is stored: a CT image with a header as scanners write it, built once per
//! association as wire bytes whose identifiers are overwritten for each instance.
//!
//! All patched values have a fixed length, so a new instance costs a few short copies and one
//! `write`. Objects above [`PREBUILT_MAX`] keep only their head in memory and repeat one block of
//! pixels, so that a 4 GB object needs no 4 GB here.

use crate::error::{Error, Result};
use crate::wire::{self, EXPLICIT_LE, Field, IMPLICIT_LE};

/// Larger objects are sent from a repeated block.
const PREBUILT_MAX: u64 = 16 * 1024 * 1024;
/// Length of that block before fragment headers.
const BLOCK: usize = 1024 * 1024;
/// Every generated UID has this length: `2.25.1` and 38 random digits.
const UID_LEN: usize = 44;
/// Patient ids are `PB` and 10 digits, or given and padded to this length.
const PATIENT_LEN: usize = 16;
/// Instance numbers are padded with spaces to this length.
const NUMBER_LEN: usize = 6;
/// Encapsulated pixel data are cut into fragments of this length.
const FRAGMENT_BYTES: u64 = 1 << 30;

/// What to build.
#[derive(Clone)]
pub struct Shape {
    /// SOP class UID.
    pub sop_class: String,
    /// Transfer syntax UID; anything but the two uncompressed little endian ones is sent as
    /// encapsulated.
    pub syntax: String,
    /// Bytes of pixel data.
    pub pixel_bytes: u64,
    /// What the pixel data repeat; noise when empty.
    pub content: Vec<u8>,
}

impl Shape {
    fn pixels(&self, len: usize) -> Vec<u8> {
        if self.content.is_empty() {
            return noise(len);
        }
        self.content.iter().copied().cycle().take(len).collect()
    }
}

/// The identifiers of one instance.
#[derive(Clone, Default)]
pub struct Identity {
    /// Study instance UID.
    pub study: String,
    /// Series instance UID.
    pub series: String,
    /// SOP instance UID.
    pub instance: String,
    /// Patient id.
    pub patient: String,
    /// Instance number in the series.
    pub number: u64,
}

/// A C-STORE request as wire bytes.
pub struct Message {
    head: Vec<u8>,
    block: Vec<u8>,
    repeats: u64,
    tail: Vec<u8>,
    patches: Vec<Patch>,
    /// Length of the data set.
    pub dataset_bytes: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Slot {
    Study,
    Series,
    Instance,
    Patient,
    Number,
}

/// `len` bytes of a slot's value, from `from`, stand at `at` of the head.
struct Patch {
    slot: Slot,
    at: usize,
    from: usize,
    len: usize,
}

impl Message {
    /// Builds the bytes for one presentation context.
    pub fn build(shape: &Shape, context_id: u8, fragment_max: usize) -> Result<Self> {
        let command = wire::command_set(&[
            Field::Uid(0x0002, &shape.sop_class),
            Field::Number(0x0100, wire::command::STORE_RQ),
            Field::Number(0x0110, 1),
            Field::Number(0x0700, 0),
            Field::Number(0x0800, wire::WITH_DATASET),
            Field::Uid(0x1000, &"0".repeat(UID_LEN)),
        ]);
        let mut head = Vec::new();
        wire::push_fragments(
            &mut head,
            context_id,
            wire::COMMAND_BIT,
            &command,
            fragment_max,
        );
        let mut patches = Vec::new();
        let at = command.len() - UID_LEN;
        push_patches(&mut patches, Slot::Instance, at, UID_LEN, 0, fragment_max);

        let header = Header::build(shape)?;
        let dataset_bytes = header.bytes.len() as u64 + header.pixel_stream;
        let mut message = Self {
            head,
            block: Vec::new(),
            repeats: 0,
            tail: Vec::new(),
            patches: Vec::new(),
            dataset_bytes,
        };
        let base = message.head.len();
        if dataset_bytes <= PREBUILT_MAX {
            let mut dataset = header.bytes;
            let pixels = header.pixel_stream as usize - header.tail.len();
            dataset.extend_from_slice(&shape.pixels(pixels));
            header.tail.append_to(&mut dataset);
            wire::push_fragments(&mut message.head, context_id, 0, &dataset, fragment_max);
        } else {
            message.push_streamed(shape, &header, context_id, fragment_max);
        }
        for (slot, offset, len) in header.slots {
            push_patches(&mut patches, slot, offset, len, base, fragment_max);
        }
        message.patches = patches;
        Ok(message)
    }

    /// The head in fragments without an end, then a block of whole fragments that is repeated,
    /// then what is left.
    fn push_streamed(
        &mut self,
        shape: &Shape,
        header: &Header,
        context_id: u8,
        fragment_max: usize,
    ) {
        let mut chunks = header.bytes.chunks(fragment_max);
        for chunk in &mut chunks {
            self.head
                .extend_from_slice(&wire::fragment_header(context_id, 0, chunk.len()));
            self.head.extend_from_slice(chunk);
        }
        let per_block = (BLOCK / fragment_max).max(1);
        let block_bytes = (per_block * fragment_max) as u64;
        let ending = header.tail.len() as u64;
        let pixels = header.pixel_stream - ending;
        self.repeats = pixels.saturating_sub(1) / block_bytes;
        let block = shape.pixels(per_block * fragment_max);
        for chunk in block.chunks(fragment_max) {
            self.block
                .extend_from_slice(&wire::fragment_header(context_id, 0, chunk.len()));
            self.block.extend_from_slice(chunk);
        }
        let left = (pixels - self.repeats * block_bytes) as usize;
        let mut last = block.get(..left).unwrap_or_default().to_vec();
        header.tail.append_to(&mut last);
        wire::push_fragments(&mut self.tail, context_id, 0, &last, fragment_max);
    }

    /// Overwrites the identifiers.
    pub fn set(&mut self, identity: &Identity) {
        let number = format!("{:<NUMBER_LEN$}", identity.number);
        let patient = format!("{:<PATIENT_LEN$}", identity.patient);
        for patch in &self.patches {
            let value = match patch.slot {
                Slot::Study => &identity.study,
                Slot::Series => &identity.series,
                Slot::Instance => &identity.instance,
                Slot::Patient => &patient,
                Slot::Number => &number,
            };
            let from = value.as_bytes().get(patch.from..patch.from + patch.len);
            let to = self.head.get_mut(patch.at..patch.at + patch.len);
            if let (Some(from), Some(to)) = (from, to) {
                to.copy_from_slice(from);
            }
        }
    }

    /// The pieces to write, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.head.as_slice())
            .chain((0..self.repeats).map(|_| self.block.as_slice()))
            .chain(std::iter::once(self.tail.as_slice()).filter(|tail| !tail.is_empty()))
    }
}

/// A patched value may straddle two fragments: one patch for each part.
fn push_patches(
    patches: &mut Vec<Patch>,
    slot: Slot,
    offset: usize,
    len: usize,
    base: usize,
    fragment_max: usize,
) {
    let mut from = 0;
    while from < len {
        let position = offset + from;
        let room = fragment_max - position % fragment_max;
        let part = room.min(len - from);
        let at = base + position + (position / fragment_max + 1) * wire::FRAGMENT_HEADER;
        patches.push(Patch {
            slot,
            at,
            from,
            len: part,
        });
        from += part;
    }
}

/// How the pixel stream ends.
enum Ending {
    Plain,
    Encapsulated,
}

impl Ending {
    fn len(&self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Encapsulated => 8,
        }
    }

    fn append_to(&self, out: &mut Vec<u8>) {
        if matches!(self, Self::Encapsulated) {
            out.extend_from_slice(&[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
        }
    }
}

/// The elements before the pixel values.
struct Header {
    bytes: Vec<u8>,
    slots: Vec<(Slot, usize, usize)>,
    /// Bytes that follow the header: pixel values and the sequence delimiter, if any.
    pixel_stream: u64,
    tail: Ending,
}

impl Header {
    fn build(shape: &Shape) -> Result<Self> {
        let encapsulated = shape.syntax != IMPLICIT_LE && shape.syntax != EXPLICIT_LE;
        let pixels = shape.pixel_bytes + shape.pixel_bytes % 2;
        if pixels > 0xFFFF_FFFC || (encapsulated && pixels > FRAGMENT_BYTES) {
            return Err(Error::new(format!(
                "{pixels} bytes of pixels do not fit one element"
            )));
        }
        let mut writer = Writer {
            explicit: shape.syntax != IMPLICIT_LE,
            bytes: Vec::with_capacity(4096),
            slots: Vec::new(),
        };
        let (rows, columns) = matrix(pixels);
        writer.elements(&shape.sop_class, rows, columns);
        let mut header = Self {
            bytes: Vec::new(),
            slots: Vec::new(),
            pixel_stream: pixels,
            tail: Ending::Plain,
        };
        if encapsulated {
            writer.head(0x7FE0_0010, *b"OB", u32::MAX);
            // An empty offset table, then one fragment.
            writer
                .bytes
                .extend_from_slice(&[0xFE, 0xFF, 0, 0xE0, 0, 0, 0, 0]);
            writer.bytes.extend_from_slice(&[0xFE, 0xFF, 0, 0xE0]);
            writer
                .bytes
                .extend_from_slice(&(pixels as u32).to_le_bytes());
            header.tail = Ending::Encapsulated;
            header.pixel_stream += 8;
        } else {
            writer.head(0x7FE0_0010, *b"OW", pixels as u32);
        }
        header.bytes = writer.bytes;
        header.slots = writer.slots;
        Ok(header)
    }
}

struct Writer {
    explicit: bool,
    bytes: Vec<u8>,
    slots: Vec<(Slot, usize, usize)>,
}

impl Writer {
    /// A header of the length and the kinds of values that a CT scanner writes (about 1.5 KB).
    fn elements(&mut self, sop_class: &str, rows: u16, columns: u16) {
        self.text(0x0008_0005, *b"CS", "ISO_IR 100");
        self.text(0x0008_0008, *b"CS", "ORIGINAL\\PRIMARY\\AXIAL");
        self.text(0x0008_0012, *b"DA", "20240212");
        self.text(0x0008_0013, *b"TM", "101524.000000");
        self.text(0x0008_0016, *b"UI", sop_class);
        self.slot(0x0008_0018, *b"UI", Slot::Instance, UID_LEN);
        self.text(0x0008_0020, *b"DA", "20240212");
        self.text(0x0008_0021, *b"DA", "20240212");
        self.text(0x0008_0022, *b"DA", "20240212");
        self.text(0x0008_0023, *b"DA", "20240212");
        self.text(0x0008_0030, *b"TM", "100912.000000");
        self.text(0x0008_0031, *b"TM", "101320.546000");
        self.text(0x0008_0032, *b"TM", "101500.121000");
        self.text(0x0008_0033, *b"TM", "101511.903000");
        self.text(0x0008_0050, *b"SH", "A2402120017");
        self.text(0x0008_0060, *b"CS", "CT");
        self.text(0x0008_0070, *b"LO", "SCANNER WORKS");
        self.text(0x0008_0080, *b"LO", "GENERAL HOSPITAL");
        self.text(0x0008_0090, *b"PN", "REFERRER^RUTH^^DR");
        self.text(0x0008_1010, *b"SH", "CT0042");
        self.text(0x0008_1030, *b"LO", "CT THORAX WITH CONTRAST");
        self.text(0x0008_103E, *b"LO", "THORAX 1.0 B31F");
        self.text(0x0008_1070, *b"PN", "OPERATOR^OTTO");
        self.text(0x0008_1090, *b"LO", "SPIRAL 64");
        self.sequence(0x0008_1140, &[("0008_1150", "1.2.840.10008.5.1.4.1.1.2")]);
        self.text(0x0010_0010, *b"PN", "BENCHMARK^PATIENT");
        self.slot(0x0010_0020, *b"LO", Slot::Patient, PATIENT_LEN);
        self.text(0x0010_0030, *b"DA", "19560417");
        self.text(0x0010_0040, *b"CS", "F");
        self.text(0x0010_1010, *b"AS", "067Y");
        self.text(0x0010_1030, *b"DS", "71.5");
        self.text(0x0018_0010, *b"LO", "APPLIED");
        self.text(0x0018_0015, *b"CS", "CHEST");
        self.text(0x0018_0050, *b"DS", "1.000000");
        self.text(0x0018_0060, *b"DS", "120");
        self.text(0x0018_0090, *b"DS", "500");
        self.text(0x0018_1000, *b"LO", "54123");
        self.text(0x0018_1020, *b"LO", "VB20B");
        self.text(0x0018_1030, *b"LO", "THORAX ROUTINE");
        self.text(0x0018_1100, *b"DS", "360.000000");
        self.text(0x0018_1110, *b"DS", "1040.000000");
        self.text(0x0018_1111, *b"DS", "570.000000");
        self.text(0x0018_1120, *b"DS", "0.000000");
        self.text(0x0018_1130, *b"DS", "153.000000");
        self.text(0x0018_1140, *b"CS", "CW");
        self.text(0x0018_1150, *b"IS", "500");
        self.text(0x0018_1151, *b"IS", "163");
        self.text(0x0018_1152, *b"IS", "81");
        self.text(0x0018_1160, *b"SH", "WEDGE_3");
        self.text(0x0018_1190, *b"DS", "1.200000");
        self.text(0x0018_1210, *b"SH", "B31F");
        self.text(0x0018_5100, *b"CS", "FFS");
        self.slot(0x0020_000D, *b"UI", Slot::Study, UID_LEN);
        self.slot(0x0020_000E, *b"UI", Slot::Series, UID_LEN);
        self.text(0x0020_0010, *b"SH", "240212017");
        self.text(0x0020_0011, *b"IS", "3");
        self.text(0x0020_0012, *b"IS", "2");
        self.slot(0x0020_0013, *b"IS", Slot::Number, NUMBER_LEN);
        self.text(0x0020_0032, *b"DS", "-180.000000\\-179.000000\\-312.500000");
        self.text(
            0x0020_0037,
            *b"DS",
            "1.000000\\0.000000\\0.000000\\0.000000\\1.000000\\0.000000",
        );
        self.text(
            0x0020_0052,
            *b"UI",
            "1.3.12.2.1107.5.1.4.54123.30000024021207311",
        );
        self.text(0x0020_1040, *b"LO", "SN");
        self.text(0x0020_1041, *b"DS", "-312.500000");
        self.number(0x0028_0002, 1);
        self.text(0x0028_0004, *b"CS", "MONOCHROME2");
        self.number(0x0028_0010, rows);
        self.number(0x0028_0011, columns);
        self.text(0x0028_0030, *b"DS", "0.703125\\0.703125");
        self.number(0x0028_0100, 16);
        self.number(0x0028_0101, 12);
        self.number(0x0028_0102, 11);
        self.number(0x0028_0103, 0);
        self.text(0x0028_1050, *b"DS", "50\\-600");
        self.text(0x0028_1051, *b"DS", "350\\1200");
        self.text(0x0028_1052, *b"DS", "-1024");
        self.text(0x0028_1053, *b"DS", "1");
        self.text(0x0032_1060, *b"LO", "CT THORAX");
        self.text(0x0040_0244, *b"DA", "20240212");
        self.text(0x0040_0245, *b"TM", "100912.000000");
        self.text(0x0040_0253, *b"SH", "240212017");
    }

    fn text(&mut self, tag: u32, vr: [u8; 2], text: &str) {
        let value = wire::padded(text, if vr == *b"UI" { 0 } else { b' ' });
        self.head(tag, vr, value.len() as u32);
        self.bytes.extend_from_slice(&value);
    }

    fn number(&mut self, tag: u32, number: u16) {
        self.head(tag, *b"US", 2);
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn slot(&mut self, tag: u32, vr: [u8; 2], slot: Slot, len: usize) {
        self.head(tag, vr, len as u32);
        self.slots.push((slot, self.bytes.len(), len));
        self.bytes.resize(self.bytes.len() + len, b'0');
    }

    /// A sequence of one item of defined length.
    fn sequence(&mut self, tag: u32, values: &[(&str, &str)]) {
        let mut inner = Self {
            explicit: self.explicit,
            bytes: Vec::new(),
            slots: Vec::new(),
        };
        for (tag, uid) in values {
            let tag = u32::from_str_radix(&tag.replace('_', ""), 16).unwrap_or_default();
            inner.text(tag, *b"UI", uid);
        }
        self.head(tag, *b"SQ", inner.bytes.len() as u32 + 8);
        self.bytes.extend_from_slice(&[0xFE, 0xFF, 0, 0xE0]);
        self.bytes
            .extend_from_slice(&(inner.bytes.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&inner.bytes);
    }

    fn head(&mut self, tag: u32, vr: [u8; 2], len: u32) {
        self.bytes
            .extend_from_slice(&((tag >> 16) as u16).to_le_bytes());
        self.bytes.extend_from_slice(&(tag as u16).to_le_bytes());
        if !self.explicit {
            self.bytes.extend_from_slice(&len.to_le_bytes());
            return;
        }
        self.bytes.extend_from_slice(&vr);
        if matches!(&vr, b"SQ" | b"OW" | b"OB") {
            self.bytes.extend_from_slice(&[0, 0]);
            self.bytes.extend_from_slice(&len.to_le_bytes());
        } else {
            self.bytes.extend_from_slice(&(len as u16).to_le_bytes());
        }
    }
}

/// Rows and columns for that many bytes of 16-bit pixels; a huge object says what fits.
fn matrix(pixel_bytes: u64) -> (u16, u16) {
    let pixels = pixel_bytes / 2;
    let columns = pixels.isqrt().clamp(1, u64::from(u16::MAX));
    (
        (pixels / columns).min(u64::from(u16::MAX)) as u16,
        columns as u16,
    )
}

/// 12-bit noise in 16-bit words: nothing a file system or an index could shrink.
fn noise(len: usize) -> Vec<u8> {
    let mut random = Random::new(0x5EED);
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        out.extend_from_slice(&(random.next() & 0x0FFF_0FFF_0FFF_0FFF).to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Random UIDs without a dependency: `SplitMix64`.
pub struct Random(u64);

impl Random {
    /// The same seed gives the same sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A UID of the UUID-derived kind, always 44 characters.
    pub fn uid(&mut self) -> String {
        let low = self.next() % 10_u64.pow(19);
        let high = self.next() % 10_u64.pow(19);
        format!("2.25.1{high:019}{low:019}")
    }

    /// A patient id.
    pub fn patient(&mut self) -> String {
        format!("PB{:010}", self.next() % 10_u64.pow(10))
    }
}

#[cfg(test)]
mod tests {
    use super::{Identity, Message, Random, Shape};
    use crate::wire::{CT_IMAGE, EXPLICIT_LE, IMPLICIT_LE};

    fn shape(syntax: &str, pixel_bytes: u64) -> Shape {
        Shape {
            sop_class: CT_IMAGE.to_owned(),
            syntax: syntax.to_owned(),
            pixel_bytes,
            content: Vec::new(),
        }
    }

    fn identity() -> Identity {
        let mut random = Random::new(1);
        Identity {
            study: random.uid(),
            series: random.uid(),
            instance: random.uid(),
            patient: random.patient(),
            number: 42,
        }
    }

    /// Undoes the framing: command bytes and data set bytes.
    fn unframe(message: &Message) -> (Vec<u8>, Vec<u8>) {
        let wire: Vec<u8> = message.pieces().flatten().copied().collect();
        let (mut command, mut dataset, mut at, mut ended) = (Vec::new(), Vec::new(), 0, 0);
        while at < wire.len() {
            assert_eq!(wire[at], 4);
            let len = u32::from_be_bytes(wire[at + 2..at + 6].try_into().unwrap()) as usize;
            let part = &wire[at + 12..at + 6 + len];
            if wire[at + 11] & 1 == 1 {
                &mut command
            } else {
                &mut dataset
            }
            .extend(part);
            ended += u32::from(wire[at + 11] & 2 == 2);
            at += 6 + len;
        }
        assert_eq!(ended, 2);
        (command, dataset)
    }

    fn count(haystack: &[u8], needle: &str) -> usize {
        haystack
            .windows(needle.len())
            .filter(|window| *window == needle.as_bytes())
            .count()
    }

    #[test]
    fn identifiers_are_patched_whatever_the_fragment_length() {
        let identity = identity();
        let mut seen: Option<Vec<u8>> = None;
        for fragment_max in [10, 64, 250, 16_378, 1 << 20] {
            let mut message = Message::build(&shape(IMPLICIT_LE, 2048), 1, fragment_max).unwrap();
            message.set(&identity);
            let (command, dataset) = unframe(&message);
            if fragment_max > command.len() {
                assert_eq!(count(&command, &identity.instance), 1);
            }
            for uid in [
                &identity.study,
                &identity.series,
                &identity.instance,
                &identity.patient,
            ] {
                assert_eq!(count(&dataset, uid), 1, "{fragment_max}");
            }
            assert_eq!(dataset.len() as u64, message.dataset_bytes);
            assert_eq!(seen.get_or_insert_with(|| dataset.clone()), &dataset);
        }
    }

    #[test]
    fn small_objects_have_the_length_of_the_published_figures() {
        let message = Message::build(&shape(IMPLICIT_LE, 2048), 1, 16_378).unwrap();
        assert!(
            (3_400..=4_000).contains(&message.dataset_bytes),
            "{}",
            message.dataset_bytes
        );
    }

    #[test]
    fn huge_objects_are_streamed_with_their_exact_length() {
        for syntax in [IMPLICIT_LE, EXPLICIT_LE, "1.2.840.10008.1.2.4.80"] {
            for pixels in [20_000_000, 17 * 1024 * 1024 + 2] {
                let mut message = Message::build(&shape(syntax, pixels), 1, 131_066).unwrap();
                message.set(&identity());
                let (_, dataset) = unframe(&message);
                assert_eq!(dataset.len() as u64, message.dataset_bytes);
                assert_eq!(count(&dataset[..4096], &identity().instance), 1);
            }
        }
        assert!(Message::build(&shape(IMPLICIT_LE, 1 << 32), 1, 16_378).is_err());
    }
}
