//! The record of the SOP index in `meta`: which runs there are and what is being done with them.

use crate::bytes::Reader;
use crate::index_error::IndexError;
use crate::lmdb::Tables;
use crate::schema::{ImageKey, Level, meta_key};

/// Bytes of an entry.
pub(crate) const ENTRY: usize = 18;
/// Most entries of an average chunk: three or more chunks share a page.
const CHUNK_ENTRIES: u64 = 72;
/// Runs that become one: with more, entries are moved less often and looked for in more places.
pub(crate) const FAN: usize = 4;

/// Set in the image number of an entry that stands for a study or series, which never has as many bits.
const PARENT: u64 = 1 << 47;

/// What an entry of a study or series has for an image.
pub(crate) fn parent_entry(level: Level, number: u32) -> ImageKey {
    ImageKey {
        series: number,
        image: PARENT | (level as u64) << 32 | u64::from(number),
    }
}

/// The level of what an entry stands for; `None` for one that nobody writes.
pub(crate) fn entry_level(entry: ImageKey) -> Option<Level> {
    if entry.image & PARENT == 0 {
        return Some(Level::Image);
    }
    let level = ((entry.image & !PARENT) >> 32) as usize;
    Level::from_index(level).filter(|level| *level != Level::Image)
}

/// A run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub id: u32,
    /// Bits of the hash that number its chunks.
    pub bits: u32,
    pub entries: u64,
}

/// Some runs on their way to be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Merge {
    /// From two to `FAN`.
    pub inputs: Vec<u32>,
    pub output: Run,
    /// The next chunk of the output.
    pub next: u32,
}

/// The record in `meta`: what runs there are and what is being done with them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SopState {
    /// Key of the hash, so that nobody can aim at a chunk.
    pub key: [u8; 32],
    /// The last change whose images are all in runs.
    pub covered: u64,
    /// Last run number given.
    last_id: u32,
    pub runs: Vec<Run>,
    pub merge: Option<Merge>,
    /// Merged runs whose chunks still have to go.
    pub dropped: Vec<u32>,
}

impl SopState {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.key.to_vec();
        out.extend_from_slice(&self.covered.to_be_bytes());
        out.extend_from_slice(&self.last_id.to_be_bytes());
        put_runs(&mut out, &self.runs);
        match &self.merge {
            None => out.push(0),
            Some(merge) => {
                out.push(merge.inputs.len() as u8);
                for id in &merge.inputs {
                    out.extend_from_slice(&id.to_be_bytes());
                }
                put_runs(&mut out, &[merge.output]);
                out.extend_from_slice(&merge.next.to_be_bytes());
            }
        }
        out.extend_from_slice(&(self.dropped.len() as u32).to_be_bytes());
        for id in &self.dropped {
            out.extend_from_slice(&id.to_be_bytes());
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        let mut state = Self {
            key: r.take(32)?.try_into().ok()?,
            covered: r.u64()?,
            last_id: r.u32()?,
            runs: take_runs(&mut r)?,
            merge: None,
            dropped: Vec::new(),
        };
        let inputs = match r.u8()? {
            // As it was when all merges had two.
            1 => 2,
            inputs => inputs,
        };
        if inputs > 0 {
            state.merge = Some(Merge {
                inputs: (0..inputs).map(|_| r.u32()).collect::<Option<_>>()?,
                output: *take_runs(&mut r)?.first()?,
                next: r.u32()?,
            });
        }
        for _ in 0..r.u32()? {
            state.dropped.push(r.u32()?);
        }
        Some(state)
    }

    /// The hash of an identifier. That of a study or series is not that of an image with the same identifier.
    pub fn hash(&self, level: Level, uid: &[u8]) -> u64 {
        let hash = if level == Level::Image {
            blake3::keyed_hash(&self.key, uid)
        } else {
            let mut hasher = blake3::Hasher::new_keyed(&self.key);
            hasher.update(&[level as u8]).update(uid).finalize()
        };
        hash.as_bytes()
            .first_chunk()
            .map_or(0, |b| u64::from_be_bytes(*b))
    }

    pub fn entries(&self) -> u64 {
        self.runs.iter().map(|run| run.entries).sum()
    }

    pub fn new_run(&mut self, entries: u64) -> Run {
        self.last_id = self.last_id.wrapping_add(1);
        let chunks = entries.div_ceil(CHUNK_ENTRIES).next_power_of_two();
        Run {
            id: self.last_id,
            bits: chunks.trailing_zeros(),
            entries,
        }
    }

    /// Runs to merge: as soon as there are `FAN` of about the same size, the smallest of them, so that there are few
    /// of each size. With `many_dead` entries the largest, whatever their size: merging drops those.
    pub fn group(&self, many_dead: bool) -> Option<Vec<Run>> {
        let mut runs = self.runs.clone();
        runs.sort_by_key(|run| run.entries);
        if many_dead {
            let largest = runs.split_off(runs.len().saturating_sub(FAN));
            return (largest.len() > 1).then_some(largest);
        }
        let size = |run: &Run| run.entries.max(1).ilog(FAN as u64);
        let mut alike = runs.chunk_by(|a, b| size(a) == size(b));
        let group = alike.find(|runs| runs.len() >= FAN)?;
        Some(group.iter().take(FAN).copied().collect())
    }
}

