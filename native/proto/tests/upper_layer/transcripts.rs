//! Conversations recorded from strangers (DCMTK) or written by hand, each replayed whole, byte by
//! byte and at random splits: the events must be the same.
//!
//! Lines of a file: `<` what the peer sends, in hexadecimal, indented like its structure; `>` what
//! we must have sent at the end, where it is given; `!` an event; `request` makes us the requestor,
//! with called and calling title and then each context's abstract and transfer syntaxes. `#` begins
//! a comment.

use std::fs;
use std::path::Path;
use std::time::Instant;

use proptest::prelude::*;
use pyserver_proto::ae::AeTitle;
use pyserver_proto::association::{Association, Limits};
use pyserver_proto::pdu::{AssociateRq, ProposedContext};

use crate::support::{Cuts, Server, uid};

struct Transcript {
    name: String,
    request: Option<AssociateRq>,
    received: Vec<u8>,
    sent: Vec<u8>,
    events: Vec<String>,
}

impl Transcript {
    fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upper_layer/transcripts");
        let mut paths: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths.iter().map(|path| Self::parse(path)).collect()
    }

    fn parse(path: &Path) -> Self {
        let mut transcript = Self {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            request: None,
            received: Vec::new(),
            sent: Vec::new(),
            events: Vec::new(),
        };
        for line in fs::read_to_string(path).unwrap().lines() {
            let line = line.split('#').next().unwrap().trim_end();
            match line.split_once(' ') {
                None => {}
                Some(("<", hex)) => transcript.received.extend(bytes(hex)),
                Some((">", hex)) => transcript.sent.extend(bytes(hex)),
                Some(("!", event)) => transcript.events.push(event.to_owned()),
                Some(("request", words)) => transcript.request = Some(request(words)),
                Some(_) => panic!("{}: {line}", transcript.name),
            }
        }
        transcript
    }

    fn replay(&self, cuts: Cuts<'_>) {
        let mut server = Server::new(Limits::default());
        if let Some(request) = &self.request {
            server.association = Association::requestor(Limits::default(), request, Instant::now());
            server.releases = true;
            server.act();
            server.sent.clear();
        }
        server.feed(&self.received, cuts);
        server.close();
        assert_eq!(server.lines, self.events, "{} cut {cuts:?}", self.name);
        if !self.sent.is_empty() {
            assert_eq!(server.sent, self.sent, "{} cut {cuts:?}", self.name);
        }
    }
}

fn bytes(hex: &str) -> impl Iterator<Item = u8> {
    hex.split_ascii_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
}

fn request(words: &str) -> AssociateRq {
    let mut words = words.split_ascii_whitespace();
    let mut title = || AeTitle::new(words.next().unwrap()).unwrap();
    let (called, calling) = (title(), title());
    let contexts = words.zip((1..).step_by(2)).map(|(word, id)| {
        let mut uids = word.split(',').map(uid);
        let abstract_syntax = uids.next().unwrap();
        ProposedContext {
            id,
            abstract_syntax,
            transfer_syntaxes: uids.collect(),
        }
    });
    AssociateRq::new(called, calling, contexts.collect())
}

#[test]
fn whole_and_byte_by_byte() {
    let transcripts = Transcript::all();
    assert!(transcripts.len() >= 7);
    for transcript in transcripts {
        transcript.replay(&[]);
        transcript.replay(&[1]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn at_random_splits(cuts in prop::collection::vec(1usize..200, 1..40)) {
        for transcript in Transcript::all() {
            transcript.replay(&cuts);
        }
    }
}
