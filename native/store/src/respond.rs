//! One matching row as a response identifier, straight into the send buffer.
//!
//! What comes from the rows above is encoded once and copied while those rows stay the same; the rest is
//! written value by value. Text beyond ASCII goes out in the character set of the query where that can say
//! it, else in the one it is stored in, which is named. Nothing is allocated for a row of plain text.

use pyserver_proto::charset::CharacterSet;
use pyserver_proto::element::write_head;
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::Encoding;
use pyserver_proto::vr::Vr;

use crate::fold::is_plain;
use crate::plan::{BoundQuery, Returned, Value};
use crate::schema::Level;
use crate::virtual_device::device_name;
use crate::walk::RowView;

/// What bytes beyond ASCII are taken for when their object names no character set.
const FALLBACK: &[u8] = b"ISO_IR 100";

/// Encodes the rows of one query.
pub struct ResponseEncoder {
    encoding: Encoding,
    returned: Vec<Returned>,
    level: Level,
    own_ae: Vec<u8>,
    /// The character set that the query asked for.
    wanted: Option<CharacterSet>,
    /// Stamp of the rows that `parts` was made from.
    stamp: Option<u64>,
    /// Encoded elements that come from the rows above.
    fixed: Vec<u8>,
    parts: Vec<Part>,
    /// Whether all text in `fixed` is plain.
    fixed_plain: bool,
    scratch: Vec<u8>,
}

/// A piece of a response.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// Bytes of `fixed` up to this position.
    Fixed(usize),
    /// The element of this number, from the image row.
    Own(usize),
}

impl ResponseEncoder {
    /// For the rows of `query`, in implicit or explicit little endian.
    pub fn new(query: &BoundQuery, explicit: bool) -> Self {
        Self {
            encoding: if explicit {
                Encoding::EXPLICIT_LE
            } else {
                Encoding::IMPLICIT_LE
            },
            returned: query.returned.clone(),
            level: query.level,
            own_ae: query.own_ae.as_bytes().to_vec(),
            wanted: (query.charset_given && !query.charset.name().is_empty())
                .then(|| query.charset.clone()),
            stamp: None,
            fixed: Vec::new(),
            parts: Vec::new(),
            fixed_plain: true,
            scratch: Vec::new(),
        }
    }

    /// Appends the identifier of one row.
    #[inline]
    pub fn encode(&mut self, row: &RowView<'_, '_>, out: &mut Vec<u8>) {
        if self.stamp != Some(row.stamp()) {
            self.prepare(row);
        }
        let start = out.len();
        if self.fixed_plain && self.encode_plain(row, out) {
            return;
        }
        out.truncate(start);
        self.encode_text(row, out);
    }

    /// Encodes what all rows below the current parents share.
    fn prepare(&mut self, row: &RowView<'_, '_>) {
        self.fixed.clear();
        self.parts.clear();
        self.fixed_plain = true;
        for (number, returned) in self.returned.iter().enumerate() {
            if is_own(returned, self.level) {
                self.parts.push(Part::Fixed(self.fixed.len()));
                self.parts.push(Part::Own(number));
                continue;
            }
            let value = value_of(returned, row, self.level, &self.own_ae, &mut self.scratch);
            self.fixed_plain &= !returned.vr.uses_charset() || is_plain(value);
            put(&mut self.fixed, returned, value, self.encoding);
        }
        self.parts.push(Part::Fixed(self.fixed.len()));
        self.stamp = Some(row.stamp());
    }

    /// The common case: no text beyond ASCII. Answers whether that was so.
    #[inline]
    fn encode_plain(&mut self, row: &RowView<'_, '_>, out: &mut Vec<u8>) -> bool {
        let mut from = 0;
        for part in &self.parts {
            match *part {
                Part::Fixed(to) => {
                    out.extend_from_slice(self.fixed.get(from..to).unwrap_or_default());
                    from = to;
                }
                Part::Own(number) => {
                    let Some(returned) = self.returned.get(number) else {
                        continue;
                    };
                    let own_ae = &self.own_ae;
                    let value = value_of(returned, row, self.level, own_ae, &mut self.scratch);
                    if returned.vr.uses_charset() && !is_plain(value) {
                        return false;
                    }
                    put(out, returned, value, self.encoding);
                }
            }
        }
        true
    }

    /// A response with text beyond ASCII: all of it in one character set, which is named.
    fn encode_text(&mut self, row: &RowView<'_, '_>, out: &mut Vec<u8>) {
        let charset = self.charset(row);
        let mut named = false;
        for returned in &self.returned {
            if !named && returned.tag > Tag::SPECIFIC_CHARACTER_SET {
                named = true;
                put_text(
                    out,
                    Tag::SPECIFIC_CHARACTER_SET,
                    Vr::Cs,
                    charset.name(),
                    self.encoding,
                );
            }
            let value = value_of(returned, row, self.level, &self.own_ae, &mut self.scratch);
            if returned.vr.uses_charset() && !is_plain(value) {
                let stored = CharacterSet::parse(charset_of(returned, row));
                let moved = stored.transcode(value, returned.vr, &charset);
                put(
                    out,
                    returned,
                    moved.as_deref().unwrap_or(value),
                    self.encoding,
                );
            } else {
                put(out, returned, value, self.encoding);
            }
        }
    }

