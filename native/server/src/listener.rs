//! One thread accepts connections and keeps those that have not asked for an association yet.
//!
//! Such a connection takes no thread and no association slot: a thousand silent or half-open
//! sockets cost a poll set. When its A-ASSOCIATE-RQ is whole, the connection moves to a thread of
//! its own, or is rejected with "local limit exceeded" (PS3.8 table 9-21: 2, 3, 2).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyserver_proto::association::{Association, Event};
use pyserver_proto::pdu::{AssociateRq, Rejection};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::link::HANG_UP;
use crate::log::Level;
use crate::session::Session;
use crate::shared::Shared;
use crate::shutdown::Phase;
use crate::stats::Stats;

/// Pending connections the kernel keeps for us (LIMIT: a burst of 1000 SYNs is served).
pub const BACKLOG: i32 = 1024;

/// How often the thread looks at timers when nothing happens.
const TICK: Duration = Duration::from_millis(250);

/// A connection without an association.
struct Waiting {
    stream: TcpStream,
    association: Association,
    address: SocketAddr,
    /// Set once our last words are sent: what still comes is thrown away until the peer closes or
    /// this time, for closing with unread bytes could destroy them.
    hang_up_by: Option<Instant>,
}

/// What became of a waiting connection.
enum Fate {
    Waits,
    Gone,
    Associates(Box<AssociateRq>),
}

