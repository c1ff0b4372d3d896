//! Builders of raw bytes, right and wrong, and a server in one function.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use pyserver_proto::association::{Association, Event, Limits};
use pyserver_proto::dimse::{CommandRequest, CommandResponse};
use pyserver_proto::negotiate::{AcceptPolicy, AcceptedSyntax, negotiate};
use pyserver_proto::pdu::Pdu;
use pyserver_proto::status::Status;
use pyserver_proto::uid::Uid;

pub const IMPLICIT: &str = "1.2.840.10008.1.2";
pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
pub const VERIFICATION: &str = "1.2.840.10008.1.1";
pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";
pub const STUDY_FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
pub const STUDY_MOVE: &str = "1.2.840.10008.5.1.4.1.2.2.2";
pub const STUDY_GET: &str = "1.2.840.10008.5.1.4.1.2.2.3";

/// A UID from text that is one.
pub fn uid(text: &str) -> Uid {
    Uid::from_value(text.as_bytes()).unwrap()
}

/// An item or sub-item.
pub fn item(kind: u8, body: &[u8]) -> Vec<u8> {
    item_of_length(kind, body, body.len() as u16)
}

/// An item whose length field may lie.
pub fn item_of_length(kind: u8, body: &[u8], length: u16) -> Vec<u8> {
    let mut out = vec![kind, 0];
    out.extend(length.to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// A PDU.
pub fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    pdu_of_length(kind, body, body.len() as u32)
}

/// A PDU whose length field may lie.
pub fn pdu_of_length(kind: u8, body: &[u8], length: u32) -> Vec<u8> {
    let mut out = vec![kind, 0];
    out.extend(length.to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// A proposed presentation context.
pub fn context(id: u8, abstract_syntax: &str, transfer_syntaxes: &[&str]) -> Vec<u8> {
    let mut body = vec![id, 0, 0, 0];
    body.extend(item(0x30, abstract_syntax.as_bytes()));
    for syntax in transfer_syntaxes {
        body.extend(item(0x40, syntax.as_bytes()));
    }
    item(0x20, &body)
}

/// User information with the usual sub-items and more.
pub fn user_info(max_pdu: u32, extra: &[u8]) -> Vec<u8> {
    let mut body = item(0x51, &max_pdu.to_be_bytes());
    body.extend(item(0x52, b"1.2.826.0.1.3680043.10.999"));
    body.extend(item(0x55, b"HZ1"));
    body.extend_from_slice(extra);
    item(0x50, &body)
}

/// The application context item.
pub fn application() -> Vec<u8> {
    item(0x10, APPLICATION_CONTEXT.as_bytes())
}

/// The variable field of an A-ASSOCIATE PDU with these items.
pub fn associate_body(version: u16, items: &[u8]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([0, 0]);
    body.extend(b"ANY-SCP         HOSTILE         ");
    body.extend([0; 32]);
    body.extend_from_slice(items);
    body
}

/// An A-ASSOCIATE-RQ with these items.
pub fn request_of(items: &[u8]) -> Vec<u8> {
    pdu(1, &associate_body(1, items))
}

/// An A-ASSOCIATE-RQ with these contexts.
pub fn request(contexts: &[(u8, &str, &[&str])]) -> Vec<u8> {
    let mut items = application();
    for (id, abstract_syntax, transfer_syntaxes) in contexts {
        items.extend(context(*id, abstract_syntax, transfer_syntaxes));
    }
    items.extend(user_info(16_384, &[]));
    request_of(&items)
}

/// A presentation data value.
pub fn pdv(context_id: u8, control: u8, data: &[u8]) -> Vec<u8> {
    pdv_of_length(context_id, control, data, data.len() as u32 + 2)
}

/// A presentation data value whose length field may lie.
pub fn pdv_of_length(context_id: u8, control: u8, data: &[u8], length: u32) -> Vec<u8> {
    let mut out = length.to_be_bytes().to_vec();
    out.extend([context_id, control]);
    out.extend_from_slice(data);
    out
}

/// A P-DATA-TF with one value.
pub fn pdata(context_id: u8, control: u8, data: &[u8]) -> Vec<u8> {
    pdu(4, &pdv(context_id, control, data))
}

/// An implicit little endian element whose length field may lie.
pub fn element_of_length(group: u16, element: u16, value: &[u8], length: u32) -> Vec<u8> {
    let mut out = group.to_le_bytes().to_vec();
    out.extend(element.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend_from_slice(value);
    out
}

/// A command set under construction: elements of group 0000 by rising number.
#[derive(Clone)]
pub struct Command(Vec<(u16, Vec<u8>)>);

impl Command {
    pub fn echo() -> Self {
        Self(Vec::new())
            .uid(0x0002, VERIFICATION)
            .us(0x0100, 0x30)
            .us(0x0110, 1)
            .us(0x0800, 0x101)
    }

    pub fn store(instance: &str) -> Self {
        Self(Vec::new())
            .uid(0x0002, SECONDARY_CAPTURE)
            .us(0x0100, 1)
            .us(0x0110, 1)
            .us(0x0700, 0)
            .us(0x0800, 0)
            .uid(0x1000, instance)
    }

    pub fn query(field: u16, class: &str) -> Self {
        Self(Vec::new())
            .uid(0x0002, class)
            .us(0x0100, field)
            .us(0x0110, 1)
            .us(0x0700, 0)
            .us(0x0800, 0)
    }

    pub fn of(field: u16) -> Self {
        Self(Vec::new()).us(0x0100, field).us(0x0800, 0x101)
    }

    pub fn us(self, element: u16, value: u16) -> Self {
        self.raw(element, &value.to_le_bytes())
    }

    pub fn uid(self, element: u16, value: &str) -> Self {
        let mut value = value.as_bytes().to_vec();
        if !value.len().is_multiple_of(2) {
            value.push(0);
        }
        self.raw(element, &value)
    }

    pub fn raw(self, element: u16, value: &[u8]) -> Self {
        let mut new = self.without(element);
        new.0.push((element, value.to_vec()));
        new.0.sort();
        new
    }

    pub fn without(mut self, element: u16) -> Self {
        self.0.retain(|(e, _)| *e != element);
        self
    }

    pub fn elements(&self) -> Vec<u8> {
        let element = |(e, v): &(u16, Vec<u8>)| element_of_length(0, *e, v, v.len() as u32);
        self.0.iter().flat_map(element).collect()
    }

    pub fn bytes_with_group_length(&self, length: u32) -> Vec<u8> {
        let mut out = element_of_length(0, 0, &length.to_le_bytes(), 4);
        out.extend(self.elements());
        out
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_with_group_length(self.elements().len() as u32)
    }
}

/// What the acceptors of these tests support.
pub fn policy() -> AcceptPolicy {
    let mut policy = AcceptPolicy::new();
    let syntaxes = vec![uid(EXPLICIT), uid(IMPLICIT)];
    for (class, requestor_scp) in [
        (VERIFICATION, false),
        (CT, true),
        ("1.2.840.10008.5.1.4.1.1.4", true),
        ("1.2.840.10008.5.1.4.1.1.88.67", true),
        (SECONDARY_CAPTURE, true),
        (STUDY_FIND, false),
        (STUDY_MOVE, false),
        (STUDY_GET, false),
    ] {
        let transfer_syntaxes = syntaxes.clone();
        policy.support(
            uid(class),
            AcceptedSyntax {
                transfer_syntaxes,
                requestor_scp,
            },
        );
    }
    policy
}

/// How a stream of bytes is cut into reads: sizes, the last one repeated; empty means whole.
pub type Cuts<'a> = &'a [usize];

/// A server that accepts, answers every request at once with success or with what its command set
/// deserves, and keeps a line for each event.
pub struct Server {
    pub association: Association,
    pub now: Instant,
    pub lines: Vec<String>,
    /// Everything that was sent.
    pub sent: Vec<u8>,
    /// Data set bytes since the last data event with `last`.
    pending: usize,
    /// Answer once the data set is whole.
    answer: Option<(u8, CommandResponse)>,
    /// As a requestor: ask for the release after the last response.
    pub releases: bool,
}

impl Server {
    pub fn new(limits: Limits) -> Self {
        let now = Instant::now();
        Self {
            association: Association::acceptor(limits, now),
            now,
            lines: Vec::new(),
            sent: Vec::new(),
            pending: 0,
            answer: None,
            releases: false,
        }
    }

    /// Feeds bytes as the cuts say and acts on each event.
    pub fn feed(&mut self, mut bytes: &[u8], cuts: Cuts<'_>) {
        let mut cuts = cuts
            .iter()
            .copied()
            .chain(cuts.last().copied().into_iter().cycle());
        while !bytes.is_empty() {
            let cut = cuts.next().unwrap_or(usize::MAX).max(1);
            let space = self.association.read_space();
            assert!(!space.is_empty());
            let n = space.len().min(cut).min(bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            self.now += Duration::from_micros(1);
            self.association.received(n, self.now);
            self.act();
        }
    }

    pub fn close(&mut self) {
        self.association.connection_closed();
        self.act();
    }

    pub fn act(&mut self) {
        while self.step() {}
        self.sent.extend_from_slice(self.association.output());
        let n = self.association.output().len();
        self.association.output_written(n);
    }

    /// The outcome in the words of the hostile corpus: accepted or not, answers, the end.
    pub fn outcome(&self) -> String {
        let mut out = String::new();
        let mut rest = self.sent.as_slice();
        while let Some((pdu, used)) = Pdu::decode(rest, u32::MAX).unwrap() {
            rest = &rest[used..];
            if !out.is_empty() {
                out.push(' ');
            }
            match pdu {
                Pdu::AssociateAc(_) => out.push_str("AC"),
                Pdu::AssociateRj(r) => {
                    write!(out, "RJ({},{},{})", r.result, r.source, r.reason).unwrap();
                }
                Pdu::Abort { source, reason } => write!(out, "ABORT({source},{reason})").unwrap(),
                Pdu::ReleaseRp => out.push_str("RELRP"),
                Pdu::PData(values) => {
                    let command = pyserver_proto::dimse::CommandSet::decode(&values[0].1).unwrap();
                    let response = command.parse_response().unwrap();
                    write!(
                        out,
                        "RSP{:04x}={:04x}",
                        response.command_field, response.status.0
                    )
                    .unwrap();
                }
                other => write!(out, "{other:?}").unwrap(),
            }
        }
        out
    }

    fn step(&mut self) -> bool {
        let Some(event) = self.association.next_event() else {
            return false;
        };
        let data = if let Event::Data { fragment, last, .. } = &event {
            Some((fragment.len(), *last))
        } else {
            None
        };
        match &event {
            Event::Data { last: false, .. } => {}
            Event::Data {
                context_id,
                fragment,
                ..
            } => {
                let bytes = self.pending + fragment.len();
                self.lines.push(format!("data {context_id}: {bytes} bytes"));
            }
            event => self.lines.push(describe(event)),
        }
        let last_response = match &event {
            Event::Command { command, .. } => command.status().is_some_and(|s| !s.is_pending()),
            _ => false,
        };
        let action = if self.releases && last_response {
            Action::RequestRelease
        } else {
            Action::of(&event)
        };
        drop(event);
        if let Some((n, last)) = data {
            self.pending = if last { 0 } else { self.pending + n };
            if last && let Some((id, response)) = self.answer.take() {
                self.association.send_command(id, &response.to_bytes());
            }
        }
        self.perform(action);
        true
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Nothing => {}
            Action::Accept(replies) => self.association.accept(&replies),
            Action::Release => self.association.accept_release(),
            Action::RequestRelease => self.association.request_release(),
            Action::Answer {
                context_id,
                response,
                after_data: true,
            } => {
                self.answer = Some((context_id, response));
            }
            Action::Answer {
                context_id,
                response,
                ..
            } => {
                self.association
                    .send_command(context_id, &response.to_bytes());
            }
        }
    }
}

/// What a server does about an event.
enum Action {
    Nothing,
    Accept(Vec<pyserver_proto::negotiate::ContextReply>),
    Release,
    RequestRelease,
    Answer {
        context_id: u8,
        response: CommandResponse,
        after_data: bool,
    },
}

impl Action {
    fn of(event: &Event<'_>) -> Self {
        match event {
            Event::AssociateRequested(rq) => Self::Accept(negotiate(rq, &policy())),
            Event::ReleaseRequested => Self::Release,
            Event::Command {
                context_id,
                command,
            } => {
                let response = match command.parse() {
                    Ok(CommandRequest::CCancel(_)) => return Self::Nothing,
                    Ok(request) => Some(CommandResponse::to(&request, Status::SUCCESS)),
                    Err(error) => error.response(command),
                };
                let after_data = command.has_dataset();
                response.map_or(Self::Nothing, |response| Self::Answer {
                    context_id: *context_id,
                    response,
                    after_data,
                })
            }
            _ => Self::Nothing,
        }
    }
}

/// One line for an event, as the transcripts have it.
pub fn describe(event: &Event<'_>) -> String {
    match event {
        Event::AssociateRequested(rq) => format!(
            "requested {} by {}, {} contexts, maximum {:?}, {}",
            rq.called_ae,
            rq.calling_ae,
            rq.contexts.len(),
            rq.user_info.max_pdu.unwrap_or(16_384),
            rq.user_info.implementation_version,
        ),
        Event::Associated => "associated".to_owned(),
        Event::Rejected {
            result,
            source,
            reason,
        } => format!("rejected {result},{source},{reason}"),
        Event::Command {
            context_id,
            command,
        } => {
            let field = command.command_field().unwrap();
            let id = command
                .message_id()
                .or(command.message_id_being_responded_to())
                .unwrap();
            let data = if command.has_dataset() {
                ", data set follows"
            } else {
                ""
            };
            format!("command {context_id}: {field:04X} message {id}{data}")
        }
        Event::Data {
            context_id,
            fragment,
            ..
        } => {
            format!("data {context_id}: {} bytes", fragment.len())
        }
        Event::ReleaseRequested => "release requested".to_owned(),
        Event::Released => "released".to_owned(),
        Event::Aborted { source, reason } => format!("aborted {source},{reason}"),
        Event::ProtocolError(error) => format!("error {:?}: {error}", error.answer),
        Event::ConnectionClosed => "connection closed".to_owned(),
        Event::TimedOut => "timed out".to_owned(),
    }
}

/// Feeds one stream whole, byte by byte and in odd pieces; all must have the same outcome.
pub fn outcome_of(stream: &[u8]) -> String {
    let run = |cuts: Cuts<'_>| {
        let mut server = Server::new(Limits::default());
        server.feed(stream, cuts);
        (server.outcome(), server.lines)
    };
    let whole = run(&[]);
    if stream.len() < 20_000 {
        assert_eq!(run(&[1]), whole, "byte by byte");
    }
    assert_eq!(run(&[5, 7, 113]), whole, "odd pieces");
    whole.0
}
