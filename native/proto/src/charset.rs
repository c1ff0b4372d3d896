//! Specific Character Set (PS3.3 section C.12.1.1.2, PS3.5 section 6.1): text to bytes and back.
//!
//! A [`CharacterSet`] is made from the value of (0008,0005) and never fails to be made: what nobody defined,
//! and the default repertoire where peers use it against the standard, is read as Latin-1. Sets without code
//! extensions are handled here, ISO 2022 escape sequences in `iso2022`. The backslash is always a backslash,
//! also in JIS X 0201 where it looks like a yen sign, because it separates values.

use std::borrow::Cow;

use encoding_rs::Encoding;

use crate::header::trim;
use crate::iso2022::{self, Sets};
use crate::vr::Vr;

/// Entries of a multi-valued character set that are looked at; no more are defined.
const ENTRIES_MAX: usize = 16;
/// Longest value of (0008,0005) that is remembered.
const NAME_BYTES_MAX: usize = 256;

/// The character sets of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CharacterSet {
    /// The value of (0008,0005), trimmed.
    name: Box<[u8]>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// No or an unknown name: ASCII on the way out, Latin-1 on the way in.
    Default,
    Latin1,
    /// All others without code extensions, UTF-8 among them.
    Plain(&'static Encoding),
    /// JIS X 0201 alone, and everything with code extensions.
    Iso2022(Sets),
}

/// Bytes made from text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded<'a> {
    /// The bytes, not padded.
    pub bytes: Cow<'a, [u8]>,
    /// Whether every character could be written; those that could not are `?`.
    pub complete: bool,
}

impl Default for CharacterSet {
    /// The default repertoire, ISO IR 6.
    fn default() -> Self {
        Self {
            name: Box::default(),
            kind: Kind::Default,
        }
    }
}

impl CharacterSet {
    /// Reads a value of Specific Character Set.
    pub fn parse(value: &[u8]) -> Self {
        let name = trim(value);
        let name = trim(name.get(..NAME_BYTES_MAX).unwrap_or(name));
        let entries: Vec<&[u8]> = name
            .split(|byte| *byte == b'\\')
            .map(<[u8]>::trim_ascii)
            .take(ENTRIES_MAX)
            .collect();
        let kind = match entries.as_slice() {
            [single] => plain(single)
                .or_else(|| Sets::parse(&entries).map(Kind::Iso2022))
                .unwrap_or(Kind::Default),
            _ => Sets::parse(&entries).map_or(Kind::Default, Kind::Iso2022),
        };
        Self {
            name: name.into(),
            kind,
        }
    }

    /// UTF-8, `ISO_IR 192`.
    pub fn utf8() -> Self {
        Self::parse(b"ISO_IR 192")
    }

    /// Latin-1, `ISO_IR 100`.
    pub fn latin1() -> Self {
        Self::parse(b"ISO_IR 100")
    }

    /// The value as it is written into (0008,0005); empty for the default repertoire.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Bytes to text. Never fails: what cannot be decoded becomes U+FFFD. The character set does not apply
    /// to VRs such as CS and UI; their bytes beyond ASCII are shown as Latin-1.
    pub fn decode<'a>(&self, bytes: &'a [u8], vr: Vr) -> Cow<'a, str> {
        match &self.kind {
            Kind::Iso2022(sets) if vr.uses_charset() => sets.decode(bytes, vr),
            Kind::Plain(encoding) if vr.uses_charset() => {
                encoding.decode_without_bom_handling(bytes).0
            }
            _ => encoding_rs::mem::decode_latin1(bytes),
        }
    }

    /// Text to bytes.
    pub fn encode<'a>(&self, text: &'a str, vr: Vr) -> Encoded<'a> {
        if text.is_ascii() {
            return Encoded {
                bytes: Cow::Borrowed(text.as_bytes()),
                complete: true,
            };
        }
        match &self.kind {
            Kind::Latin1 if vr.uses_charset() => encode_each(text, |c| u8::try_from(c).ok()),
            Kind::Plain(encoding) if vr.uses_charset() => encode_plain(encoding, text),
            Kind::Iso2022(sets) if vr.uses_charset() => sets.encode(text, vr),
            _ => encode_each(text, |_| None),
        }
    }

    /// Bytes of this set as bytes of another; `None` when a character does not exist there.
    pub fn transcode<'a>(&self, bytes: &'a [u8], vr: Vr, to: &Self) -> Option<Cow<'a, [u8]>> {
        let unescaped = bytes.is_ascii() && !bytes.contains(&iso2022::ESCAPE);
        if unescaped || self == to || !vr.uses_charset() {
            return Some(Cow::Borrowed(bytes));
        }
        let text = self.decode(bytes, vr);
        let encoded = to.encode(&text, vr);
        encoded
            .complete
            .then(|| Cow::Owned(encoded.bytes.into_owned()))
    }
}