/// Runs until the server drains.
pub fn run(shared: &Arc<Shared>, listeners: &[TcpListener]) {
    let mut waiting: Vec<Waiting> = Vec::new();
    while shared.shutdown.phase() == Phase::Running {
        let ready = wait(listeners, &waiting);
        for (listener, _) in listeners.iter().zip(&ready).filter(|(_, ready)| **ready) {
            accept(shared, listener, &mut waiting);
        }
        let known = ready.len().saturating_sub(listeners.len());
        let mut index = 0;
        let mut flags = ready.iter().skip(listeners.len());
        waiting = waiting
            .into_iter()
            .filter_map(|connection| {
                let readable = index < known && flags.next().copied().unwrap_or(false);
                index += 1;
                advance(shared, connection, readable)
            })
            .collect();
        shared
            .stats
            .connections_waiting
            .store(waiting.len() as u64, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Waits for a tick at most; whether each listener, then each connection, has something.
fn wait(listeners: &[TcpListener], waiting: &[Waiting]) -> Vec<bool> {
    let fds = listeners
        .iter()
        .map(AsFd::as_fd)
        .chain(waiting.iter().map(|w| w.stream.as_fd()));
    let mut polled: Vec<PollFd<'_>> = fds
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    let tick = Timespec {
        tv_sec: 0,
        tv_nsec: TICK.subsec_nanos().into(),
    };
    match poll(&mut polled, Some(&tick)) {
        Ok(_) => polled.iter().map(|fd| !fd.revents().is_empty()).collect(),
        // EINTR or no memory: look again after the timers.
        Err(_) => vec![false; polled.len()],
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener, waiting: &mut Vec<Waiting>) {
    loop {
        let (stream, address) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                // Out of descriptors or memory: leave the backlog alone for one tick.
                shared.log.line(
                    Level::Error,
                    "",
                    format!("cannot accept a connection: {error}"),
                );
                std::thread::park_timeout(Duration::from_millis(50));
                return;
            }
        };
        Stats::add(&shared.stats.connections_accepted, 1);
        let settings = shared.settings();
        if waiting.len() >= settings.connections_max {
            let limit = settings.connections_max;
            let text = format!("closed the connection from {address}: {limit} already wait");
            shared.log.line(Level::Warning, "", text);
            continue;
        }
        if let Err(error) = stream
            .set_nonblocking(true)
            .and_then(|()| stream.set_nodelay(true))
        {
            shared.log.line(
                Level::Warning,
                "",
                format!("lost the connection from {address}: {error}"),
            );
            continue;
        }
        let association = Association::acceptor(settings.limits.clone(), Instant::now());
        waiting.push(Waiting {
            stream,
            association,
            address,
            hang_up_by: None,
        });
    }
}

/// Reads what is there, then keeps, drops or hands over the connection.
fn advance(shared: &Arc<Shared>, mut waiting: Waiting, readable: bool) -> Option<Waiting> {
    let now = Instant::now();
    if let Some(hang_up_by) = waiting.hang_up_by {
        let heard = !readable || matches!(waiting.stream.read(&mut [0; 4096]), Ok(n) if n > 0);
        return (heard && now < hang_up_by).then_some(waiting);
    }
    if readable {
        match waiting.stream.read(waiting.association.read_space()) {
            Ok(0) => waiting.association.connection_closed(),
            Ok(n) => waiting.association.received(n, now),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
    if waiting
        .association
        .poll_timeout()
        .is_some_and(|at| at <= now)
    {
        waiting.association.handle_timeout(now);
    }
    match next_fate(shared, &mut waiting) {
        Fate::Waits => Some(waiting),
        Fate::Gone => hang_up(waiting, now),
        Fate::Associates(request) => hand_over(shared, waiting, *request),
    }
}

fn next_fate(shared: &Shared, waiting: &mut Waiting) -> Fate {
    let fate = loop {
        match waiting.association.next_event() {
            None => break Fate::Waits,
            Some(Event::AssociateRequested(request)) => {
                return Fate::Associates(request);
            }
            Some(Event::ProtocolError(error)) => {
                let text = format!("refused the connection from {}: {error}", waiting.address);
                shared.log.line(Level::Info, "", text);
            }
            Some(Event::TimedOut) => {
                let text = format!("closed the silent connection from {}", waiting.address);
                shared.log.line(Level::Info, "", text);
            }
            Some(_) => {}
        }
    };
    if !flush(waiting) || waiting.association.is_closed() {
        Fate::Gone
    } else {
        fate
    }
}

/// Writes what the socket takes at once; a peer that takes nothing of an A-ABORT is let go.
fn flush(waiting: &mut Waiting) -> bool {
    while !waiting.association.output().is_empty() {
        match waiting.stream.write(waiting.association.output()) {
            Ok(n) if n > 0 => waiting.association.output_written(n),
            _ => return false,
        }
    }
    true
}

/// Half closes the connection and lets it wait for the peer to do the same.
fn hang_up(mut waiting: Waiting, now: Instant) -> Option<Waiting> {
    waiting.hang_up_by = Some(now + HANG_UP);
    waiting
        .stream
        .shutdown(Shutdown::Write)
        .ok()
        .map(|()| waiting)
}

fn hand_over(shared: &Arc<Shared>, mut waiting: Waiting, request: AssociateRq) -> Option<Waiting> {
    let Some(slot) = shared.take_slot() else {
        let text = format!(
            "rejected {} at {}: all {} associations are in use",
            request.calling_ae,
            waiting.address,
            shared.settings().associations_max
        );
        shared.log.line(Level::Warning, "", text);
        Stats::add(&shared.stats.associations_rejected, 1);
        let Rejection {
            result,
            source,
            reason,
        } = Rejection::LOCAL_LIMIT;
        waiting.association.reject(result, source, reason);
        flush(&mut waiting);
        return hang_up(waiting, Instant::now());
    };
    let Waiting {
        stream,
        association,
        address,
        ..
    } = waiting;
    let id = shared.next_association_id();
    let started = {
        let shared = Arc::clone(shared);
        std::thread::Builder::new().name(id.clone()).spawn(move || {
            let _slot = slot;
            let mut parts = Some((stream, association));
            let mut serve = || {
                if let Some((stream, association)) = parts.take() {
                    Session::serve(&shared, stream, association, &id, &request);
                }
            };
            match shared.policy() {
                Some(policy) => policy.around(&mut serve),
                None => serve(),
            }
        })
    };
    if let Err(error) = started {
        shared.log.line(
            Level::Error,
            "",
            format!("no thread for {address}: {error}"),
        );
    }
    None
}
