//! What all threads of one server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;
use pyserver_store::archive::Archive;
use pyserver_store::codec_pool::CodecPool;

use crate::log::Log;
use crate::policy::{Bell, Policy};
use crate::settings::Settings;
use crate::shutdown::Shutdown;
use crate::stats::Stats;

/// The archive, the settings of the moment, and the books kept about both.
pub struct Shared {
    /// Where objects live.
    pub archive: Arc<Archive>,
    /// Codec workers, where there are any.
    pub codecs: Option<Arc<CodecPool>>,
    /// Lines on their way to the log files.
    pub log: Log,
    /// Counters.
    pub stats: Stats,
    /// Serving, draining or stopping.
    pub shutdown: Shutdown,
    /// Rung when an object was stored that export converters have to do with.
    pub bell: Bell,
    settings: RwLock<Arc<Settings>>,
    policy: RwLock<Option<Arc<dyn Policy>>>,
    slots_taken: AtomicUsize,
    association_number: AtomicU64,
}

/// One of the limited associations; dropping it frees the slot.
pub struct Slot(Arc<Shared>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.slots_taken.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Shared {
    /// Begins with empty books.
    pub fn new(archive: Arc<Archive>, settings: Settings, codecs: Option<Arc<CodecPool>>) -> Self {
        let log = Log::default();
        log.set_debug_level(settings.debug_level);
        Self {
            archive,
            codecs,
            log,
            stats: Stats::default(),
            shutdown: Shutdown::default(),
            bell: Bell::default(),
            settings: RwLock::new(Arc::new(settings)),
            policy: RwLock::new(None),
            slots_taken: AtomicUsize::new(0),
            association_number: AtomicU64::new(0),
        }
    }

    /// The snapshot in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read())
    }

    /// Puts a new snapshot in force; open associations keep theirs.
    pub fn replace_settings(&self, settings: Settings) {
        self.log.set_debug_level(settings.debug_level);
        *self.settings.write() = Arc::new(settings);
    }

    /// The import rules in force.
    pub fn policy(&self) -> Option<Arc<dyn Policy>> {
        self.policy.read().clone()
    }

    /// Puts import rules in force, or none; open associations keep theirs.
    pub fn replace_policy(&self, policy: Option<Arc<dyn Policy>>) {
        *self.policy.write() = policy;
    }

    /// A slot, unless all are taken.
    pub fn take_slot(self: &Arc<Self>) -> Option<Slot> {
        let limit = self.settings().associations_max;
        self.slots_taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < limit).then_some(taken + 1)
            })
            .ok()
            .map(|_| Slot(Arc::clone(self)))
    }

    /// Associations served now.
    pub fn associations_open(&self) -> usize {
        self.slots_taken.load(Ordering::Acquire)
    }

    /// The name of the next association in the log: `a1`, `a2`, …
    pub fn next_association_id(&self) -> String {
        format!(
            "a{}",
            self.association_number.fetch_add(1, Ordering::Relaxed) + 1
        )
    }
}
