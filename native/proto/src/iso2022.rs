//! ISO 2022 code extensions (PS3.5 section 6.1.2.5, PS3.3 tables C.12-3 and C.12-4).
//!
//! Two code elements are active: G0 for bytes below 80h, G1 for those above. Escape sequences switch them;
//! they fall back to their initial state at the end of a line, at a backslash between values, and at `^`
//! and `=` in names. The decoder takes escape sequences whether they were announced or not.

use std::borrow::Cow;

use encoding_rs::{EUC_JP, EUC_KR, Encoding, GBK};

use crate::charset::Encoded;
use crate::vr::Vr;

/// First byte of an escape sequence.
pub(crate) const ESCAPE: u8 = 0x1B;

/// A code element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    /// ASCII and, for reading, JIS X 0201 romaji.
    Ascii,
    /// JIS X 0201 romaji, which differs in the escape sequence that names it.
    Romaji,
    /// JIS X 0201 katakana.
    Katakana,
    /// One byte above 80h for each character.
    Single(&'static Encoding),
    Latin1,
    /// JIS X 0208, two bytes below 80h.
    Jis0208,
    /// JIS X 0212, two bytes below 80h; read only, nothing writes it.
    Jis0212,
    /// KS X 1001, two bytes above 80h.
    Ksx1001,
    /// GB 2312, two bytes above 80h.
    Gb2312,
}

/// What the values of (0008,0005) name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sets {
    /// Initial G0.
    g0: Code,
    /// Initial G1.
    g1: Option<Code>,
    /// All that may be switched to, in the order named.
    named: Vec<Code>,
}

/// Escape sequences, without ESC: what they switch, and to what.
const ESCAPES: [(&[u8], Code); 18] = [
    (b"(B", Code::Ascii),
    (b"(J", Code::Romaji),
    (b")I", Code::Katakana),
    (b"-A", Code::Latin1),
    (b"-B", Code::Single(encoding_rs::ISO_8859_2)),
    (b"-C", Code::Single(encoding_rs::ISO_8859_3)),
    (b"-D", Code::Single(encoding_rs::ISO_8859_4)),
    (b"-F", Code::Single(encoding_rs::ISO_8859_7)),
    (b"-G", Code::Single(encoding_rs::ISO_8859_6)),
    (b"-H", Code::Single(encoding_rs::ISO_8859_8)),
    (b"-L", Code::Single(encoding_rs::ISO_8859_5)),
    (b"-M", Code::Single(encoding_rs::WINDOWS_1254)),
    (b"-T", Code::Single(encoding_rs::WINDOWS_874)),
    (b"-b", Code::Single(encoding_rs::ISO_8859_15)),
    (b"$B", Code::Jis0208),
    (b"$(D", Code::Jis0212),
    (b"$)C", Code::Ksx1001),
    (b"$)A", Code::Gb2312),
];

/// Registration numbers and what they name.
fn by_number(number: &[u8]) -> Option<Code> {
    Some(match number {
        b"6" => Code::Ascii,
        b"13" => Code::Katakana,
        b"58" => Code::Gb2312,
        b"87" => Code::Jis0208,
        b"100" => Code::Latin1,
        b"101" => Code::Single(encoding_rs::ISO_8859_2),
        b"109" => Code::Single(encoding_rs::ISO_8859_3),
        b"110" => Code::Single(encoding_rs::ISO_8859_4),
        b"126" => Code::Single(encoding_rs::ISO_8859_7),
        b"127" => Code::Single(encoding_rs::ISO_8859_6),
        b"138" => Code::Single(encoding_rs::ISO_8859_8),
        b"144" => Code::Single(encoding_rs::ISO_8859_5),
        b"148" => Code::Single(encoding_rs::WINDOWS_1254),
        b"149" => Code::Ksx1001,
        b"159" => Code::Jis0212,
        b"166" => Code::Single(encoding_rs::WINDOWS_874),
        b"203" => Code::Single(encoding_rs::ISO_8859_15),
        _ => return None,
    })
}

impl Code {
    fn is_g0(self) -> bool {
        matches!(
            self,
            Self::Ascii | Self::Romaji | Self::Jis0208 | Self::Jis0212
        )
    }

