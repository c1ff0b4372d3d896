//! Two associations joined in memory, with a clock of their own: every service from end to end.

use std::time::{Duration, Instant};

use pyserver_proto::ae::AeTitle;
use pyserver_proto::association::{Association, Event, Limits};
use pyserver_proto::dimse::{
    CEchoRq, CFindRq, CGetRq, CStoreRq, CommandRequest, CommandResponse, Priority, SubOperations,
};
use pyserver_proto::negotiate::negotiate;
use pyserver_proto::pdu::{AssociateRq, ProposedContext, RoleSelection, UserInfo};
use pyserver_proto::state::State;
use pyserver_proto::status::Status;

use crate::support::{
    CT, EXPLICIT, IMPLICIT, STUDY_FIND, STUDY_GET, VERIFICATION, describe, policy, uid,
};

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// A requestor, an acceptor and the wire between them.
struct Pair {
    ends: [Association; 2],
    now: Instant,
    /// Bytes that one transfer carries.
    mtu: usize,
    /// Time that one transfer takes.
    latency: Duration,
    /// Events of each end, data sets as one line.
    events: [Vec<String>; 2],
    /// Data set bytes that each end got.
    data: [Vec<u8>; 2],
}

impl Pair {
    fn new(limits: [Limits; 2]) -> Self {
        let contexts = [
            (1, VERIFICATION, &[IMPLICIT][..]),
            (3, STUDY_FIND, &[IMPLICIT]),
            (5, STUDY_GET, &[EXPLICIT, IMPLICIT]),
            (7, CT, &[EXPLICIT]),
            (9, "1.2.3.4", &[IMPLICIT]),
        ];
        let contexts = contexts.map(|(id, class, syntaxes)| ProposedContext {
            id,
            abstract_syntax: uid(class),
            transfer_syntaxes: syntaxes.iter().map(|s| uid(s)).collect(),
        });
        let title = |text| AeTitle::new(text).unwrap();
        let mut rq = AssociateRq::new(title("SERVER"), title("CLIENT"), contexts.into());
        rq.user_info.roles = vec![RoleSelection {
            sop_class_uid: uid(CT),
            scu: true,
            scp: true,
        }];
        let now = Instant::now();
        let [client, server] = limits;
        let requestor = Association::requestor(client, &rq, now);
        Self {
            ends: [requestor, Association::acceptor(server, now)],
            now,
            mtu: 1460,
            latency: Duration::from_millis(1),
            events: [Vec::new(), Vec::new()],
            data: [Vec::new(), Vec::new()],
        }
    }

    /// An established association.
    fn established(limits: [Limits; 2]) -> Self {
        let mut pair = Self::new(limits);
        pair.run();
        assert_eq!(pair.take(CLIENT), ["associated"]);
        assert_eq!(pair.take(SERVER).len(), 1);
        pair
    }

    /// Carries bytes and acts until both ends are quiet.
    fn run(&mut self) {
        while self.carry(CLIENT) | self.carry(SERVER) {}
    }

    /// Carries one transfer from an end to the other.
    fn carry(&mut self, from: usize) -> bool {
        let [client, server] = &mut self.ends;
        let (source, sink) = if from == CLIENT {
            (client, server)
        } else {
            (server, client)
        };
        let space = sink.read_space();
        let n = source.output().len().min(space.len()).min(self.mtu);
        space[..n].copy_from_slice(&source.output()[..n]);
        source.output_written(n);
        self.now += self.latency;
        if n > 0 {
            sink.received(n, self.now);
        }
        let to = 1 - from;
        while let Some(event) = self.ends[to].next_event() {
            let mut accept = None;
            match &event {
                Event::Data { fragment, last, .. } => {
                    self.data[to].extend_from_slice(fragment);
                    if *last {
                        self.events[to].push(format!("data of {} bytes", self.data[to].len()));
                    }
                }
                event => self.events[to].push(describe(event)),
            }
            if let Event::AssociateRequested(rq) = &event {
                accept = Some(negotiate(rq, &policy()));
            }
            let release = event == Event::ReleaseRequested;
            drop(event);
            if let Some(replies) = accept {
                self.ends[to].accept(&replies);
            }
            if release {
                self.ends[to].accept_release();
            }
        }
        n > 0
    }

