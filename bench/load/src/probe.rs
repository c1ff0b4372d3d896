//! `probe`: what the disk can do with plain files, the yardstick beside a server's figures.
//!
//! `unsynced` only writes; `fdatasync` syncs each file before the next, which is what a naive
//! durable server would do; `grouped` writes a group of files and then syncs each of them.
//! Folders hold a fixed number of files, as a series would. No folder is synced: the probe
//! promises less than a durable server does.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::args::Args;
use crate::error::{Error, Result};
use crate::histogram::Histogram;
use crate::json::Json;

/// Runs the command; the folder must exist and be empty, and is left to the caller to remove.
pub fn run(args: &Args) -> Result<Json> {
    let dir: String = args.need("dir")?;
    let size: usize = args.or("size", 512 * 1024)?;
    let count: u64 = args.need("count")?;
    let mode: String = args.need("mode")?;
    let group: u64 = args.or("group", 16)?;
    let folder_length: u64 = args.or("folder-length", 100_u64)?.max(1);
    args.finish()?;
    let group = match mode.as_str() {
        "unsynced" => u64::MAX,
        "fdatasync" => 1,
        "grouped" => group.max(1),
        _ => return Err(Error::new(format!("--mode {mode}: unknown"))),
    };
    let bytes: Vec<u8> = (0..size).map(|index| (index * 31 % 251) as u8).collect();
    let mut histogram = Histogram::new();
    let mut open = Vec::new();
    let begin = Instant::now();
    let mut asked = begin;
    for number in 0..count {
        let folder = Path::new(&dir).join(format!("{:06}", number / folder_length));
        if number % folder_length == 0 {
            std::fs::create_dir(&folder)?;
        }
        let mut file = File::create_new(folder.join(format!("{number:08}.dcm")))?;
        file.write_all(&bytes)?;
        if group != u64::MAX {
            open.push(file);
        }
        if open.len() as u64 >= group || (number + 1 == count && !open.is_empty()) {
            for file in open.drain(..) {
                file.sync_data()?;
            }
        }
        let now = Instant::now();
        histogram.record(now - asked);
        asked = now;
    }
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Json::object()
        .with("command", "probe")
        .with("mode", mode.as_str())
        .with("objects", count)
        .with("object_bytes", size as u64)
        .with("seconds", seconds)
        .with("objects_per_second", count as f64 / seconds)
        .with(
            "mb_per_second",
            (count * size as u64) as f64 / 1e6 / seconds,
        )
        .with("latency_us", histogram.report()))
}
