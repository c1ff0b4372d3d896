//! Makes what was answered out of the journal durable in its own place: one sync per device for many files,
//! then the pending records go.
//!
//! Files put in place since the last round are synced together (`syncfs`), at the latest two seconds after the
//! first, earlier when many wait. Relaxed stores leave much for such a sync to write, and whoever syncs a record
//! beside it waits behind all of that. So their files are written out one after the other first, until the sync
//! finds little left. A failed sync is never retried as if it had worked: the device becomes
//! read-only and its records stay, so that the next start checks every file against them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::blob::Disk;
use crate::commit::Committer;
use crate::device::Device;
use crate::error::StoreError;
use crate::mark::{FolderMarks, Mark};
use crate::pending::PendingId;

/// The first file of a round waits at most this long.
const DELAY_MAX: Duration = Duration::from_secs(2);
/// Files that start a round at once.
const FILES_MAX: usize = 8192;
/// Journal bytes that start a round at once.
const BYTES_MAX: u64 = 64 << 20;
/// Files that a sync may find unwritten.
const UNWRITTEN_MAX: usize = 16;
/// Stores wait when this many times as much has piled up: the disk is slower than the senders.
const BACKLOG_ROUNDS_MAX: usize = 4;

/// A file in its place.
pub(crate) struct Entry {
    /// Its record, which goes once it is settled.
    pub pending: PendingId,
    /// Number of its device.
    pub device: u16,
    /// Its bytes in the journal.
    pub journal_bytes: u64,
    /// Its folder's mark, held until then.
    #[expect(dead_code, reason = "held until the file is settled")]
    pub mark: Option<Arc<Mark>>,
    /// Its name on the device if only the system has its bytes, and they are many.
    pub unwritten: Option<String>,
}

#[derive(Default)]
struct Queue {
    entries: Vec<Entry>,
    bytes: u64,
    since: Option<Instant>,
    /// Someone waits for the queue to be empty.
    hurry: bool,
    working: bool,
    stop: bool,
}

