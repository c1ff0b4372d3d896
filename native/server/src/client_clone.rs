//! clonedb: enters what a peer knows into our index, without the objects (manual, appendix 1).
//!
//! One association lists the patients, then several fetch one patient each. Their records meet in a bounded
//! channel; the caller's thread hands them to the committer, many patients in one transaction, and notes the
//! patients whose rows are durable, so that an interrupted clone goes on where it stopped.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pyserver_store::archive::Archive;
use pyserver_store::clone_rows::{CloneOrigin, CloneReport, CloneSeries};
use pyserver_store::clone_source::CloneBuilder;
use pyserver_store::clone_state::CloneState;
use pyserver_store::error::StoreError;
use pyserver_store::extract::ExtractPolicy;

use crate::clone_fetch::{FetchError, Fetcher, Piece, Plan, Sink};
use crate::error::LinkError;
use crate::peers::Destination;
use crate::scu::Caller;

/// Images in one transaction. LIMIT: what a store that comes meanwhile waits for, some 0.1 s.
const BATCH_IMAGES: usize = 32_768;
/// A slow peer's records are entered no later than this.
const BATCH_TIME_MAX: Duration = Duration::from_secs(1);
/// Images a fetcher hands over at once.
const PORTION_IMAGES: usize = 512;
/// Portions that may wait. LIMIT: with the batch some 40 MB of rows.
const PORTIONS_WAITING: usize = 32;
/// How often a piece is tried on a new association, and the pause before the second try; it doubles.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Failed pieces told by name.
const FAILURES_LISTED: usize = 100;

/// How to clone.
#[derive(Debug, Clone)]
pub struct CloneOptions {
    /// Associations that fetch, at least 1.
    pub associations: usize,
    /// The virtual device of the rows (`virtual_device`).
    pub device: u16,
    /// Forget what an interrupted clone has done.
    pub restart: bool,
    /// What to make of doubtful values.
    pub policy: ExtractPolicy,
}

/// How far a clone is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CloneProgress {
    /// Patients (or studies) done, those of an interrupted run included.
    pub done: u64,
    /// Patients (or studies) there are; 0 while they are being listed.
    pub total: u64,
    /// Images entered.
    pub images: u64,
    /// Images per second over the last moments.
    pub images_per_s: u64,
}

/// What a clone did.
#[derive(Debug, Default)]
pub struct Cloned {
    /// Patients (or studies) the peer told of.
    pub pieces: u64,
    /// Those that an earlier, interrupted run had done.
    pub resumed: u64,
    /// Those that were fetched whole.
    pub done: u64,
    /// Those that could not be, with the reason; the first hundred.
    pub failures: Vec<(String, String)>,
    /// How many those are.
    pub failed: u64,
    /// What became of the images.
    pub rows: CloneReport,
    /// Whether the caller asked to stop.
    pub stopped: bool,
    /// Seconds from the first question to the last commit.
    pub seconds: f64,
}

