//! The fuzzing program: libFuzzer around the target that `FUZZ_TARGET` names.
//!
//! Built and run by `run.sh`. The targets themselves are an ordinary library (`targets/`), tested
//! with the corpora by the main workspace.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use pyserver_fuzz_targets::{TARGETS, Target};

static CHOSEN: OnceLock<Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let Some(&(_, target)) = TARGETS.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            eprintln!("FUZZ_TARGET must be one of: {}", names.join(" "));
            std::process::exit(2);
        };
        CHOSEN.get_or_init(|| target);
    },
    |data: &[u8]| -> Corpus {
        if let Some(target) = CHOSEN.get() {
            target(data);
        }
        Corpus::Keep
    }
);