    fn escape(self) -> Option<&'static [u8]> {
        ESCAPES
            .iter()
            .find(|(_, code)| *code == self)
            .map(|(bytes, _)| *bytes)
    }

    /// The bytes of a character beyond ASCII, if the code has it.
    fn encode(self, c: char) -> Option<([u8; 2], usize)> {
        let mut buffer = [0; 4];
        let pair = |encoding: &'static Encoding, buffer: &mut [u8; 4]| {
            match (encoding.encode(c.encode_utf8(buffer)), ()) {
                ((bytes, _, false), ()) => bytes.as_ref().try_into().ok(),
                _ => None,
            }
            .filter(|pair: &[u8; 2]| pair.iter().all(|byte| *byte >= 0xA1))
        };
        match self {
            Self::Ascii | Self::Romaji | Self::Jis0212 => None,
            Self::Katakana => match u32::from(c) {
                code @ 0xFF61..=0xFF9F => Some(([(code - 0xFF61 + 0xA1) as u8, 0], 1)),
                _ => None,
            },
            Self::Latin1 => u8::try_from(c)
                .ok()
                .filter(|byte| *byte >= 0xA0)
                .map(|byte| ([byte, 0], 1)),
            Self::Single(encoding) => match encoding.encode(c.encode_utf8(&mut buffer)) {
                (bytes, _, false) => match *bytes {
                    [byte] if byte >= 0x80 => Some(([byte, 0], 1)),
                    _ => None,
                },
                _ => None,
            },
            Self::Jis0208 => pair(EUC_JP, &mut buffer).map(|[a, b]| ([a & 0x7F, b & 0x7F], 2)),
            Self::Ksx1001 => pair(EUC_KR, &mut buffer).map(|pair| (pair, 2)),
            Self::Gb2312 => pair(GBK, &mut buffer).map(|pair| (pair, 2)),
        }
    }
}

impl Sets {
    /// Reads the values of (0008,0005); `None` when none of them names a set.
    pub(crate) fn parse(entries: &[&[u8]]) -> Option<Self> {
        let code = |entry: &&[u8]| {
            let number = entry
                .strip_prefix(b"ISO 2022 IR ")
                .or_else(|| entry.strip_prefix(b"ISO_IR "));
            by_number(number?)
        };
        let named: Vec<Code> = entries.iter().filter_map(code).collect();
        if named.is_empty() {
            return None;
        }
        let first = entries.first().and_then(code);
        let g0 = if first == Some(Code::Katakana) {
            Code::Romaji
        } else {
            Code::Ascii
        };
        Some(Self {
            g0,
            g1: first.filter(|code| !code.is_g0()),
            named,
        })
    }

