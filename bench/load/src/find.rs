//! `find`: one identifier, asked again and again; counts the records that come back.

use std::time::Instant;

use crate::args::Args;
use crate::client::{Client, Context, Target};
use crate::error::{Error, Result};
use crate::histogram::Histogram;
use crate::json::Json;
use crate::store::join;
use crate::wire::{self, Field, IMPLICIT_LE};

/// Information models by service and root.
pub fn model_uid(root: &str, service: &str) -> Result<&'static str> {
    Ok(match (root, service) {
        ("patient", "find") => "1.2.840.10008.5.1.4.1.2.1.1",
        ("patient", "move") => "1.2.840.10008.5.1.4.1.2.1.2",
        ("patient", "get") => "1.2.840.10008.5.1.4.1.2.1.3",
        ("study", "find") => "1.2.840.10008.5.1.4.1.2.2.1",
        ("study", "move") => "1.2.840.10008.5.1.4.1.2.2.2",
        ("study", "get") => "1.2.840.10008.5.1.4.1.2.2.3",
        _ => {
            return Err(Error::new(format!(
                "--model {root}: must be study or patient"
            )));
        }
    })
}

/// An identifier in implicit VR little endian: the level and `gggg,eeee=value` keys separated by
/// semicolons, in any order.
pub fn identifier(level: &str, keys: &str) -> Result<Vec<u8>> {
    let mut elements = vec![(0x0008_0052_u32, level.to_owned())];
    for key in keys.split(';').filter(|key| !key.is_empty()) {
        let (tag, value) = key.split_once('=').unwrap_or((key, ""));
        let digits: String = tag.chars().filter(|c| *c != ',').collect();
        let tag = u32::from_str_radix(&digits, 16)
            .map_err(|_| Error::new(format!("--keys {key}: not a tag")))?;
        elements.push((tag, value.to_owned()));
    }
    elements.sort();
    let mut bytes = Vec::new();
    for (tag, value) in elements {
        let uid = matches!(tag, 0x0008_0016 | 0x0008_0018 | 0x0020_000D | 0x0020_000E);
        let value = wire::padded(&value, if uid { 0 } else { b' ' });
        bytes.extend_from_slice(&((tag >> 16) as u16).to_le_bytes());
        bytes.extend_from_slice(&(tag as u16).to_le_bytes());
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&value);
    }
    Ok(bytes)
}

struct Share {
    histogram: Histogram,
    records: u64,
    bytes: u64,
    begin: Instant,
    end: Instant,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Json> {
    let target = Target::from_args(args)?;
    let model = model_uid(&args.or("model", "study".to_owned())?, "find")?;
    let identifier = identifier(
        &args.need::<String>("level")?,
        &args.need::<String>("keys")?,
    )?;
    let repeat: u64 = args.or("repeat", 1)?;
    let associations: u64 = args.or("associations", 1)?;
    args.finish()?;
    let shares: Vec<Result<Share>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..associations)
            .map(|_| scope.spawn(|| ask(&target, model, &identifier, repeat)))
            .collect();
        workers.into_iter().map(join).collect()
    });
    let shares = shares.into_iter().collect::<Result<Vec<_>>>()?;
    let mut histogram = Histogram::new();
    for share in &shares {
        histogram.merge(&share.histogram);
    }
    let records: u64 = shares.iter().map(|share| share.records).sum();
    let begin = shares
        .iter()
        .map(|share| share.begin)
        .min()
        .unwrap_or_else(Instant::now);
    let end = shares.iter().map(|share| share.end).max().unwrap_or(begin);
    let seconds = (end - begin).as_secs_f64();
    let queries = repeat * associations;
    Ok(Json::object()
        .with("command", "find")
        .with("queries", queries)
        .with("records", records)
        .with("bytes", shares.iter().map(|share| share.bytes).sum::<u64>())
        .with("associations", associations)
        .with("seconds", seconds)
        .with("records_per_second", records as f64 / seconds)
        .with("queries_per_second", queries as f64 / seconds)
        .with("latency_us", histogram.report()))
}

fn ask(target: &Target, model: &str, identifier: &[u8], repeat: u64) -> Result<Share> {
    let context = Context {
        sop_class: model.to_owned(),
        syntaxes: vec![IMPLICIT_LE.to_owned()],
        scp_role: false,
    };
    let mut client = target.associate(&[context])?;
    let message = request(&client, model, wire::command::FIND_RQ, identifier, None)?;
    let begin = Instant::now();
    let mut share = Share {
        histogram: Histogram::new(),
        records: 0,
        bytes: 0,
        begin,
        end: begin,
    };
    for _ in 0..repeat {
        let asked = Instant::now();
        let (records, bytes) = one(&mut client, &message)?;
        share.records += records;
        share.bytes += bytes;
        share.end = Instant::now();
        share.histogram.record(share.end - asked);
    }
    client.release()?;
    Ok(share)
}

/// One query: records and bytes that came.
pub fn one(client: &mut Client, message: &[u8]) -> Result<(u64, u64)> {
    let (mut records, mut received) = (0, 0);
    client.wire.write(message)?;
    loop {
        let (_, response, bytes) = client.response()?;
        if response.field != wire::command::FIND_RSP {
            return Err(Error::new(format!(
                "C-FIND answered by {:04x}",
                response.field
            )));
        }
        received += bytes;
        if response.is_pending() {
            records += 1;
        } else if response.status == 0 {
            return Ok((records, received));
        } else {
            return Err(Error::new(format!(
                "C-FIND ended with {:04X}",
                response.status
            )));
        }
    }
}

/// A query or retrieve request with its identifier, as wire bytes for context 0.
pub fn request(
    client: &Client,
    model: &str,
    field: u16,
    identifier: &[u8],
    destination: Option<&str>,
) -> Result<Vec<u8>> {
    let mut fields = vec![
        Field::Uid(0x0002, model),
        Field::Number(0x0100, field),
        Field::Number(0x0110, 1),
    ];
    if let Some(title) = destination {
        fields.push(Field::Ae(0x0600, title));
    }
    fields.push(Field::Number(0x0700, 0));
    fields.push(Field::Number(0x0800, wire::WITH_DATASET));
    let (id, _) = client.context(0)?;
    Ok(client.message(id, &wire::command_set(&fields), identifier))
}

#[cfg(test)]
mod tests {
    use super::identifier;

    #[test]
    fn identifiers_are_sorted_and_padded() {
        let bytes = identifier("IMAGE", "0020,000D=1.2.3;0010,0020=AB;0008,0018").unwrap();
        let expected: &[&[u8]] = &[
            &[8, 0, 0x18, 0, 0, 0, 0, 0],
            &[8, 0, 0x52, 0, 6, 0, 0, 0],
            b"IMAGE ",
            &[0x10, 0, 0x20, 0, 2, 0, 0, 0],
            b"AB",
            &[0x20, 0, 0x0D, 0, 6, 0, 0, 0],
            b"1.2.3\0",
        ];
        assert_eq!(bytes, expected.concat());
        assert!(identifier("IMAGE", "nonsense=1").is_err());
    }
}