/// Why nothing more could be cloned.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// The peer.
    #[error(transparent)]
    Peer(#[from] LinkError),
    /// Our archive.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A fetcher's message.
enum Portion {
    Images(Vec<CloneSeries>, usize),
    Done(usize),
    Failed(usize, String),
    /// A record that cannot be entered.
    Refused(String),
    /// No association comes about any more.
    Lost(LinkError),
}

/// Clones `peer` into `archive`. `progress` hears of it several times a second and stops it with false; a
/// stopped or failed clone goes on when it is called again.
///
/// Errors: the peer cannot be reached or asked, or the index takes no more.
pub fn clone_index(
    archive: &Archive,
    caller: &Caller,
    peer: &Destination,
    options: &CloneOptions,
    progress: &mut dyn FnMut(CloneProgress) -> bool,
) -> Result<Cloned, CloneError> {
    let began = Instant::now();
    let columns = archive.index().columns().clone();
    let plan = Plan {
        columns: &columns,
        relational: AtomicBool::new(true),
    };
    let Some(pieces) = list(caller, peer, &plan, progress)? else {
        return Ok(Cloned {
            stopped: true,
            ..Cloned::default()
        });
    };
    let source = format!("{} at {}:{}", peer.ae, peer.host, peer.port);
    let state = if archive.keeps_nothing() {
        CloneState::unwritten()
    } else {
        CloneState::open(&archive.config().index_dir, &source, options.restart)?
    };
    let mut todo = pieces.iter().collect::<Vec<_>>();
    todo.retain(|piece| !state.is_done(&piece.name()));
    let crew = Crew {
        archive,
        caller,
        peer,
        plan: &plan,
        policy: options.policy,
        pieces: &todo,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    };
    let mut cloner = Cloner {
        archive,
        origin: CloneOrigin {
            device: options.device,
            source_ae: peer.ae.clone(),
            own_ae: caller.calling_ae.clone(),
            now: 0,
        },
        state,
        pieces: &todo,
        series: Vec::new(),
        images: 0,
        ended: Vec::new(),
        rate: Rate::default(),
        report: Cloned {
            pieces: pieces.len() as u64,
            resumed: (pieces.len() - todo.len()) as u64,
            ..Cloned::default()
        },
    };
    crew.work(options.associations, |portions| {
        cloner.receive(portions, progress)
    })?;
    let mut report = cloner.report;
    report.seconds = began.elapsed().as_secs_f64();
    if !report.stopped && report.failed == 0 {
        cloner.state.finish()?;
    }
    Ok(report)
}

/// Everything the peer has to tell of; `None` when the caller stopped it.
fn list(
    caller: &Caller,
    peer: &Destination,
    plan: &Plan<'_>,
    progress: &mut dyn FnMut(CloneProgress) -> bool,
) -> Result<Option<Vec<Piece>>, CloneError> {
    let mut fetcher = Fetcher::connect(caller, peer, plan)?;
    let listed = fetcher.list(&mut |done| {
        progress(CloneProgress {
            done,
            ..CloneProgress::default()
        })
    });
    match listed {
        Ok(pieces) => {
            fetcher.release()?;
            Ok(Some(pieces))
        }
        Err(FetchError::Stopped) => Ok(None),
        Err(FetchError::Refused(error) | FetchError::Link(error)) => Err(error.into()),
    }
}

/// Enters what the fetchers bring.
struct Cloner<'a> {
    archive: &'a Archive,
    origin: CloneOrigin,
    state: CloneState,
    pieces: &'a [&'a Piece],
    /// Records that are not entered yet.
    series: Vec<CloneSeries>,
    images: usize,
    /// Pieces whose last record is entered or among those.
    ended: Vec<usize>,
    rate: Rate,
    report: Cloned,
}

impl Cloner<'_> {
    /// Until all fetchers have ended, the peer is lost or the caller stops it.
    fn receive(
        &mut self,
        portions: &Receiver<Portion>,
        progress: &mut dyn FnMut(CloneProgress) -> bool,
    ) -> Result<(), CloneError> {
        let mut due = Instant::now() + BATCH_TIME_MAX;
        let mut lost = None;
        loop {
            let more = match portions.recv_deadline(due) {
                Ok(portion) => {
                    self.take(portion, &mut lost);
                    true
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            };
            if !more || self.images >= BATCH_IMAGES || Instant::now() >= due {
                self.enter()?;
                due = Instant::now() + BATCH_TIME_MAX;
                if !progress(self.progress()) {
                    self.report.stopped = true;
                    return Ok(());
                }
            }
            if !more {
                let left = self.report.done + self.report.failed < self.pieces.len() as u64;
                return match lost {
                    Some(error) if left => Err(CloneError::Peer(error)),
                    _ => Ok(()),
                };
            }
        }
    }

    fn take(&mut self, portion: Portion, lost: &mut Option<LinkError>) {
        match portion {
            Portion::Images(series, images) => {
                self.series.extend(series);
                self.images += images;
            }
            Portion::Done(piece) => self.ended.push(piece),
            Portion::Failed(piece, reason) => {
                self.report.failed += 1;
                if let Some(piece) = self.pieces.get(piece)
                    && self.report.failures.len() < FAILURES_LISTED
                {
                    let name = String::from_utf8_lossy(&piece.name()).into_owned();
                    self.report.failures.push((name, reason));
                }
            }
            Portion::Refused(reason) => self.report.rows.refuse(1, || reason),
            Portion::Lost(error) => *lost = Some(error),
        }
    }

    /// One transaction; then the pieces that are complete are noted.
    fn enter(&mut self) -> Result<(), CloneError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        self.origin.now = since.map_or(0, |time| time.as_secs() as u32);
        if !self.series.is_empty() {
            let series = std::mem::take(&mut self.series);
            let entered = self.archive.enter_clones(series, self.origin.clone())?;
            self.report.rows.add(entered);
            self.images = 0;
        }
        self.report.done += self.ended.len() as u64;
        let names: Vec<Vec<u8>> = self
            .ended
            .drain(..)
            .filter_map(|piece| self.pieces.get(piece).map(|piece| piece.name()))
            .collect();
        self.state.note(names.iter().map(Vec::as_slice))?;
        self.rate.note(self.report.rows.images());
        Ok(())
    }

    fn progress(&self) -> CloneProgress {
        CloneProgress {
            done: self.report.resumed + self.report.done + self.report.failed,
            total: self.report.pieces,
            images: self.report.rows.images(),
            images_per_s: self.rate.per_s,
        }
    }
}