    /// The character set for a row's text: what the query asked for where that can say everything, else
    /// the one that the text is stored in, else, where rows disagree, UTF-8.
    fn charset(&mut self, row: &RowView<'_, '_>) -> CharacterSet {
        let mut common: Option<&[u8]> = None;
        let mut mixed = false;
        let mut wanted = self.wanted.as_ref();
        for returned in self.returned.iter().filter(|r| r.vr.uses_charset()) {
            let value = value_of(returned, row, self.level, &self.own_ae, &mut self.scratch);
            if is_plain(value) {
                continue;
            }
            let stored = charset_of(returned, row);
            mixed |= common.is_some_and(|c| c != stored);
            common = Some(stored);
            wanted = wanted.filter(|to| {
                let moved = CharacterSet::parse(stored).transcode(value, returned.vr, to);
                moved.is_some()
            });
        }
        match (wanted, common) {
            (Some(wanted), _) => wanted.clone(),
            (None, Some(stored)) if !mixed => CharacterSet::parse(stored),
            _ => CharacterSet::utf8(),
        }
    }
}

/// Whether a value comes from the row itself and not from those above it.
fn is_own(returned: &Returned, level: Level) -> bool {
    match returned.value {
        Value::Column(at, _) => level == Level::Image && at == Level::Image,
        Value::File | Value::Device => true,
        _ => false,
    }
}

/// Character set that a value is stored in.
fn charset_of<'t>(returned: &Returned, row: &RowView<'_, 't>) -> &'t [u8] {
    let charset = match returned.value {
        Value::Column(at, _) => row.charset(at),
        _ => FALLBACK,
    };
    if charset.is_empty() {
        FALLBACK
    } else {
        charset
    }
}

/// The value itself; computed ones are written into `scratch`.
#[inline]
fn value_of<'b>(
    returned: &Returned,
    row: &'b RowView<'_, '_>,
    level: Level,
    own_ae: &'b [u8],
    scratch: &'b mut Vec<u8>,
) -> &'b [u8] {
    scratch.clear();
    match returned.value {
        Value::Column(at, slot) => return row.column(at, slot).unwrap_or_default(),
        Value::OwnAe => return own_ae,
        Value::NoItems => {}
        Value::Availability => return b"ONLINE",
        Value::QueryLevel => return level.name().as_bytes(),
        Value::SopClasses => return row.sop_classes(),
        Value::Count(at, counted) => {
            scratch.extend_from_slice(row.count(at, counted).to_string().as_bytes());
        }
        Value::File => {
            if let Ok(facts) = row.facts() {
                scratch.extend_from_slice(facts.file.as_bytes());
            }
        }
        Value::Device => {
            if let Ok(facts) = row.facts() {
                scratch.extend_from_slice(device_name(facts.device).as_bytes());
            }
        }
    }
    scratch
}

/// Appends an element; decimal text becomes binary where the VR is.
#[inline]
fn put(out: &mut Vec<u8>, returned: &Returned, value: &[u8], encoding: Encoding) {
    if returned.vr.is_text() {
        put_text(out, returned.tag, returned.vr, value, encoding);
    } else {
        put_numbers(out, returned, value, encoding);
    }
}

/// Appends an element of text, padded to even length.
#[inline]
fn put_text(out: &mut Vec<u8>, tag: Tag, vr: Vr, value: &[u8], encoding: Encoding) {
    // A value longer than the short form holds would become UN and be no answer at all.
    let value = value.get(..0xFFFE).unwrap_or(value);
    let odd = value.len() & 1;
    write_head(out, tag, vr, (value.len() + odd) as u32, encoding);
    out.extend_from_slice(value);
    if odd == 1 {
        out.push(vr.padding());
    }
}

/// Appends a binary element from decimal text; what is no number is left out.
fn put_numbers(out: &mut Vec<u8>, returned: &Returned, value: &[u8], encoding: Encoding) {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let mut bytes = Vec::with_capacity(8);
    for number in text.split('\\').map(str::trim) {
        if number.is_empty() {
            continue;
        }
        let done = put_number(&mut bytes, returned.vr, number);
        if done.is_none() {
            bytes.clear();
            break;
        }
    }
    let length = bytes.len() as u32;
    write_head(out, returned.tag, returned.vr, length, encoding);
    out.extend_from_slice(&bytes);
}

/// Appends a number given as text; `None` when it is none of this VR.
pub(crate) fn put_number(out: &mut Vec<u8>, vr: Vr, number: &str) -> Option<()> {
    match vr {
        Vr::Us => out.extend_from_slice(&number.parse::<u16>().ok()?.to_le_bytes()),
        Vr::Ss => out.extend_from_slice(&number.parse::<i16>().ok()?.to_le_bytes()),
        Vr::Ul => out.extend_from_slice(&number.parse::<u32>().ok()?.to_le_bytes()),
        Vr::Sl => out.extend_from_slice(&number.parse::<i32>().ok()?.to_le_bytes()),
        Vr::Uv => out.extend_from_slice(&number.parse::<u64>().ok()?.to_le_bytes()),
        Vr::Sv => out.extend_from_slice(&number.parse::<i64>().ok()?.to_le_bytes()),
        Vr::Fl => out.extend_from_slice(&number.parse::<f32>().ok()?.to_le_bytes()),
        Vr::Fd => out.extend_from_slice(&number.parse::<f64>().ok()?.to_le_bytes()),
        Vr::At => {
            let tag: Tag = number.parse().ok()?;
            out.extend_from_slice(&tag.group().to_le_bytes());
            out.extend_from_slice(&tag.element().to_le_bytes());
        }
        _ => return None,
    }
    Some(())
}
