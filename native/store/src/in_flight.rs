//! Which objects are between their commit and their place on disk.
//!
//! Two stores of one SOP instance never overlap: the second waits here until the first has its file in place
//! or was refused, so that the file always belongs to the last committed row. A store that takes over the name
//! of a deleted object's file waits here until that file, if still under way, is in place.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::pending::PendingId;

/// Where a committed object goes.
#[derive(Debug)]
struct Target {
    pending: PendingId,
    device: u16,
    file: String,
}

/// The objects under way.
#[derive(Debug, Default)]
pub struct InFlight {
    objects: Mutex<HashMap<String, Option<Target>>>,
    freed: Condvar,
}

/// One object under way; dropping it lets the next store of the same instance go on.
#[derive(Debug)]
pub struct InFlightGuard {
    table: Arc<InFlight>,
    uid: String,
}

impl InFlight {
    /// Waits until no other store of this instance is under way, and claims it.
    pub fn enter(self: &Arc<Self>, uid: &str) -> InFlightGuard {
        let uid = uid.to_owned();
        let mut objects = self.objects.lock();
        while objects.contains_key(&uid) {
            self.freed.wait(&mut objects);
        }
        objects.insert(uid.clone(), None);
        InFlightGuard {
            table: Arc::clone(self),
            uid,
        }
    }

    /// Waits until no store before this one is about to put the same file in place. Later ones wait for this
    /// one in turn, so that nobody waits in a circle.
    pub fn wait_for_file(&self, pending: PendingId, device: u16, file: &str) {
        let mut objects = self.objects.lock();
        let busy = |objects: &HashMap<String, Option<Target>>| {
            objects.values().flatten().any(|other| {
                other.pending < pending && other.device == device && other.file == file
            })
        };
        while busy(&objects) {
            self.freed.wait(&mut objects);
        }
    }

    /// Objects under way.
    pub fn count(&self) -> usize {
        self.objects.lock().len()
    }

    /// Notes the file that the index gave to the instance. Called by the committer before it answers.
    pub fn set_file(&self, uid: &str, pending: PendingId, device: u16, file: &str) {
        if let Some(entry) = self.objects.lock().get_mut(uid) {
            *entry = Some(Target {
                pending,
                device,
                file: file.to_owned(),
            });
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.table.objects.lock().remove(&self.uid);
        self.table.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn the_same_instance_waits_and_others_do_not() {
        let table = Arc::new(InFlight::default());
        let first = table.enter("1.2.3");
        let _other = table.enter("1.2.4");
        table.set_file("1.2.3", PendingId(5), 0, "a/b");
        table.wait_for_file(PendingId(6), 1, "a/b");
        table.wait_for_file(PendingId(4), 0, "a/b");
        let gone = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let _second = table.enter("1.2.3");
                gone.load(Ordering::SeqCst)
            });
            gone.store(true, Ordering::SeqCst);
            drop(first);
            assert!(waiter.join().unwrap());
        });
        assert_eq!(table.count(), 1);
        table.wait_for_file(PendingId(6), 0, "a/b");
    }
}