    /// Bytes to text.
    pub(crate) fn decode<'a>(&self, bytes: &'a [u8], vr: Vr) -> Cow<'a, str> {
        if bytes.is_ascii() && !bytes.contains(&ESCAPE) {
            return String::from_utf8_lossy(bytes);
        }
        let mut text = String::with_capacity(bytes.len());
        let (mut g0, mut g1) = (self.g0, self.g1);
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if byte == ESCAPE {
                let Some((code, length)) = escape(after) else {
                    text.push('\u{FFFD}');
                    rest = after;
                    continue;
                };
                let active = if code.is_g0() {
                    &mut g0
                } else {
                    g1.get_or_insert(code)
                };
                *active = code;
                rest = after.get(length..).unwrap_or_default();
                continue;
            }
            let double = matches!(g0, Code::Jis0208 | Code::Jis0212);
            if byte < 0x80 && !(double && (0x21..0x7F).contains(&byte)) {
                if resets(byte, vr) {
                    (g0, g1) = (self.g0, self.g1);
                }
                text.push(char::from(byte));
                rest = after;
                continue;
            }
            let code = if byte < 0x80 {
                Some(g0)
            } else {
                g1.or_else(|| self.fallback())
            };
            rest = rest
                .get(decode_one(code, rest, &mut text)..)
                .unwrap_or_default();
        }
        Cow::Owned(text)
    }

    /// What bytes above 80h mean where no escape sequence said so: the first set named that has such bytes.
    fn fallback(&self) -> Option<Code> {
        self.named.iter().copied().find(|code| !code.is_g0())
    }

    /// Text to bytes.
    pub(crate) fn encode(&self, text: &str, vr: Vr) -> Encoded<'static> {
        let mut bytes = Vec::with_capacity(text.len() + 16);
        let mut complete = true;
        let (mut g0, mut g1) = (self.g0, self.g1);
        for c in text.chars() {
            if c.is_ascii() {
                switch(&mut bytes, &mut g0, self.g0);
                if resets(c as u8, vr) {
                    g1 = self.g1;
                }
                bytes.push(c as u8);
                continue;
            }
            let current = g1.into_iter().chain(std::iter::once(g0));
            let mut choices = current.chain(self.named.iter().copied());
            let Some((code, (encoded, length))) =
                choices.find_map(|code| code.encode(c).map(|encoded| (code, encoded)))
            else {
                switch(&mut bytes, &mut g0, self.g0);
                bytes.push(b'?');
                complete = false;
                continue;
            };
            if code.is_g0() {
                switch(&mut bytes, &mut g0, code);
            } else if g1 != Some(code) {
                // A set in G1 needs nothing of G0, but readers expect ASCII there.
                switch(&mut bytes, &mut g0, self.g0);
                let mut was = self.g0;
                switch(&mut bytes, &mut was, code);
                g1 = Some(code);
            }
            bytes.extend(encoded.iter().take(length));
        }
        switch(&mut bytes, &mut g0, self.g0);
        Encoded {
            bytes: Cow::Owned(bytes),
            complete,
        }
    }
}

/// Writes the escape sequence to `to`, unless that is active already.
fn switch(bytes: &mut Vec<u8>, active: &mut Code, to: Code) {
    if *active == to {
        return;
    }
    if let Some(escape) = to.escape() {
        bytes.push(ESCAPE);
        bytes.extend_from_slice(escape);
        *active = to;
    }
}

/// The code that an escape sequence names, and its length without ESC.
fn escape(bytes: &[u8]) -> Option<(Code, usize)> {
    ESCAPES
        .iter()
        .find(|(escape, _)| bytes.starts_with(escape))
        .map(|(escape, code)| (*code, escape.len()))
}

/// Whether the initial code elements are active again after this character.
fn resets(byte: u8, vr: Vr) -> bool {
    match byte {
        b'\r' | b'\n' | 0x0C | b'\t' => true,
        b'\\' => vr.is_multi_valued(),
        b'^' | b'=' => vr == Vr::Pn,
        _ => false,
    }
}

/// Decodes one character; gives the number of bytes it took, at least one.
fn decode_one(code: Option<Code>, bytes: &[u8], text: &mut String) -> usize {
    let Some(&first) = bytes.first() else {
        return 1;
    };
    let pair = bytes.first_chunk::<2>().copied();
    let mut push = |encoding: &'static Encoding, bytes: &[u8]| {
        text.push_str(&encoding.decode_without_bom_handling(bytes).0);
    };
    match (code, pair) {
        (Some(Code::Jis0208), Some([a, b])) if b & 0x7F > 0x20 => {
            push(EUC_JP, &[a | 0x80, b | 0x80]);
            2
        }
        (Some(Code::Jis0212), Some([a, b])) if b & 0x7F > 0x20 => {
            push(EUC_JP, &[0x8F, a | 0x80, b | 0x80]);
            2
        }
        (Some(Code::Ksx1001), Some([a, b])) if b >= 0x80 => {
            push(EUC_KR, &[a, b]);
            2
        }
        (Some(Code::Gb2312), Some([a, b])) if b >= 0x80 => {
            push(GBK, &[a, b]);
            2
        }
        (Some(Code::Single(encoding)), _) => {
            push(encoding, &[first]);
            1
        }
        (Some(Code::Katakana), _) if (0xA1..=0xDF).contains(&first) => {
            text.extend(char::from_u32(0xFF61 + u32::from(first) - 0xA1));
            1
        }
        (None | Some(Code::Latin1 | Code::Ascii | Code::Romaji), _) => {
            text.push(char::from(first));
            1
        }
        _ => {
            text.push('\u{FFFD}');
            1
        }
    }
}