struct State {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Rounds that succeeded.
    rounds: AtomicU64,
    /// Files settled.
    files: AtomicU64,
    /// Called after each round that settled something.
    after_round: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// The way to the settling thread.
pub(crate) struct Settler {
    state: Arc<State>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Settler {
    /// Starts the thread.
    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        devices: Vec<Arc<Device>>,
        committer: Arc<Committer>,
        marks: Arc<FolderMarks>,
    ) -> Result<Self, StoreError> {
        let state = Arc::new(State {
            queue: Mutex::new(Queue::default()),
            changed: Condvar::new(),
            rounds: AtomicU64::new(0),
            files: AtomicU64::new(0),
            after_round: OnceLock::new(),
        });
        let worker = Worker {
            state: Arc::clone(&state),
            disk,
            devices,
            committer,
            marks,
        };
        let thread = std::thread::Builder::new()
            .name("settler".into())
            .spawn(move || worker.run())
            .map_err(|e| StoreError::io("start", std::path::Path::new("settler"), e))?;
        Ok(Self {
            state,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Hands in a file that stands in its place. Waits when far too many are on their way.
    pub(crate) fn add(&self, entry: Entry) {
        let mut queue = self.state.queue.lock();
        while !queue.stop
            && (queue.entries.len() >= FILES_MAX * BACKLOG_ROUNDS_MAX
                || queue.bytes >= BYTES_MAX * BACKLOG_ROUNDS_MAX as u64)
        {
            self.state.changed.wait(&mut queue);
        }
        queue.bytes += entry.journal_bytes;
        queue.entries.push(entry);
        let first = queue.since.is_none();
        if first {
            queue.since = Some(Instant::now());
        }
        if first || queue.is_full() {
            self.state.changed.notify_all();
        }
    }

    /// Has `call` called after each round that settled something. Once.
    pub(crate) fn after_round(&self, call: Box<dyn Fn() + Send + Sync>) {
        // A second call would be ours to notice: there is one archive for one settler.
        let _first_stays = self.state.after_round.set(call);
    }

    /// Waits until everything handed in so far is settled or given up.
    pub(crate) fn drain(&self) {
        let mut queue = self.state.queue.lock();
        while !queue.stop && (queue.working || !queue.entries.is_empty()) {
            queue.hurry = true;
            self.state.changed.notify_all();
            self.state.changed.wait(&mut queue);
        }
    }

    /// Files waiting, rounds and files done.
    pub(crate) fn figures(&self) -> (usize, u64, u64) {
        let waiting = self.state.queue.lock().entries.len();
        let load = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        (waiting, load(&self.state.rounds), load(&self.state.files))
    }

    /// Settles what waits and ends the thread.
    pub(crate) fn stop(&self) {
        self.drain();
        self.state.queue.lock().stop = true;
        self.state.changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _panicked = thread.join();
        }
    }
}

impl Queue {
    fn take(&mut self) -> Vec<Entry> {
        self.since = None;
        self.bytes = 0;
        std::mem::take(&mut self.entries)
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= FILES_MAX || self.bytes >= BYTES_MAX
    }
}

struct Worker {
    state: Arc<State>,
    disk: Arc<dyn Disk>,
    devices: Vec<Arc<Device>>,
    committer: Arc<Committer>,
    marks: Arc<FolderMarks>,
}

impl Worker {
    fn run(self) {
        while let Some(mut entries) = self.next_round() {
            self.write_out(&mut entries);
            self.settle(entries);
            let mut queue = self.state.queue.lock();
            queue.working = false;
            self.state.changed.notify_all();
        }
    }

    /// Waits for a round to be due and takes it; `None` when the thread is to end.
    fn next_round(&self) -> Option<Vec<Entry>> {
        let mut queue = self.state.queue.lock();
        loop {
            if queue.stop {
                return None;
            }
            match queue.since {
                None => {
                    queue.hurry = false;
                    self.state.changed.notify_all();
                    self.state.changed.wait(&mut queue);
                }
                Some(since) => {
                    let due = since + DELAY_MAX;
                    if queue.hurry || queue.is_full() || Instant::now() >= due {
                        queue.working = true;
                        return Some(queue.take());
                    }
                    self.state.changed.wait_until(&mut queue, due);
                }
            }
        }
    }

    /// Writes out what the round's sync would have to write, and what is handed in meanwhile.
    fn write_out(&self, entries: &mut Vec<Entry>) {
        let mut done = 0;
        loop {
            let mut written = 0;
            for entry in entries.get(done..).unwrap_or_default() {
                let device = self.devices.get(usize::from(entry.device));
                if let (Some(file), Some(device)) = (&entry.unwritten, device) {
                    self.disk.write_out(&device.path(file));
                    written += 1;
                }
            }
            done = entries.len();
            if written <= UNWRITTEN_MAX || done >= FILES_MAX {
                return;
            }
            entries.append(&mut self.state.queue.lock().take());
        }
    }

    fn settle(&self, entries: Vec<Entry>) {
        let numbers: BTreeSet<u16> = entries.iter().map(|entry| entry.device).collect();
        let synced: BTreeSet<u16> = numbers
            .into_iter()
            .filter(|&number| self.sync(number))
            .collect();
        let settled: Vec<PendingId> = entries
            .iter()
            .filter(|entry| synced.contains(&entry.device))
            .map(|entry| entry.pending)
            .collect();
        if settled.is_empty() {
            return;
        }
        let count = settled.len() as u64;
        // When this fails the records stay, and the next start finds their files whole.
        if self
            .committer
            .change(move |txn| txn.settle(&settled))
            .is_ok()
        {
            drop(entries);
            self.marks.sweep();
            self.state.rounds.fetch_add(1, Ordering::Relaxed);
            self.state.files.fetch_add(count, Ordering::Relaxed);
            if let Some(after_round) = self.state.after_round.get() {
                after_round();
            }
        }
    }

    fn sync(&self, number: u16) -> bool {
        self.devices
            .get(usize::from(number))
            .is_some_and(|device| device.sync_all(self.disk.as_ref()).is_ok())
    }
}