/// Sets that need no escape sequences (PS3.3 tables C.12-2 and C.12-5).
fn plain(name: &[u8]) -> Option<Kind> {
    Some(match name {
        b"" | b"ISO_IR 6" | b"ISO 2022 IR 6" => Kind::Default,
        b"ISO_IR 100" => Kind::Latin1,
        b"ISO_IR 192" => Kind::Plain(encoding_rs::UTF_8),
        b"GB18030" => Kind::Plain(encoding_rs::GB18030),
        b"GBK" => Kind::Plain(encoding_rs::GBK),
        b"ISO_IR 101" => Kind::Plain(encoding_rs::ISO_8859_2),
        b"ISO_IR 109" => Kind::Plain(encoding_rs::ISO_8859_3),
        b"ISO_IR 110" => Kind::Plain(encoding_rs::ISO_8859_4),
        b"ISO_IR 126" => Kind::Plain(encoding_rs::ISO_8859_7),
        b"ISO_IR 127" => Kind::Plain(encoding_rs::ISO_8859_6),
        b"ISO_IR 138" => Kind::Plain(encoding_rs::ISO_8859_8),
        b"ISO_IR 144" => Kind::Plain(encoding_rs::ISO_8859_5),
        b"ISO_IR 148" => Kind::Plain(encoding_rs::WINDOWS_1254),
        b"ISO_IR 166" => Kind::Plain(encoding_rs::WINDOWS_874),
        b"ISO_IR 203" => Kind::Plain(encoding_rs::ISO_8859_15),
        _ => return None,
    })
}

fn encode_plain<'a>(encoding: &'static Encoding, text: &'a str) -> Encoded<'a> {
    // Unmappable characters would become HTML references; those are replaced one by one.
    let (bytes, _, unmappable) = encoding.encode(text);
    if !unmappable {
        return Encoded {
            bytes,
            complete: true,
        };
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut buffer = [0; 4];
    for c in text.chars() {
        match encoding.encode(c.encode_utf8(&mut buffer)) {
            (encoded, _, false) => bytes.extend_from_slice(&encoded),
            (_, _, true) => bytes.push(b'?'),
        }
    }
    Encoded {
        bytes: Cow::Owned(bytes),
        complete: false,
    }
}

fn encode_each(text: &str, byte: impl Fn(char) -> Option<u8>) -> Encoded<'_> {
    let mut complete = true;
    let mut encode = |c: char| {
        let ascii = c.is_ascii().then_some(c as u8);
        ascii.or_else(|| byte(c)).unwrap_or_else(|| {
            complete = false;
            b'?'
        })
    };
    let bytes = text.chars().map(&mut encode).collect();
    Encoded {
        bytes: Cow::Owned(bytes),
        complete,
    }
}

/// Lower case, one character for one, so that positions and `?` stay what they are. For comparing names
/// and for keys of an index of names.
pub fn fold_case(text: &str) -> Cow<'_, str> {
    if text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(fold_char).collect())
}

