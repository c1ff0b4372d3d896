//! Who talks to whom, and when: listener, associations, service class providers and users.
//!
//! Threads, not tasks: one accepts, one per association serves. Protocol cores live in
//! `pyserver-proto`, safety in `pyserver-store`; this crate moves bytes between them and a socket.

mod acceptance;
pub mod client;
mod client_clone;
mod client_get;
mod client_send;
mod clone_fetch;
pub mod codecs;
pub mod error;
pub mod forward;
pub mod identifier;
mod link;
mod listener;
pub mod log;
mod outgoing;
mod payload;
pub mod peers;
pub mod policy;
mod receive_codec;
mod reply;
mod retrieve;
mod scp_find;
mod scp_get;
mod scp_move;
mod scp_store;
mod scp_table;
mod scp_worklist;
pub mod scu;
mod send_object;
mod session;
pub mod settings;
mod shared;
mod shutdown;
pub mod stats;
mod sub_operations;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyserver_store::archive::Archive;

use crate::codecs::Codecs;
use crate::log::LogLine;
use crate::policy::Policy;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::shutdown::Phase;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address is taken or not ours.
    #[error("cannot listen on {address}: {error}; choose another TCPPort, or stop what uses it")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A server starts once.
    #[error("the server was started before")]
    StartedBefore,
    /// No thread to be had.
    #[error("cannot start the listener: {0}")]
    Thread(io::Error),
}

/// A server: prepared by `new`, serving between `start` and `stop`.
pub struct Server {
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

struct Running {
    addresses: Vec<SocketAddr>,
    listener: JoinHandle<()>,
}

impl Server {
    /// Prepares a server; nothing listens yet, but its log takes lines.
    pub fn new(archive: Arc<Archive>, settings: Settings, codecs: Option<Codecs>) -> Self {
        let shared = Arc::new(Shared::new(archive, settings, codecs));
        Self {
            shared,
            running: Mutex::new(None),
        }
    }

    /// Binds every address, then serves in the background. Once.
    pub fn start(&self) -> Result<(), ServerError> {
        let mut running = self.running.lock();
        if running.is_some() || self.shared.shutdown.phase() != Phase::Running {
            return Err(ServerError::StartedBefore);
        }
        let mut listeners = Vec::new();
        for address in &self.shared.settings().listen {
            let listener = bind(*address).map_err(|error| ServerError::Listen {
                address: *address,
                error,
            })?;
            listeners.push(listener);
        }
        let addresses = listeners
            .iter()
            .filter_map(|l| l.local_addr().ok())
            .collect();
        let shared = Arc::clone(&self.shared);
        let run = move || listener::run(&shared, &listeners);
        let thread = std::thread::Builder::new()
            .name("listener".into())
            .spawn(run);
        let listener = thread.map_err(ServerError::Thread)?;
        *running = Some(Running {
            addresses,
            listener,
        });
        Ok(())
    }

    /// Where it listens; empty unless it serves.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.running
            .lock()
            .as_ref()
            .map_or_else(Vec::new, |running| running.addresses.clone())
    }

    /// Puts new settings in force for associations to come; addresses stay.
    pub fn reload(&self, settings: Settings) {
        self.shared.replace_settings(settings);
    }

    /// Puts the site's import rules in force for associations to come, or none.
    pub fn set_policy(&self, policy: Option<Arc<dyn Policy>>) {
        self.shared.replace_policy(policy);
    }

    /// Waits until work was queued, more often than `seen` or for `patience`; how often it was.
    pub fn wait_for_work(&self, seen: u64, patience: Duration) -> u64 {
        self.shared.bell.wait(seen, patience)
    }

    /// Name and value of every counter.
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        let mut stats = self.shared.stats.snapshot();
        stats.push(("associations_open", self.shared.associations_open() as u64));
        stats
    }

    /// Log lines, waiting up to `timeout` for the first.
    pub fn drain_log(&self, timeout: Duration, lines_max: usize) -> Vec<LogLine> {
        self.shared.log.drain(timeout, lines_max)
    }

    /// Stops: takes no new associations, lets open ones finish for `drain`, then aborts them.
    ///
    /// Returns whether all ended by themselves.
    pub fn stop(&self, drain: Duration) -> bool {
        const STEP: Duration = Duration::from_millis(20);
        /// Aborting takes a tick of the associations' own clock.
        const ABORT: Duration = Duration::from_secs(5);
        self.shared.shutdown.advance(Phase::Draining);
        if let Some(running) = self.running.lock().take() {
            // A panic in the listener was its own end; there is nothing left to stop.
            let _ = running.listener.join();
        }
        let open = |patience: Duration| {
            let until = Instant::now() + patience;
            while self.shared.associations_open() > 0 {
                if Instant::now() >= until {
                    return true;
                }
                std::thread::sleep(STEP);
            }
            false
        };
        let drained = !open(drain);
        self.shared.shutdown.advance(Phase::Stopping);
        if !drained {
            open(ABORT);
        }
        drained
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, listener::BACKLOG)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}
