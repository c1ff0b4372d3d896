//! The bytes in the index: which tables there are, how keys are built, how rows are written.
//!
//! THE FILE TO READ FIRST. All integers in keys are big endian, so that key order is number order.
//! Integers in values are big endian too. Nothing here touches LMDB.
//!
//! ```text
//! table         key                                   value
//! ------------  ------------------------------------  ------------------------------------------------
//! meta          name                                  see `meta_key`
//! patients      patient u32                           head, columns
//! studies       study u32                             head (holds its patient), columns
//! series        series u32                            head (holds its study), columns
//! images        series u32, image u64                 head, columns, facts (file, hash, offsets)
//! patient_kids  patient u32, study u32                -
//! study_kids    study u32, series u32                 -
//! patient_ids   patient id (capped, `text_key`)       patient u32
//! sop_runs      run u32, chunk u32                    entries of UIDs: hash, image and series (`sop_index`)
//! search        kind u8, folded text, 00, number u32  -
//! files         hash of folder u64, of name u64       owner: series u32, image u64, or 0 while removed
//! headers       image u64                             header up to pixel data, compressed (`headers`)
//! changes       change u64                            what happened (`changes`)
//! queue         job u64                               opaque payload of queued work
//! pending       pending u64                           a store not yet settled on disk (`pending`)
//! tombs         level u8, number u64                  a hidden subtree the reaper still has to free;
//!                                                     for an image series u32 and its row
//! orphans       device u16, path                      a file to unlink
//! worklist      entry u32                             time added u32, then per value: group, element, UTF-8 text
//! uidmods       old uid, 00, stage                    what an identifier was changed to (`uidmods`)
//! ```
//!
//! A row is alive when it exists *and* every ancestor row exists. Deleting therefore removes one row and
//! leaves the subtree to the reaper. A lookup entry may point at a dead row: every lookup ends by reading
//! the row it names and its ancestors.
//!
//! Heads (the part of a row with fixed places):
//! ```text
//! patient, study, series   layout u16, accessed u32, parent u32 (study: patient or 0, series: study),
//!                          studies u32, series u32, instances u32, bytes of files u64
//! image                    layout u16, accessed u32, pending u64 (the store that wrote it),
//!                          length of facts u32
//! ```
//! Facts of an image on a virtual device (`virtual_device`) are its number alone; such an image has no entry in
//! `files`, `headers` and `pending`, and its head names no store.
//! `layout` numbers the set of columns the row was written with (`meta_key::LAYOUTS`); `accessed` is the
//! Unix time of the last store below. Columns follow as `row` writes them.

use crate::bytes::Reader;

/// Version of everything described in this file. An environment of another version is not opened.
pub const FORMAT_VERSION: u32 = 3;
/// The version before, which is made into this one when it is opened: it had tables `study_uids` and `series_uids`.
pub const FORMAT_OLD: u32 = 2;

/// Names of the records in `meta`.
pub mod meta_key {
    /// `FORMAT_VERSION`, u32.
    pub const FORMAT: &[u8] = b"format";
    /// Number of the layout that all rows have, u16.
    pub const LAYOUT: &[u8] = b"layout";
    /// Start of the keys of layout records; the number follows. More than one stands here only while rows
    /// are being moved from one layout to the next.
    pub const LAYOUTS: &[u8] = b"layout.";
    /// The runs of the SOP index (`sop_index`).
    pub const SOP: &[u8] = b"sop";
    /// The counters and totals (`Counters`).
    pub const COUNTERS: &[u8] = b"counters";
    /// Number of the commit, u64; the records of `journal` belong to one of them.
    pub const GENERATION: &[u8] = b"generation";
    /// How far a database has followed (`mirror`).
    pub const MIRROR: &[u8] = b"mirror";
    /// The last change up to which records were taken off the log, u64 (`changes`).
    pub const PRUNED: &[u8] = b"pruned";
}

