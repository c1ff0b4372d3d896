//! What the generated patients, studies, series and images say.

use std::collections::BTreeMap;

use pyserver_proto::tag::Tag;

use super::Random;

type Values = BTreeMap<Tag, Vec<u8>>;

const PATIENTS_AGE: Tag = Tag::new(0x0010, 0x1010);
const PATIENTS_WEIGHT: Tag = Tag::new(0x0010, 0x1030);
const PATIENT_POSITION: Tag = Tag::new(0x0018, 0x5100);
const BODY_PART: Tag = Tag::new(0x0018, 0x0015);
const CONTRAST: Tag = Tag::new(0x0018, 0x0010);
const MODEL: Tag = Tag::new(0x0008, 0x1090);
const PROTOCOL: Tag = Tag::new(0x0018, 0x1030);
const ECHO_NUMBER: Tag = Tag::new(0x0018, 0x0086);
const RECEIVING_COIL: Tag = Tag::new(0x0018, 0x1250);
const ACQUISITION_NUMBER: Tag = Tag::new(0x0020, 0x0012);
const SLICE_LOCATION: Tag = Tag::new(0x0020, 0x1041);
const SAMPLES_PER_PIXEL: Tag = Tag::new(0x0028, 0x0002);
const PHOTOMETRIC: Tag = Tag::new(0x0028, 0x0004);
const BITS_STORED: Tag = Tag::new(0x0028, 0x0101);
const STATION: Tag = Tag::new(0x0008, 0x1010);
const REFERRING: Tag = Tag::new(0x0008, 0x0090);

const SYLLABLES: [&str; 24] = [
    "VAN", "DER", "BERG", "JAN", "SEN", "DE", "VRIES", "BAK", "KER", "VISS", "SMIT", "MEIJ", "MUL",
    "DEK", "BOS", "VOS", "PET", "HEND", "RIKS", "LEEU", "WEN", "DIJK", "STRA", "HOF",
];
const GIVEN: [&str; 16] = [
    "ANNA",
    "JOHANNES",
    "MARIA",
    "PIETER",
    "CORNELIA",
    "HENDRIK",
    "ELISABETH",
    "WILLEM",
    "JOHANNA",
    "JACOBUS",
    "GRIETJE",
    "GERARD",
    "THEODORA",
    "ADRIANUS",
    "CATHARINA",
    "LEENDERT",
];
const PARTS: [&str; 8] = [
    "THORAX", "ABDOMEN", "PELVIS", "HEAD", "NECK", "BREAST", "SPINE", "PROSTATE",
];

/// Share of patients in studies, of studies in series: few have many.
pub fn weight(kind: u64, number: u64) -> u64 {
    let random = Random::of(kind, number).next();
    // Geometric, from 1 on: each further step is half as frequent.
    1 + u64::from(random.trailing_zeros()).min(12) * 3
}

/// A maker of scanners.
struct Maker {
    name: &'static str,
    model: &'static str,
    modality: &'static str,
    class: &'static str,
    /// Rows and columns.
    rows: u16,
    bits: u16,
    /// Weight in images.
    images: u64,
    image_type: &'static str,
}

const MAKERS: [Maker; 8] = [
    Maker {
        name: "SIEMENS",
        model: "Sensation Open",
        modality: "CT",
        class: "1.2.840.10008.5.1.4.1.1.2",
        rows: 512,
        bits: 12,
        images: 60,
        image_type: "ORIGINAL\\PRIMARY\\AXIAL\\CT_SOM5 SPI",
    },
    Maker {
        name: "GE MEDICAL SYSTEMS",
        model: "LightSpeed RT16",
        modality: "CT",
        class: "1.2.840.10008.5.1.4.1.1.2",
        rows: 512,
        bits: 16,
        images: 50,
        image_type: "ORIGINAL\\PRIMARY\\AXIAL",
    },
    Maker {
        name: "Philips Medical Systems",
        model: "Intera",
        modality: "MR",
        class: "1.2.840.10008.5.1.4.1.1.4",
        rows: 256,
        bits: 12,
        images: 25,
        image_type: "ORIGINAL\\PRIMARY\\M_FFE\\M\\FFE",
    },
    Maker {
        name: "SIEMENS",
        model: "Avanto",
        modality: "MR",
        class: "1.2.840.10008.5.1.4.1.1.4",
        rows: 320,
        bits: 12,
        images: 22,
        image_type: "ORIGINAL\\PRIMARY\\M\\ND\\NORM",
    },
    Maker {
        name: "CPS",
        model: "1062",
        modality: "PT",
        class: "1.2.840.10008.5.1.4.1.1.128",
        rows: 168,
        bits: 16,
        images: 40,
        image_type: "ORIGINAL\\PRIMARY",
    },
    Maker {
        name: "Philips Medical Systems",
        model: "DigitalDiagnost",
        modality: "CR",
        class: "1.2.840.10008.5.1.4.1.1.1",
        rows: 2140,
        bits: 15,
        images: 1,
        image_type: "ORIGINAL\\PRIMARY\\AP\\CSA BLACK IMAGE",
    },
    Maker {
        name: "NKI AVL",
        model: "XVI",
        modality: "RTIMAGE",
        class: "1.2.840.10008.5.1.4.1.1.481.1",
        rows: 1024,
        bits: 16,
        images: 3,
        image_type: "ORIGINAL\\PRIMARY\\PORTAL",
    },
    Maker {
        name: "ADAC",
        model: "Pinnacle3",
        modality: "RTSTRUCT",
        class: "1.2.840.10008.5.1.4.1.1.481.3",
        rows: 0,
        bits: 0,
        images: 0,
        image_type: "",
    },
];