fn put_runs(out: &mut Vec<u8>, runs: &[Run]) {
    out.extend_from_slice(&(runs.len() as u32).to_be_bytes());
    for run in runs {
        out.extend_from_slice(&run.id.to_be_bytes());
        out.extend_from_slice(&run.bits.to_be_bytes());
        out.extend_from_slice(&run.entries.to_be_bytes());
    }
}

fn take_runs(r: &mut Reader<'_>) -> Option<Vec<Run>> {
    let mut runs = Vec::new();
    for _ in 0..r.u32()? {
        runs.push(Run {
            id: r.u32()?,
            bits: r.u32().filter(|bits| *bits <= 32)?,
            entries: r.u64()?,
        });
    }
    Some(runs)
}

impl Run {
    /// The chunk that holds a hash.
    pub fn chunk(self, hash: u64) -> u32 {
        hash.checked_shr(64 - self.bits).unwrap_or(0) as u32
    }
}

pub(crate) fn chunk_key(run: u32, chunk: u32) -> [u8; 8] {
    crate::schema::kid_key(run, chunk)
}

pub(crate) fn put_entry(out: &mut Vec<u8>, hash: u64, image: u64, series: u32) {
    out.extend_from_slice(&hash.to_be_bytes());
    out.extend_from_slice(image.to_be_bytes().get(2..).unwrap_or_default());
    out.extend_from_slice(&series.to_be_bytes());
}

/// Hash, image and series of an entry.
pub(crate) fn entry(bytes: &[u8]) -> Option<(u64, u64, u32)> {
    let mut r = Reader::new(bytes);
    let hash = r.u64()?;
    let image = u64::from(r.u16()?) << 32 | u64::from(r.u32()?);
    Some((hash, image, r.u32()?))
}

/// The record, or a fresh one.
pub(crate) fn read_state(tables: &Tables, txn: &heed::RoTxn<'_>) -> Result<SopState, IndexError> {
    match tables.meta.get(txn, meta_key::SOP)? {
        None => Ok(SopState::default()),
        Some(bytes) => SopState::decode(bytes).ok_or(IndexError::Corrupt("sop record")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(id: u32, entries: u64) -> Run {
        Run {
            id,
            bits: 4,
            entries,
        }
    }

    fn state() -> SopState {
        SopState {
            key: [7; 32],
            covered: 1,
            last_id: 5,
            runs: vec![run(3, 99)],
            merge: Some(Merge {
                inputs: vec![1, 2, 6],
                output: run(3, 99),
                next: 9,
            }),
            dropped: vec![4],
        }
    }

    #[test]
    fn entries_say_what_they_stand_for() {
        for level in [Level::Patient, Level::Study, Level::Series] {
            let entry = parent_entry(level, u32::MAX);
            assert_eq!((entry_level(entry), entry.series), (Some(level), u32::MAX));
            let mut bytes = Vec::new();
            put_entry(&mut bytes, 1, entry.image, entry.series);
            assert_eq!(super::entry(&bytes), Some((1, entry.image, entry.series)));
            assert_ne!(
                state().hash(level, b"1.2"),
                state().hash(Level::Image, b"1.2")
            );
        }
        let image = ImageKey {
            series: 1,
            image: PARENT - 1,
        };
        assert_eq!(entry_level(image), Some(Level::Image));
    }

    #[test]
    fn the_record_comes_back() {
        assert_eq!(SopState::decode(&state().encode()), Some(state()));
        let idle = SopState {
            merge: None,
            ..state()
        };
        assert_eq!(SopState::decode(&idle.encode()), Some(idle));
    }

    #[test]
    fn a_merge_of_an_older_record_has_two_inputs() {
        let mut wanted = state();
        wanted.merge.as_mut().unwrap().inputs = vec![1, 2];
        let mut record = wanted.encode();
        let at = 32 + 8 + 4 + (4 + 16);
        assert_eq!(record[at], 2);
        record[at] = 1;
        assert_eq!(SopState::decode(&record), Some(wanted));
    }

    #[test]
    fn runs_of_about_the_same_size_are_merged() {
        let group = |sizes: &[u64], many_dead| {
            let runs = sizes.iter().zip(1..).map(|(n, id)| run(id, *n)).collect();
            let state = SopState { runs, ..state() };
            let group = state.group(many_dead);
            group.map(|runs| runs.iter().map(|run| run.entries).collect::<Vec<_>>())
        };
        assert_eq!(group(&[70, 1100, 80, 90], false), None);
        let five = [1100, 70, 80, 90, 5000, 120, 100];
        assert_eq!(group(&five, false), Some(vec![70, 80, 90, 100]));
        assert_eq!(group(&[0, 0, 0, 0], false), Some(vec![0; 4]));
        assert_eq!(group(&five, true), Some(vec![100, 120, 1100, 5000]));
        assert_eq!(group(&[70], true), None);
    }

    proptest! {
        #[test]
        fn damaged_records_are_no_states(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
            if let Some(state) = SopState::decode(&bytes) {
                prop_assert_eq!(SopState::decode(&state.encode()), Some(state));
            }
        }
    }
}