/// Query/retrieve level of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// One patient.
    Patient = 0,
    /// One study.
    Study = 1,
    /// One series.
    Series = 2,
    /// One SOP instance.
    Image = 3,
}

impl Level {
    /// All levels, from the top.
    pub const ALL: [Self; 4] = [Self::Patient, Self::Study, Self::Series, Self::Image];

    /// Position in arrays that hold one entry per level.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The level with this number.
    pub fn from_index(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }

    /// Value of Query/Retrieve Level (0008,0052).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Patient => "PATIENT",
            Self::Study => "STUDY",
            Self::Series => "SERIES",
            Self::Image => "IMAGE",
        }
    }
}

/// Where an image row is: its series and its own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ImageKey {
    /// Series number.
    pub series: u32,
    /// Image number, unique over the whole index and never used twice.
    pub image: u64,
}

impl ImageKey {
    /// Bytes of a key in `images`.
    pub const LEN: usize = 12;

    /// Key bytes.
    pub fn encode(self) -> [u8; Self::LEN] {
        let mut key = [0; Self::LEN];
        key[..4].copy_from_slice(&self.series.to_be_bytes());
        key[4..].copy_from_slice(&self.image.to_be_bytes());
        key
    }

    /// Reads key bytes back.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        Some(Self {
            series: reader.u32()?,
            image: reader.u64()?,
        })
    }
}

/// Key in `patient_kids` and `study_kids`.
pub fn kid_key(parent: u32, kid: u32) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&parent.to_be_bytes());
    key[4..].copy_from_slice(&kid.to_be_bytes());
    key
}

/// Reads the child out of a key in `patient_kids` or `study_kids`.
pub fn kid_of(key: &[u8]) -> Option<u32> {
    Reader::new(key.get(4..)?).u32()
}

/// Longest text taken into a key; LMDB's limit for a whole key is 511 bytes.
pub const KEY_TEXT_MAX: usize = 400;

/// Key for free text such as a patient ID: the text itself, or, when it is too long for a key, its start
/// and a hash of the whole.
pub fn text_key(text: &[u8]) -> Vec<u8> {
    match text.get(..KEY_TEXT_MAX) {
        Some(start) if text.len() > KEY_TEXT_MAX => {
            let mut key = start.to_vec();
            key.push(0);
            key.extend_from_slice(&blake3::hash(text).as_bytes()[..16]);
            key
        }
        _ if text.is_empty() => vec![0],
        _ => text.to_vec(),
    }
}

/// Key in `files`: one half from the folder, so that a folder's files stay neighbours, one from the name.
/// A collision only costs a suffix on a file name, never a file.
pub fn file_key(device: u16, path: &str) -> [u8; 16] {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut key = [0; 16];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&device.to_be_bytes());
    hasher.update(folder.as_bytes());
    key[..8].copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    key[8..].copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..8]);
    key
}

/// Value in `files` while the file at that place waits to be unlinked: nobody may take the name.
pub const FILE_BEING_REMOVED: ImageKey = ImageKey {
    series: 0,
    image: 0,
};

/// Key in `tombs`.
pub fn tomb_key(level: Level, number: u64) -> [u8; 9] {
    let mut key = [level as u8; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Key in `orphans`.
pub fn orphan_key(device: u16, path: &str) -> Vec<u8> {
    let mut key = device.to_be_bytes().to_vec();
    key.extend_from_slice(&text_key(path.as_bytes()));
    key
}

/// What an entry of `search` was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SearchKind {
    /// Patient name in the patient's row, folded.
    PatientName = 1,
    /// Patient name in the study's row, folded.
    StudyPatientName = 2,
    /// Study date.
    StudyDate = 3,
    /// Accession number, folded.
    Accession = 4,
}

impl SearchKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [
        Self::PatientName,
        Self::StudyPatientName,
        Self::StudyDate,
        Self::Accession,
    ];
}

/// Longest folded text in a `search` key.
pub const SEARCH_TEXT_MAX: usize = 200;