    fn send(&mut self, from: usize, context_id: u8, command: &[u8], data: Option<&[u8]>) {
        self.ends[from].send_command(context_id, command);
        if let Some(data) = data {
            self.ends[from].send_dataset(context_id, data);
        }
        self.run();
    }

    fn take(&mut self, end: usize) -> Vec<String> {
        self.data[end].clear();
        std::mem::take(&mut self.events[end])
    }

    fn states(&self) -> [State; 2] {
        [self.ends[CLIENT].state(), self.ends[SERVER].state()]
    }
}

fn limits(pdu_bytes_max: u32) -> Limits {
    Limits {
        pdu_bytes_max,
        ..Limits::default()
    }
}

fn defaults() -> [Limits; 2] {
    [Limits::default(), Limits::default()]
}

fn store(message_id: u16) -> CommandRequest {
    CommandRequest::CStore(CStoreRq {
        message_id,
        sop_class_uid: uid(CT),
        sop_instance_uid: uid("1.2.3"),
        priority: Priority::Medium,
        move_originator_ae: None,
        move_originator_message_id: None,
    })
}

#[test]
fn negotiation_reaches_both_ends() {
    let pair = Pair::established([limits(20_000), limits(30_000)]);
    let [client, server] = &pair.ends;
    assert_eq!(client.contexts(), server.contexts());
    let ids: Vec<_> = client.contexts().iter().map(|c| c.id).collect();
    assert_eq!(ids, [1, 3, 5, 7], "the unknown class is refused alone");
    assert_eq!(
        client.context(5).map(|c| c.transfer_syntax),
        Some(uid(EXPLICIT))
    );
    assert_eq!(
        client.context(7).map(|c| (c.scu_role, c.scp_role)),
        Some((true, true))
    );
    assert_eq!(
        client.context(3).map(|c| (c.scu_role, c.scp_role)),
        Some((true, false))
    );
    assert_eq!(
        (client.peer().max_pdu, server.peer().max_pdu),
        (30_000, 20_000)
    );
    assert_eq!(client.peer().implementation_version, "PYSERVER_010");
    assert_eq!(server.peer().calling_ae.as_str(), "CLIENT");
    assert_eq!(client.peer().called_ae.as_str(), "SERVER");
}

#[test]
fn echo_and_release() {
    let mut pair = Pair::established(defaults());
    let request = CommandRequest::CEcho(CEchoRq {
        message_id: 7,
        sop_class_uid: uid(VERIFICATION),
    });
    pair.send(CLIENT, 1, &request.to_bytes(), None);
    assert_eq!(pair.take(SERVER), ["command 1: 0030 message 7"]);
    let response = CommandResponse::to(&request, Status::SUCCESS);
    pair.send(SERVER, 1, &response.to_bytes(), None);
    assert_eq!(pair.take(CLIENT), ["command 1: 8030 message 7"]);
    pair.ends[CLIENT].request_release();
    pair.run();
    assert_eq!(pair.take(SERVER), ["release requested"]);
    assert_eq!(pair.take(CLIENT), ["released"]);
    assert_eq!(pair.states(), [State::Sta1, State::Sta13]);
    assert!(pair.ends.iter().all(Association::is_closed));
}

#[test]
fn store_through_pdus_of_any_size() {
    let data: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    for max in [7, 8, 9, 64, 4096, 16_384, 131_072, 0] {
        let mut pair = Pair::new(defaults());
        pair.ends[SERVER] = Association::acceptor(limits(max), pair.now);
        pair.mtu = 60_000;
        pair.run();
        let sized = &data[..if max == 0 || max > 100 {
            data.len()
        } else {
            500
        }];
        let chunk = pair.ends[CLIENT].data_chunk_max();
        assert!(max == 0 || chunk + 6 <= max);
        assert!(chunk.is_multiple_of(2) || max == 7);
        pair.take(SERVER);
        pair.send(CLIENT, 7, &store(1).to_bytes(), Some(sized));
        assert_eq!(pair.data[SERVER], sized, "{max}");
        let done = format!("data of {} bytes", sized.len());
        assert_eq!(
            pair.take(SERVER),
            ["command 7: 0001 message 1, data set follows", &*done]
        );
    }
}

