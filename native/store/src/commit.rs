//! The only writer of the index: takes the first waiting change and everything else that waits, applies them
//! in one transaction, makes them safe, answers all.
//!
//! New stores are safe once `journal` holds them: one write for all that waited, one sync unless all of them
//! are relaxed. Their transaction stays open for a moment, and a flush, any other change or a limit commits
//! it. Everything else is answered after the commit. There is no timer before an answer: a lone sender never
//! waits for company, many senders share a sync because they queue while the one before runs.
//!
//! Order: changes are applied first in, first out; nothing of a later transaction is answered before an
//! earlier one is committed, and nothing is answered from the journal while a change before it waits for the
//! commit. So what the journal holds is all there is between the last commit and the answers, in order, and
//! applying it again gives the same rows. That is done when a transaction fails: acknowledged stores are kept,
//! applied again first thing in the next one, and stay in the journal until that is committed. A refused
//! change takes nothing of its neighbours along. The committer never touches objects' files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::apply::Stored;
use crate::blob::Disk;
use crate::commit_worker::Worker;
use crate::cores::Helper;
use crate::error::StoreError;
use crate::failure::Failure;
use crate::in_flight::InFlight;
use crate::index::{Index, WriteTxn};
use crate::index_error::IndexError;
use crate::job::StoreJob;
use crate::journal::Journal;
use crate::mirror::Mirror;
use crate::pending::{PendingId, Revoked};
use crate::reply::{Awaited, Promise, promise};

/// What a store got.
pub(crate) type StoreAnswer = Result<Stored, StoreError>;

/// Called with the commit's outcome.
pub(crate) type Waiter = Box<dyn FnOnce(Result<(), &Failure>) + Send>;
/// A change of the index that is not a store.
pub(crate) type Change = Box<dyn FnOnce(&mut WriteTxn<'_>) -> Result<Waiter, IndexError> + Send>;

/// What the thread is given to do.
pub(crate) enum Work {
    Store(Box<StoreJob>, Promise<StoreAnswer>),
    /// A change, and the store that it takes back.
    Change(Change, Waiter, Option<PendingId>),
    Flush(Promise<Result<(), StoreError>>),
    /// A store is about to come.
    Expect,
}

/// Figures of the committer.
#[derive(Debug, Default)]
pub(crate) struct CommitStats {
    /// Transactions committed.
    pub commits: AtomicU64,
    /// Changes in them.
    pub changes: AtomicU64,
    /// Microseconds spent committing.
    pub commit_us: AtomicU64,
    /// Transactions that failed.
    pub failures: AtomicU64,
    /// Stores that were answered and are not committed yet.
    pub uncommitted: AtomicU64,
}

/// The way to the committer's thread.
pub(crate) struct Committer {
    queue: Mutex<Option<Sender<Work>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Whether the thread does not sleep at the moment.
    awake: Arc<AtomicBool>,
    helper: Arc<Helper>,
    /// Figures, also for the status display.
    pub stats: Arc<CommitStats>,
    mirror: Option<Arc<Mirror>>,
}

/// What the committer works with.
pub(crate) struct Parts {
    pub index: Arc<Index>,
    pub disk: Arc<dyn Disk>,
    pub in_flight: Arc<InFlight>,
    pub journal: Journal,
    /// The database that follows the index.
    pub mirror: Option<Arc<Mirror>>,
}

impl Committer {
    /// Starts the thread.
    pub(crate) fn start(parts: Parts) -> Result<Self, StoreError> {
        let (queue, waiting) = crossbeam_channel::unbounded();
        let stats = Arc::new(CommitStats::default());
        let awake = Arc::new(AtomicBool::new(false));
        let mirror = parts.mirror.clone();
        let helper: Arc<Helper> = Arc::default();
        let me = Arc::clone(&helper);
        let worker = Worker::new(parts, waiting, Arc::clone(&stats), Arc::clone(&awake));
        let thread = std::thread::Builder::new()
            .name("committer".into())
            .spawn(move || {
                me.is_me();
                worker.run();
            })
            .map_err(|e| StoreError::io("start", std::path::Path::new("committer"), e))?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            thread: Mutex::new(Some(thread)),
            awake,
            helper,
            stats,
            mirror,
        })
    }

    /// Hands in a store; the answer comes once it is as safe as was promised.
    pub(crate) fn store(&self, job: Box<StoreJob>) -> Awaited<StoreAnswer> {
        let (answer, awaited) = promise();
        self.send(Work::Store(job, answer));
        awaited
    }

    /// Wakes the committer for a store that is about to come, so that it is awake by then.
    pub(crate) fn expect(&self) {
        if !self.awake.load(Ordering::Relaxed) {
            self.send(Work::Expect);
        }
    }

    /// Has the committer run on the caller's core, which is about to wait for it while others write its file; or
    /// anywhere.
    pub(crate) fn keep_here(&self, here: bool) {
        if here {
            self.helper.keep_here();
        } else {
            self.helper.set_free();
        }
    }

    /// Applies a change and waits until it is committed.
    pub(crate) fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut WriteTxn<'_>) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.commit(None, change)
    }

    /// Takes a store back whose file came to nothing. Also when this fails: then it is gone with the next commit
    /// that succeeds, and only the file that no row names is left for the next start.
    pub(crate) fn revoke(&self, pending: PendingId) -> Result<Revoked, StoreError> {
        self.commit(Some(pending), move |txn| txn.revoke(pending))
    }

    fn commit<T: Send + 'static>(
        &self,
        revokes: Option<PendingId>,
        change: impl FnOnce(&mut WriteTxn<'_>) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, awaited) = promise::<Result<T, StoreError>>();
        let answer = Arc::new(Mutex::new(Some(answer)));
        let tell = Arc::clone(&answer);
        let give = move |value: Result<T, StoreError>| {
            if let Some(answer) = tell.lock().take() {
                answer.answer(value);
            }
        };
        let fail = {
            let answer = Arc::clone(&answer);
            move |outcome: Result<(), &Failure>| {
                if let (Err(failure), Some(answer)) = (outcome, answer.lock().take()) {
                    answer.answer(Err(failure.into()));
                }
            }
        };
        let change: Change = Box::new(move |txn| {
            let value = change(txn)?;
            Ok(Box::new(move |outcome| {
                give(outcome.map(|()| value).map_err(Into::into));
            }))
        });
        self.send(Work::Change(change, Box::new(fail), revokes));
        drop(answer);
        awaited.wait().ok_or(StoreError::Closed)?
    }

    /// Waits until every store answered so far is committed, and so visible to readers.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        let follows = self.mirror.as_ref().is_none_or(|mirror| !mirror.is_away());
        if self.stats.uncommitted.load(Ordering::Acquire) == 0 && follows {
            return Ok(());
        }
        let (answer, awaited) = promise();
        self.send(Work::Flush(answer));
        awaited.wait().ok_or(StoreError::Closed)?
    }

    /// Commits what is open and ends the thread. Later work is answered with "closing".
    pub(crate) fn stop(&self) {
        drop(self.queue.lock().take());
        if let Some(thread) = self.thread.lock().take() {
            let _panicked = thread.join();
        }
    }

    /// Work that cannot be sent is dropped, which abandons its promise.
    fn send(&self, work: Work) {
        let queue = self.queue.lock().clone();
        if let Some(queue) = queue {
            let _closed = queue.send(work);
        }
    }
}