/// What the images of a study share and their UIDs are made of.
#[derive(Debug, Clone, Default)]
pub struct Study {
    day: u64,
    second: u64,
    serial: u64,
    part: usize,
}

/// The same of a series.
#[derive(Debug, Clone, Default)]
pub struct Series {
    maker: usize,
    number: u64,
    uid: String,
}

impl Series {
    fn maker_of(number: u64) -> usize {
        // Half of the series are CT, a quarter MR, the rest evenly.
        let random = Random::of(3, number).next();
        match random % 16 {
            0..=4 => 0,
            5..=7 => 1,
            8..=9 => 2,
            10..=11 => 3,
            12 => 4,
            13 => 5,
            14 => 6,
            _ => 7,
        }
    }

    /// Share of the series in images: scouts, volumes and single objects.
    pub fn weight(number: u64) -> u64 {
        let maker = &MAKERS[Self::maker_of(number)];
        maker.images * (1 + Random::of(4, number).below(16)) / 8
    }
}

fn put(values: &mut Values, tag: Tag, text: impl Into<Vec<u8>>) {
    values.insert(tag, text.into());
}

/// Days from 1 January 1998 as a date.
fn date(day: u64) -> String {
    let (year, rest) = (1998 + day / 372, day % 372);
    format!("{year:04}{:02}{:02}", rest / 31 + 1, rest % 28 + 1)
}

fn time(second: u64, fraction: u64) -> String {
    let (hour, minute) = (second / 3600 % 24, second / 60 % 60);
    format!("{hour:02}{minute:02}{:02}.{fraction:06}", second % 60)
}

/// Begins a patient.
pub fn patient(values: &mut Values, number: u64) {
    values.clear();
    let mut random = Random::of(5, number);
    let mut id = random.next();
    // Hospital numbers: seven digits, each patient's own.
    id = (id % 600) * 16_384 + number % 16_384;
    put(
        values,
        Tag::PATIENT_ID,
        format!("{:07}{}", id, number / 16_384),
    );
    let (a, b) = (random.one(&SYLLABLES), random.one(&SYLLABLES));
    let given = random.one(&GIVEN);
    put(values, Tag::PATIENT_NAME, format!("{a}{b}^{given}"));
    put(
        values,
        Tag::PATIENT_BIRTH_DATE,
        format!("19{}", &date(random.below(25_000))[2..]),
    );
    put(values, Tag::PATIENT_SEX, *random.one(&["M", "F"]));
    put(values, PATIENTS_WEIGHT, random.below(90).to_string());
}

/// Begins a study.
pub fn study(values: &mut Values, number: u64) -> Study {
    let mut random = Random::of(6, number);
    let study = Study {
        day: random.below(2400),
        second: 28_800 + random.below(36_000),
        serial: 50_000 + random.below(60),
        part: random.below(PARTS.len() as u64) as usize,
    };
    let day = date(study.day);
    let uid = match random.below(4) {
        0 => format!(
            "1.2.840.113619.2.55.1.{}.{}.{}",
            1_762_860_000 + study.serial,
            2_000 + random.below(400),
            1_000_000_000 + random.below(300_000_000)
        ),
        1 => format!(
            "1.2.840.113704.1.111.{}.{}.{}",
            random.below(9_000),
            1_000_000_000 + number,
            random.below(20)
        ),
        2 => format!(
            "1.3.46.670589.11.30.9.{}{:08}{:06}.{number}",
            100 + random.below(900),
            study.day,
            study.second
        ),
        _ => format!(
            "1.3.12.2.1107.5.1.4.{}.30000{}{:08}{:09}",
            study.serial,
            &day[2..],
            study.second,
            number
        ),
    };
    put(values, Tag::STUDY_INSTANCE_UID, uid);
    put(values, Tag::STUDY_DATE, day);
    put(
        values,
        Tag::STUDY_TIME,
        time(study.second, random.below(1_000_000)),
    );
    put(values, Tag::STUDY_ID, random.below(100_000).to_string());
    put(
        values,
        Tag::STUDY_DESCRIPTION,
        format!("{}^ROUTINE", PARTS[study.part]),
    );
    put(
        values,
        Tag::ACCESSION_NUMBER,
        format!("{:010}", 4_000_000_000 + number * 7),
    );
    put(
        values,
        REFERRING,
        format!("{}{}^DR", random.one(&SYLLABLES), random.one(&SYLLABLES)),
    );
    put(
        values,
        PATIENTS_AGE,
        format!("{:03}Y", 20 + random.below(70)),
    );
    put(values, Tag::INSTITUTION_NAME, "Antoni van Leeuwenhoek");
    study
}

