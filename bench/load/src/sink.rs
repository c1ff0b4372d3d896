//! `sink`: a storage SCP that counts objects and drops them; also the receiver of `move`.
//!
//! One thread per connection. Every proposed context is accepted with its first transfer syntax,
//! or with `--syntax` where that was proposed.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::client::{self, ASSOCIATE_ITEMS, PDU_DEFAULT};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::store::syntax_uid;
use crate::wire::{self, Command, Field, Incoming, Wire};

/// Counters of all connections.
#[derive(Default)]
pub struct Counters {
    /// Objects received and answered.
    pub objects: AtomicU64,
    /// Bytes of their data sets.
    pub bytes: AtomicU64,
    /// Connections accepted.
    pub connections: AtomicU64,
}

/// How a sink answers.
#[derive(Clone)]
pub struct Sink {
    /// Maximum PDU length it announces.
    pub pdu: u32,
    /// Transfer syntax it insists on where proposed.
    pub syntax: Option<String>,
    /// Whether the kernel drops data sets without copying them.
    pub discard_in_kernel: bool,
    /// What it counts.
    pub counters: Arc<Counters>,
}

/// Runs the command until standard input ends or the time is over.
pub fn run(args: &Args) -> Result<Json> {
    let port: u16 = args.need("port")?;
    let sink = Sink::from_args(args)?;
    let until = args.seconds("seconds")?;
    args.finish()?;
    sink.listen(port)?;
    let begin = Instant::now();
    match until {
        Some(until) => std::thread::sleep(until),
        None => {
            std::io::stdin().read_to_end(&mut Vec::new())?;
        }
    }
    Ok(sink.report(begin.elapsed()).with("command", "sink"))
}

impl Sink {
    /// Reads `--pdu --syntax --discard`.
    pub fn from_args(args: &Args) -> Result<Self> {
        Ok(Self {
            pdu: args.or("pdu", PDU_DEFAULT)?,
            syntax: args.text("syntax").map(|name| syntax_uid(name).to_owned()),
            discard_in_kernel: args.or("discard", "copy".to_owned())? == "kernel",
            counters: Arc::new(Counters::default()),
        })
    }

    /// Listens and serves in threads of their own, for as long as the process lives.
    pub fn listen(&self, port: u16) -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .map_err(|error| Error::new(format!("listen on {port}: {error}")))?;
        let sink = self.clone();
        std::thread::Builder::new()
            .name("sink".to_owned())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    let sink = sink.clone();
                    sink.counters.connections.fetch_add(1, Ordering::Relaxed);
                    std::thread::spawn(move || {
                        if let Err(error) = sink.serve(stream) {
                            eprintln!("pyserver-load sink: {error}");
                        }
                    });
                }
            })?;
        Ok(())
    }

    fn serve(&self, stream: TcpStream) -> Result<()> {
        let mut wire = Wire::new(stream)?;
        wire.discard_in_kernel = self.discard_in_kernel;
        let (kind, body) = wire.read_negotiation()?;
        if kind != 1 {
            return Err(Error::new(format!(
                "expected A-ASSOCIATE-RQ, got PDU type {kind}"
            )));
        }
        wire.write(&self.accept(&body))?;
        loop {
            match wire.next()? {
                Incoming::Message {
                    context_id,
                    command,
                    dataset_bytes,
                } => {
                    self.counters
                        .bytes
                        .fetch_add(dataset_bytes, Ordering::Relaxed);
                    // Before the answer: the sender may report the object as soon as it has it.
                    if command.field == wire::command::STORE_RQ {
                        self.counters.objects.fetch_add(1, Ordering::Release);
                    }
                    wire.write(&answer(context_id, &command)?)?;
                }
                Incoming::ReleaseRequested => {
                    return wire.write(&client::negotiation_pdu(6, &[0; 4]));
                }
                Incoming::Released | Incoming::Closed => return Ok(()),
            }
        }
    }

    /// PS3.8 9.3.3: A-ASSOCIATE-AC.
    fn accept(&self, request: &[u8]) -> Vec<u8> {
        let mut body = client::associate_fixed("", "");
        for (to, from) in body.iter_mut().zip(request).skip(4).take(32) {
            *to = *from;
        }
        for (kind, value) in client::items(request.get(ASSOCIATE_ITEMS..).unwrap_or_default()) {
            let (0x20, [id, _, _, _, rest @ ..]) = (kind, value) else {
                continue;
            };
            let proposed = || client::items(rest).filter(|(kind, _)| *kind == 0x40);
            let wanted = self.syntax.as_deref().map(str::as_bytes);
            let syntax = proposed()
                .find(|(_, uid)| wanted.is_some_and(|wanted| uid.trim_ascii_end() == wanted))
                .or_else(|| proposed().next())
                .map_or(&[][..], |(_, uid)| uid);
            let mut reply = vec![*id, 0, u8::from(syntax.is_empty()) * 4, 0];
            client::push_item(&mut reply, 0x40, syntax);
            client::push_item(&mut body, 0x21, &reply);
        }
        client::push_item(&mut body, 0x50, &client::user_information(self.pdu));
        client::negotiation_pdu(2, &body)
    }

    /// The counters as JSON.
    pub fn report(&self, elapsed: Duration) -> Json {
        Json::object()
            .with("objects", self.counters.objects.load(Ordering::Relaxed))
            .with("bytes", self.counters.bytes.load(Ordering::Relaxed))
            .with(
                "connections",
                self.counters.connections.load(Ordering::Relaxed),
            )
            .with("elapsed", elapsed.as_secs_f64())
    }
}

/// The success response to a C-STORE or C-ECHO, as one PDU.
pub fn answer(context_id: u8, request: &Command) -> Result<Vec<u8>> {
    let field = match request.field {
        wire::command::STORE_RQ => wire::command::STORE_RSP,
        wire::command::ECHO_RQ => wire::command::ECHO_RSP,
        other => return Err(Error::new(format!("no answer to command {other:04x}"))),
    };
    let mut fields = vec![
        Field::Uid(0x0002, &request.sop_class),
        Field::Number(0x0100, field),
        Field::Number(0x0120, request.message_id),
        Field::Number(0x0800, wire::NO_DATASET),
        Field::Number(0x0900, 0),
    ];
    if field == wire::command::STORE_RSP {
        fields.push(Field::Uid(0x1000, &request.sop_instance));
    }
    let set = wire::command_set(&fields);
    let mut pdu = Vec::with_capacity(set.len() + wire::FRAGMENT_HEADER);
    wire::push_fragments(&mut pdu, context_id, wire::COMMAND_BIT, &set, set.len());
    Ok(pdu)
}