#[test]
fn a_peer_without_a_limit_gets_our_own() {
    let mut pair = Pair::new([limits(50_000), Limits::default()]);
    pair.ends[SERVER] = Association::acceptor(limits(0), pair.now);
    pair.run();
    assert_eq!(pair.ends[CLIENT].peer().max_pdu, 0);
    assert_eq!(pair.ends[CLIENT].data_chunk_max(), 49_994);
}

#[test]
fn zero_copy_header_is_what_send_dataset_writes() {
    let mut pair = Pair::established([limits(16_384), limits(16_384)]);
    let data = vec![9; 40_000];
    let chunk = pair.ends[CLIENT].data_chunk_max() as usize;
    let mut by_hand = Vec::new();
    for (i, piece) in data.chunks(chunk).enumerate() {
        let last = (i + 1) * chunk >= data.len();
        by_hand.extend(pair.ends[CLIENT].pdata_header(7, piece.len() as u32, last));
        by_hand.extend_from_slice(piece);
    }
    pair.ends[CLIENT].send_dataset(7, &data);
    assert_eq!(pair.ends[CLIENT].output(), by_hand);
}

#[test]
fn several_responses_wait_in_one_output() {
    let mut pair = Pair::established(defaults());
    let request = CommandRequest::CFind(CFindRq {
        message_id: 3,
        sop_class_uid: uid(STUDY_FIND),
        priority: Priority::Medium,
    });
    pair.send(CLIENT, 3, &request.to_bytes(), Some(b"identifier"));
    pair.take(SERVER);
    let pending = CommandResponse::to(&request, Status::PENDING)
        .with_dataset()
        .to_bytes();
    for _ in 0..3 {
        pair.ends[SERVER].send_command(3, &pending);
        pair.ends[SERVER].send_dataset(3, b"match");
    }
    let last = CommandResponse::to(&request, Status::SUCCESS).to_bytes();
    pair.send(SERVER, 3, &last, None);
    let events = pair.take(CLIENT);
    assert_eq!(events.len(), 7);
    assert_eq!(
        events.last().map(String::as_str),
        Some("command 3: 8020 message 3")
    );
}

#[test]
fn get_with_a_nested_store() {
    let mut pair = Pair::established(defaults());
    let get = CommandRequest::CGet(CGetRq {
        message_id: 1,
        sop_class_uid: uid(STUDY_GET),
        priority: Priority::Medium,
    });
    pair.send(CLIENT, 5, &get.to_bytes(), Some(b"identifier"));
    pair.send(SERVER, 7, &store(1).to_bytes(), Some(&[1; 5000]));
    assert_eq!(
        pair.take(CLIENT),
        [
            "command 7: 0001 message 1, data set follows",
            "data of 5000 bytes"
        ]
    );
    pair.send(
        CLIENT,
        7,
        &CommandResponse::to(&store(1), Status::SUCCESS).to_bytes(),
        None,
    );
    let counts = SubOperations {
        remaining: None,
        completed: 1,
        failed: 0,
        warning: 0,
    };
    let done = CommandResponse::to(&get, Status::SUCCESS).with_sub_operations(counts);
    pair.send(SERVER, 5, &done.to_bytes(), None);
    assert_eq!(pair.take(CLIENT), ["command 5: 8010 message 1"]);
}

#[test]
fn rejection() {
    let mut pair = Pair::new(defaults());
    let n = pair.ends[CLIENT].output().len();
    let rq = pair.ends[CLIENT].output().to_vec();
    pair.ends[SERVER].read_space()[..n].copy_from_slice(&rq);
    pair.ends[CLIENT].output_written(n);
    pair.ends[SERVER].received(n, pair.now);
    assert!(matches!(
        pair.ends[SERVER].next_event(),
        Some(Event::AssociateRequested(_))
    ));
    pair.ends[SERVER].reject(2, 3, 2);
    pair.run();
    assert_eq!(pair.take(CLIENT), ["rejected 2,3,2"]);
    assert_eq!(pair.states(), [State::Sta1, State::Sta13]);
}

