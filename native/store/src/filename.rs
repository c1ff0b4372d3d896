//! Under which name an object is kept: Conquest's `FileNameSyntax` 0 to 12 and its `%` strings.
//!
//! A name is always relative, `/` between folders, and built from cleaned values only: no value that a peer
//! sends can leave the device's folder, name a hidden folder, or reach a drop folder. Values may hold any byte;
//! a name is kept as text whose characters U+0000 to U+00FF stand for these bytes, see [`disk_name`].
//! Nothing here looks at the disk or keeps two objects apart; the index does that with a suffix.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use pyserver_proto::tag::Tag;

use crate::error::StoreError;
use crate::filename_parse::pieces;

/// Values are cut to this many bytes when cleaned, as Conquest does.
const CLEANED_BYTES_MAX: usize = 64;
/// ext4, XFS and btrfs allow 255 bytes; the rest is for the suffix that keeps two objects apart.
const COMPONENT_BYTES_MAX: usize = 240;
/// Folders of a device that are not for objects: their content is imported and deleted, or is ours.
const RESERVED_FOLDERS: [&str; 2] = ["incoming", ".pyserver-tmp"];

/// How file names are made, parsed once from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameSyntax {
    /// One of the numbered syntaxes; numbers that Conquest does not know act as 0.
    BuiltIn(u8),
    /// A `%` string.
    Custom(Vec<Piece>),
}

/// One part of a `%` string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Literal bytes.
    Text(Vec<u8>),
    /// A named value, cut to an inclusive range of bytes when there is one.
    Token(Token, Option<(usize, usize)>),
    /// The value of any element (`%V`), cut likewise.
    Element(ElementPath, Option<(usize, usize)>),
}

/// The named values of a `%` string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the manual")]
pub enum Token {
    Name,
    Id,
    Modality,
    StudyId,
    StudyUid,
    StudyDesc,
    StudyDate,
    SeriesId,
    Series,
    SeriesUid,
    SopUid,
    ImageNum,
    Image,
    ImageId,
    Time,
    Counter,
    CalledAe,
    CallingAe,
    Date,
}

/// Where `%V` finds its element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementPath {
    /// Take the first such element at any depth.
    pub anywhere: bool,
    /// Sequences to descend, each with its item number from 0.
    pub steps: Vec<(Tag, usize)>,
    /// The element itself.
    pub tag: Tag,
}

impl ElementPath {
    /// An element of the data set itself.
    pub const fn top(tag: Tag) -> Self {
        Self {
            anywhere: false,
            steps: Vec::new(),
            tag,
        }
    }
}

/// Where a name takes its values from.
pub trait ElementText {
    /// The element's value as text, numbers printed, without trailing padding; `None` when absent.
    fn text(&self, path: &ElementPath) -> Option<Vec<u8>>;
}

/// Everything besides elements that a name may hold.
#[derive(Debug, Clone, Copy)]
pub struct NameInputs<'a> {
    /// The AE title the association was addressed to.
    pub called_ae: &'a str,
    /// The AE title of the sender.
    pub calling_ae: &'a str,
    /// Seconds since 1970 when the object is first stored.
    pub time_s: u64,
    /// The current date as `yyyymmdd`.
    pub date: &'a str,
    /// A number that grows with each new name.
    pub counter: u16,
    /// `MaxFileNameLength`: the end of the last component is kept.
    pub length_max: usize,
    /// Write `.dcm` where the syntax says `.v2`: compressed objects cannot be headerless.
    pub force_dcm: bool,
}

