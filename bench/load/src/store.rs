//! `store`: several associations, each sending its share of C-STORE requests one after the other.
//!
//! Time runs from the moment all associations stand to the last response; a response that is not
//! success ends the run unless `--tolerant 1`.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::args::Args;
use crate::client::{Client, Context, Target};
use crate::error::{Error, Result};
use crate::histogram::Histogram;
use crate::json::Json;
use crate::object::{Identity, Message, Random, Shape};
use crate::wire::{self, CT_IMAGE, EXPLICIT_LE, IMPLICIT_LE};

/// The run is cut into this many parts of equal count, so that a rate that falls with the number
/// of stored objects is seen.
const PARTS: usize = 10;

struct Plan {
    target: Target,
    shape: Shape,
    count: u64,
    associations: u64,
    series_length: u64,
    study_length: u64,
    patient: Option<String>,
    seed: u64,
    until: Option<Duration>,
    tolerant: bool,
}

/// What the associations share while running.
struct Shared {
    ready: Barrier,
    stored: AtomicU64,
    parts_us: [AtomicU64; PARTS],
}

struct Share {
    histogram: Histogram,
    statuses: BTreeMap<u16, u64>,
    begin: Instant,
    end: Instant,
    peer_pdu: u32,
    syntax: String,
    dataset_bytes: u64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Json> {
    let plan = Plan::from_args(args)?;
    let shared = Shared {
        ready: Barrier::new(plan.associations as usize),
        stored: AtomicU64::new(0),
        parts_us: [const { AtomicU64::new(0) }; PARTS],
    };
    let shares: Vec<Result<Share>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.associations)
            .map(|index| {
                scope.spawn({
                    let (plan, shared) = (&plan, &shared);
                    move || send_share(plan, shared, index)
                })
            })
            .collect();
        workers.into_iter().map(join).collect()
    });
    report(
        &plan,
        &shared,
        &shares.into_iter().collect::<Result<Vec<_>>>()?,
    )
}

/// The value of a thread; a panic in it becomes an error.
pub fn join<T>(worker: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    worker
        .join()
        .unwrap_or_else(|_| Err(Error::new("a worker thread panicked")))
}

/// A transfer syntax by its short name or UID.
pub fn syntax_uid(name: &str) -> &str {
    match name {
        "implicit" => IMPLICIT_LE,
        "explicit" => EXPLICIT_LE,
        uid => uid,
    }
}

fn content(args: &Args) -> Result<Vec<u8>> {
    let Some(path) = args.text("content") else {
        return Ok(Vec::new());
    };
    std::fs::read(path).map_err(|error| Error::new(format!("--content {path}: {error}")))
}

impl Plan {
    fn from_args(args: &Args) -> Result<Self> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let plan = Self {
            target: Target::from_args(args)?,
            shape: Shape {
                sop_class: args.or("sop-class", CT_IMAGE.to_owned())?,
                syntax: syntax_uid(&args.or("syntax", "implicit".to_owned())?).to_owned(),
                pixel_bytes: args.or("size", 512 * 1024)?,
                content: content(args)?,
            },
            count: args.need("count")?,
            associations: args.or("associations", 1)?,
            series_length: args.or("series-length", 100_u64)?.max(1),
            study_length: args.or("study-length", 100_u64)?.max(1),
            patient: args.text("patient").map(str::to_owned),
            seed: args.or(
                "seed",
                now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32,
            )?,
            until: args.seconds("seconds")?,
            tolerant: args.or("tolerant", 0_u8)? != 0,
        };
        if plan.associations == 0 || plan.associations > 4096 {
            return Err(Error::new("--associations must be 1 to 4096"));
        }
        args.finish().map(|()| plan)
    }

    fn count_of(&self, index: u64) -> u64 {
        self.count / self.associations + u64::from(index < self.count % self.associations)
    }
}

fn send_share(plan: &Plan, shared: &Shared, index: u64) -> Result<Share> {
    let context = Context {
        sop_class: plan.shape.sop_class.clone(),
        syntaxes: vec![plan.shape.syntax.clone()],
        scp_role: false,
    };
    let opened = open(plan, &[context]);
    // Every thread must reach the barrier, or a refused association would hang the others.
    shared.ready.wait();
    let (mut client, mut message) = opened?;
    let mut share = Share {
        histogram: Histogram::new(),
        statuses: BTreeMap::new(),
        begin: Instant::now(),
        end: Instant::now(),
        peer_pdu: client.peer_pdu,
        syntax: plan.shape.syntax.clone(),
        dataset_bytes: message.dataset_bytes,
    };
    let mut names = Names::new(plan, index);
    for number in 0..plan.count_of(index) {
        if plan
            .until
            .is_some_and(|until| share.begin.elapsed() >= until)
        {
            break;
        }
        message.set(names.next(plan, number));
        let sent = Instant::now();
        for piece in message.pieces() {
            client.wire.write(piece)?;
        }
        let (_, response, _) = client.response()?;
        share.end = Instant::now();
        share.histogram.record(share.end - sent);
        check(&response, plan.tolerant)?;
        *share.statuses.entry(response.status).or_default() += 1;
        shared.note(plan.count, share.begin);
    }
    client.release()?;
    Ok(share)
}

