//! The committer's open transaction: what was applied in it, who waits for what, and when it is due.

use std::time::{Duration, Instant};

use crate::apply::Stored;
use crate::commit::{StoreAnswer, Waiter};
use crate::index::WriteTxn;
use crate::job::StoreJob;
use crate::pending::PendingId;
use crate::reply::Promise;

/// Acknowledged stores in a transaction that nothing else forces to commit.
const UNCOMMITTED_MAX: usize = 8192;
/// How long an acknowledged store stays uncommitted at most. A query has it committed at once.
const UNCOMMITTED_DELAY_MAX: Duration = Duration::from_secs(1);

/// The open transaction.
pub(crate) struct Batch<'i> {
    pub txn: WriteTxn<'i>,
    pub changes: usize,
    pub waiters: Vec<Waiter>,
    /// Stores that are answered after the commit, and after the database where there is one.
    pub stores: Vec<(Option<PendingId>, Waiter)>,
    pub acknowledged: Vec<Acknowledged>,
    /// Stores that it takes back.
    pub revoked: Vec<PendingId>,
    pub fresh: Vec<Fresh>,
    pub commit_now: bool,
    pub deadline: Instant,
}

/// An acknowledged store that is not committed yet.
pub(crate) struct Acknowledged {
    pub job: Box<StoreJob>,
    pub image: u64,
    pub pending: PendingId,
    pub file: String,
}

/// A store that is applied and will be answered when the journal has it.
pub(crate) struct Fresh {
    pub kept: Acknowledged,
    pub stored: Stored,
    pub answer: Promise<StoreAnswer>,
}

impl<'i> Batch<'i> {
    pub(crate) fn new(txn: WriteTxn<'i>) -> Self {
        Self {
            txn,
            changes: 0,
            waiters: Vec::new(),
            stores: Vec::new(),
            acknowledged: Vec::new(),
            revoked: Vec::new(),
            fresh: Vec::new(),
            commit_now: false,
            deadline: Instant::now() + UNCOMMITTED_DELAY_MAX,
        }
    }

    /// Has a store answered with the commit's outcome.
    pub(crate) fn answer_after_commit(&mut self, stored: Stored, answer: Promise<StoreAnswer>) {
        let pending = stored.pending;
        let waiter: Waiter = Box::new(move |outcome| {
            answer.answer(outcome.map(|()| stored).map_err(Into::into));
        });
        self.stores.push((pending, waiter));
    }

    /// Whether it is to be committed now.
    pub(crate) fn is_due(&self) -> bool {
        self.commit_now
            || self.acknowledged.len() >= UNCOMMITTED_MAX
            || Instant::now() >= self.deadline
    }
}
