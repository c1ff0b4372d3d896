//! The only socket loop: bytes between one TCP connection and one [`Association`].
//!
//! Blocking, one thread per link. Nothing here knows a service; the protocol core says what the
//! bytes mean, and whoever owns the link decides what to do about it.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use pyserver_proto::association::{Association, Event};
use pyserver_proto::dimse::CommandSet;
use pyserver_store::codec_held::Space;
use pyserver_store::look::look;
use rustix::net::{RecvFlags, sockopt};

use crate::error::LinkError;

/// How often a thread that waits for its peer looks at timers and at the server's phase.
const TICK: Duration = Duration::from_millis(500);

/// Patience with a peer that does not close after our last PDU.
pub const HANG_UP: Duration = Duration::from_secs(1);

/// Reads below this are acknowledged at once; a stream of image data never is so short.
const SHORT_READ_BYTES: usize = 4096;

/// Queued output is written once it reaches this size (LIMIT: bounds memory per association).
pub const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// One connection and the association on it.
pub struct Link {
    stream: TcpStream,
    /// The protocol core.
    pub association: Association,
    /// Name of this association in the log.
    pub id: String,
    /// Who is at the other end.
    pub peer_address: SocketAddr,
    /// Time spent waiting in `read` since it was last taken.
    pub waited: Duration,
    /// The last message that was waited for came within the time that one may look.
    is_quick: bool,
    /// The last read brought so little that the peer may be waiting for our acknowledgement.
    short_read: bool,
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes, or the end of the stream: ask the association for events.
    Something,
    /// Nothing for one tick.
    Tick,
}

/// What one read of a fragment brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// As of any read.
    pub received: Received,
    /// Bytes that were put to their place.
    pub bytes: usize,
    /// Whether the data set is whole with them.
    pub whole: bool,
}

/// One command set with its data set, collected whole (identifiers and responses, never images).
#[derive(Debug)]
pub struct Message {
    /// The presentation context it came on.
    pub context_id: u8,
    /// The command set.
    pub command: CommandSet,
    /// Its data set, when the command said there is one.
    pub dataset: Option<Vec<u8>>,
}

