//! Every file of the corpora through its target: what was found once stays found, and no target rots.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pyserver_fuzz_targets::TARGETS;

/// A checkout must stay small.
const CORPORA_BYTES_MAX: u64 = 300 * 1024;

#[test]
fn every_input_passes_its_target() {
    for (name, target) in TARGETS {
        // Inputs that no parser needs a corpus for.
        target(b"");
        target(&[0; 300]);
        target(&[0xFF; 300]);
        for file in files(&corpora().join(name)) {
            let input = fs::read(&file).unwrap_or_default();
            assert!(!input.is_empty(), "{} is empty", file.display());
            // Shown by the test runner when the target panics.
            println!("{}", file.display());
            target(&input);
        }
    }
}

#[test]
fn corpora_are_small_and_belong_to_a_target() {
    let known: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(known.len(), TARGETS.len(), "two targets share a name");
    let mut bytes = 0;
    for name in known {
        let files = files(&corpora().join(name));
        assert!(!files.is_empty(), "{name} has no corpus");
        bytes += files.iter().map(|file| size(file)).sum::<u64>();
    }
    assert!(bytes < CORPORA_BYTES_MAX, "the corpora have {bytes} bytes");
}

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn size(file: &Path) -> u64 {
    file.metadata().map_or(0, |meta| meta.len())
}
