//! Threads that write pieces of arriving files, so that a receiver takes in the next bytes meanwhile.
//!
//! A file's first piece is handed over only when a writer is free that moment; otherwise its receiver writes it itself. So a
//! lone sender has its disk and its network work at the same time, and many senders, who keep every core busy
//! anyway, pay no more than a look. Pieces know their place in the file: their order does not matter. Nothing is
//! synced here.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Condvar, Mutex};

use crate::blob::{BlobFile, Disk};
use crate::buffers::Buffers;
use crate::cores::Helper;
use crate::error::StoreError;
use crate::look::{LOOK_MAX, look};

/// Writers beside the receivers. LIMIT: half the cores, since the receivers need theirs.
const WRITERS_MAX: usize = 8;
/// Pieces of one file on their way. LIMIT: bounds what an object holds in memory.
const QUEUED_MAX: usize = 8;

/// The writers.
pub(crate) struct Writers {
    queue: Mutex<Option<Sender<Work>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    helpers: Vec<Arc<Helper>>,
    /// Writers less pieces: below zero when pieces wait.
    idle: Arc<AtomicIsize>,
    buffers: Arc<Buffers>,
}

enum Work {
    /// A piece comes in a moment.
    Expect,
    Write(Piece),
}

/// Bytes on their way to a file.
struct Piece {
    blob: Arc<BlobFile>,
    bytes: Vec<u8>,
    offset: u64,
    /// What to start the write-out of after it.
    write_back: Option<Range<u64>>,
    progress: Arc<Progress>,
}

/// How far one file's pieces are.
#[derive(Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    outstanding: usize,
    error: Option<io::Error>,
}

impl Writers {
    /// Starts the threads.
    pub(crate) fn start(disk: &Arc<dyn Disk>, buffers: &Arc<Buffers>) -> Result<Self, StoreError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = (cores / 2).min(WRITERS_MAX);
        let (queue, waiting) = crossbeam_channel::unbounded();
        let idle = Arc::new(AtomicIsize::new(count as isize));
        let mut threads = Vec::with_capacity(count);
        let helpers: Vec<Arc<Helper>> = (0..count).map(|_| Arc::default()).collect();
        for helper in &helpers {
            let worker = Worker {
                helper: Arc::clone(helper),
                disk: Arc::clone(disk),
                buffers: Arc::clone(buffers),
                idle: Arc::clone(&idle),
                waiting: waiting.clone(),
            };
            let thread = std::thread::Builder::new()
                .name("writer".into())
                .spawn(move || worker.run())
                .map_err(|e| StoreError::io("start", std::path::Path::new("writer"), e))?;
            threads.push(thread);
        }
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            threads: Mutex::new(threads),
            helpers,
            idle,
            buffers: Arc::clone(buffers),
        })
    }

    /// Whether a writer is free.
    pub(crate) fn is_free(&self) -> bool {
        self.idle.load(Ordering::Relaxed) > 0
    }

    /// Wakes a writer for a piece that is about to come, so that it is awake by then, on another core than the
    /// caller's.
    pub(crate) fn expect(&self) {
        for helper in &self.helpers {
            helper.keep_off_here();
        }
        if let Some(queue) = self.queue.lock().as_ref() {
            let _closed = queue.send(Work::Expect);
        }
    }

    /// Lets the writers run anywhere.
    pub(crate) fn set_free(&self) {
        for helper in &self.helpers {
            helper.set_free();
        }
    }

    /// Hands a piece over and gives an empty buffer for the next; gives the piece back when no writer is free and
    /// none is at work on this file. (Two threads that write one file wait for each other in the kernel.)
    pub(crate) fn offer(
        &self,
        blob: &Arc<BlobFile>,
        bytes: Vec<u8>,
        offset: u64,
        write_back: Option<Range<u64>>,
        progress: &Arc<Progress>,
    ) -> Result<Vec<u8>, Vec<u8>> {
        let queue = self.queue.lock().clone();
        let mut state = progress.state.lock();
        let room = match state.outstanding {
            0 => self.is_free(),
            outstanding => outstanding < QUEUED_MAX,
        };
        let Some(queue) = queue.filter(|_| room) else {
            return Err(bytes);
        };
        let piece = Piece {
            blob: Arc::clone(blob),
            bytes,
            offset,
            write_back,
            progress: Arc::clone(progress),
        };
        if let Err(unsent) = queue.send(Work::Write(piece)) {
            return Err(match unsent.into_inner() {
                Work::Write(piece) => piece.bytes,
                Work::Expect => Vec::new(),
            });
        }
        self.idle.fetch_sub(1, Ordering::Relaxed);
        state.outstanding += 1;
        drop(state);
        Ok(self.buffers.take())
    }

    /// Writes what was handed over and ends the threads.
    pub(crate) fn stop(&self) {
        drop(self.queue.lock().take());
        for thread in self.threads.lock().drain(..) {
            let _panicked = thread.join();
        }
    }
}

