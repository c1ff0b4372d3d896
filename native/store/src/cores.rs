//! Which core a helping thread runs on.
//!
//! A thread that is woken is often put on the core of the one that wakes it, to wait there until that one sleeps,
//! while another core has nothing to do: what was to be done beside each other is then done one after the other.
//! So helpers are kept off the core of the thread they help, as long as it is the only one that wants help.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// One helping thread.
#[derive(Debug, Default)]
pub(crate) struct Helper {
    thread: OnceLock<(Pid, CpuSet)>,
    /// The core it is kept off, from 1 on; 0: none.
    kept_off: AtomicUsize,
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
        self.place(Some(sched_getcpu()));
    }

    /// Lets it run anywhere again.
    pub(crate) fn set_free(&self) {
        self.place(None);
    }

    fn place(&self, off: Option<usize>) {
        let wanted = off.map_or(0, |core| core + 1);
        let Some((thread, allowed)) = self.thread.get() else {
            return;
        };
        if self.kept_off.swap(wanted, Ordering::Relaxed) == wanted {
            return;
        }
        let mut cores = *allowed;
        if let Some(core) = off.filter(|&core| core < CpuSet::MAX_CPU) {
            cores.unset(core);
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
                helper.kept_off.load(Ordering::Relaxed) - 1
            });
            other.join().unwrap()
        });
        let left = sched_getaffinity(None).unwrap();
        let is_off = !left.is_set(off) && left.count() + 1 == allowed.count();
        assert!(is_off || allowed.count() == 1);
        helper.set_free();
        assert_eq!(sched_getaffinity(None).unwrap(), allowed);
    }
}
