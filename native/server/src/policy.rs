//! What a site's rules decide about objects, requests and answers, and the bell that wakes who does queued
//! work.
//!
//! The engine knows no rule language: at each [`Hook`] that a [`Policy`] has rules for it hands over the
//! object, or the identifier, and does what it hears. Where there are no rules for a hook nothing is held,
//! copied or asked; export work is queued without asking anyone: rules look at it after the object is stored.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use pyserver_proto::query::InformationModel;
use pyserver_store::held::Received;

/// Who sends an object.
#[derive(Debug, Clone)]
pub struct Origin {
    /// AE title that calls.
    pub calling_ae: String,
    /// AE title that is called.
    pub called_ae: String,
    /// Name of the association in the log, unique while the server runs.
    pub association: String,
}

/// A moment at which rules may have a say, by the name of its converter in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// An object has arrived: see [`Policy::import`].
    Import,
    /// The identifier of a C-FIND.
    Query,
    /// The identifier of a C-MOVE or C-GET.
    Retrieve,
    /// The identifier of a C-FIND of the worklist.
    WorkListQuery,
    /// One answer of a C-FIND.
    QueryResult,
    /// One answer of a C-FIND of the worklist.
    ModalityWorkListQueryResult,
    /// A copy of an object that goes out for a C-MOVE or C-GET.
    RetrieveResult,
    /// An object that the archive does not take.
    RejectedImage,
    /// Queries and retrieves that are for other servers as well: see [`Policy::elsewhere`].
    VirtualServers,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Import,
        Self::Query,
        Self::Retrieve,
        Self::WorkListQuery,
        Self::QueryResult,
        Self::ModalityWorkListQueryResult,
        Self::RetrieveResult,
        Self::RejectedImage,
        Self::VirtualServers,
    ];

    /// What its converters are called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Import => "Import",
            Self::Query => "Query",
            Self::Retrieve => "Retrieve",
            Self::WorkListQuery => "WorkListQuery",
            Self::QueryResult => "QueryResult",
            Self::ModalityWorkListQueryResult => "ModalityWorkListQueryResult",
            Self::RetrieveResult => "RetrieveResult",
            Self::RejectedImage => "RejectedImage",
            Self::VirtualServers => "VirtualServers",
        }
    }
}

/// What rules say at a hook other than [`Hook::Import`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// Goes on as it now is.
    Keep,
    /// Does not go on (`destroy`).
    Drop,
    /// A refused object is to be stored once more.
    Retry,
    /// A rule failed: nothing may go on unchanged.
    Failed(String),
}

/// What becomes of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Stored as it now is, if there is room on this device.
    Store {
        /// `MAGn`, if a rule chose one.
        device: Option<u16>,
        /// Whether a rule chose its compression, so that `IncomingCompression` does not count.
        as_it_is: bool,
        /// Work to queue in the same transaction.
        jobs: Vec<Vec<u8>>,
    },
    /// Answered with success, not kept.
    Discard,
    /// Refused.
    Refuse {
        /// C-STORE status.
        status: u16,
        /// For the log and the error comment.
        why: String,
    },
}

/// A site's rules.
pub trait Policy: Send + Sync {
    /// Whether there are rules for a hook. Cheap: it is asked for every request.
    fn has(&self, hook: Hook) -> bool;

    /// Looks at what a hook is about, may change it, and decides. `about` is the AE title that a retrieve
    /// goes to. Nothing comes back where the rules broke down.
    fn rule(
        &self,
        hook: Hook,
        object: Received,
        origin: &Origin,
        about: &str,
    ) -> (Option<Received>, Ruling);

    /// Looks at an object, may change it, and decides. Called on the association's thread, which waits.
    fn import(&self, object: Received, origin: &Origin) -> (Option<Received>, Verdict);

    /// What other servers that this one shows as its own answer to an identifier, in its own form.
    fn elsewhere(
        &self,
        _identifier: Received,
        _model: InformationModel,
        _origin: &Origin,
    ) -> Vec<Received> {
        Vec::new()
    }

    /// Has the objects of an identifier that are only with such servers sent here, and waits for them.
    fn bring(&self, _identifier: Received, _model: InformationModel, _origin: &Origin) {}

    /// Runs an association on its thread. Rules that keep something for a thread have it kept around this.
    fn around(&self, association: &mut (dyn FnMut() + Send)) {
        association();
    }

    /// An association has ended.
    fn ended(&self, association: &str);
}

/// Rung when work was queued.
#[derive(Default)]
pub struct Bell {
    rung: Mutex<u64>,
    changed: Condvar,
}

impl Bell {
    /// Wakes everyone who waits.
    pub fn ring(&self) {
        *self.rung.lock() += 1;
        self.changed.notify_all();
    }

    /// Waits until it was rung more often than `seen`, or for `patience`; how often it was rung.
    pub fn wait(&self, seen: u64, patience: Duration) -> u64 {
        let deadline = Instant::now() + patience;
        let mut rung = self.rung.lock();
        while *rung == seen && !self.changed.wait_until(&mut rung, deadline).timed_out() {}
        *rung
    }
}

/// The record of one image's work: fields of text, a tab between them.
///
/// Kind (`export` or `mirror`), number of the converter, SOP Instance UID, calling and called AE title, Unix
/// time.
pub fn job(kind: &str, converter: u32, sop: &str, origin: &Origin, time_s: u64) -> Vec<u8> {
    let plain = |text: &str| text.replace(|c: char| c.is_control(), "?");
    [
        kind.to_owned(),
        converter.to_string(),
        plain(sop),
        plain(&origin.calling_ae),
        plain(&origin.called_ae),
        time_s.to_string(),
    ]
    .join("\t")
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bell_wakes_and_remembers() {
        let bell = Bell::default();
        assert_eq!(bell.wait(0, Duration::ZERO), 0);
        bell.ring();
        assert_eq!(bell.wait(0, Duration::from_secs(60)), 1);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| bell.wait(1, Duration::from_secs(60)));
            bell.ring();
            assert_eq!(waiting.join().unwrap(), 2);
        });
    }

    #[test]
    fn jobs_are_fields() {
        let origin = Origin {
            calling_ae: "A\tB".into(),
            called_ae: "C".into(),
            association: String::new(),
        };
        assert_eq!(
            job("export", 3, "1.2", &origin, 7),
            b"export\t3\t1.2\tA?B\tC\t7".to_vec()
        );
    }
}