impl NameSyntax {
    /// Reads the configuration item.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let text = text.trim();
        if text.starts_with("lua:") {
            return Err(StoreError::Config(
                "FileNameSyntax: lua: names are not supported yet".into(),
            ));
        }
        if !text.contains('%') {
            return Ok(match text.parse::<u32>() {
                Ok(number @ 0..=12) => Self::BuiltIn(number as u8),
                Ok(_) => Self::BuiltIn(0),
                Err(_) => {
                    return Err(StoreError::Config(format!(
                        "FileNameSyntax: '{text}' is neither a number nor a string with %"
                    )));
                }
            });
        }
        Ok(Self::Custom(pieces(text)))
    }

    /// Whether names end in `.v2`: the object is kept without Part 10 header, implicit little endian.
    pub fn is_v2(&self) -> bool {
        match self {
            Self::BuiltIn(number) => matches!(number, 0..=3 | 5..=7),
            Self::Custom(pieces) => matches!(
                pieces.last(),
                Some(Piece::Text(end)) if end.to_ascii_lowercase().ends_with(b".v2")
            ),
        }
    }

    /// Whether names hold the counter, so that each new object must take a number.
    pub fn uses_counter(&self) -> bool {
        match self {
            Self::BuiltIn(number) => matches!(number, 1..=5),
            Self::Custom(pieces) => pieces
                .iter()
                .any(|piece| matches!(piece, Piece::Token(Token::Counter, _))),
        }
    }

    /// The name for one object, relative to the device's folder.
    pub fn name(&self, object: &dyn ElementText, inputs: &NameInputs<'_>) -> String {
        let values = Values { object, inputs };
        let raw = match self {
            Self::BuiltIn(number) => values.built_in(*number),
            Self::Custom(pieces) => values.custom(pieces),
        };
        normalise(&raw, inputs)
    }
}

/// The path that a name of the index stands for: each character is one byte.
pub fn disk_name(name: &str) -> PathBuf {
    if name.is_ascii() {
        return PathBuf::from(name);
    }
    // INVARIANT: names are made by `normalise` or `name_of_disk`, both write characters up to U+00FF only.
    let bytes = name.chars().map(|c| u8::try_from(c).unwrap_or(b'_'));
    PathBuf::from(OsString::from_vec(bytes.collect()))
}

/// The name that stands for a path on disk, the inverse of [`disk_name`].
pub fn name_of_disk(path: &[u8]) -> String {
    path.iter().map(|&byte| char::from(byte)).collect()
}

/// A value made safe for a name: separators and blanks become `_`, a control character ends it, at most 64
/// bytes, no `_` at the end, never empty.
pub fn clean(value: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = value
        .iter()
        .take_while(|&&byte| byte >= 0x20 && byte != 0x7F)
        .take(CLEANED_BYTES_MAX)
        .map(|&byte| match byte {
            b'/' | b'\\' | b';' | b'>' | b'<' | b'|' | b',' | b'.' | b' ' | b':' | b'?' | b'*'
            | b'"' => b'_',
            other => other,
        })
        .collect();
    while out.last() == Some(&b'_') {
        out.pop();
    }
    if out.is_empty() {
        out.extend_from_slice(b"unknown");
    }
    out
}

/// An identifier made safe for a name: valid ones stay as they are.
pub fn clean_uid(value: &[u8]) -> Vec<u8> {
    let out: Vec<u8> = value
        .iter()
        .take(CLEANED_BYTES_MAX)
        .map(|&byte| match byte {
            b'0'..=b'9' | b'.' | b'A'..=b'Z' | b'a'..=b'z' | b'-' => byte,
            _ => b'_',
        })
        .collect();
    if out.is_empty() {
        return b"empty".to_vec();
    }
    if out.iter().all(|&byte| byte == b'.') {
        return vec![b'_'; out.len()];
    }
    out
}

/// The values of one object, asked for one at a time.
struct Values<'a> {
    object: &'a dyn ElementText,
    inputs: &'a NameInputs<'a>,
}

