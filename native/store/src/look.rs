//! Waiting by looking instead of sleeping, for a moment.
//!
//! To wake a thread on an idle core takes longer than most of what these threads wait for, on a virtual machine
//! longer than a small object's whole store. So while few objects arrive, threads look for each other's results
//! before they go to sleep. As soon as the cores have other work nobody looks: it would take the core away from
//! those it waits for. Between two looks a thread lets go of its core, which costs nothing when nobody wants it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longest look. A sync of the journal takes about as long.
pub(crate) const LOOK_MAX: Duration = Duration::from_micros(250);

/// How busy the cores are with arriving objects.
#[derive(Debug)]
pub(crate) struct Arrivals {
    cores: usize,
    objects: AtomicUsize,
    /// Objects that a codec works on, or will.
    codecs: AtomicUsize,
}

/// A codec has work for an arriving object; over when dropped.
#[derive(Debug)]
pub struct Busy(Arc<Arrivals>);

/// One arriving object; gone when dropped.
#[derive(Debug)]
pub(crate) struct Arrival(Arc<Arrivals>);

impl Arrivals {
    /// No object arrives.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            objects: AtomicUsize::new(0),
            codecs: AtomicUsize::new(0),
        })
    }

    /// Counts an object.
    pub(crate) fn enter(self: &Arc<Self>) -> Arrival {
        self.objects.fetch_add(1, Ordering::Relaxed);
        Arrival(Arc::clone(self))
    }

    /// Counts an object for a codec.
    pub(crate) fn enter_codec(self: &Arc<Self>) -> Busy {
        self.codecs.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Whether codecs have the cores.
    pub(crate) fn are_codecs_busy(&self) -> bool {
        self.codecs.load(Ordering::Relaxed) > 0
    }

    /// How long a thread may look: not at all unless there is a core to spare for each object.
    pub(crate) fn patience(&self) -> Duration {
        if self.are_codecs_busy() || self.objects.load(Ordering::Relaxed) * 2 > self.cores {
            return Duration::ZERO;
        }
        LOOK_MAX
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.0.objects.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.codecs.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Looks until something is there, at most so long.
pub fn look<T>(patience: Duration, mut there: impl FnMut() -> Option<T>) -> Option<T> {
    if patience.is_zero() {
        return None;
    }
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Some(found) = there() {
            return Some(found);
        }
        std::thread::yield_now();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_looks_when_objects_take_all_cores() {
        let arrivals = Arrivals::new();
        let lone: Vec<_> = (0..arrivals.cores / 2).map(|_| arrivals.enter()).collect();
        assert!(!arrivals.patience().is_zero());
        let more = [arrivals.enter(), arrivals.enter()];
        assert!(arrivals.patience().is_zero());
        drop((lone, more));
        assert_eq!(arrivals.objects.load(Ordering::Relaxed), 0);
        let busy = arrivals.enter_codec();
        assert!(arrivals.patience().is_zero());
        drop(busy);
        assert!(!arrivals.patience().is_zero());
    }

    #[test]
    fn a_look_ends() {
        let mut times = 0;
        let found = look(Duration::from_secs(60), || {
            times += 1;
            (times == 3).then_some(times)
        });
        assert_eq!(found, Some(3));
        assert_eq!(look(Duration::ZERO, || Some(1)), None);
        assert_eq!(look(Duration::from_micros(1), || None::<u8>), None);
    }
}
