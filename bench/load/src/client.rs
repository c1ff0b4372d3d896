//! The requesting side of an association: connect, negotiate, release.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::error::{Error, Result};
use crate::wire::{self, Command, Incoming, Wire};

/// How long one response may take before the run fails instead of hanging.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(300);
/// A peer that was just started may not listen yet; connecting is not retried longer than this.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// What a receiver of this program accepts per PDU, and the most it sends, unless told otherwise.
pub const PDU_DEFAULT: u32 = 256 * 1024;

/// Who is called, and how.
#[derive(Clone)]
pub struct Target {
    host: String,
    port: u16,
    called: String,
    calling: String,
    /// Own maximum PDU length, also the cap for what is sent.
    pub pdu: u32,
    discard_in_kernel: bool,
}

/// A presentation context to propose.
pub struct Context {
    /// Abstract syntax.
    pub sop_class: String,
    /// Transfer syntaxes in order of preference.
    pub syntaxes: Vec<String>,
    /// Whether this side wants to be the SCP (storage classes of a C-GET).
    pub scp_role: bool,
}

/// An open association.
pub struct Client {
    /// The connection.
    pub wire: Wire,
    /// The peer's maximum PDU length, 0 for none.
    pub peer_pdu: u32,
    accepted: Vec<(u8, String)>,
    /// Largest fragment this side may send.
    pub fragment_max: usize,
}

impl Target {
    /// Reads `--host --port --called --calling --pdu`.
    pub fn from_args(args: &Args) -> Result<Self> {
        Ok(Self {
            host: args.or("host", "127.0.0.1".to_owned())?,
            port: args.need("port")?,
            called: args.or("called", "ANY-SCP".to_owned())?,
            calling: args.or("calling", "BENCH".to_owned())?,
            pdu: args.or("pdu", PDU_DEFAULT)?,
            discard_in_kernel: args.or("discard", "copy".to_owned())? == "kernel",
        })
    }

    /// Connects and negotiates. All contexts must be accepted in some form; which transfer syntax
    /// each got is told by [`Client::context`].
    pub fn associate(&self, contexts: &[Context]) -> Result<Client> {
        let mut wire = Wire::new(self.connect()?)?;
        wire.discard_in_kernel = self.discard_in_kernel;
        wire.write(&self.associate_rq(contexts))?;
        let (kind, body) = wire.read_negotiation()?;
        match kind {
            2 => {}
            3 => return Err(Error::new(format!("association rejected: {body:?}"))),
            7 => return Err(Error::new(format!("association aborted: {body:?}"))),
            _ => {
                return Err(Error::new(format!(
                    "A-ASSOCIATE-RQ answered by PDU type {kind}"
                )));
            }
        }
        let (accepted, peer_pdu) = parse_accept(&body);
        let fragment_max = wire::fragment_max(peer_pdu, self.pdu);
        Ok(Client {
            wire,
            peer_pdu,
            accepted,
            fragment_max,
        })
    }

    fn connect(&self) -> Result<TcpStream> {
        let address = (self.host.as_str(), self.port)
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| Error::new("host has no address"))?;
        let begin = Instant::now();
        loop {
            match TcpStream::connect(address) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
                    stream.set_write_timeout(Some(RESPONSE_TIMEOUT))?;
                    return Ok(stream);
                }
                Err(_) if begin.elapsed() < CONNECT_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(Error::new(format!("connect to {address}: {error}"))),
            }
        }
    }

    /// PS3.8 9.3.2: A-ASSOCIATE-RQ.
    fn associate_rq(&self, contexts: &[Context]) -> Vec<u8> {
        let mut body = associate_fixed(&self.called, &self.calling);
        for (index, context) in contexts.iter().enumerate() {
            let mut inner = vec![context_id(index), 0, 0, 0];
            push_item(&mut inner, 0x30, context.sop_class.as_bytes());
            for syntax in &context.syntaxes {
                push_item(&mut inner, 0x40, syntax.as_bytes());
            }
            push_item(&mut body, 0x20, &inner);
        }
        let mut user = user_information(self.pdu);
        for context in contexts.iter().filter(|context| context.scp_role) {
            let uid = context.sop_class.as_bytes();
            let mut role = (uid.len() as u16).to_be_bytes().to_vec();
            role.extend_from_slice(uid);
            role.extend_from_slice(&[0, 1]);
            push_item(&mut user, 0x54, &role);
        }
        push_item(&mut body, 0x50, &user);
        negotiation_pdu(1, &body)
    }
}

