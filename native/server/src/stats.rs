//! Counters for `status`: relaxed atomics, one cache line apart only where it was measured to help.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What the server did since it started.
        #[derive(Default)]
        pub struct Stats {
            $($(#[$doc])* pub $name: AtomicU64,)+
        }

        impl Stats {
            /// Name and value of every counter.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)+]
            }
        }
    };
}

counters! {
    /// Connections accepted.
    connections_accepted,
    /// Connections that wait to ask for an association.
    connections_waiting,
    /// Associations established.
    associations_accepted,
    /// Associations rejected.
    associations_rejected,
    /// Associations aborted by either side or broken off.
    associations_aborted,
    /// Associations served now.
    associations_open,
    /// C-ECHO answered.
    echoes,
    /// Objects stored with success or a warning.
    stores,
    /// Objects refused.
    stores_refused,
    /// Data set bytes stored.
    bytes_stored,
    /// C-FIND requests.
    finds,
    /// C-FIND matches returned.
    matches,
    /// C-MOVE requests.
    moves,
    /// C-GET requests.
    gets,
    /// Objects sent.
    objects_sent,
    /// Objects that could not be sent.
    objects_failed,
    /// Data set bytes sent.
    bytes_sent,
    /// Nanoseconds stores waited for the peer's bytes.
    network_ns,
    /// Nanoseconds of scanning, converting and checking.
    scan_ns,
    /// Nanoseconds of hashing and writing.
    write_ns,
    /// Nanoseconds of waiting for file syncs.
    sync_ns,
    /// Nanoseconds of waiting for the index, beyond the file's sync.
    index_ns,
    /// Nanoseconds of putting files in their places.
    place_ns,
    /// Nanoseconds of answering stores.
    reply_ns,
}

impl Stats {
    /// Adds to one counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}
