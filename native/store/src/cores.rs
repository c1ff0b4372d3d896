//! Which core a helping thread runs on.
//!
//! A thread that is woken is often put on the core of the one that wakes it, to wait there until that one sleeps,
//! while another core has nothing to do: what was to be done beside each other is then done one after the other.
//! So who works beside a receiver is kept off its core, and whom it waits for is kept on it, as long as there is no
//! other receiver to care for.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// One helping thread.
#[derive(Debug, Default)]
pub(crate) struct Helper {
    thread: OnceLock<(Pid, CpuSet)>,
    /// Where it was put last.
    place: AtomicUsize,
}

/// Where a thread may run.
#[derive(Debug, Clone, Copy)]
enum Cores {
    All,
    But(usize),
    Only(usize),
}

impl Helper {
    /// Called by the helper itself when it starts.
    pub(crate) fn is_me(&self) {
        let me = gettid();
        // Without, it stays where the system puts it.
        if let Ok(allowed) = sched_getaffinity(Some(me)) {
            let _called_once = self.thread.set((me, allowed));
        }
    }

    /// Keeps it off the caller's core, if there is another.
    pub(crate) fn keep_off_here(&self) {
        self.put(Cores::But(sched_getcpu()));
    }

    /// Keeps it on the caller's core.
    pub(crate) fn keep_here(&self) {
        self.put(Cores::Only(sched_getcpu()));
    }

    /// Lets it run anywhere again.
    pub(crate) fn set_free(&self) {
        self.put(Cores::All);
    }

    fn put(&self, on: Cores) {
        let Some((thread, allowed)) = self.thread.get() else {
            return;
        };
        let place = match on {
            Cores::All => 0,
            Cores::But(core) => 2 * core + 1,
            Cores::Only(core) => 2 * core + 2,
        };
        if self.place.swap(place, Ordering::Relaxed) == place {
            return;
        }
        let mut cores = *allowed;
        match on {
            Cores::But(core) if core < CpuSet::MAX_CPU => cores.unset(core),
            Cores::Only(core) if core < CpuSet::MAX_CPU => {
                cores.clear();
                cores.set(core);
            }
            Cores::All | Cores::But(_) | Cores::Only(_) => {}
        }
        if cores.count() > 0 {
            // A wish only.
            let _refused = sched_setaffinity(Some(*thread), &cores);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_is_kept_off_and_let_go() {
        let helper = Helper::default();
        helper.keep_off_here();
        helper.is_me();
        let allowed = sched_getaffinity(None).unwrap();
        let off = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                helper.keep_off_here();
                helper.place.load(Ordering::Relaxed) / 2
            });
            other.join().unwrap()
        });
        let left = sched_getaffinity(None).unwrap();
        let is_off = !left.is_set(off) && left.count() + 1 == allowed.count();
        assert!(is_off || allowed.count() == 1);
        helper.keep_here();
        let only = sched_getaffinity(None).unwrap();
        assert!(only.count() == 1 && only.is_set(sched_getcpu()));
        helper.set_free();
        assert_eq!(sched_getaffinity(None).unwrap(), allowed);
    }
}