impl Progress {
    /// Waits until every piece handed over is written.
    pub(crate) fn wait(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        while state.outstanding > 0 {
            self.changed.wait(&mut state);
        }
        state.error.take().map_or(Ok(()), Err)
    }

    /// Whether pieces are on their way.
    pub(crate) fn is_busy(&self) -> bool {
        self.state.lock().outstanding > 0
    }

    /// Whether a piece has failed so far.
    pub(crate) fn failed(&self) -> bool {
        self.state.lock().error.is_some()
    }

    fn done(&self, result: io::Result<()>) {
        let mut state = self.state.lock();
        state.outstanding -= 1;
        if let Err(error) = result {
            state.error.get_or_insert(error);
        }
        if state.outstanding == 0 {
            self.changed.notify_all();
        }
    }
}

struct Worker {
    helper: Arc<Helper>,
    disk: Arc<dyn Disk>,
    buffers: Arc<Buffers>,
    idle: Arc<AtomicIsize>,
    waiting: Receiver<Work>,
}

impl Worker {
    fn run(self) {
        self.helper.is_me();
        while let Some(piece) = self.next() {
            let Piece {
                blob,
                bytes,
                offset,
                write_back,
                progress,
            } = piece;
            let result = self.disk.write_at(&blob, &bytes, offset);
            if let (Some(range), Ok(())) = (write_back, &result) {
                self.disk.start_write_back(&blob, range);
            }
            drop(blob);
            self.buffers.give(bytes);
            self.idle.fetch_add(1, Ordering::Relaxed);
            progress.done(result);
        }
    }

    fn next(&self) -> Option<Piece> {
        loop {
            let mut work = self.waiting.recv().ok()?;
            if matches!(work, Work::Expect) {
                let found = look(LOOK_MAX, || self.waiting.try_recv().ok());
                let Some(found) = found else { continue };
                work = found;
            }
            if let Work::Write(piece) = work {
                return Some(piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::SystemDisk;

    fn start() -> (Arc<dyn Disk>, Writers) {
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let writers = Writers::start(&disk, &Arc::default()).unwrap();
        (disk, writers)
    }

    #[test]
    fn pieces_are_written_and_a_stopped_writer_takes_none() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, writers) = start();
        let path = folder.path().join("x");
        let blob = Arc::new(disk.create(&path).unwrap());
        let progress = Arc::default();
        for (n, offset) in [(1, 5), (2, 0), (3, 10)] {
            let bytes = vec![n; 5];
            if let Err(bytes) = writers.offer(&blob, bytes, offset, Some(0..15), &progress) {
                disk.write_at(&blob, &bytes, offset).unwrap();
            }
        }
        progress.wait().unwrap();
        let expected = [[2; 5], [1; 5], [3; 5]].concat();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        writers.stop();
        let refused = writers.offer(&blob, vec![9], 0, None, &progress);
        assert_eq!(refused.unwrap_err(), [9]);
    }

    #[test]
    fn a_failed_write_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, writers) = start();
        let path = folder.path().join("x");
        drop(disk.create(&path).unwrap());
        let file = std::fs::File::open(&path).unwrap();
        let blob = Arc::new(BlobFile { file, path });
        let progress = Arc::default();
        if writers.offer(&blob, vec![1], 0, None, &progress).is_ok() {
            assert!(progress.wait().is_err());
            assert!(progress.wait().is_ok());
        }
    }
}