impl Link {
    /// Takes a connected stream. Writes that a peer does not take for `send_timeout` fail.
    pub fn new(
        stream: TcpStream,
        association: Association,
        id: String,
        send_timeout: Duration,
    ) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        stream.set_write_timeout(Some(send_timeout))?;
        let peer_address = stream.peer_addr()?;
        Ok(Self {
            stream,
            association,
            id,
            peer_address,
            waited: Duration::ZERO,
            is_quick: false,
            short_read: true,
        })
    }

    /// Writes everything the association has queued, in one go.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.association.output().is_empty() {
            let n = self.stream.write(self.association.output())?;
            if n == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            self.association.output_written(n);
        }
        Ok(())
    }

    /// Flushes, then reads once, waiting at most one tick. A connection that broke is reported to
    /// the association like one that ended.
    pub fn receive(&mut self) -> io::Result<Received> {
        let before = self.ready_to_read()?;
        let read = self.stream.read(self.association.read_space());
        let now = self.has_read(&read, before);
        self.took(read, now)
    }

    /// The same for the next message: while the peer answers at once, looks for it for so long before it sleeps.
    pub fn receive_soon(&mut self, patience: Duration) -> io::Result<Received> {
        let before = self.ready_to_read()?;
        if self.is_quick {
            look(patience, || is_readable(&self.stream).then_some(()));
        }
        let read = self.stream.read(self.association.read_space());
        let now = self.has_read(&read, before);
        self.is_quick = now - before < patience;
        self.took(read, now)
    }

    /// As `receive`, but the fragment that is ahead goes to `space`, as far as there is room.
    pub fn receive_fragment(&mut self, space: Space<'_>) -> io::Result<Fragment> {
        let before = self.ready_to_read()?;
        let read = read_to(&self.stream, space, self.association.fragment_ahead());
        let now = self.has_read(&read, before);
        Ok(match read {
            Ok(bytes) if bytes > 0 => Fragment {
                received: Received::Something,
                bytes,
                whole: self.association.received_elsewhere(bytes, now),
            },
            read => Fragment {
                received: self.took(read, now)?,
                bytes: 0,
                whole: false,
            },
        })
    }

    fn ready_to_read(&mut self) -> io::Result<Instant> {
        self.flush()?;
        if self.short_read {
            // A peer with Nagle's algorithm (dcmtk) holds the rest of its message until the short
            // piece is acknowledged; the kernel would sit on that for 40 ms. Best effort.
            let _refused = sockopt::set_tcp_quickack(&self.stream, true);
        }
        Ok(Instant::now())
    }

    fn has_read(&mut self, read: &io::Result<usize>, before: Instant) -> Instant {
        let now = Instant::now();
        self.waited += now - before;
        self.short_read = matches!(read, Ok(n) if *n < SHORT_READ_BYTES);
        now
    }

    /// Reads what is there without waiting; also flushes nothing.
    pub fn receive_ready(&mut self) -> io::Result<Received> {
        let space = self.association.read_space();
        let read = rustix::net::recv(&self.stream, space, RecvFlags::DONTWAIT)
            .map(|(n, _)| n)
            .map_err(io::Error::from);
        self.took(read, Instant::now())
    }

    fn took(&mut self, read: io::Result<usize>, now: Instant) -> io::Result<Received> {
        match read {
            Ok(0) => self.association.connection_closed(),
            Ok(n) => self.association.received(n, now),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    if self.association.poll_timeout().is_some_and(|at| at <= now) {
                        self.association.handle_timeout(now);
                        return Ok(Received::Something);
                    }
                    return Ok(Received::Tick);
                }
                ErrorKind::Interrupted => return Ok(Received::Tick),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                    self.association.connection_closed();
                }
                _ => return Err(error),
            },
        }
        Ok(Received::Something)
    }

    /// Writes `bytes` whole, behind whatever is queued, with one call where the socket allows.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.association.output().is_empty() {
            return self.stream.write_all(bytes);
        }
        let queued = self.association.output();
        let queued_bytes = queued.len();
        let mut slices = [IoSlice::new(queued), IoSlice::new(bytes)];
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let n = self.stream.write_vectored(rest)?;
            if n == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut rest, n);
        }
        self.association.output_written(queued_bytes);
        Ok(())
    }

    /// Writes the slices whole, behind whatever is queued.
    pub fn write_slices(&mut self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.flush()?;
        let mut rest = slices;
        while !rest.is_empty() {
            let n = self.stream.write_vectored(rest)?;
            if n == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut rest, n);
        }
        Ok(())
    }

    /// The socket, for calls that move bytes without looking at them.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Waits for the next whole message. For requestors, and for sub-operations.
    ///
    /// Errors: the peer released, aborted, broke the protocol or stayed silent past `deadline`.
    pub fn next_message(
        &mut self,
        dataset_bytes_max: usize,
        timeout: Duration,
    ) -> Result<Message, LinkError> {
        let deadline = Instant::now() + timeout;
        let mut message: Option<Message> = None;
        loop {
            match self.association.next_event() {
                Some(Event::Command {
                    context_id,
                    command,
                }) => {
                    if !command.has_dataset() {
                        return Ok(Message {
                            context_id,
                            command,
                            dataset: None,
                        });
                    }
                    message = Some(Message {
                        context_id,
                        command,
                        dataset: Some(Vec::new()),
                    });
                }
                Some(Event::Data { fragment, last, .. }) => {
                    let Some(bytes) = message.as_mut().and_then(|m| m.dataset.as_mut()) else {
                        return Err(LinkError::Unexpected("a data set without a command"));
                    };
                    if bytes.len() + fragment.len() > dataset_bytes_max {
                        return Err(LinkError::TooLarge {
                            limit: dataset_bytes_max,
                        });
                    }
                    bytes.extend_from_slice(fragment);
                    if last {
                        return message.ok_or(LinkError::Unexpected("a data set without end"));
                    }
                }
                Some(event) => return Err(LinkError::from_event(&event)),
                None if Instant::now() >= deadline => return Err(LinkError::Silent(timeout)),
                None => {
                    self.receive()?;
                }
            }
        }
    }

    /// Tells the peer why (an A-ABORT), then hangs up.
    pub fn abort(&mut self, source: u8, reason: u8) {
        self.association.abort(source, reason);
        self.hang_up();
    }

    /// Sends what is queued and waits a little for the peer to close (PS3.8 Sta13): closing with
    /// unread bytes would reset the connection and could destroy our last words.
    pub fn hang_up(&mut self) {
        let until = Instant::now() + HANG_UP;
        // The peer may be gone already; then nobody is left to tell.
        if self.flush().is_err() || self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let mut sink = [0; 4096];
        while Instant::now() < until && matches!(self.stream.read(&mut sink), Ok(n) if n > 0) {}
    }

    /// Releases the association and waits for the answer, at most `timeout`.
    pub fn release(&mut self, timeout: Duration) -> Result<(), LinkError> {
        let deadline = Instant::now() + timeout;
        self.association.request_release();
        loop {
            let closed = self.association.is_closed();
            match self.association.next_event() {
                Some(Event::Released | Event::ConnectionClosed) => {
                    let _ = self.flush();
                    return Ok(());
                }
                Some(Event::Data { .. } | Event::Command { .. } | Event::ReleaseRequested) => {}
                Some(event) => return Err(LinkError::from_event(&event)),
                None if closed => return Ok(()),
                None if Instant::now() >= deadline => {
                    self.abort(0, 0);
                    return Err(LinkError::Silent(timeout));
                }
                None => {
                    self.receive()?;
                }
            }
        }
    }
}

/// Whether a read would not wait.
fn is_readable(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    !matches!(
        rustix::net::recv(stream, &mut byte, flags),
        Err(rustix::io::Errno::AGAIN)
    )
}

/// Reads once, at most `most` bytes, as many as there is room for.
fn read_to(stream: &TcpStream, space: Space<'_>, most: usize) -> io::Result<usize> {
    let buffer = match space {
        Space::Behind(buffer) => buffer,
        Space::At(place) => {
            let length = place.len().min(most);
            let place = place.get_mut(..length).unwrap_or_default();
            let ((read, _), _) = rustix::net::recv(stream, place, RecvFlags::empty())?;
            return Ok(read.len());
        }
    };
    let filled = buffer.len();
    let room = buffer.spare_capacity_mut();
    let length = room.len().min(most);
    let room = room.get_mut(..length).unwrap_or_default();
    let ((read, _), _) = rustix::net::recv(stream, room, RecvFlags::empty())?;
    let n = read.len();
    // SAFETY: these bytes of the capacity are those that `recv` gave back as initialised.
    unsafe { buffer.set_len(filled + n) };
    Ok(n)
}
