//! Data element tags (PS3.5 section 7.1) and the constants this server names.
//!
//! A tag is one `u32`, group in the high half, so that ordering tags is ordering integers. The module
//! decides nothing about meaning: VR and keyword live in `dict`.

use std::fmt;
use std::str::FromStr;

/// A data element tag: group in the high 16 bits, element in the low 16.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u32);

impl Tag {
    /// Joins a group and an element number.
    pub const fn new(group: u16, element: u16) -> Self {
        Self((group as u32) << 16 | element as u32)
    }

    /// The group number.
    pub const fn group(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The element number.
    pub const fn element(self) -> u16 {
        self.0 as u16
    }

    /// Private elements have an odd group number (PS3.5 section 7.8).
    pub const fn is_private(self) -> bool {
        self.0 & 0x0001_0000 != 0
    }

    /// A private creator reserves a block: `gggg,0010`–`gggg,00FF` in an odd group.
    pub const fn is_private_creator(self) -> bool {
        self.is_private() && self.element() >= 0x0010 && self.element() <= 0x00FF
    }

    /// Group length elements, `gggg,0000`.
    pub const fn is_group_length(self) -> bool {
        self.element() == 0
    }

    /// Items and delimiters (group FFFE) have neither VR nor value semantics of their own.
    pub const fn is_delimiter(self) -> bool {
        self.group() == 0xFFFE
    }

    /// The elements whose value is the bulk of an object: 7FE0,0010 and its float and double forms.
    pub const fn is_pixel_data(self) -> bool {
        matches!(self.0, 0x7FE0_0008..=0x7FE0_0010)
    }
}

/// The constants, in tag order.
macro_rules! tags {
    ($($name:ident = $group:literal, $element:literal, $doc:literal;)*) => {
        impl Tag { $(#[doc = $doc] pub const $name: Self = Self::new($group, $element);)* }
    };
}

tags! {
    FILE_META_GROUP_LENGTH = 0x0002, 0x0000, "File Meta Information Group Length.";
    FILE_META_VERSION = 0x0002, 0x0001, "File Meta Information Version.";
    MEDIA_STORAGE_SOP_CLASS_UID = 0x0002, 0x0002, "Media Storage SOP Class UID.";
    MEDIA_STORAGE_SOP_INSTANCE_UID = 0x0002, 0x0003, "Media Storage SOP Instance UID.";
    TRANSFER_SYNTAX_UID = 0x0002, 0x0010, "Transfer Syntax UID.";
    IMPLEMENTATION_CLASS_UID = 0x0002, 0x0012, "Implementation Class UID.";
    IMPLEMENTATION_VERSION_NAME = 0x0002, 0x0013, "Implementation Version Name.";
    SOURCE_AE_TITLE = 0x0002, 0x0016, "Source Application Entity Title.";
    SPECIFIC_CHARACTER_SET = 0x0008, 0x0005, "Specific Character Set.";
    IMAGE_TYPE = 0x0008, 0x0008, "Image Type.";
    SOP_CLASS_UID = 0x0008, 0x0016, "SOP Class UID.";
    SOP_INSTANCE_UID = 0x0008, 0x0018, "SOP Instance UID.";
    STUDY_DATE = 0x0008, 0x0020, "Study Date.";
    SERIES_DATE = 0x0008, 0x0021, "Series Date.";
    ACQUISITION_DATE = 0x0008, 0x0022, "Acquisition Date.";
    CONTENT_DATE = 0x0008, 0x0023, "Content Date.";
    STUDY_TIME = 0x0008, 0x0030, "Study Time.";
    SERIES_TIME = 0x0008, 0x0031, "Series Time.";
    ACQUISITION_TIME = 0x0008, 0x0032, "Acquisition Time.";
    CONTENT_TIME = 0x0008, 0x0033, "Content Time.";
    ACCESSION_NUMBER = 0x0008, 0x0050, "Accession Number.";
    QUERY_RETRIEVE_LEVEL = 0x0008, 0x0052, "Query/Retrieve Level.";
    QUERY_RETRIEVE_VIEW = 0x0008, 0x0053, "Query/Retrieve View.";
    RETRIEVE_AE_TITLE = 0x0008, 0x0054, "Retrieve AE Title.";
    INSTANCE_AVAILABILITY = 0x0008, 0x0056, "Instance Availability.";
    FAILED_SOP_INSTANCE_UID_LIST = 0x0008, 0x0058, "Failed SOP Instance UID List.";
    MODALITY = 0x0008, 0x0060, "Modality.";
    MODALITIES_IN_STUDY = 0x0008, 0x0061, "Modalities in Study.";
    SOP_CLASSES_IN_STUDY = 0x0008, 0x0062, "SOP Classes in Study.";
    MANUFACTURER = 0x0008, 0x0070, "Manufacturer.";
    INSTITUTION_NAME = 0x0008, 0x0080, "Institution Name.";
    REFERRING_PHYSICIAN_NAME = 0x0008, 0x0090, "Referring Physician's Name.";
    TIMEZONE_OFFSET_FROM_UTC = 0x0008, 0x0201, "Timezone Offset From UTC.";
    STATION_NAME = 0x0008, 0x1010, "Station Name.";
    STUDY_DESCRIPTION = 0x0008, 0x1030, "Study Description.";
    SERIES_DESCRIPTION = 0x0008, 0x103E, "Series Description.";
    REFERENCED_STUDY_SEQUENCE = 0x0008, 0x1110, "Referenced Study Sequence.";
    REFERENCED_PATIENT_SEQUENCE = 0x0008, 0x1120, "Referenced Patient Sequence.";
    REFERENCED_SOP_CLASS_UID = 0x0008, 0x1150, "Referenced SOP Class UID.";
    REFERENCED_SOP_INSTANCE_UID = 0x0008, 0x1155, "Referenced SOP Instance UID.";
    TRANSACTION_UID = 0x0008, 0x1195, "Transaction UID.";
    REFERENCED_SOP_SEQUENCE = 0x0008, 0x1199, "Referenced SOP Sequence.";
    PATIENT_NAME = 0x0010, 0x0010, "Patient's Name.";
    PATIENT_ID = 0x0010, 0x0020, "Patient ID.";
    PATIENT_BIRTH_DATE = 0x0010, 0x0030, "Patient's Birth Date.";
    PATIENT_BIRTH_TIME = 0x0010, 0x0032, "Patient's Birth Time.";
    PATIENT_SEX = 0x0010, 0x0040, "Patient's Sex.";
    STUDY_INSTANCE_UID = 0x0020, 0x000D, "Study Instance UID.";
    SERIES_INSTANCE_UID = 0x0020, 0x000E, "Series Instance UID.";
    STUDY_ID = 0x0020, 0x0010, "Study ID.";
    SERIES_NUMBER = 0x0020, 0x0011, "Series Number.";
    ACQUISITION_NUMBER = 0x0020, 0x0012, "Acquisition Number.";
    INSTANCE_NUMBER = 0x0020, 0x0013, "Instance Number.";
    FRAME_OF_REFERENCE_UID = 0x0020, 0x0052, "Frame of Reference UID.";
    NUMBER_OF_PATIENT_RELATED_STUDIES = 0x0020, 0x1200, "Number of Patient Related Studies.";
    NUMBER_OF_PATIENT_RELATED_SERIES = 0x0020, 0x1202, "Number of Patient Related Series.";
    NUMBER_OF_PATIENT_RELATED_INSTANCES = 0x0020, 0x1204, "Number of Patient Related Instances.";
    NUMBER_OF_STUDY_RELATED_SERIES = 0x0020, 0x1206, "Number of Study Related Series.";
    NUMBER_OF_STUDY_RELATED_INSTANCES = 0x0020, 0x1208, "Number of Study Related Instances.";
    NUMBER_OF_SERIES_RELATED_INSTANCES = 0x0020, 0x1209, "Number of Series Related Instances.";
    SAMPLES_PER_PIXEL = 0x0028, 0x0002, "Samples per Pixel.";
    PHOTOMETRIC_INTERPRETATION = 0x0028, 0x0004, "Photometric Interpretation.";
    PLANAR_CONFIGURATION = 0x0028, 0x0006, "Planar Configuration.";
    NUMBER_OF_FRAMES = 0x0028, 0x0008, "Number of Frames.";
    ROWS = 0x0028, 0x0010, "Rows.";
    COLUMNS = 0x0028, 0x0011, "Columns.";
    BITS_ALLOCATED = 0x0028, 0x0100, "Bits Allocated.";
    BITS_STORED = 0x0028, 0x0101, "Bits Stored.";
    HIGH_BIT = 0x0028, 0x0102, "High Bit.";
    PIXEL_REPRESENTATION = 0x0028, 0x0103, "Pixel Representation.";
    LUT_DATA = 0x0028, 0x3006, "LUT Data.";
    SCHEDULED_PROCEDURE_STEP_START_DATE = 0x0040, 0x0002, "Scheduled Procedure Step Start Date.";
    SCHEDULED_PROCEDURE_STEP_START_TIME = 0x0040, 0x0003, "Scheduled Procedure Step Start Time.";
    SCHEDULED_PROCEDURE_STEP_SEQUENCE = 0x0040, 0x0100, "Scheduled Procedure Step Sequence.";
    WAVEFORM_BITS_ALLOCATED = 0x5400, 0x1004, "Waveform Bits Allocated.";
    EXTENDED_OFFSET_TABLE = 0x7FE0, 0x0001, "Extended Offset Table.";
    EXTENDED_OFFSET_TABLE_LENGTHS = 0x7FE0, 0x0002, "Extended Offset Table Lengths.";
    FLOAT_PIXEL_DATA = 0x7FE0, 0x0008, "Float Pixel Data.";
    DOUBLE_FLOAT_PIXEL_DATA = 0x7FE0, 0x0009, "Double Float Pixel Data.";
    PIXEL_DATA = 0x7FE0, 0x0010, "Pixel Data.";
    CONQUEST_SORT_KEY = 0x9999, 0x0C00, "Private query key: column to sort by.";
    CONQUEST_LIMIT_KEY = 0x9999, 0x0C01, "Private query key: largest number of responses.";
    CONQUEST_OFFSET_KEY = 0x9999, 0x0C02, "Private query key: responses to skip.";
    CONQUEST_FILE_KEY = 0x9999, 0x0800, "Private query key: file of the object.";
    CONQUEST_VIRTUAL_KEY = 0x9999, 0x0802, "Private query key: virtual servers to ask.";
    CONQUEST_DEVICE_KEY = 0x9999, 0x0801, "Private query key: device of the object.";
    ITEM = 0xFFFE, 0xE000, "Item.";
    ITEM_DELIMITATION = 0xFFFE, 0xE00D, "Item Delimitation Item.";
    SEQUENCE_DELIMITATION = 0xFFFE, 0xE0DD, "Sequence Delimitation Item.";
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X},{:04X}", self.group(), self.element())
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({self})")
    }
}

/// The text was not a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tag is written gggg,eeee in hexadecimal")]
pub struct ParseTagError;

impl FromStr for Tag {
    type Err = ParseTagError;

