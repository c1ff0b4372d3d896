//! `lists`: the images of one patient after the other; each query's time and number of records.

use std::time::Instant;

use crate::args::Args;
use crate::client::{Context, Target};
use crate::error::{Error, Result};
use crate::find::{identifier, model_uid, one, request};
use crate::json::Json;
use crate::wire::{self, IMPLICIT_LE};

/// Patient ID, the key that a line of the file is the value of.
const PATIENT_ID: &str = "0010,0020";

/// Runs the command.
pub fn run(args: &Args) -> Result<Json> {
    let target = Target::from_args(args)?;
    let file: String = args.need("patients")?;
    let keys: String = args.need("keys")?;
    args.finish()?;
    let patients = std::fs::read_to_string(&file)
        .map_err(|error| Error::new(format!("--patients {file}: {error}")))?;
    let model = model_uid("patient", "find")?;
    let mut client = target.associate(&[Context {
        sop_class: model.to_owned(),
        syntaxes: vec![IMPLICIT_LE.to_owned()],
        scp_role: false,
    }])?;
    let (mut records, mut milliseconds, mut bytes) = (Vec::new(), Vec::new(), 0);
    for patient in patients.lines() {
        let identifier = identifier("IMAGE", &format!("{keys};{PATIENT_ID}={patient}"))?;
        let message = request(&client, model, wire::command::FIND_RQ, &identifier, None)?;
        let asked = Instant::now();
        let (found, received) = one(&mut client, &message)?;
        milliseconds.push(asked.elapsed().as_secs_f64() * 1e3);
        records.push(found);
        bytes += received;
    }
    client.release()?;
    Ok(Json::object()
        .with("command", "lists")
        .with("queries", records.len() as u64)
        .with("bytes", bytes)
        .with("records", records)
        .with("milliseconds", milliseconds))
}