fn open(plan: &Plan, contexts: &[Context]) -> Result<(Client, Message)> {
    let client = plan.target.associate(contexts)?;
    let (id, _) = client.context(0)?;
    let message = Message::build(&plan.shape, id, client.fragment_max)?;
    Ok((client, message))
}

fn check(response: &wire::Command, tolerant: bool) -> Result<()> {
    if response.field != wire::command::STORE_RSP {
        return Err(Error::new(format!(
            "C-STORE answered by command {:04x}",
            response.field
        )));
    }
    // B000, B006 and B007 are warnings: stored.
    if response.status != 0 && response.status & 0xF000 != 0xB000 && !tolerant {
        return Err(Error::new(format!(
            "C-STORE answered with status {:04X}",
            response.status
        )));
    }
    Ok(())
}

impl Shared {
    /// Counts one stored object and notes the time when a tenth of the run is complete.
    fn note(&self, count: u64, begin: Instant) {
        let stored = self.stored.fetch_add(1, Ordering::Relaxed) + 1;
        let parts = PARTS as u64;
        if stored * parts % count.max(1) < parts {
            let part = (stored * parts / count.max(1)).saturating_sub(1) as usize;
            if let Some(slot) = self.parts_us.get(part) {
                slot.store(begin.elapsed().as_micros() as u64, Ordering::Relaxed);
            }
        }
    }
}

/// The identifiers of one association's objects: a new series every `series_length` objects, a
/// new study and patient every `study_length`.
struct Names {
    random: Random,
    identity: Identity,
}

impl Names {
    fn new(plan: &Plan, index: u64) -> Self {
        let random = Random::new(
            plan.seed
                .wrapping_add(index.wrapping_mul(0xD1B5_4A32_D192_ED03)),
        );
        Self {
            random,
            identity: Identity::default(),
        }
    }

    fn next(&mut self, plan: &Plan, number: u64) -> &Identity {
        if number.is_multiple_of(plan.study_length) {
            self.identity.study = self.random.uid();
            self.identity.patient = plan
                .patient
                .clone()
                .unwrap_or_else(|| self.random.patient());
        }
        if number.is_multiple_of(plan.series_length) {
            self.identity.series = self.random.uid();
        }
        self.identity.instance = self.random.uid();
        self.identity.number = number % plan.series_length + 1;
        &self.identity
    }
}

fn report(plan: &Plan, shared: &Shared, shares: &[Share]) -> Result<Json> {
    let mut histogram = Histogram::new();
    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    for share in shares {
        histogram.merge(&share.histogram);
        for (status, count) in &share.statuses {
            *statuses.entry(*status).or_default() += count;
        }
    }
    let first = shares
        .first()
        .ok_or_else(|| Error::new("no association ran"))?;
    let begin = shares
        .iter()
        .map(|share| share.begin)
        .min()
        .unwrap_or(first.begin);
    let end = shares
        .iter()
        .map(|share| share.end)
        .max()
        .unwrap_or(first.end);
    let seconds = (end - begin).as_secs_f64();
    let stored = shared.stored.load(Ordering::Relaxed);
    let bytes = stored * first.dataset_bytes;
    let statuses = statuses
        .into_iter()
        .fold(Json::object(), |object, (status, count)| {
            object.with(&format!("{status:04X}"), count)
        });
    Ok(Json::object()
        .with("command", "store")
        .with("objects", stored)
        .with("object_bytes", first.dataset_bytes)
        .with("bytes", bytes)
        .with("associations", plan.associations)
        .with("syntax", first.syntax.as_str())
        .with("peer_pdu", first.peer_pdu)
        .with("seconds", seconds)
        .with("objects_per_second", stored as f64 / seconds)
        .with("mb_per_second", bytes as f64 / 1e6 / seconds)
        .with("latency_us", histogram.report())
        .with("statuses", statuses)
        .with("part_rates", part_rates(shared, stored)))
}

/// Objects per second in each tenth of the run.
fn part_rates(shared: &Shared, stored: u64) -> Vec<f64> {
    let mut before = 0;
    let mut rates = Vec::with_capacity(PARTS);
    for slot in &shared.parts_us {
        let at = slot.load(Ordering::Relaxed);
        if at <= before {
            break;
        }
        rates.push(stored as f64 / PARTS as f64 * 1e6 / (at - before) as f64);
        before = at;
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::{Names, Plan};
    use crate::args::Args;

    #[test]
    fn identifiers_change_with_series_and_study() {
        let words = "--port 1 --count 10 --series-length 2 --study-length 4 --seed 7 --size 10";
        let args = Args::parse(words.split(' ').map(str::to_owned)).unwrap();
        let plan = Plan::from_args(&args).unwrap();
        let mut names = Names::new(&plan, 0);
        let all: Vec<_> = (0..5)
            .map(|number| names.next(&plan, number).clone())
            .collect();
        assert_eq!(all[0].series, all[1].series);
        assert_ne!(all[1].series, all[2].series);
        assert_eq!(all[0].study, all[3].study);
        assert_ne!(all[3].study, all[4].study);
        assert_ne!(all[3].patient, all[4].patient);
        assert_eq!(all[2].number, 1);
        assert!(
            all.windows(2)
                .all(|pair| pair[0].instance != pair[1].instance)
        );
    }
}
