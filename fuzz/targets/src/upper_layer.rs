//! The upper layer: single PDUs, and whole conversations with an association on either side.
//!
//! The first byte of a conversation chooses limits and answers, the second how the stream is cut into reads.
//! Cutting must not matter, nor where fragments are read to: events and answers are compared with those of the same
//! stream in one piece.

use std::time::{Duration, Instant};

use pyserver_proto::ae::AeTitle;
use pyserver_proto::association::{Association, Event, Limits};
use pyserver_proto::dimse::{CommandResponse, CommandSet};
use pyserver_proto::negotiate::{AcceptPolicy, AcceptedSyntax, Preference, negotiate};
use pyserver_proto::pdu::{AssociateRq, Pdu, ProposedContext, Rejection};
use pyserver_proto::status::Status;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::Uid;

use crate::input::{Input, piece_bytes};

/// Largest A-ASSOCIATE taken here.
const ASSOCIATE_BYTES_MAX: u32 = 64 * 1024;
/// The receive buffer may be this large at most, whatever comes.
const BUFFER_BYTES_MAX: usize = 512 * 1024;

/// Bits of the first byte of a conversation.
mod choice {
    pub(super) const TIGHT: u8 = 1;
    pub(super) const REJECT: u8 = 2;
    pub(super) const MUTE: u8 = 4;
    pub(super) const PEERS_ORDER: u8 = 8;
    pub(super) const CLOSE: u8 = 16;
    pub(super) const RELEASE_FIRST: u8 = 32;
}

/// One PDU: what is decoded is encoded and decoded to the same again.
pub fn pdu(data: &[u8]) {
    let Ok(Some((pdu, used))) = Pdu::decode(data, ASSOCIATE_BYTES_MAX) else {
        return;
    };
    assert!(used <= data.len(), "used {used} of {}", data.len());
    let mut bytes = Vec::new();
    pdu.encode(&mut bytes);
    // Encoding normalises (an absent implementation class is written as ours), so the bound has room.
    let again = Pdu::decode(&bytes, 2 * ASSOCIATE_BYTES_MAX);
    let Ok(Some((again, used))) = again else {
        panic!("what was encoded cannot be decoded: {again:?}");
    };
    assert_eq!(used, bytes.len());
    let mut twice = Vec::new();
    again.encode(&mut twice);
    assert_eq!(bytes, twice, "encoding is not stable");
}

/// A stranger's bytes to a server.
pub fn acceptor(data: &[u8]) {
    converse(data, Association::acceptor);
}

/// A stranger's bytes to a client that has asked for an association.
pub fn requestor(data: &[u8]) {
    converse(data, |limits, now| {
        Association::requestor(limits, &our_request(), now)
    });
}

fn converse(data: &[u8], start: impl Fn(Limits, Instant) -> Association) {
    let mut input = Input::new(data);
    let choices = input.byte();
    let piece = piece_bytes(input.byte());
    let stream = input.rest();
    let now = Instant::now();
    let run = |piece, elsewhere| {
        let association = start(limits(choices), now);
        Conversation::new(association, choices, now).run(stream, piece, elsewhere)
    };
    let whole = run(usize::MAX, false);
    for elsewhere in [false, true] {
        let cut = run(piece, elsewhere);
        assert_eq!(whole.seen, cut.seen, "events depend on how reads are cut");
        assert_eq!(whole.sent, cut.sent, "answers depend on how reads are cut");
    }
}

fn limits(choices: u8) -> Limits {
    if choices & choice::TIGHT == 0 {
        return Limits {
            associate_bytes_max: ASSOCIATE_BYTES_MAX,
            ..Limits::default()
        };
    }
    Limits {
        pdu_bytes_max: 512,
        associate_bytes_max: 4096,
        command_bytes_max: 256,
        contexts_max: 3,
        artim: Duration::from_secs(1),
        idle: Duration::from_secs(2),
    }
}

fn uid(text: &'static str) -> Uid {
    Uid::from_static(text)
}

fn our_request() -> AssociateRq {
    let title = |text| AeTitle::from_wire(text);
    let syntaxes = vec![
        TransferSyntax::EXPLICIT_LE_UID,
        TransferSyntax::IMPLICIT_LE_UID,
    ];
    let context = |id, abstract_syntax| ProposedContext {
        id,
        abstract_syntax,
        transfer_syntaxes: syntaxes.clone(),
    };
    let contexts = vec![
        context(1, uid("1.2.840.10008.1.1")),
        context(3, uid("1.2.840.10008.5.1.4.1.1.7")),
    ];
    AssociateRq::new(title(b"CALLED"), title(b"CALLING"), contexts)
}

fn policy(choices: u8) -> AcceptPolicy {
    let accepted = || AcceptedSyntax {
        transfer_syntaxes: vec![
            TransferSyntax::EXPLICIT_LE_UID,
            TransferSyntax::IMPLICIT_LE_UID,
        ],
        requestor_scp: true,
    };
    let mut policy = AcceptPolicy::new();
    if choices & choice::PEERS_ORDER != 0 {
        policy.preference = Preference::Peers;
        policy.other = Some(accepted());
    }
    policy.support(uid("1.2.840.10008.1.1"), accepted());
    policy.support(uid("1.2.840.10008.5.1.4.1.1.7"), accepted());
    policy.support(uid("1.2.840.10008.5.1.4.1.2.2.1"), accepted());
    policy
}

/// What an association said, independent of how its bytes came.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Event(Event<'static>),
    Data {
        context_id: u8,
        bytes: Vec<u8>,
        last: bool,
    },
}

/// An association with an owner that answers as the server does.
struct Conversation {
    association: Association,
    choices: u8,
    now: Instant,
    seen: Vec<Seen>,
    sent: Vec<u8>,
    over: bool,
}

