//! The one correction an object gets before it is kept, when the configuration asks for it: the leading zeros
//! that some scanners and RIS add to a patient ID (`FixPhilips`, `FixKodak`, rules as Conquest's).
//!
//! A missing patient ID or name is not corrected: the object is kept as received, and Conquest's stand-ins
//! (`00000000`, `NO NAME`) serve in the index and in the file's name only. Edits are spliced into the element
//! bytes as received, in the transfer syntax they came in; everything else stays byte for byte.

use pyserver_proto::element::{Elements, RawElement, write_head};
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::Encoding;
use pyserver_proto::vr::Vr;

use crate::config::ArchiveConfig;
use crate::extract::{ABSENT_PATIENT_NAME, EMPTY_PATIENT_ID};

/// New values for elements of the patient.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// Patient ID to write instead of the one received.
    pub patient_id: Option<Vec<u8>>,
    /// Patient name to write where the element is absent.
    pub patient_name: Option<Vec<u8>>,
}

impl Edits {
    /// What the configuration wants changed, given the patient ID received (`None`: element absent).
    pub fn wanted(config: &ArchiveConfig, id: Option<&[u8]>) -> Self {
        Self {
            patient_id: fixed_id(config, id.map_or(b"".as_slice(), trim)),
            patient_name: None,
        }
    }

