//! What a site's rules decide about objects that arrive, and the bell that wakes who does queued work.
//!
//! The engine knows no rule language: it hands each object to a [`Policy`] where there is one, and does
//! what the [`Verdict`] says. Without import rules no object comes here, and export work is queued
//! without asking anyone: rules look at it after the object is stored.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
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

/// What becomes of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Stored as it now is, if there is room on this device.
    Store {
        /// `MAGn`, if a rule chose one.
        device: Option<u16>,
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
    /// Looks at an object, may change it, and decides. Called on the association's thread, which waits.
    fn import(&self, object: Received, origin: &Origin) -> (Option<Received>, Verdict);

    /// An association that sent objects has ended.
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

/// The record of one image's work for one export converter: fields of text, a tab between them.
///
/// `export`, number of the converter, SOP Instance UID, calling and called AE title, Unix time.
pub fn export_job(converter: u32, sop_instance: &str, origin: &Origin, time_s: u64) -> Vec<u8> {
    let plain = |text: &str| text.replace(|c: char| c.is_control(), "?");
    [
        "export".to_owned(),
        converter.to_string(),
        plain(sop_instance),
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
            export_job(3, "1.2", &origin, 7),
            b"export\t3\t1.2\tA?B\tC\t7".to_vec()
        );
    }
}
