//! Load generator for any DICOM peer: `pyserver-load COMMAND --option value …`.
//!
//! It decides nothing about the server under test: it shares no code with it, so a mistake in
//! the server's protocol crate cannot hide here. Messages are built once as wire bytes and only
//! their identifiers are patched, so that the generator is never what a figure measures. Each
//! command prints one JSON object on standard output; anything that went wrong goes to standard
//! error with exit code 1.

mod args;
mod client;
mod echo;
mod error;
mod find;
mod histogram;
mod json;
mod lists;
mod object;
mod probe;
mod retrieve;
mod route;
mod sink;
mod store;
mod wire;

use std::process::ExitCode;

use crate::args::Args;
use crate::error::{Error, Result};
use crate::json::Json;

const USAGE: &str = "\
usage: pyserver-load COMMAND [--option value]...
  store  --port N [--host H --called AE --calling AE] --count N [--size BYTES] [--associations N]
         [--syntax implicit|explicit|UID] [--sop-class UID] [--series-length N] [--study-length N]
         [--patient ID] [--pdu BYTES] [--seed N] [--seconds S] [--tolerant 1] [--content FILE]
  find   --port N --level IMAGE --keys 'gggg,eeee=value;...' [--repeat N] [--associations N] [--model study|patient]
  lists  --port N --patients FILE --keys 'gggg,eeee=;...'   one IMAGE query for each line of FILE
  get    --port N --level PATIENT --keys ... [--repeat N] [--sop-class UID[,UID]] [--syntax ...]
  move   --port N --level PATIENT --keys ... --sink-port N --destination AE [--repeat N]
  route  like store, --sink-port N                      until all objects have come to the sink
  sink   --port N [--pdu BYTES] [--syntax ...] [--seconds S]   stops when standard input closes
  echo   --port N [--count N] [--interval-ms N] [--seconds S]
  probe  --dir PATH --size BYTES --count N --mode unsynced|fdatasync|grouped [--group N] [--folder-length N]";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(command) = words.next() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&command, words) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pyserver-load {command}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, words: impl Iterator<Item = String>) -> Result<Json> {
    let args = Args::parse(words)?;
    let report = match command {
        "store" => store::run(&args),
        "find" => find::run(&args),
        "lists" => lists::run(&args),
        "get" => retrieve::get(&args),
        "move" => retrieve::move_to_sink(&args),
        "route" => route::run(&args),
        "sink" => sink::run(&args),
        "echo" => echo::run(&args),
        "probe" => probe::run(&args),
        _ => Err(Error::new(format!("no such command\n{USAGE}"))),
    }?;
    Ok(report)
}