    /// What stands for a missing patient ID or name where the object gets its file name.
    pub fn stand_ins(config: &ArchiveConfig, id: Option<&[u8]>, name: Option<&[u8]>) -> Self {
        let id_is_missing = id.map_or(b"".as_slice(), trim).is_empty();
        Self {
            patient_id: (id_is_missing && !config.allow_empty_patient_id)
                .then(|| EMPTY_PATIENT_ID.to_vec()),
            patient_name: name.is_none().then(|| ABSENT_PATIENT_NAME.to_vec()),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.patient_id.is_none() && self.patient_name.is_none()
    }
}

/// `FixPhilips`: ten digits lose their leading zeros. `FixKodak`: eight digits lose a leading zero.
fn fixed_id(config: &ArchiveConfig, id: &[u8]) -> Option<Vec<u8>> {
    if !id.iter().all(u8::is_ascii_digit) {
        return None;
    }
    if config.fix_philips && id.len() == 10 && id.starts_with(b"0") {
        let first = id.iter().position(|&digit| digit != b'0')?;
        return id.get(first..).map(<[u8]>::to_vec);
    }
    if config.fix_kodak && id.len() == 8 && id.starts_with(b"0") {
        return id.get(1..).map(<[u8]>::to_vec);
    }
    None
}

/// Without the padding of a text value.
fn trim(value: &[u8]) -> &[u8] {
    let end = value
        .iter()
        .rposition(|&byte| byte != b' ' && byte != 0)
        .map_or(0, |last| last + 1);
    value.get(..end).unwrap_or_default()
}

/// Whether the elements received so far reach past the patient's, so that edits can be made now.
pub fn reaches_past_patient(elements: &[u8], encoding: Encoding) -> bool {
    Elements::new(elements, encoding)
        .map_while(Result::ok)
        .any(|element| element.head.tag > Tag::PATIENT_ID)
}

/// The elements with the edits made. `elements` may end anywhere after the patient's elements.
pub fn splice(elements: &[u8], encoding: Encoding, edits: &Edits) -> Vec<u8> {
    let mut out = Vec::with_capacity(elements.len() + 64);
    let mut todo: Vec<(Tag, Vr, &[u8])> = Vec::with_capacity(2);
    if let Some(name) = &edits.patient_name {
        todo.push((Tag::PATIENT_NAME, Vr::Pn, name));
    }
    if let Some(id) = &edits.patient_id {
        todo.push((Tag::PATIENT_ID, Vr::Lo, id));
    }
    let edited: Vec<Tag> = todo.iter().map(|(tag, ..)| *tag).collect();
    let mut copied = 0;
    let copy_up_to = |out: &mut Vec<u8>, copied: &mut usize, offset: usize| {
        out.extend_from_slice(elements.get(*copied..offset).unwrap_or_default());
        *copied = offset;
    };
    for element in Elements::new(elements, encoding).map_while(Result::ok) {
        while let Some(&(tag, vr, value)) = todo.first() {
            if element.head.tag < tag {
                break;
            }
            copy_up_to(&mut out, &mut copied, element.offset);
            put_text(&mut out, tag, vr, value, encoding);
            todo.remove(0);
        }
        // Also where it comes again: two values for the patient would make the object unreadable.
        if edited.contains(&element.head.tag) {
            copy_up_to(&mut out, &mut copied, element.offset);
            copied += element_bytes(&element);
        }
    }
    copy_up_to(&mut out, &mut copied, elements.len());
    for (tag, vr, value) in todo {
        put_text(&mut out, tag, vr, value, encoding);
    }
    out
}

/// Header, value and, where one ends it, the delimiter.
fn element_bytes(element: &RawElement<'_>) -> usize {
    let delimiter = if element.head.is_undefined() { 8 } else { 0 };
    usize::from(element.head.bytes) + element.value.len() + delimiter
}

fn put_text(out: &mut Vec<u8>, tag: Tag, vr: Vr, value: &[u8], encoding: Encoding) {
    let padded = value.len() + value.len() % 2;
    write_head(out, tag, vr, padded as u32, encoding);
    out.extend_from_slice(value);
    if padded > value.len() {
        out.push(b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use pyserver_proto::element::UNDEFINED_LENGTH;
    use std::path::Path;

    fn element(tag: Tag, vr: Vr, value: &[u8], encoding: Encoding) -> Vec<u8> {
        let mut out = Vec::new();
        write_head(&mut out, tag, vr, value.len() as u32, encoding);
        out.extend_from_slice(value);
        out
    }

    fn object(id: Option<&[u8]>, name: Option<&[u8]>, encoding: Encoding) -> Vec<u8> {
        let mut out = element(Tag::SOP_INSTANCE_UID, Vr::Ui, b"1.2\0", encoding);
        if let Some(name) = name {
            out.extend(element(Tag::PATIENT_NAME, Vr::Pn, name, encoding));
        }
        if let Some(id) = id {
            out.extend(element(Tag::PATIENT_ID, Vr::Lo, id, encoding));
        }
        out.extend(element(Tag::STUDY_ID, Vr::Sh, b"S1", encoding));
        out
    }

    fn edits(id: Option<&[u8]>, name: Option<&[u8]>, change: impl Fn(&mut ArchiveConfig)) -> Edits {
        let mut config = ArchiveConfig::new(Path::new("/x"));
        change(&mut config);
        Edits::stand_ins(&config, id, name)
    }

    #[test]
    fn patients_without_id_or_name_get_conquests_values_in_the_file_name() {
        let none = |_: &mut ArchiveConfig| {};
        assert!(Edits::wanted(&ArchiveConfig::new(Path::new("/x")), Some(b"  ")).is_empty());
        let wanted = edits(Some(b"  "), None, none);
        assert_eq!(wanted.patient_id.as_deref(), Some(EMPTY_PATIENT_ID));
        assert_eq!(wanted.patient_name.as_deref(), Some(ABSENT_PATIENT_NAME));
        assert!(edits(Some(b"X "), Some(b""), none).is_empty());
        assert!(edits(None, Some(b"N"), |c| c.allow_empty_patient_id = true).is_empty());
        for encoding in [
            Encoding::IMPLICIT_LE,
            Encoding::EXPLICIT_LE,
            Encoding::EXPLICIT_BE,
        ] {
            let expected = object(Some(b"00000000"), Some(b"NO NAME "), encoding);
            for id in [None, Some(b"".as_slice()), Some(b" \0".as_slice())] {
                assert_eq!(
                    splice(&object(id, None, encoding), encoding, &wanted),
                    expected
                );
            }
            assert!(reaches_past_patient(&expected, encoding));
            assert!(!reaches_past_patient(&expected[..20], encoding));
        }
    }

    #[test]
    fn fixed_ids_lose_their_zeros() {
        let philips = |c: &mut ArchiveConfig| c.fix_philips = true;
        let kodak = |c: &mut ArchiveConfig| c.fix_kodak = true;
        let fixed = |value: &[u8], change: &dyn Fn(&mut ArchiveConfig)| {
            let mut config = ArchiveConfig::new(Path::new("/x"));
            change(&mut config);
            Edits::wanted(&config, Some(value))
        };
        let id =
            |value: &[u8], change: &dyn Fn(&mut ArchiveConfig)| fixed(value, change).patient_id;
        assert_eq!(
            id(b"0012345678", &philips).as_deref(),
            Some(b"12345678".as_slice())
        );
        assert_eq!(id(b"0012345678", &kodak), None);
        assert_eq!(
            id(b"01234567", &kodak).as_deref(),
            Some(b"1234567".as_slice())
        );
        assert_eq!(id(b"1234567890", &philips), None);
        assert_eq!(id(b"0000000000", &philips), None);
        assert_eq!(id(b"0X12345678", &philips), None);
        let wanted = fixed(b"0012345678", &philips);
        let encoding = Encoding::EXPLICIT_LE;
        assert_eq!(
            splice(
                &object(Some(b"0012345678"), Some(b"N "), encoding),
                encoding,
                &wanted
            ),
            object(Some(b"12345678"), Some(b"N "), encoding)
        );
    }

    #[test]
    fn an_id_that_a_delimiter_ends_is_replaced_alone() {
        let encoding = Encoding::EXPLICIT_LE;
        let object = |id: Vec<u8>| {
            let mut out = element(Tag::SOP_INSTANCE_UID, Vr::Ui, b"1.2\0", encoding);
            out.extend(id);
            out.extend(element(Tag::STUDY_ID, Vr::Sh, b"S1", encoding));
            out
        };
        let mut id = Vec::new();
        write_head(&mut id, Tag::PATIENT_ID, Vr::Un, UNDEFINED_LENGTH, encoding);
        write_head(&mut id, Tag::SEQUENCE_DELIMITATION, Vr::Un, 0, encoding);
        let wanted = edits(Some(b""), Some(b"N"), |_| {});
        let expected = object(element(Tag::PATIENT_ID, Vr::Lo, EMPTY_PATIENT_ID, encoding));
        assert_eq!(splice(&object(id), encoding, &wanted), expected);
    }

    #[test]
    fn an_id_that_comes_again_is_replaced_with_it() {
        let encoding = Encoding::EXPLICIT_LE;
        let again = [
            object(Some(b"0012345678"), None, encoding),
            element(Tag::PATIENT_ID, Vr::Lo, b"0012345678", encoding),
            element(Tag::STUDY_ID, Vr::Sh, b"S1", encoding),
        ];
        let expected = [
            object(Some(b"12345678"), None, encoding),
            element(Tag::STUDY_ID, Vr::Sh, b"S1", encoding),
        ];
        let wanted = Edits {
            patient_id: Some(b"12345678".to_vec()),
            patient_name: None,
        };
        assert_eq!(
            splice(&again.concat(), encoding, &wanted),
            expected.concat()
        );
    }

    #[test]
    fn a_short_object_is_edited_at_its_end() {
        let encoding = Encoding::IMPLICIT_LE;
        let start = element(Tag::SOP_INSTANCE_UID, Vr::Ui, b"1.2\0", encoding);
        let wanted = edits(None, None, |_| {});
        let mut expected = start.clone();
        expected.extend(element(Tag::PATIENT_NAME, Vr::Pn, b"NO NAME ", encoding));
        expected.extend(element(Tag::PATIENT_ID, Vr::Lo, b"00000000", encoding));
        assert_eq!(splice(&start, encoding, &wanted), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_stay_apart_from_the_edits(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let none = Edits::default();
            prop_assert_eq!(splice(&bytes, Encoding::IMPLICIT_LE, &none), bytes);
        }
    }
}