    /// Accepts `0008,0018`, `00080018`, `(0008,0018)` and Conquest's `0x0008,0x0018`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let text = text
            .strip_prefix('(')
            .and_then(|rest| rest.strip_suffix(')'))
            .unwrap_or(text);
        let number = |part: &str| {
            let part = part.trim();
            let part = part
                .strip_prefix("0x")
                .or_else(|| part.strip_prefix("0X"))
                .unwrap_or(part);
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
            digits.then(|| u32::from_str_radix(part, 16).ok()).flatten()
        };
        if let Some((group, element)) = text.split_once(',') {
            let group = number(group).and_then(|n| u16::try_from(n).ok());
            let element = number(element).and_then(|n| u16::try_from(n).ok());
            return match (group, element) {
                (Some(group), Some(element)) => Ok(Self::new(group, element)),
                _ => Err(ParseTagError),
            };
        }
        if text.len() != 8 {
            return Err(ParseTagError);
        }
        number(text).map(Self).ok_or(ParseTagError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_and_joins() {
        let tag = Tag::new(0x7FE0, 0x0010);
        assert_eq!((tag.group(), tag.element()), (0x7FE0, 0x0010));
        assert_eq!(tag.to_string(), "7FE0,0010");
        assert!(tag.is_pixel_data());
        assert!(Tag::FLOAT_PIXEL_DATA.is_pixel_data());
        assert!(!Tag::EXTENDED_OFFSET_TABLE.is_pixel_data());
        assert!(Tag::new(0x0009, 0x0010).is_private_creator());
        assert!(!Tag::new(0x0009, 0x1010).is_private_creator());
    }

    #[test]
    fn parses_the_written_forms() {
        for text in [
            "0008,0018",
            "00080018",
            "(0008,0018)",
            "0x0008,0x0018",
            " 8,18 ",
        ] {
            assert_eq!(text.parse(), Ok(Tag::SOP_INSTANCE_UID), "{text}");
        }
        for text in [
            "",
            "0008",
            "0008,",
            "xxxx,0010",
            "+008,0018",
            "10008,0018",
            "(0008,0018",
        ] {
            assert_eq!(text.parse::<Tag>(), Err(ParseTagError), "{text}");
        }
    }
}
