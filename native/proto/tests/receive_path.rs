//! The receiving path allocates per message, never per fragment, and copies nothing.
//!
//! `cargo test --release --test receive_path -- --ignored --nocapture` prints what it costs.

#![allow(clippy::expect_used)] // Tests fail by panicking.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

use proptest::prelude::*;
use pyserver_proto::ae::AeTitle;
use pyserver_proto::association::{Association, Event, Limits};
use pyserver_proto::dimse::{CStoreRq, CommandRequest, CommandResponse, Priority};
use pyserver_proto::negotiate::{AcceptPolicy, AcceptedSyntax, negotiate};
use pyserver_proto::pdu::{AssociateRq, ProposedContext};
use pyserver_proto::status::Status;
use pyserver_proto::uid::Uid;

const CLASS: Uid = Uid::from_static("1.2.840.10008.5.1.4.1.1.2");
const SYNTAX: Uid = Uid::from_static("1.2.840.10008.1.2.1");

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn allocations_do_not_grow_with_fragments() {
    for (object_bytes, pdu_bytes) in [(3_600, 16_384), (524_288, 16_384), (524_288, 1_024)] {
        let mut server = established();
        let message = message(object_bytes, pdu_bytes);
        receive(&mut server, &message, 65_536);
        receive(&mut server, &message, 65_536);
        let before = ALLOCATIONS.with(Cell::get);
        for _ in 0..10 {
            assert_eq!(receive(&mut server, &message, 65_536), object_bytes);
        }
        let allocations = ALLOCATIONS.with(Cell::get) - before;
        // One for the copy of the command set, which the event owns.
        assert_eq!(allocations, 10, "{object_bytes} in PDUs of {pdu_bytes}");
    }
}

#[test]
fn a_stream_of_any_length_stays_in_the_first_buffers() {
    let mut server = established();
    let message = message(524_288, 131_072);
    for _ in 0..20 {
        receive(&mut server, &message, usize::MAX);
    }
    assert_eq!(server.read_space().len(), 256 * 1024);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Fragments read elsewhere give the same data sets as the receive buffer does.
    #[test]
    fn fragments_may_be_read_elsewhere(
        sizes in prop::collection::vec(1usize..200_000, 1..5),
        pdu_bytes in 1_000usize..300_000,
        reads in prop::collection::vec((1usize..70_000, 1usize..200_000), 1..20),
    ) {
        let stream: Vec<u8> = sizes.iter().flat_map(|&size| message(size, pdu_bytes)).collect();
        let mut server = established();
        let (mut rest, mut data, mut found) = (&stream[..], Vec::new(), Vec::new());
        for (read_bytes, room) in reads.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let ahead = server.fragment_ahead();
            let n = if ahead > 0 {
                let n = (*room).min(rest.len()).min(ahead);
                let whole = server.received_elsewhere(n, Instant::now());
                data.extend_from_slice(&rest[..n]);
                if whole {
                    found.push(std::mem::take(&mut data));
                }
                n
            } else {
                let space = server.read_space();
                let n = rest.len().min(space.len()).min(*read_bytes);
                space[..n].copy_from_slice(&rest[..n]);
                server.received(n, Instant::now());
                n
            };
            rest = &rest[n..];
            while let Some(event) = server.next_event() {
                if let Event::Data { fragment, last, .. } = event {
                    data.extend_from_slice(fragment);
                    if last {
                        found.push(std::mem::take(&mut data));
                    }
                }
            }
        }
        let sent: Vec<Vec<u8>> = sizes
            .iter()
            .map(|&size| (0..size).map(|n| n as u8).collect())
            .collect();
        prop_assert_eq!(found, sent);
    }
}

