//! One answer from one thread to another that waits for it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::look::look;

enum State<T> {
    Waiting,
    Answered(T),
    Abandoned,
}

struct Slot<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

/// The side that answers. Dropped without an answer it tells the other side so.
pub(crate) struct Promise<T>(Option<Arc<Slot<T>>>);

/// The side that waits.
pub(crate) struct Awaited<T>(Arc<Slot<T>>);

/// A fresh pair.
pub(crate) fn promise<T>() -> (Promise<T>, Awaited<T>) {
    let slot = Arc::new(Slot {
        state: Mutex::new(State::Waiting),
        changed: Condvar::new(),
    });
    (Promise(Some(Arc::clone(&slot))), Awaited(slot))
}

impl<T> Promise<T> {
    /// Answers.
    pub(crate) fn answer(mut self, value: T) {
        if let Some(slot) = self.0.take() {
            *slot.state.lock() = State::Answered(value);
            slot.changed.notify_one();
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            *slot.state.lock() = State::Abandoned;
            slot.changed.notify_one();
        }
    }
}

impl<T> Awaited<T> {
    /// The same after a look for so long.
    pub(crate) fn wait_looking(self, patience: Duration) -> Option<T> {
        let there = || (!matches!(*self.0.state.lock(), State::Waiting)).then_some(());
        let _asleep_otherwise = look(patience, there);
        self.wait()
    }

    /// Waits for the answer; `None` when there will be none.
    pub(crate) fn wait(self) -> Option<T> {
        let mut state = self.0.state.lock();
        while matches!(*state, State::Waiting) {
            self.0.changed.wait(&mut state);
        }
        match std::mem::replace(&mut *state, State::Abandoned) {
            State::Answered(value) => Some(value),
            State::Waiting | State::Abandoned => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_arrives_and_a_dropped_promise_is_noticed() {
        let (promise_one, awaited) = promise();
        std::thread::scope(|scope| {
            scope.spawn(move || promise_one.answer(7));
            assert_eq!(awaited.wait_looking(Duration::from_millis(1)), Some(7));
        });
        let (gone, awaited) = promise::<u8>();
        drop(gone);
        assert_eq!(awaited.wait(), None);
    }
}