/// Start of the keys whose folded text begins with `text`.
pub fn search_prefix(kind: SearchKind, text: &[u8], key: &mut Vec<u8>) {
    key.clear();
    key.push(kind as u8);
    key.extend(text.iter().take(SEARCH_TEXT_MAX).filter(|&&b| b != 0));
}

/// Key in `search`.
pub fn search_key(kind: SearchKind, text: &[u8], number: u32, key: &mut Vec<u8>) {
    search_prefix(kind, text, key);
    key.push(0);
    key.extend_from_slice(&number.to_be_bytes());
}

/// Number at the end of a key in `search`.
pub fn search_number(key: &[u8]) -> Option<u32> {
    Reader::new(key.get(key.len().checked_sub(4)?..)?).u32()
}

/// The numbers that only grow, and how many rows are alive. One record, written with each commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Last patient number given.
    pub patient: u32,
    /// Last study number given.
    pub study: u32,
    /// Last series number given.
    pub series: u32,
    /// Last image number given.
    pub image: u64,
    /// Last change number given.
    pub change: u64,
    /// Last pending number given.
    pub pending: u64,
    /// Last job number given.
    pub job: u64,
    /// Last worklist entry number given.
    pub worklist: u32,
    /// Rows alive per level.
    pub alive: [u64; 4],
    /// Bytes of the files of the images alive.
    pub file_bytes: u64,
}

impl Counters {
    const LEN: usize = 4 * 4 + 8 * 4 + 8 * 4 + 8;

    /// Bytes of the record.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = Vec::with_capacity(Self::LEN);
        for n in [self.patient, self.study, self.series, self.worklist] {
            out.extend_from_slice(&n.to_be_bytes());
        }
        for n in [self.image, self.change, self.pending, self.job] {
            out.extend_from_slice(&n.to_be_bytes());
        }
        for n in self.alive {
            out.extend_from_slice(&n.to_be_bytes());
        }
        out.extend_from_slice(&self.file_bytes.to_be_bytes());
        let mut bytes = [0; Self::LEN];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Reads the record back.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        Some(Self {
            patient: r.u32()?,
            study: r.u32()?,
            series: r.u32()?,
            worklist: r.u32()?,
            image: r.u64()?,
            change: r.u64()?,
            pending: r.u64()?,
            job: r.u64()?,
            alive: [r.u64()?, r.u64()?, r.u64()?, r.u64()?],
            file_bytes: r.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn image_keys_sort_by_series_then_number() {
        let a = ImageKey {
            series: 1,
            image: 300,
        };
        let b = ImageKey {
            series: 2,
            image: 1,
        };
        assert!(a.encode() < b.encode());
        assert_eq!(ImageKey::decode(&a.encode()), Some(a));
        assert_eq!(ImageKey::decode(&[0; 11]), None);
    }

    #[test]
    fn a_file_key_keeps_folders_together() {
        let a = file_key(0, "P/1.2/a.dcm");
        let b = file_key(0, "P/1.2/b.dcm");
        let c = file_key(1, "P/1.2/a.dcm");
        assert_eq!(a[..8], b[..8]);
        assert_ne!(a, b);
        assert_ne!(a[..8], c[..8]);
    }

    #[test]
    fn counters_come_back() {
        let counters = Counters {
            patient: 1,
            study: 2,
            series: 3,
            image: 4,
            change: 5,
            pending: 6,
            job: 7,
            worklist: 8,
            alive: [9, 10, 11, 12],
            file_bytes: 13,
        };
        assert_eq!(Counters::decode(&counters.encode()), Some(counters));
    }

    proptest! {
        #[test]
        fn long_text_keys_fit_and_differ(a in ".{0,900}", b in ".{0,900}") {
            let (ka, kb) = (text_key(a.as_bytes()), text_key(b.as_bytes()));
            prop_assert!(ka.len() <= 500 && !ka.is_empty());
            prop_assert_eq!(a == b, ka == kb || (a.is_empty() && b == "\0") || (b.is_empty() && a == "\0"));
        }
    }
}
