//! Frees what deletes have hidden: rows in small transactions, files one by one, folders left empty.
//!
//! A file goes only after the transaction that gave it up is committed, and its name is free for others only
//! after that. Work is done in portions with a pause as long as the portion took, so that ingest keeps at
//! least half of the disk. Files of stores that are not settled wait.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::apply::ReplacedFile;
use crate::archive::Shared;
use crate::blob::Disk;
use crate::device::Device;
use crate::error::StoreError;
use crate::index::Index;

/// Rows freed in one transaction.
const ROWS_PER_PORTION: usize = 256;
/// When stores not yet settled block a portion, it is tried again after this.
const BLOCKED_PAUSE: Duration = Duration::from_millis(1100);
/// However long a portion took: where a sync waits for minutes behind other programs, or the process stood still,
/// half of the disk is not what this would spare.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// After a failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct State {
    wanted: bool,
    working: bool,
    stop: bool,
}

#[derive(Default)]
struct Signal {
    state: Mutex<State>,
    changed: Condvar,
    files: AtomicU64,
}

/// The way to the reaper's thread.
pub(crate) struct Reaper {
    signal: Arc<Signal>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Reaper {
    /// Starts the thread; it looks at once for what an earlier run left.
    pub(crate) fn start(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        let signal = Arc::new(Signal::default());
        signal.state.lock().wanted = true;
        let worker = Worker {
            signal: Arc::clone(&signal),
            shared: Arc::downgrade(shared),
        };
        let thread = std::thread::Builder::new()
            .name("reaper".into())
            .spawn(move || worker.run())
            .map_err(|e| StoreError::io("start", Path::new("reaper"), e))?;
        Ok(Self {
            signal,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Something was deleted.
    pub(crate) fn wake(&self) {
        self.signal.state.lock().wanted = true;
        self.signal.changed.notify_all();
    }

    /// What wakes the reaper when the index has files of replaced or deleted objects to free.
    pub(crate) fn waker(&self, index: Arc<Index>) -> Box<dyn Fn() + Send + Sync> {
        let signal = Arc::clone(&self.signal);
        Box::new(move || {
            let orphans = index.read().and_then(|txn| txn.orphans(1));
            // An index that cannot be read will be asked again after the next round.
            if orphans.is_ok_and(|orphans| !orphans.is_empty()) {
                signal.state.lock().wanted = true;
                signal.changed.notify_all();
            }
        })
    }

    /// Waits until there is nothing to free.
    pub(crate) fn wait_idle(&self) {
        let mut state = self.signal.state.lock();
        state.wanted = true;
        self.signal.changed.notify_all();
        while !state.stop && (state.wanted || state.working) {
            self.signal.changed.wait(&mut state);
        }
    }

    /// Files removed.
    pub(crate) fn files(&self) -> u64 {
        self.signal.files.load(Ordering::Relaxed)
    }

    /// Ends the thread after the portion under way.
    pub(crate) fn stop(&self) {
        self.signal.state.lock().stop = true;
        self.signal.changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _panicked = thread.join();
        }
    }
}

/// What a portion did.
enum Portion {
    Done,
    More,
    Blocked,
}

struct Worker {
    signal: Arc<Signal>,
    shared: Weak<Shared>,
}

impl Worker {
    fn run(self) {
        while self.wait_for_work() {
            let started = Instant::now();
            let pause = match self.portion() {
                Ok(Portion::Done) => None,
                Ok(Portion::More) => Some(started.elapsed().min(PAUSE_MAX)),
                Ok(Portion::Blocked) => Some(BLOCKED_PAUSE),
                Err(_) => Some(FAILURE_PAUSE),
            };
            let mut state = self.signal.state.lock();
            if let Some(pause) = pause {
                state.wanted = true;
                if !state.stop {
                    self.signal.changed.wait_for(&mut state, pause);
                }
            }
            state.working = false;
            self.signal.changed.notify_all();
        }
    }

    fn wait_for_work(&self) -> bool {
        let mut state = self.signal.state.lock();
        while !state.wanted && !state.stop {
            self.signal.changed.wait(&mut state);
        }
        state.wanted = false;
        state.working = true;
        !state.stop
    }

    fn portion(&self) -> Result<Portion, StoreError> {
        let Some(shared) = self.shared.upgrade() else {
            return Ok(Portion::Done);
        };
        let left = shared.index.read()?.orphans(ROWS_PER_PORTION)?;
        if !left.is_empty() {
            return self.remove(&shared, left).map(|()| Portion::More);
        }
        let reaped = shared.committer.change(|txn| txn.reap(ROWS_PER_PORTION))?;
        let progress = !reaped.files.is_empty();
        self.remove(&shared, reaped.files)?;
        Ok(match (reaped.more, progress, reaped.blocked) {
            (true, true, _) | (true, _, 0) => Portion::More,
            (true, false, _) | (false, _, 1..) => Portion::Blocked,
            (false, _, 0) => Portion::Done,
        })
    }

    /// Removes files, makes that durable, then frees their names: a file that came back after a power cut
    /// would have no row.
    fn remove(&self, shared: &Shared, files: Vec<ReplacedFile>) -> Result<(), StoreError> {
        let mut touched = BTreeSet::new();
        let mut gone = Vec::with_capacity(files.len());
        for file in files {
            if let Some(device) = shared.devices.get(usize::from(file.device)) {
                remove_file(shared.disk.as_ref(), device, &file.file)?;
                touched.insert(file.device);
                self.signal.files.fetch_add(1, Ordering::Relaxed);
            }
            gone.push(file);
        }
        if gone.is_empty() {
            return Ok(());
        }
        let devices = touched
            .into_iter()
            .filter_map(|number| shared.devices.get(usize::from(number)));
        for device in devices {
            device.sync_all(shared.disk.as_ref())?;
        }
        shared
            .committer
            .change(move |txn| gone.iter().try_for_each(|file| txn.file_removed(file)))
    }
}

/// Removes a file and the folders it leaves empty. A file that is not there counts as removed.
pub(crate) fn remove_file(disk: &dyn Disk, device: &Device, file: &str) -> Result<(), StoreError> {
    let path = device.path(file);
    match disk.remove(&path) {
        Err(error) if !is_absent(&error) => return Err(StoreError::io("remove", &path, error)),
        _ => {}
    }
    let mut folder = path.parent();
    while let Some(parent) = folder {
        if parent == device.root() || !parent.starts_with(device.root()) {
            break;
        }
        if disk.remove_folder(parent).is_err() {
            break;
        }
        folder = parent.parent();
    }
    Ok(())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