/// Begins a series.
pub fn series(values: &mut Values, study: &Study, number: u64) -> Series {
    let mut random = Random::of(7, number);
    let series = Series {
        maker: Series::maker_of(number),
        number: 1 + random.below(12),
        uid: String::new(),
    };
    let maker = &MAKERS[series.maker];
    let day = date(study.day);
    let second = study.second + random.below(1_800);
    let stamp = 17_000_000 + random.below(900_000_000);
    let uid = match maker.name {
        "SIEMENS" => format!(
            "1.3.12.2.1107.5.{}.4.{}.30000{}{:05}{:06}{:07}",
            if maker.modality == "CT" { 1 } else { 2 },
            study.serial,
            &day[2..],
            second,
            stamp % 1_000_000,
            number
        ),
        "GE MEDICAL SYSTEMS" => format!(
            "1.2.840.113619.2.55.1.{}.{}.{stamp}.{number}",
            1_762_860_000 + study.serial,
            2_000 + random.below(400)
        ),
        "Philips Medical Systems" => format!(
            "1.3.46.670589.11.{}.5.0.{}.{day}{second:05}{number:07}",
            random.below(90),
            random.below(9_000)
        ),
        _ => format!(
            "2.25.{}{:019}",
            1 + random.below(1 << 62),
            random.below(1 << 62)
        ),
    };
    put(values, Tag::SERIES_INSTANCE_UID, uid.clone());
    put(values, Tag::SERIES_NUMBER, series.number.to_string());
    put(values, Tag::SERIES_DATE, day);
    put(
        values,
        Tag::SERIES_TIME,
        time(second, random.below(1_000_000)),
    );
    put(
        values,
        Tag::SERIES_DESCRIPTION,
        format!(
            "{} {}.0 B{}f",
            PARTS[study.part],
            1 + random.below(5),
            10 + random.below(60)
        ),
    );
    put(values, Tag::MODALITY, maker.modality);
    put(values, PATIENT_POSITION, *random.one(&["HFS", "FFS"]));
    put(
        values,
        CONTRAST,
        if random.below(3) == 0 { "CONTRAST" } else { "" },
    );
    put(values, Tag::MANUFACTURER, maker.name);
    put(values, MODEL, maker.model);
    put(values, BODY_PART, PARTS[study.part]);
    put(
        values,
        PROTOCOL,
        format!("{}_{}", PARTS[study.part], random.below(40)),
    );
    put(
        values,
        STATION,
        format!("{}{}", maker.modality, study.serial),
    );
    put(values, Tag::FRAME_OF_REFERENCE_UID, format!("{uid}.9"));
    put(values, Tag::SOP_CLASS_UID, maker.class);
    put(values, Tag::IMAGE_TYPE, maker.image_type);
    Series { uid, ..series }
}

/// Sets what changes from image to image.
pub fn image(values: &mut Values, study: &Study, series: &Series, number: u64) {
    let maker = &MAKERS[series.maker];
    let uid = &series.uid;
    // Makers count on from the series, in the last component.
    put(
        values,
        Tag::SOP_INSTANCE_UID,
        format!("{}.{}", uid.get(..57).unwrap_or(uid), 100 + number),
    );
    put(values, Tag::INSTANCE_NUMBER, number.to_string());
    if number == 1 {
        let day = date(study.day);
        for tag in [Tag::CONTENT_DATE, Tag::ACQUISITION_DATE] {
            put(values, tag, day.as_str());
        }
        for tag in [ECHO_NUMBER, Tag::NUMBER_OF_FRAMES, RECEIVING_COIL] {
            values.remove(&tag);
        }
        if maker.modality == "MR" {
            put(values, ECHO_NUMBER, "1");
            put(values, RECEIVING_COIL, "SENSE-body");
        }
        put(values, ACQUISITION_NUMBER, "2");
        if maker.rows > 0 {
            put(values, SAMPLES_PER_PIXEL, "1");
            put(values, PHOTOMETRIC, "MONOCHROME2");
            put(values, Tag::ROWS, maker.rows.to_string());
            put(values, Tag::COLUMNS, maker.rows.to_string());
            put(values, BITS_STORED, maker.bits.to_string());
        } else {
            for tag in [
                SAMPLES_PER_PIXEL,
                PHOTOMETRIC,
                Tag::ROWS,
                Tag::COLUMNS,
                BITS_STORED,
            ] {
                values.remove(&tag);
            }
        }
    }
    let second = study.second + number / 2;
    put(
        values,
        Tag::CONTENT_TIME,
        time(second, number * 7919 % 1_000_000),
    );
    put(
        values,
        Tag::ACQUISITION_TIME,
        time(second, number * 104_729 % 1_000_000),
    );
    put(
        values,
        SLICE_LOCATION,
        format!("{}.{}", 400 - number as i64 * 3, number % 10),
    );
}