impl Values<'_> {
    fn built_in(&self, number: u8) -> Vec<u8> {
        let name = |most| self.token_cut(Token::Name, most);
        let id = |most| self.token_cut(Token::Id, most);
        let uid = |token| self.token(token);
        let v2 = b".v2".as_slice();
        let dcm = b".dcm".as_slice();
        let counted = || [self.token(Token::Time), self.token(Token::Counter)].concat();
        let numbers = || {
            let padded = [self.token(Token::Series), self.token(Token::Image)];
            [padded.join(&b'_'), counted()].join(&b'_')
        };
        let numbered = || [uid(Token::SeriesUid), numbers()].join(&b'_');
        let folders = |parts: &[Vec<u8>]| parts.join(&b'/');
        let patient = || [name(8), id(8)].join(&b'_');
        match number {
            1 => [folders(&[patient(), numbers()]), v2.to_vec()].concat(),
            2 => [folders(&[patient(), numbered()]), v2.to_vec()].concat(),
            3 => [folders(&[id(16), numbered()]), v2.to_vec()].concat(),
            4 => [folders(&[id(16), numbered()]), dcm.to_vec()].concat(),
            5 => [folders(&[name(usize::MAX), numbered()]), v2.to_vec()].concat(),
            6 | 8 => {
                let parts = [
                    id(32),
                    uid(Token::StudyUid),
                    uid(Token::SeriesUid),
                    uid(Token::SopUid),
                ];
                [folders(&parts), if number == 6 { v2 } else { dcm }.to_vec()].concat()
            }
            7 | 9 => {
                let parts = [
                    uid(Token::StudyUid),
                    uid(Token::SeriesUid),
                    uid(Token::SopUid),
                ];
                [folders(&parts), if number == 7 { v2 } else { dcm }.to_vec()].concat()
            }
            10 => [b"Images/".to_vec(), uid(Token::SopUid), dcm.to_vec()].concat(),
            11 => {
                let parts = [
                    name(usize::MAX),
                    uid(Token::StudyUid),
                    uid(Token::SeriesUid),
                    uid(Token::SopUid),
                ];
                [folders(&parts), dcm.to_vec()].concat()
            }
            12 => {
                let parts = [
                    [name(usize::MAX), id(usize::MAX)].join(&b'_'),
                    [self.token(Token::Modality), self.token(Token::StudyId)].join(&b'_'),
                    self.token(Token::SeriesId),
                    uid(Token::SopUid),
                ];
                [folders(&parts), dcm.to_vec()].concat()
            }
            _ => {
                let parts = [
                    self.number(Tag::SERIES_NUMBER, 0),
                    self.number(Tag::INSTANCE_NUMBER, 0),
                    self.token(Token::Time),
                ];
                [folders(&[patient(), parts.join(&b'_')]), v2.to_vec()].concat()
            }
        }
    }

    fn custom(&self, pieces: &[Piece]) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Token(token, range) => {
                    out.extend_from_slice(cut(&self.token(*token), *range));
                }
                Piece::Element(path, range) => match self.object.text(path) {
                    Some(value) if !value.is_empty() => {
                        out.extend_from_slice(cut(&clean(&value), *range));
                    }
                    _ => close_gap(&mut out),
                },
            }
        }
        out
    }

    fn token_cut(&self, token: Token, most: usize) -> Vec<u8> {
        let mut value = self.token(token);
        value.truncate(most);
        value
    }

    fn token(&self, token: Token) -> Vec<u8> {
        match token {
            Token::Name => clean(&self.element(Tag::PATIENT_NAME).unwrap_or_default()),
            Token::Id => clean(&self.element(Tag::PATIENT_ID).unwrap_or_default()),
            Token::Modality => self.cleaned(Tag::MODALITY),
            Token::StudyId => self.cleaned(Tag::STUDY_ID),
            Token::StudyDesc => self.cleaned(Tag::STUDY_DESCRIPTION),
            Token::SeriesId => self.cleaned(Tag::SERIES_NUMBER),
            Token::ImageNum => self.cleaned(Tag::INSTANCE_NUMBER),
            Token::ImageId => self.cleaned(Tag::new(0x0054, 0x0400)),
            // A date that is there but empty gives no folder at all; other empty values are "unknown".
            Token::StudyDate => match self.element(Tag::STUDY_DATE) {
                Some(date) if date.is_empty() => Vec::new(),
                Some(date) => clean(&date),
                None => b"empty".to_vec(),
            },
            Token::StudyUid => self.uid(Tag::STUDY_INSTANCE_UID),
            Token::SeriesUid => self.uid(Tag::SERIES_INSTANCE_UID),
            Token::SopUid => self.uid(Tag::SOP_INSTANCE_UID),
            Token::Series => self.number(Tag::SERIES_NUMBER, 4),
            Token::Image => self.number(Tag::INSTANCE_NUMBER, 6),
            Token::Time => self.inputs.time_s.to_string().into_bytes(),
            Token::Counter => format!("{:04x}", self.inputs.counter).into_bytes(),
            Token::CalledAe => clean(self.inputs.called_ae.as_bytes()),
            Token::CallingAe => clean(self.inputs.calling_ae.as_bytes()),
            Token::Date => self.inputs.date.as_bytes().to_vec(),
        }
    }

    fn element(&self, tag: Tag) -> Option<Vec<u8>> {
        self.object.text(&ElementPath::top(tag))
    }

    fn cleaned(&self, tag: Tag) -> Vec<u8> {
        self.element(tag)
            .map_or_else(|| b"empty".to_vec(), |value| clean(&value))
    }

    fn uid(&self, tag: Tag) -> Vec<u8> {
        clean_uid(&self.element(tag).unwrap_or_default())
    }

    /// The value as C's `atoi` reads it, zero-padded.
    fn number(&self, tag: Tag, width: usize) -> Vec<u8> {
        let text = self.element(tag).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let text = text.trim_start();
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => ("-", rest),
            None => ("", text.strip_prefix('+').unwrap_or(text)),
        };
        let end = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        let digits = digits.get(..end.min(18)).unwrap_or_default();
        let value: i64 = format!("{sign}{digits}").parse().unwrap_or(0);
        format!("{value:0width$}").into_bytes()
    }
}

