//! `get` and `move`: retrieves one identifier again and again and counts what arrives.
//!
//! `get` answers the C-STORE sub-operations on its own association. `move` is the destination
//! itself: a sink in the same process counts what the peer sends to it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::args::Args;
use crate::client::{Context, Target};
use crate::error::{Error, Result};
use crate::find;
use crate::histogram::Histogram;
use crate::json::Json;
use crate::sink::{self, Sink};
use crate::store::syntax_uid;
use crate::wire::{self, CT_IMAGE, Command, EXPLICIT_LE, IMPLICIT_LE};

struct Retrieve {
    target: Target,
    model: &'static str,
    identifier: Vec<u8>,
    repeat: u64,
}

#[derive(Default)]
struct Arrived {
    objects: u64,
    bytes: u64,
}

impl Retrieve {
    fn from_args(args: &Args, service: &str) -> Result<Self> {
        Ok(Self {
            target: Target::from_args(args)?,
            model: find::model_uid(&args.or("model", "study".to_owned())?, service)?,
            identifier: find::identifier(
                &args.need::<String>("level")?,
                &args.need::<String>("keys")?,
            )?,
            repeat: args.or("repeat", 1)?,
        })
    }

    fn model_context(&self) -> Context {
        Context {
            sop_class: self.model.to_owned(),
            syntaxes: vec![IMPLICIT_LE.to_owned()],
            scp_role: false,
        }
    }

    fn report(&self, arrived: &Arrived, seconds: f64, histogram: &Histogram) -> Json {
        Json::object()
            .with("requests", self.repeat)
            .with("objects", arrived.objects)
            .with("bytes", arrived.bytes)
            .with("seconds", seconds)
            .with("objects_per_second", arrived.objects as f64 / seconds)
            .with("mb_per_second", arrived.bytes as f64 / 1e6 / seconds)
            .with("latency_us", histogram.report())
    }
}

/// Runs `get`.
pub fn get(args: &Args) -> Result<Json> {
    let retrieve = Retrieve::from_args(args, "get")?;
    let syntaxes = match args.text("syntax") {
        Some(name) => vec![syntax_uid(name).to_owned()],
        None => vec![IMPLICIT_LE.to_owned(), EXPLICIT_LE.to_owned()],
    };
    let classes: String = args.or("sop-class", CT_IMAGE.to_owned())?;
    args.finish()?;
    let mut contexts = vec![retrieve.model_context()];
    contexts.extend(classes.split(',').map(|uid| Context {
        sop_class: uid.to_owned(),
        syntaxes: syntaxes.clone(),
        scp_role: true,
    }));
    let mut client = retrieve.target.associate(&contexts)?;
    let rq = wire::command::GET_RQ;
    let message = find::request(&client, retrieve.model, rq, &retrieve.identifier, None)?;
    let mut arrived = Arrived::default();
    let mut histogram = Histogram::new();
    let begin = Instant::now();
    for _ in 0..retrieve.repeat {
        let asked = Instant::now();
        client.wire.write(&message)?;
        let mut received = 0;
        loop {
            let (context_id, command, bytes) = client.response()?;
            if command.field == wire::command::STORE_RQ {
                client.wire.write(&sink::answer(context_id, &command)?)?;
                received += 1;
                arrived.bytes += bytes;
            } else if !command.is_pending() {
                check_final(&command, wire::command::GET_RSP, received)?;
                break;
            }
        }
        arrived.objects += received;
        histogram.record(asked.elapsed());
    }
    let seconds = begin.elapsed().as_secs_f64();
    client.release()?;
    Ok(retrieve
        .report(&arrived, seconds, &histogram)
        .with("command", "get"))
}

/// Runs `move`.
pub fn move_to_sink(args: &Args) -> Result<Json> {
    let retrieve = Retrieve::from_args(args, "move")?;
    let destination: String = args.need("destination")?;
    let port: u16 = args.need("sink-port")?;
    let sink = Sink::from_args(args)?;
    args.finish()?;
    sink.listen(port)?;
    let mut client = retrieve.target.associate(&[retrieve.model_context()])?;
    let (rq, to) = (wire::command::MOVE_RQ, Some(destination.as_str()));
    let message = find::request(&client, retrieve.model, rq, &retrieve.identifier, to)?;
    let mut histogram = Histogram::new();
    let begin = Instant::now();
    let count = || sink.counters.objects.load(Ordering::Relaxed);
    for _ in 0..retrieve.repeat {
        let asked = Instant::now();
        let before = count();
        client.wire.write(&message)?;
        loop {
            let (_, command, _) = client.response()?;
            if !command.is_pending() {
                check_final(&command, wire::command::MOVE_RSP, count() - before)?;
                break;
            }
        }
        histogram.record(asked.elapsed());
    }
    let seconds = begin.elapsed().as_secs_f64();
    client.release()?;
    let arrived = Arrived {
        objects: count(),
        bytes: sink.counters.bytes.load(Ordering::Relaxed),
    };
    let connections = sink.counters.connections.load(Ordering::Relaxed);
    Ok(retrieve
        .report(&arrived, seconds, &histogram)
        .with("connections", connections)
        .with("command", "move"))
}

/// A retrieve counts only if the peer says that all went well and as many objects came.
fn check_final(command: &Command, field: u16, received: u64) -> Result<()> {
    if command.field != field {
        return Err(Error::new(format!(
            "retrieve answered by {:04x}",
            command.field
        )));
    }
    let [completed, failed, _] = command.sub_operations;
    if command.status != 0 || failed != 0 {
        return Err(Error::new(format!(
            "retrieve ended with {:04X}: {completed} completed, {failed} failed",
            command.status
        )));
    }
    // Counts wrap at 65536 on the wire; peers that leave them out are believed.
    if completed != 0 && u64::from(completed) != received & 0xFFFF {
        return Err(Error::new(format!(
            "{completed} objects were announced, {received} arrived"
        )));
    }
    Ok(())
}
