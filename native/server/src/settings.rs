//! One immutable snapshot of everything a site configures about talking to peers.
//!
//! Python reads Conquest's files and builds this; native code only looks things up in it. A reload
//! swaps the snapshot, and each association keeps the one it began with.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use pyserver_proto::association::Limits;
use pyserver_proto::uid::Uid;

use crate::peers::{Compression, Peers};

/// What a caller that acrnema.map does not name may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownPeers {
    /// C-ECHO and C-STORE only (the default).
    Store,
    /// The association is rejected: calling AE title not recognised.
    Refuse,
    /// Everything a known peer may do.
    All,
}

/// The snapshot. Times are durations, sizes are bytes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our own AE title (`MyACRNema`).
    pub ae_title: String,
    /// Where to listen; never empty.
    pub listen: Vec<SocketAddr>,
    /// acrnema.map.
    pub peers: Peers,
    /// Rights of callers that are not in acrnema.map.
    pub unknown_peers: UnknownPeers,
    /// Called AE titles accepted (dgatesop.lst `LocalAE`); empty accepts any.
    pub local_aes: Vec<String>,
    /// Calling AE titles accepted (dgatesop.lst `RemoteAE`); empty accepts any.
    pub remote_aes: Vec<String>,
    /// SOP classes accepted for storage (dgatesop.lst `sop` lines that are storage classes).
    pub storage_classes: Vec<Uid>,
    /// Transfer syntaxes accepted for storage, most wanted first (dgatesop.lst).
    pub transfer_syntaxes: Vec<Uid>,
    /// Associations served at once; one more is rejected with "local limit exceeded".
    pub associations_max: usize,
    /// Connections that have not asked for an association yet.
    pub connections_max: usize,
    /// Limits of the upper layer.
    pub limits: Limits,
    /// Largest data set of a request that is not stored (identifiers), in bytes.
    pub identifier_bytes_max: usize,
    /// How long a peer may take to answer a request of ours, or to take bytes from us.
    pub dimse_timeout: Duration,
    /// How long connecting to a peer may take.
    pub connect_timeout: Duration,
    /// Objects ahead in the retrieve pipeline (`EnableReadAheadThread`); 0 reads in step.
    pub read_ahead: usize,
    /// Bytes ahead in the retrieve pipeline.
    pub read_ahead_bytes: u64,
    /// Compression modes by name, for AE titles such as `NAME~j2` that ask for one.
    pub modes: HashMap<String, Compression>,
    /// Mode for objects that arrive (`IncomingCompression`).
    pub incoming_compression: String,
    /// Quality of lossy compression (`LossyQuality`), 1 to 100.
    pub lossy_quality: u8,
    /// Matches returned at most by one C-FIND; 0 = no limit.
    pub find_results_max: u64,
    /// Whether counts and the like are answered (`EnableComputedFields`).
    pub computed_fields: bool,
    /// Numbers of the export converters that stored objects are queued for.
    pub export_converters: Vec<u32>,
    /// Whether stored objects are queued for mirror devices.
    pub has_mirrors: bool,
    /// Verbosity of the log (`DebugLevel`): 0 to 4.
    pub debug_level: u8,
}

impl Settings {
    /// Whether a stored object has work to do afterwards.
    pub fn queues_work(&self) -> bool {
        self.has_mirrors || !self.export_converters.is_empty()
    }
}
