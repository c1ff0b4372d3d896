//! The books of a C-MOVE or C-GET (PS3.4 C.4.2, C.4.3): counts, failed instances, final status.

use std::time::{Duration, Instant};

use pyserver_proto::dataset::Dataset;
use pyserver_proto::dimse::{CommandRequest, CommandResponse, SubOperations};
use pyserver_proto::status::{Status, StatusClass};
use pyserver_proto::tag::Tag;
use pyserver_proto::uid::Uid;

/// A pending response goes out at least this often while objects are sent.
const PENDING_INTERVAL: Duration = Duration::from_secs(1);

/// C-GET: and after this many objects, so that a progress bar moves.
pub const PENDING_EVERY_SOME: u32 = 16;

/// C-MOVE: after every object. gdcm's requestor, its own receiver, takes one object and then none until
/// it has read such a response.
pub const PENDING_EVERY_ONE: u32 = 1;

/// Failed instances listed at most (LIMIT: some 1 MB of identifier).
const FAILED_UIDS_MAX: usize = 16_384;

/// Counts of one retrieve.
pub struct Books {
    total: u32,
    completed: u32,
    failed: u32,
    warning: u32,
    failed_uids: Vec<Uid>,
    reported: (u32, Instant),
    pending_every: u32,
}

impl Books {
    /// Opens the books for this many objects, with a pending response after so many each.
    pub fn new(total: usize, pending_every: u32) -> Self {
        Self {
            total: u32::try_from(total).unwrap_or(u32::MAX),
            completed: 0,
            failed: 0,
            warning: 0,
            failed_uids: Vec::new(),
            reported: (0, Instant::now()),
            pending_every,
        }
    }

    /// Objects that failed so far.
    pub const fn failed(&self) -> u32 {
        self.failed
    }

    /// Objects that arrived so far.
    pub const fn arrived(&self) -> u32 {
        self.completed + self.warning
    }

    /// One object was answered with this status.
    pub fn answered(&mut self, instance: Uid, status: Status) {
        match status.class() {
            StatusClass::Success => self.completed += 1,
            StatusClass::Warning => self.warning += 1,
            _ => self.fail(instance),
        }
    }

    /// One object did not arrive.
    pub fn fail(&mut self, instance: Uid) {
        self.failed += 1;
        if self.failed_uids.len() < FAILED_UIDS_MAX {
            self.failed_uids.push(instance);
        }
    }

    /// A pending response, when one is due.
    pub fn pending(&mut self, request: &CommandRequest) -> Option<CommandResponse> {
        let done = self.done();
        let (reported, at) = self.reported;
        if done - reported < self.pending_every && at.elapsed() < PENDING_INTERVAL {
            return None;
        }
        self.reported = (done, Instant::now());
        Some(self.response(request, Status::PENDING, true))
    }

    /// The final response and, when instances failed, the identifier that lists them.
    ///
    /// `cancelled`: the requestor sent C-CANCEL.
    pub fn last(
        &self,
        request: &CommandRequest,
        cancelled: bool,
    ) -> (CommandResponse, Option<Dataset>) {
        let status = if cancelled {
            Status::CANCEL
        } else if self.failed == 0 && self.warning == 0 {
            Status::SUCCESS
        } else if self.arrived() == 0 {
            Status::OUT_OF_RESOURCES_SUB_OPERATIONS
        } else {
            Status::SUB_OPERATIONS_WITH_FAILURES
        };
        let response = self.response(request, status, cancelled);
        if self.failed_uids.is_empty() {
            return (response, None);
        }
        let list: Vec<&str> = self.failed_uids.iter().map(Uid::as_str).collect();
        let mut identifier = Dataset::new();
        identifier.put_text(Tag::FAILED_SOP_INSTANCE_UID_LIST, &list.join("\\"));
        (response.with_dataset(), Some(identifier))
    }

    fn done(&self) -> u32 {
        self.completed + self.failed + self.warning
    }

    fn response(
        &self,
        request: &CommandRequest,
        status: Status,
        with_remaining: bool,
    ) -> CommandResponse {
        let counted = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        CommandResponse::to(request, status).with_sub_operations(SubOperations {
            remaining: with_remaining.then(|| counted(self.total.saturating_sub(self.done()))),
            completed: counted(self.completed),
            failed: counted(self.failed),
            warning: counted(self.warning),
        })
    }
}