/// A missing `%V` takes the separator before it along; a component must not stay empty for want of a value.
fn close_gap(out: &mut Vec<u8>) {
    while out.last() == Some(&b'_') {
        out.pop();
    }
    if out.last().is_none_or(|&byte| byte == b'/') {
        out.extend_from_slice(b"unknown");
    }
}

/// The inclusive range of a value that `[a,b]` asks for.
fn cut(value: &[u8], range: Option<(usize, usize)>) -> &[u8] {
    match range {
        Some((first, last)) => value
            .get(first..value.len().min(last.saturating_add(1)))
            .unwrap_or_default(),
        None => value,
    }
}

/// Makes any text a name that stays inside the device: relative, no empty, `.`, `..`, reserved or over-long
/// component, no control character.
fn normalise(raw: &[u8], inputs: &NameInputs<'_>) -> String {
    let mut components: Vec<Vec<u8>> = Vec::new();
    for part in raw.split(|&byte| byte == b'/' || byte == b'\\') {
        let mut part: Vec<u8> = part
            .iter()
            .map(|&byte| {
                if byte < 0x20 || byte == 0x7F {
                    b'_'
                } else {
                    byte
                }
            })
            .collect();
        if part.is_empty() || part == b"." {
            continue;
        }
        if part == b".." {
            part = b"__".to_vec();
        }
        components.push(part);
    }
    let mut last = components.pop().unwrap_or_else(|| b"unnamed".to_vec());
    if inputs.force_dcm && last.to_ascii_lowercase().ends_with(b".v2") {
        last.truncate(last.len() - 3);
        last.extend_from_slice(b".dcm");
    }
    let most = inputs.length_max.clamp(8, COMPONENT_BYTES_MAX);
    if last.len() > most {
        last.drain(..last.len() - most);
    }
    for part in &mut components {
        part.truncate(COMPONENT_BYTES_MAX);
    }
    components.push(last);
    // Also where there is no folder: a file of that name would stand in the folder's place.
    if let Some(first) = components.first_mut()
        && RESERVED_FOLDERS
            .iter()
            .any(|folder| folder.as_bytes().eq_ignore_ascii_case(first))
    {
        first.push(b'_');
    }
    name_of_disk(&components.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    struct Map(HashMap<Tag, Vec<u8>>);

    impl ElementText for Map {
        fn text(&self, path: &ElementPath) -> Option<Vec<u8>> {
            (path.steps.is_empty() && !path.anywhere)
                .then(|| self.0.get(&path.tag).cloned())
                .flatten()
        }
    }

    fn object(changes: &[(Tag, Option<&[u8]>)]) -> Map {
        let mut map: HashMap<Tag, Vec<u8>> = [
            (Tag::PATIENT_NAME, "Doe^John"),
            (Tag::PATIENT_ID, "PAT001"),
            (Tag::MODALITY, "CT"),
            (Tag::STUDY_ID, "S1"),
            (Tag::STUDY_DATE, "20200102"),
            (Tag::SERIES_NUMBER, "2"),
            (Tag::INSTANCE_NUMBER, "13"),
            (Tag::STUDY_INSTANCE_UID, "1.2.1"),
            (Tag::SERIES_INSTANCE_UID, "1.2.2"),
            (Tag::SOP_INSTANCE_UID, "1.2.3"),
        ]
        .into_iter()
        .map(|(tag, value)| (tag, value.as_bytes().to_vec()))
        .collect();
        for (tag, value) in changes {
            match value {
                Some(value) => map.insert(*tag, value.to_vec()),
                None => map.remove(tag),
            };
        }
        Map(map)
    }

    fn inputs() -> NameInputs<'static> {
        NameInputs {
            called_ae: "SERVER",
            calling_ae: "CLIENT",
            time_s: 1_600_000_000,
            date: "20200913",
            counter: 0x1a,
            length_max: 255,
            force_dcm: false,
        }
    }

    fn syntax(text: &str) -> NameSyntax {
        NameSyntax::parse(text).unwrap()
    }

    fn named(text: &str, changes: &[(Tag, Option<&[u8]>)]) -> String {
        syntax(text).name(&object(changes), &inputs())
    }

    #[test]
    fn the_numbered_syntaxes() {
        let expected = [
            ("0", "Doe^John_PAT001/2_13_1600000000.v2"),
            ("1", "Doe^John_PAT001/0002_000013_1600000000001a.v2"),
            ("2", "Doe^John_PAT001/1.2.2_0002_000013_1600000000001a.v2"),
            ("3", "PAT001/1.2.2_0002_000013_1600000000001a.v2"),
            ("4", "PAT001/1.2.2_0002_000013_1600000000001a.dcm"),
            ("5", "Doe^John/1.2.2_0002_000013_1600000000001a.v2"),
            ("6", "PAT001/1.2.1/1.2.2/1.2.3.v2"),
            ("7", "1.2.1/1.2.2/1.2.3.v2"),
            ("8", "PAT001/1.2.1/1.2.2/1.2.3.dcm"),
            ("9", "1.2.1/1.2.2/1.2.3.dcm"),
            ("10", "Images/1.2.3.dcm"),
            ("11", "Doe^John/1.2.1/1.2.2/1.2.3.dcm"),
            ("12", "Doe^John_PAT001/CT_S1/2/1.2.3.dcm"),
            ("13", "Doe^John_PAT001/2_13_1600000000.v2"),
            ("99", "Doe^John_PAT001/2_13_1600000000.v2"),
        ];
        for (number, name) in expected {
            assert_eq!(named(number, &[]), name, "syntax {number}");
            assert_eq!(
                syntax(number).is_v2(),
                name.rsplit('.').next() == Some("v2")
            );
        }
        assert!(syntax("1").uses_counter() && !syntax("8").uses_counter());
        assert!(NameSyntax::parse("abc").is_err());
        assert!(NameSyntax::parse("lua:x%y").is_err());
    }

    #[test]
    fn values_are_cleaned_cut_and_never_empty() {
        assert_eq!(clean(b"A/B:C*D?E\"F<G>H|I"), b"A_B_C_D_E_F_G_H_I");
        assert_eq!(clean(b"  LEAD1"), b"__LEAD1");
        assert_eq!(clean(b"UND__"), b"UND");
        assert_eq!(clean(b".."), b"unknown");
        assert_eq!(clean(b"a\nb"), b"a");
        assert_eq!(clean(b"O'Brien^=%\xE9"), b"O'Brien^=%\xE9");
        assert_eq!(clean(&[b'P'; 66]).len(), 64);
        assert_eq!(clean_uid(b"../../../x"), b".._.._.._x");
        assert_eq!(clean_uid(b".."), b"__");
        assert_eq!(clean_uid(b""), b"empty");
        let long = [(
            Tag::PATIENT_ID,
            Some(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ".as_slice()),
        )];
        assert!(named("3", &long).starts_with("ABCDEFGHIJKLMNOP/"));
        let numbers = [
            (Tag::SERIES_NUMBER, None),
            (Tag::INSTANCE_NUMBER, Some(b" 123456789".as_slice())),
        ];
        assert_eq!(
            named("1", &numbers),
            "Doe^John_PAT001/0000_123456789_1600000000001a.v2"
        );
        assert_eq!(
            named("12", &numbers),
            "Doe^John_PAT001/CT_S1/empty/1.2.3.dcm"
        );
    }

    #[test]
    fn custom_strings_as_the_golden_data_has_them() {
        let text = "%studydate[0,3]/%name[0,4]_%id/%modality_%studyid/%series_%image_%counter.dcm";
        assert_eq!(
            named(text, &[]),
            "2020/Doe^J_PAT001/CT_S1/0002_000013_001a.dcm"
        );
        let undated = [
            (Tag::STUDY_DATE, Some(b"".as_slice())),
            (Tag::MODALITY, None),
        ];
        assert_eq!(
            named(text, &undated),
            "Doe^J_PAT001/empty_S1/0002_000013_001a.dcm"
        );
        let text = "%VPatientID/%v0028,0010_%v0008,0008/%bogus_%sopuid[3,9]x%sopuid.dcm";
        let rows = Tag::ROWS;
        assert_eq!(
            named(text, &[(rows, Some(b"8"))]),
            "PAT001/8/bogus_.3x1.2.3.dcm"
        );
        let both = [
            (rows, Some(b"8".as_slice())),
            (Tag::IMAGE_TYPE, Some(b"A\\B".as_slice())),
        ];
        assert_eq!(named(text, &both), "PAT001/8_A_B/bogus_.3x1.2.3.dcm");
        assert_eq!(named(text, &[]), "PAT001/unknown/bogus_.3x1.2.3.dcm");
        let text = "%date_%V*0008,1155_%V/3006,0010.0/0020,0052_%sopuid.dcm";
        assert_eq!(named(text, &[]), "20200913_1.2.3.dcm");
        assert_eq!(
            syntax("%V/3006,0010.2/0020,0052"),
            NameSyntax::Custom(vec![Piece::Element(
                ElementPath {
                    anywhere: false,
                    steps: vec![(Tag::new(0x3006, 0x0010), 2)],
                    tag: Tag::FRAME_OF_REFERENCE_UID,
                },
                None
            )])
        );
        let text = "%calledae_%callingae/%id[1,3]/%seriesid-%imagenum-%imageid_%time_%sopuid.dcm";
        assert_eq!(
            named(text, &[(Tag::PATIENT_ID, Some(b"7"))]),
            "SERVER_CLIENT/2-13-empty_1600000000_1.2.3.dcm"
        );
        assert_eq!(named("%sopuid[3]%sopuid[5,2].v2", &[]), "1.2.31.2.3.v2");
    }

    #[test]
    fn reserved_folders_long_names_and_the_extension() {
        let incoming = [(Tag::PATIENT_ID, Some(b"Incoming".as_slice()))];
        assert_eq!(named("%id/%sopuid.dcm", &incoming), "Incoming_/1.2.3.dcm");
        assert_eq!(named("%id", &incoming), "Incoming_");
        assert_eq!(named("%id\\../%sopuid", &[]), "PAT001/__/1.2.3");
        let short = NameInputs {
            length_max: 12,
            force_dcm: true,
            ..inputs()
        };
        let name = syntax("3").name(&object(&[]), &short);
        assert_eq!(name, "PAT001/0000001a.dcm");
        assert_eq!(disk_name(&name_of_disk(b"a/\xE9\xFF")).as_os_str().len(), 4);
    }

    proptest! {
        #[test]
        fn no_value_leaves_the_device(
            syntax_text in prop_oneof![Just("4".to_owned()), Just("8".to_owned()), Just("12".to_owned()), "[%a-zV/\\\\.,0-9\\[\\]]{1,30}%id"],
            id in proptest::collection::vec(any::<u8>(), 0..100),
            uid in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let object = object(&[
                (Tag::PATIENT_ID, Some(&id)),
                (Tag::PATIENT_NAME, Some(&uid)),
                (Tag::SOP_INSTANCE_UID, Some(&uid)),
                (Tag::STUDY_INSTANCE_UID, Some(&id)),
            ]);
            let name = syntax(&syntax_text).name(&object, &inputs());
            prop_assert!(!name.starts_with('/') && !name.is_empty());
            for part in name.split('/') {
                prop_assert!(!part.is_empty() && part != "." && part != "..");
                prop_assert!(part.chars().count() <= 255);
                prop_assert!(part.chars().all(|c| u32::from(c) >= 0x20 && u32::from(c) <= 0xFF));
            }
            let lower = name.to_ascii_lowercase();
            prop_assert!(!lower.starts_with("incoming/") && !lower.starts_with(".pyserver-tmp/"));
        }
    }
}
