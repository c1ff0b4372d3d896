//! `route`: stores objects in a server that sends them on to a sink in the same process, and waits until
//! the last has arrived there.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::sink::Sink;
use crate::store;

/// Looked for the last object so often.
const POLL: Duration = Duration::from_millis(1);
/// LIMIT: a server from which nothing comes for so long has lost objects.
const SILENCE: Duration = Duration::from_secs(120);

/// Runs the command.
pub fn run(args: &Args) -> Result<Json> {
    let port: u16 = args.need("sink-port")?;
    let count: u64 = args.need("count")?;
    let sink = Sink::from_args(args)?;
    sink.listen(port)?;
    let begin = Instant::now();
    let stored = store::run(args)?;
    let sent = begin.elapsed();
    let arrived = || sink.counters.objects.load(Ordering::Relaxed);
    let (mut last, mut since) = (arrived(), Instant::now());
    while arrived() < count {
        std::thread::sleep(POLL);
        if arrived() != last {
            (last, since) = (arrived(), Instant::now());
        }
        if since.elapsed() > SILENCE {
            return Err(Error::new(format!("{last} of {count} objects arrived")));
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let bytes = sink.counters.bytes.load(Ordering::Relaxed);
    let connections = sink.counters.connections.load(Ordering::Relaxed);
    Ok(stored
        .with("stored_per_second", count as f64 / sent.as_secs_f64())
        .with("routed_per_second", count as f64 / seconds)
        .with("mb_per_second", bytes as f64 / seconds / 1e6)
        .with("connections", connections)
        .with("command", "route"))
}