#[test]
fn abort_reaches_the_other_end() {
    let mut pair = Pair::established(defaults());
    pair.ends[SERVER].abort(0, 5);
    pair.run();
    assert_eq!(
        pair.take(CLIENT),
        ["aborted 0,0"],
        "a service user has no reason"
    );
    assert_eq!(pair.states(), [State::Sta1, State::Sta13]);
}

#[test]
fn release_collision() {
    for latency in [0, 1, 50] {
        let mut pair = Pair::established(defaults());
        pair.latency = Duration::from_millis(latency);
        pair.ends[CLIENT].request_release();
        pair.ends[SERVER].request_release();
        pair.run();
        for end in [CLIENT, SERVER] {
            assert_eq!(pair.take(end), ["release requested", "released"]);
        }
        assert_eq!(pair.states(), [State::Sta1, State::Sta13]);
        assert!(pair.ends.iter().all(|end| end.output().is_empty()));
    }
}

#[test]
fn silence_ends_an_association_and_activity_prolongs_it() {
    let mut pair = Pair::established(defaults());
    let due = pair.ends[SERVER].poll_timeout().unwrap();
    assert!(due >= pair.now + Duration::from_secs(299));
    pair.ends[SERVER].activity(due);
    pair.ends[SERVER].handle_timeout(due);
    assert_eq!(pair.states()[SERVER], State::Sta6);
    pair.ends[SERVER].handle_timeout(due + Duration::from_secs(300));
    pair.run();
    assert_eq!(pair.take(CLIENT), ["aborted 2,0"]);
    assert_eq!(pair.take(SERVER), ["timed out"]);
}

#[test]
fn artim_is_not_prolonged_by_drops_of_a_request() {
    let now = Instant::now();
    let mut server = Association::acceptor(Limits::default(), now);
    let due = server.poll_timeout();
    assert_eq!(due, Some(now + Duration::from_secs(30)));
    for (n, byte) in [1, 0, 0, 0].into_iter().enumerate() {
        server.read_space()[0] = byte;
        server.received(1, now + Duration::from_secs(7 * (n as u64 + 1)));
        assert_eq!(server.next_event(), None);
    }
    assert_eq!(server.poll_timeout(), due);
    server.handle_timeout(now + Duration::from_secs(30));
    assert_eq!(server.next_event(), Some(Event::TimedOut));
    assert!(server.is_closed());
    assert_eq!(server.output(), b"", "there is no association to abort");
}

#[test]
fn what_lies_in_the_buffer_is_delivered_before_the_end() {
    let mut pair = Pair::established(defaults());
    pair.ends[CLIENT].send_command(7, &store(1).to_bytes());
    pair.ends[CLIENT].send_dataset(7, b"data set");
    let bytes = pair.ends[CLIENT].output().to_vec();
    let server = &mut pair.ends[SERVER];
    server.read_space()[..bytes.len()].copy_from_slice(&bytes);
    server.received(bytes.len(), pair.now);
    server.connection_closed();
    let mut lines = Vec::new();
    while let Some(event) = server.next_event() {
        lines.push(describe(&event));
    }
    let command = "command 7: 0001 message 1, data set follows";
    assert_eq!(lines, [command, "data 7: 8 bytes", "connection closed"]);
}

#[test]
fn an_acceptance_can_say_more() {
    let mut server = Association::acceptor(Limits::default(), Instant::now());
    let rq = crate::support::request(&[(1, VERIFICATION, &[IMPLICIT])]);
    server.read_space()[..rq.len()].copy_from_slice(&rq);
    server.received(rq.len(), Instant::now());
    let Some(Event::AssociateRequested(rq)) = server.next_event() else {
        panic!()
    };
    let info = UserInfo {
        user_identity_response: Some(b"ok".to_vec()),
        ..UserInfo::ours()
    };
    server.accept_with(&negotiate(&rq, &policy()), &info);
    let (pdu, _) = pyserver_proto::pdu::Pdu::decode(server.output(), 65_536)
        .unwrap()
        .unwrap();
    let pyserver_proto::pdu::Pdu::AssociateAc(ac) = pdu else {
        panic!()
    };
    assert_eq!(
        ac.user_info.user_identity_response.as_deref(),
        Some(&b"ok"[..])
    );
    assert_eq!(ac.user_info.max_pdu, Some(1024 * 1024));
}