impl Conversation {
    fn new(association: Association, choices: u8, now: Instant) -> Self {
        Self {
            association,
            choices,
            now,
            seen: Vec::new(),
            sent: Vec::new(),
            over: false,
        }
    }

    /// `elsewhere`: fragments are read past the receive buffer.
    fn run(mut self, mut stream: &[u8], piece: usize, elsewhere: bool) -> Self {
        self.flush();
        while !stream.is_empty() && !self.association.is_closed() {
            let ahead = self.association.fragment_ahead();
            if elsewhere && ahead > 0 {
                let (now, later) = stream.split_at(piece.min(stream.len()).min(ahead));
                stream = later;
                self.take_fragment(now);
                self.take_events();
                continue;
            }
            let space = self.association.read_space();
            assert!(!space.is_empty(), "nowhere to read into");
            assert!(space.len() <= BUFFER_BYTES_MAX, "{} bytes", space.len());
            let n = space.len().min(piece).min(stream.len());
            let (now, later) = stream.split_at(n);
            space[..n].copy_from_slice(now);
            stream = later;
            self.association.received(n, self.now);
            self.take_events();
        }
        if self.choices & choice::CLOSE != 0 {
            self.association.connection_closed();
            self.take_events();
        } else {
            self.expire();
        }
        self
    }

    fn take_fragment(&mut self, bytes: &[u8]) {
        let last = self.association.received_elsewhere(bytes.len(), self.now);
        let commands = self.seen.iter().rev().find_map(|seen| match seen {
            Seen::Event(Event::Command { context_id, .. }) => Some(*context_id),
            _ => None,
        });
        let event = Event::Data {
            context_id: commands.unwrap_or_default(),
            fragment: bytes,
            last,
        };
        assert!(keep(event, &mut self.seen).is_none());
    }

    /// Lets time pass until nothing waits any more.
    fn expire(&mut self) {
        for _ in 0..4 {
            let Some(due) = self.association.poll_timeout() else {
                return;
            };
            self.association.handle_timeout(due);
            self.take_events();
        }
        assert!(self.association.is_closed(), "patience never ends");
    }

    fn take_events(&mut self) {
        // Once closed, what else was read with the last bytes says nothing.
        while !self.over {
            let Some(event) = self.association.next_event() else {
                break;
            };
            let Some(event) = keep(event, &mut self.seen) else {
                continue;
            };
            let refused = matches!(event, Event::ProtocolError(_));
            self.answer(&event);
            self.seen.push(Seen::Event(event));
            self.over = self.association.is_closed();
            assert!(!refused || self.over, "refused but open");
        }
        self.flush();
    }

    fn answer(&mut self, event: &Event<'_>) {
        let mute = self.choices & choice::MUTE != 0;
        let association = &mut self.association;
        match event {
            Event::AssociateRequested(_) if self.choices & choice::REJECT != 0 => {
                let Rejection {
                    result,
                    source,
                    reason,
                } = Rejection::NO_REASON;
                association.reject(result, source, reason);
            }
            Event::AssociateRequested(rq) => {
                association.accept(&negotiate(rq, &policy(self.choices)));
                if self.choices & choice::RELEASE_FIRST != 0 {
                    association.request_release();
                }
            }
            Event::Associated if self.choices & choice::RELEASE_FIRST != 0 => {
                association.request_release();
            }
            Event::ReleaseRequested => association.accept_release(),
            Event::Command {
                context_id,
                command,
            } => {
                assert!(association.context(*context_id).is_some());
                if let (Some(response), false) = (response_to(command), mute) {
                    association.send_command(*context_id, &response.to_bytes());
                }
            }
            Event::ProtocolError(error) => assert!(!error.to_string().is_empty()),
            _ => {}
        }
    }

    fn flush(&mut self) {
        let n = self.association.output().len();
        self.sent.extend_from_slice(self.association.output());
        self.association.output_written(n);
        assert!(self.association.output().is_empty());
    }
}

/// Puts data events together that belong together; gives every other event back.
fn keep(event: Event<'_>, seen: &mut Vec<Seen>) -> Option<Event<'static>> {
    Some(match event {
        Event::Data {
            context_id,
            fragment,
            last,
        } => {
            match seen.last_mut() {
                Some(Seen::Data {
                    bytes,
                    last: ended @ false,
                    ..
                }) => {
                    bytes.extend_from_slice(fragment);
                    *ended = last;
                }
                _ => seen.push(Seen::Data {
                    context_id,
                    bytes: fragment.to_vec(),
                    last,
                }),
            }
            return None;
        }
        Event::AssociateRequested(rq) => Event::AssociateRequested(rq),
        Event::Associated => Event::Associated,
        Event::Rejected {
            result,
            source,
            reason,
        } => Event::Rejected {
            result,
            source,
            reason,
        },
        Event::Command {
            context_id,
            command,
        } => Event::Command {
            context_id,
            command,
        },
        Event::ReleaseRequested => Event::ReleaseRequested,
        Event::Released => Event::Released,
        Event::Aborted { source, reason } => Event::Aborted { source, reason },
        Event::ProtocolError(error) => Event::ProtocolError(error),
        Event::ConnectionClosed => Event::ConnectionClosed,
        Event::TimedOut => Event::TimedOut,
    })
}

fn response_to(command: &CommandSet) -> Option<CommandResponse> {
    match command.parse() {
        Ok(request) => Some(CommandResponse::to(&request, Status::SUCCESS)),
        Err(error) => {
            let response = error.response(command);
            assert!(
                response.is_some() || command.is_response(),
                "{error} has no answer"
            );
            response
        }
    }
}
