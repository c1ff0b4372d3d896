//! File names: any syntax string, any values.

use std::collections::HashMap;
use std::path::Component;

use pyserver_proto::tag::Tag;
use pyserver_store::filename::{
    ElementPath, ElementText, NameInputs, NameSyntax, disk_name, name_of_disk,
};

use crate::input::Input;

/// The elements that names are made of, in the order of an input's lines.
const TAGS: [Tag; 10] = [
    Tag::PATIENT_NAME,
    Tag::PATIENT_ID,
    Tag::STUDY_INSTANCE_UID,
    Tag::SERIES_INSTANCE_UID,
    Tag::SOP_INSTANCE_UID,
    Tag::MODALITY,
    Tag::STUDY_DATE,
    Tag::SERIES_NUMBER,
    Tag::INSTANCE_NUMBER,
    Tag::STUDY_ID,
];
/// Folders of a device that objects may not be put into.
const RESERVED: [&str; 2] = ["incoming", ".pyserver-tmp"];
/// Longest component that common file systems take.
const COMPONENT_BYTES_MAX: usize = 255;

/// Elements by tag; one value for every other path.
struct Object<'a> {
    values: HashMap<Tag, &'a [u8]>,
    other: &'a [u8],
}

impl ElementText for Object<'_> {
    fn text(&self, path: &ElementPath) -> Option<Vec<u8>> {
        let known = self.values.get(&path.tag).copied();
        known
            .or_else(|| Some(self.other).filter(|other| !other.is_empty()))
            .map(<[u8]>::to_vec)
    }
}

/// Length limit, flags, a line with the syntax, a line for each value: whatever they hold, the name is
/// relative, stays inside its folder and can be created on disk.
pub fn filename(data: &[u8]) {
    let mut input = Input::new(data);
    let length_max = usize::from(input.byte());
    let choices = input.byte();
    let line = input.line();
    let text = String::from_utf8_lossy(line);
    let mut values = HashMap::new();
    for tag in TAGS {
        let value = input.line();
        // A line with one NUL stands for an absent element.
        if value != b"\0" {
            values.insert(tag, value);
        }
    }
    let (called, calling) = (input.line(), input.line());
    let (called, calling) = (
        String::from_utf8_lossy(called),
        String::from_utf8_lossy(calling),
    );
    let object = Object {
        values,
        other: input.rest(),
    };
    let inputs = NameInputs {
        called_ae: &called,
        calling_ae: &calling,
        time_s: 1_600_000_000,
        date: "20200913",
        counter: 7,
        length_max,
        force_dcm: choices & 1 != 0,
    };
    let Ok(syntax) = NameSyntax::parse(&text) else {
        return;
    };
    let _known = (syntax.is_v2(), syntax.uses_counter());
    check(&syntax.name(&object, &inputs));
    for number in 0..=13 {
        check(&NameSyntax::BuiltIn(number).name(&object, &inputs));
    }
}

fn check(name: &str) {
    let path = disk_name(name);
    let bytes = path.as_os_str().as_encoded_bytes();
    assert_eq!(name_of_disk(bytes), name, "the name on disk is another");
    assert!(!name.is_empty() && !name.starts_with('/') && !name.ends_with('/'));
    assert!(!bytes.iter().any(|byte| *byte < 0x20 || *byte == 0x7F));
    let components: Vec<_> = path.components().collect();
    assert_eq!(components.len(), name.split('/').count(), "{name:?}");
    for component in &components {
        let Component::Normal(part) = component else {
            panic!("{name:?} leaves its folder");
        };
        assert!(part.len() <= COMPONENT_BYTES_MAX, "{name:?}");
    }
    let first = name.split('/').next().unwrap_or_default();
    for reserved in RESERVED {
        assert!(!first.eq_ignore_ascii_case(reserved), "{name:?}");
    }
}