#[test]
#[ignore = "a measurement, for people"]
fn cost_of_receiving() {
    for (object_bytes, pdu_bytes, read_bytes) in [
        (3_600, 16_384, 65_536),
        (524_288, 16_384, 65_536),
        (524_288, 131_072, 262_144),
        (524_288, 1_048_576, 262_144),
    ] {
        let mut server = established();
        let message = message(object_bytes, pdu_bytes);
        let rounds = 2_000_000_000 / message.len().max(60_000);
        let start = Instant::now();
        for _ in 0..rounds {
            receive(&mut server, &message, read_bytes);
        }
        let elapsed = start.elapsed();
        // The same without the protocol: what filling the buffer costs.
        let mut buffer = vec![0; 262_144];
        let start = Instant::now();
        for _ in 0..rounds {
            for piece in message.chunks(read_bytes.min(buffer.len())) {
                buffer[..piece.len()].copy_from_slice(piece);
                std::hint::black_box(&mut buffer);
            }
        }
        let copy = start.elapsed();
        let own = elapsed.saturating_sub(copy);
        println!(
            "{object_bytes} bytes in PDUs of {pdu_bytes}: {:.0} ns a message, {:.1} ns a PDU, \
             above the copy",
            own.as_nanos() as f64 / rounds as f64,
            own.as_nanos() as f64 / (rounds * object_bytes.div_ceil(pdu_bytes)) as f64,
        );
    }
}

/// An acceptor with one context and an empty output.
fn established() -> Association {
    let title = |text| AeTitle::new(text).expect("a title");
    let context = ProposedContext {
        id: 1,
        abstract_syntax: CLASS,
        transfer_syntaxes: vec![SYNTAX],
    };
    let rq = AssociateRq::new(title("SERVER"), title("CLIENT"), vec![context]);
    let mut bytes = Vec::new();
    rq.encode(&mut bytes);
    let mut server = Association::acceptor(Limits::default(), Instant::now());
    server.read_space()[..bytes.len()].copy_from_slice(&bytes);
    server.received(bytes.len(), Instant::now());
    let replies = match server.next_event() {
        Some(Event::AssociateRequested(rq)) => {
            let mut policy = AcceptPolicy::new();
            let syntax = AcceptedSyntax {
                transfer_syntaxes: vec![SYNTAX],
                requestor_scp: false,
            };
            policy.support(CLASS, syntax);
            negotiate(&rq, &policy)
        }
        other => unreachable!("{other:?}"),
    };
    server.accept(&replies);
    server.output_written(server.output().len());
    server
}

/// A C-STORE as a peer sends it that takes PDUs of `pdu_bytes`.
fn message(object_bytes: usize, pdu_bytes: usize) -> Vec<u8> {
    let mut sender = established();
    let request = CommandRequest::CStore(CStoreRq {
        message_id: 1,
        sop_class_uid: CLASS,
        sop_instance_uid: Uid::from_static("1.2.826.0.1.3680043.10.999.1.2.3.4.5.6"),
        priority: Priority::Medium,
        move_originator_ae: None,
        move_originator_message_id: None,
    });
    sender.send_command(1, &request.to_bytes());
    let mut bytes = sender.output().to_vec();
    let data: Vec<u8> = (0..object_bytes).map(|n| n as u8).collect();
    let chunk = pdu_bytes - 6;
    let last = data.len().div_ceil(chunk) - 1;
    for (i, piece) in data.chunks(chunk).enumerate() {
        bytes.extend(sender.pdata_header(1, piece.len() as u32, i == last));
        bytes.extend_from_slice(piece);
    }
    bytes
}

/// Feeds one message in reads of at most `read_bytes` and answers it; returns the data set's size.
fn receive(server: &mut Association, message: &[u8], read_bytes: usize) -> usize {
    let now = Instant::now();
    let mut rest = message;
    let mut data = 0;
    while !rest.is_empty() {
        let space = server.read_space();
        let n = rest.len().min(space.len()).min(read_bytes);
        space[..n].copy_from_slice(&rest[..n]);
        rest = &rest[n..];
        server.received(n, now);
        while let Some(event) = server.next_event() {
            match event {
                Event::Data { fragment, last, .. } => {
                    data += fragment.len();
                    assert!(!last || rest.is_empty());
                }
                Event::Command { .. } => data = 0,
                other => unreachable!("{other:?}"),
            }
        }
    }
    data
}

#[test]
fn answering_allocates_nothing() {
    let mut server = established();
    let response = CommandResponse::new(1, 1, Status::SUCCESS);
    let mut command = Vec::new();
    let mut answer = |server: &mut Association| {
        command.clear();
        response.encode(&mut command);
        server.send_command(1, &command);
        let n = server.output().len();
        server.output_written(n);
    };
    answer(&mut server);
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..100 {
        answer(&mut server);
    }
    assert_eq!(
        ALLOCATIONS.with(Cell::get),
        before,
        "the buffers are reused"
    );
}
