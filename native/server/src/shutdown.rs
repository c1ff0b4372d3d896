//! How a server stops: it drains first, then cuts what is left.

use std::sync::atomic::{AtomicU8, Ordering};

/// Where a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running = 0,
    /// No new associations; those open finish what they are at.
    Draining = 1,
    /// Associations still open are aborted.
    Stopping = 2,
}

/// The phase, shared by all threads.
#[derive(Default)]
pub struct Shutdown(AtomicU8);

impl Shutdown {
    /// Moves on; a phase never goes back.
    pub fn advance(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::SeqCst);
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::SeqCst) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }
}
