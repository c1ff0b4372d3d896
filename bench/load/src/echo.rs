//! `echo`: the latency of C-ECHO on one association, usually while other programs load the peer.
//!
//! Without `--count` and `--seconds` it ends when standard input does.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::client::{Context, Target};
use crate::error::{Error, Result};
use crate::histogram::Histogram;
use crate::json::Json;
use crate::wire::{self, Field, IMPLICIT_LE, VERIFICATION};

/// Runs the command.
pub fn run(args: &Args) -> Result<Json> {
    let target = Target::from_args(args)?;
    let count: u64 = args.or("count", u64::MAX)?;
    let until = args.seconds("seconds")?;
    let interval = Duration::from_millis(args.or("interval-ms", 0)?);
    args.finish()?;
    let stopped = Arc::new(AtomicBool::new(false));
    if count == u64::MAX && until.is_none() {
        stop_with_input(&stopped);
    }
    let context = Context {
        sop_class: VERIFICATION.to_owned(),
        syntaxes: vec![IMPLICIT_LE.to_owned()],
        scp_role: false,
    };
    let opened = Instant::now();
    let mut client = target.associate(&[context])?;
    let associate_us = opened.elapsed().as_secs_f64() * 1e6;
    let (id, _) = client.context(0)?;
    let set = wire::command_set(&[
        Field::Uid(0x0002, VERIFICATION),
        Field::Number(0x0100, wire::command::ECHO_RQ),
        Field::Number(0x0110, 1),
        Field::Number(0x0800, wire::NO_DATASET),
    ]);
    let message = client.message(id, &set, &[]);
    let mut histogram = Histogram::new();
    let begin = Instant::now();
    let mut echoes = 0_u64;
    let more = |echoes| echoes < count && until.is_none_or(|until| begin.elapsed() < until);
    while more(echoes) && !stopped.load(Ordering::Relaxed) {
        let asked = Instant::now();
        client.wire.write(&message)?;
        let (_, response, _) = client.response()?;
        histogram.record(asked.elapsed());
        if response.field != wire::command::ECHO_RSP || response.status != 0 {
            return Err(Error::new(format!(
                "C-ECHO answered with {:04X}",
                response.status
            )));
        }
        echoes += 1;
        if !interval.is_zero() {
            std::thread::sleep(interval);
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    client.release()?;
    Ok(Json::object()
        .with("command", "echo")
        .with("echoes", echoes)
        .with("seconds", seconds)
        .with("echoes_per_second", echoes as f64 / seconds)
        .with("associate_us", associate_us)
        .with("latency_us", histogram.report()))
}

fn stop_with_input(stopped: &Arc<AtomicBool>) {
    let stopped = Arc::clone(stopped);
    std::thread::spawn(move || {
        // An error on standard input is its end, too.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stopped.store(true, Ordering::Relaxed);
    });
}