/// Images per second, over at least a second.
struct Rate {
    since: Instant,
    images: u64,
    per_s: u64,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            images: 0,
            per_s: 0,
        }
    }
}

impl Rate {
    fn note(&mut self, images: u64) {
        let span = self.since.elapsed();
        if span >= Duration::from_secs(1) || self.per_s == 0 {
            let rate = (images - self.images) as f64 / span.as_secs_f64().max(1e-3);
            self.per_s = rate as u64;
            (self.since, self.images) = (Instant::now(), images);
        }
    }
}

/// What all fetchers work with.
struct Crew<'a> {
    archive: &'a Archive,
    caller: &'a Caller,
    peer: &'a Destination,
    plan: &'a Plan<'a>,
    policy: ExtractPolicy,
    pieces: &'a [&'a Piece],
    /// The next piece to fetch.
    next: AtomicUsize,
    stop: AtomicBool,
}

impl Crew<'_> {
    /// Fetches with so many associations while `receive` takes what they bring.
    fn work(
        &self,
        associations: usize,
        receive: impl FnOnce(&Receiver<Portion>) -> Result<(), CloneError>,
    ) -> Result<(), CloneError> {
        let (sender, receiver) = bounded(PORTIONS_WAITING);
        thread::scope(|scope| {
            for _ in 0..associations.clamp(1, self.pieces.len().max(1)) {
                let worker = Worker {
                    crew: self,
                    portions: sender.clone(),
                };
                scope.spawn(move || worker.run());
            }
            drop(sender);
            let outcome = receive(&receiver);
            self.stop.store(true, Ordering::Relaxed);
            // Whoever waits for room in the channel hears that nobody listens any more.
            drop(receiver);
            outcome
        })
    }
}

/// Fetches pieces on an association of its own.
struct Worker<'a> {
    crew: &'a Crew<'a>,
    portions: Sender<Portion>,
}

impl Worker<'_> {
    fn run(self) {
        let mut fetcher = None;
        while !self.crew.stop.load(Ordering::Relaxed) {
            let number = self.crew.next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = self.crew.pieces.get(number) else {
                break;
            };
            let message = match self.piece(piece, &mut fetcher) {
                Ok(()) => Portion::Done(number),
                Err(FetchError::Stopped) => return,
                Err(FetchError::Link(error @ LinkError::Connect { .. })) => {
                    let _gone = self.portions.send(Portion::Lost(error));
                    return;
                }
                Err(error) => Portion::Failed(number, error.to_string()),
            };
            if self.portions.send(message).is_err() {
                return;
            }
        }
        // All answers are here: a peer that does not confirm the release has done its work.
        let _unconfirmed = fetcher.map(Fetcher::release);
    }

    /// One piece, on a new association when the one there is breaks.
    fn piece<'a>(
        &'a self,
        piece: &Piece,
        fetcher: &mut Option<Fetcher<'a>>,
    ) -> Result<(), FetchError> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let outcome = self.attempt(piece, fetcher);
            let Err(FetchError::Link(error)) = outcome else {
                return outcome;
            };
            *fetcher = None;
            if attempt >= TRIES || self.crew.stop.load(Ordering::Relaxed) {
                return Err(error.into());
            }
            thread::sleep(pause);
            pause *= 2;
        }
        Ok(())
    }

    fn attempt<'a>(
        &'a self,
        piece: &Piece,
        fetcher: &mut Option<Fetcher<'a>>,
    ) -> Result<(), FetchError> {
        let fetcher = match fetcher {
            Some(fetcher) => fetcher,
            None => fetcher.insert(Fetcher::connect(
                self.crew.caller,
                self.crew.peer,
                self.crew.plan,
            )?),
        };
        let hand_over = |builder: &mut CloneBuilder<'_>| {
            let images = builder.images();
            let portion = Portion::Images(builder.take(), images);
            self.portions.send(portion).is_ok()
        };
        let mut builder =
            CloneBuilder::new(self.crew.archive.index().extractor(), self.crew.policy);
        let mut sink = Sink {
            builder: &mut builder,
            after: &mut |builder| {
                !self.crew.stop.load(Ordering::Relaxed)
                    && (builder.images() < PORTION_IMAGES || hand_over(builder))
            },
            refused: &mut |reason| {
                let _gone = self.portions.send(Portion::Refused(reason));
            },
        };
        fetcher.fetch(piece, &mut sink)?;
        if builder.images() > 0 && !hand_over(&mut builder) {
            return Err(FetchError::Stopped);
        }
        Ok(())
    }
}