/// Lower case of one character, itself where that would be several.
pub fn fold_char(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// PS3.5 annexes H, I, J, K: names in the character sets that they are examples of.
    #[test]
    fn examples_of_the_standard() {
        let table: [(&str, &[u8], &str); 10] = [
            ("ISO_IR 100", b"Buc^J\xE9r\xF4me", "Buc^Jérôme"),
            ("ISO_IR 144", b"\xBB\xEE\xDA\x63\x65\xDC\xD1\xE3\xE0\xD3", "Люкceмбург"),
            ("ISO_IR 126", b"\xC4\xE9\xEF\xED\xF5\xF3\xE9\xEF\xF2", "Διονυσιος"),
            ("ISO_IR 192", "Wang^XiaoDong=王^小東=".as_bytes(), "Wang^XiaoDong=王^小東="),
            ("GB18030", b"Wang^XiaoDong=\xCD\xF5^\xD0\xA1\xB6\xAB=", "Wang^XiaoDong=王^小东="),
            (
                "\\ISO 2022 IR 87",
                b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
                "Yamada^Tarou=山田^太郎=やまだ^たろう",
            ),
            (
                "ISO 2022 IR 13\\ISO 2022 IR 87",
                b"\xD4\xCF\xC0\xDE^\xC0\xDB\xB3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
                "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
            ),
            (
                "\\ISO 2022 IR 149",
                b"Hong^Gildong=\x1b$)C\xFB\xF3^\x1b$)C\xD1\xCE\xD4\xD7=\x1b$)C\xC8\xAB^\x1b$)C\xB1\xE6\xB5\xBF",
                "Hong^Gildong=洪^吉洞=홍^길동",
            ),
            (
                "\\ISO 2022 IR 58",
                b"Zhang^XiaoDong=\x1b$)A\xD5\xC5^\x1b$)A\xD0\xA1\xB6\xAB=",
                "Zhang^XiaoDong=张^小东=",
            ),
            (
                "ISO 2022 IR 100\\ISO 2022 IR 144",
                b"Buc^J\xE9r\xF4me=\x1b-L\xBB\xEE\xDA",
                "Buc^Jérôme=Люк",
            ),
        ];
        for (name, bytes, text) in table {
            let set = CharacterSet::parse(name.as_bytes());
            assert_eq!(set.decode(bytes, Vr::Pn), text, "{name}");
            let encoded = set.encode(text, Vr::Pn);
            assert!(encoded.complete, "{name}");
            assert_eq!(set.decode(&encoded.bytes, Vr::Pn), text, "{name}");
            assert_eq!(encoded.bytes, bytes, "{name}");
        }
    }

    #[test]
    fn odd_names_are_latin1() {
        for name in [
            "../../../etc/passwd",
            "ISO_IR 999",
            "\\\\\\\\",
            "ISO_IR 192\\nonsense",
        ] {
            let set = CharacterSet::parse(name.as_bytes());
            let text = set.decode(b"M\xFCller", Vr::Pn);
            assert!(
                text == "Müller" || text == "M\u{FFFD}ller",
                "{name}: {text}"
            );
        }
        let long = b"\\ISO 2022 IR 87".repeat(4000);
        assert!(CharacterSet::parse(&long).name().len() <= NAME_BYTES_MAX);
        assert_eq!(
            CharacterSet::default().decode(b"M\xFCller", Vr::Pn),
            "Müller"
        );
        assert_eq!(CharacterSet::utf8().decode(b"M\xFCller", Vr::Cs), "Müller");
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let encoded = CharacterSet::latin1().encode("Müller^山", Vr::Pn);
        assert_eq!(
            (&*encoded.bytes, encoded.complete),
            (b"M\xFCller^?".as_slice(), false)
        );
        let encoded = CharacterSet::default().encode("Mü", Vr::Pn);
        assert_eq!(
            (&*encoded.bytes, encoded.complete),
            (b"M?".as_slice(), false)
        );
        let encoded = CharacterSet::parse(b"ISO_IR 144").encode("Люк山", Vr::Pn);
        assert_eq!(
            (&*encoded.bytes, encoded.complete),
            (b"\xBB\xEE\xDA?".as_slice(), false)
        );
    }

    #[test]
    fn transcoding() {
        let (latin1, utf8) = (CharacterSet::latin1(), CharacterSet::utf8());
        let bytes = latin1.transcode(b"M\xFCller", Vr::Pn, &utf8).unwrap();
        assert_eq!(&*bytes, "Müller".as_bytes());
        assert_eq!(
            &*utf8.transcode(&bytes, Vr::Pn, &latin1).unwrap(),
            b"M\xFCller"
        );
        assert_eq!(utf8.transcode("山".as_bytes(), Vr::Pn, &latin1), None);
        let plain = latin1.transcode(b"Miller", Vr::Pn, &utf8).unwrap();
        assert!(matches!(plain, Cow::Borrowed(_)));
    }

    #[test]
    fn folding_keeps_the_number_of_characters() {
        assert_eq!(fold_case("MÜLLER^İ"), "müller^İ");
        assert!(matches!(fold_case("doe^john"), Cow::Borrowed(_)));
    }

    const NAMES: [&str; 12] = [
        "",
        "ISO_IR 100",
        "ISO_IR 192",
        "GB18030",
        "ISO_IR 13",
        "\\ISO 2022 IR 87",
        "ISO 2022 IR 13\\ISO 2022 IR 87\\ISO 2022 IR 159",
        "\\ISO 2022 IR 149",
        "\\ISO 2022 IR 58",
        "ISO 2022 IR 100\\ISO 2022 IR 126\\ISO 2022 IR 144",
        "ISO_IR 166",
        "GBK",
    ];

    proptest! {
        #[test]
        fn any_bytes_decode(
            name in prop::sample::select(NAMES.to_vec()),
            bytes in proptest::collection::vec(
                prop_oneof![any::<u8>(), prop::sample::select(b"\x1b$()-BJDCAIT^=\\".to_vec())],
                0..60,
            ),
        ) {
            let set = CharacterSet::parse(name.as_bytes());
            let _ = set.decode(&bytes, Vr::Pn);
            let _ = set.decode(&bytes, Vr::Lt);
        }

        #[test]
        fn complete_text_comes_back(
            name in prop::sample::select(NAMES.to_vec()),
            text in "[a-zA-Zäöüéα-ωА-яァ-ヲ山田太郎小东홍길동ก-ฮ^=\\\\ ]{0,20}",
        ) {
            let set = CharacterSet::parse(name.as_bytes());
            for vr in [Vr::Pn, Vr::Lo, Vr::Ut] {
                let encoded = set.encode(&text, vr);
                if encoded.complete {
                    prop_assert_eq!(set.decode(&encoded.bytes, vr), text.as_str());
                }
            }
        }

        #[test]
        fn any_name_parses(name in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = CharacterSet::parse(&name).decode(b"\x1b$B;3\xFC", Vr::Pn);
        }
    }
}