impl Client {
    /// The context id and transfer syntax that were accepted for the index-th proposed context.
    pub fn context(&self, index: usize) -> Result<(u8, &str)> {
        let id = context_id(index);
        self.accepted
            .iter()
            .find(|(accepted, _)| *accepted == id)
            .map(|(id, syntax)| (*id, syntax.as_str()))
            .ok_or_else(|| Error::new(format!("peer refused presentation context {id}")))
    }

    /// A command, and the data set that belongs to it, as wire bytes.
    pub fn message(&self, context_id: u8, command: &[u8], dataset: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(command.len() + dataset.len() + 64);
        let max = self.fragment_max;
        wire::push_fragments(&mut out, context_id, wire::COMMAND_BIT, command, max);
        wire::push_fragments(&mut out, context_id, 0, dataset, max);
        out
    }

    /// The next message; anything else is an error.
    pub fn response(&mut self) -> Result<(u8, Command, u64)> {
        match self.wire.next()? {
            Incoming::Message {
                context_id,
                command,
                dataset_bytes,
            } => Ok((context_id, command, dataset_bytes)),
            Incoming::ReleaseRequested | Incoming::Released => {
                Err(Error::new("peer released while a response was awaited"))
            }
            Incoming::Closed => Err(Error::new("peer closed while a response was awaited")),
        }
    }

    /// Releases the association and waits for the peer's reply.
    pub fn release(mut self) -> Result<()> {
        self.wire.write(&negotiation_pdu(5, &[0; 4]))?;
        match self.wire.next()? {
            Incoming::Released | Incoming::Closed => Ok(()),
            _ => Err(Error::new("release was answered by something else")),
        }
    }
}

/// The fixed fields and the application context of an A-ASSOCIATE-RQ or -AC.
pub fn associate_fixed(called: &str, calling: &str) -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    for title in [called, calling] {
        let mut bytes = [b' '; 16];
        for (to, from) in bytes.iter_mut().zip(title.bytes()) {
            *to = from;
        }
        body.extend_from_slice(&bytes);
    }
    body.extend_from_slice(&[0; 32]);
    push_item(&mut body, 0x10, b"1.2.840.10008.3.1.1.1");
    body
}

/// The user information both sides send.
pub fn user_information(pdu: u32) -> Vec<u8> {
    let mut user = Vec::new();
    push_item(&mut user, 0x51, &pdu.to_be_bytes());
    push_item(&mut user, 0x52, b"1.2.826.0.1.3680043.2.135.1066.1");
    push_item(&mut user, 0x55, b"PYSERVERLOAD");
    user
}

/// Appends one item: type, reserved, length, value.
pub fn push_item(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

/// Wraps a body in the PDU header.
pub fn negotiation_pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut pdu = vec![kind, 0];
    pdu.extend_from_slice(&(body.len() as u32).to_be_bytes());
    pdu.extend_from_slice(body);
    pdu
}

/// Splits variable items: (type, value), stopping at anything that does not fit.
pub fn items(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[kind, _, n0, n1], rest) = bytes.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes([n0, n1]) as usize)?;
        bytes = rest;
        Some((kind, value))
    })
}

/// Where the variable items of an A-ASSOCIATE-RQ or -AC begin.
pub const ASSOCIATE_ITEMS: usize = 68;

/// The maximum PDU length in a user information item, 0 if it is not said.
pub fn maximum_length(user: &[u8]) -> u32 {
    items(user)
        .find(|(kind, _)| *kind == 0x51)
        .and_then(|(_, value)| value.first_chunk())
        .map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn parse_accept(body: &[u8]) -> (Vec<(u8, String)>, u32) {
    let mut accepted = Vec::new();
    let mut pdu = 0;
    for (kind, value) in items(body.get(ASSOCIATE_ITEMS..).unwrap_or_default()) {
        match (kind, value) {
            (0x21, [id, _, 0, _, rest @ ..]) => {
                let syntax = items(rest)
                    .find(|(kind, _)| *kind == 0x40)
                    .map(|(_, uid)| uid);
                let syntax = String::from_utf8_lossy(syntax.unwrap_or_default());
                accepted.push((*id, syntax.trim_end_matches('\0').to_owned()));
            }
            (0x50, user) => pdu = maximum_length(user),
            _ => {}
        }
    }
    (accepted, pdu)
}

fn context_id(index: usize) -> u8 {
    (index * 2 + 1) as u8
}
