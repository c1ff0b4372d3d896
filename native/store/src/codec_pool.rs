//! Worker processes that put data sets into another compression.
//!
//! Codecs are large C libraries fed with bytes of strangers, so they run in processes of their own. A
//! worker takes one job at a time over a socket pair: a line of text and two open files, the data set and
//! a file in memory for the result, which it cuts to its length: the file may have held another. No byte of an image is copied through the socket. A worker that
//! dies, or does not answer in time, is killed; that costs its object the change and nothing else.
//!
//! Jobs wait while all workers are busy: callers are threads of associations and look-aheads, whose peers
//! wait with them. Workers start when they are first needed and end with the pool.
//!
//! | to the worker | `offset length transfer-syntax wish`, files: data set, result |
//! |---|---|
//! | from it | `kept` |
//! | | `done transfer-syntax length`, and a SOP Instance UID if that is a new one |
//! | | `failed reason` |

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::Uid;
use rustix::buffer::spare_capacity;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, sockopt,
};

use crate::codec_held::HeldBudget;
use crate::codec_here;
use crate::memory_file::{MemoryFile, MemoryFiles};
use crate::ready_object::{Content, ReadyObject};

/// Longest message of either side.
const MESSAGE_BYTES: usize = 4096;

/// What the workers are and what they may use.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Program and arguments of a worker; its socket is its standard input.
    pub command: Vec<String>,
    /// Workers at once.
    pub workers: usize,
    /// How long one object may take.
    pub timeout: Duration,
    /// Largest data set that is given to a worker, in bytes.
    pub object_bytes_max: u64,
    /// Memory for objects that wait for a worker, all together, in bytes.
    pub held_bytes_max: u64,
}

/// What is wanted of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A compression mode of the configuration.
    Mode {
        /// Its name.
        name: String,
        /// Quality of lossy modes without a number of their own, 1 to 100.
        quality: u8,
    },
    /// A transfer syntax that a peer takes.
    Syntax {
        /// Its UID.
        uid: Uid,
        /// Quality in a lossy syntax, 1 to 100.
        quality: u8,
    },
}

impl Wish {
    /// A mode for an object that is stored. Where files hold no NKI it means uncompressed, as in Conquest.
    pub fn to_store(mode: &str, quality: u8, keeps_nki: bool) -> Self {
        let mode = mode.trim().to_ascii_lowercase();
        let name = match mode.as_str() {
            "nj" if !keeps_nki => "uj".to_owned(),
            other if !keeps_nki && other.starts_with('n') => "un".to_owned(),
            _ => mode,
        };
        Self::Mode { name, quality }
    }

    /// Whether an object in this transfer syntax stays as it is, so that no worker need see it.
    pub fn leaves_alone(&self, syntax: TransferSyntax) -> bool {
        let Self::Mode { name, .. } = self else {
            return false;
        };
        let is_compressed = syntax.is_encapsulated() || syntax.is_deflated();
        match name.as_bytes() {
            [] | [b's' | b'v', ..] | [b'a' | b'i', b's', ..] | [b'u', b'i', ..] => true,
            [b'u', b'l' | b'b' | b'e', ..] => syntax == TransferSyntax::ExplicitLittleEndian,
            [b'u', ..] | [b'n', b'0', ..] => !is_compressed,
            _ => false,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Mode { name, quality } => {
                // A called AE title may hold anything; words must stay words.
                let name: String = name.chars().filter(char::is_ascii_graphic).collect();
                format!("mode {name} {quality}")
            }
            Self::Syntax { uid, quality } => format!("syntax {uid} {quality}"),
        }
    }
}

/// A data set in a file.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The open file.
    pub file: BorrowedFd<'a>,
    /// First byte of the data set.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its transfer syntax.
    pub syntax: TransferSyntax,
}

impl Source<'_> {
    /// Reads the whole data set to an empty buffer.
    pub(crate) fn read(&self, dataset: &mut Vec<u8>) -> io::Result<()> {
        dataset.reserve(self.length as usize);
        while (dataset.len() as u64) < self.length {
            let at = self.offset + dataset.len() as u64;
            let room = spare_capacity(dataset);
            match rustix::io::pread(self.file, room, at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        dataset.truncate(self.length as usize);
        Ok(())
    }
}

/// What became of a data set.
#[derive(Debug)]
pub enum Transcoded {
    /// It stays as it is.
    Kept,
    /// A new data set, in memory, and its SOP Instance UID where that is new, too.
    New(ReadyObject, Option<Uid>),
}

/// Why a data set is not in its new form.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The object, or what was wanted of it.
    #[error("{0}")]
    Object(String),
    /// Beyond the limit.
    #[error("{bytes} bytes are more than a codec takes ({limit})")]
    TooLarge {
        /// Size of the data set.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The worker ended.
    #[error("the codec process ended; the object may have made it fail")]
    Died,
    /// The worker was stopped.
    #[error("the codec gave no answer within {0:?}")]
    Late(Duration),
    /// No worker to be had.
    #[error("no codec process: {0}")]
    System(#[from] io::Error),
}

/// The workers.
#[derive(Debug)]
pub struct CodecPool {
    config: PoolConfig,
    state: Mutex<State>,
    freed: Condvar,
    results: Arc<MemoryFiles>,
    held: Arc<HeldBudget>,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Worker>,
    /// Workers there are, busy ones included.
    count: usize,
}

impl CodecPool {
    /// Prepares a pool; no process starts before the first job.
    pub fn new(config: PoolConfig) -> Self {
        let held = Arc::new(HeldBudget::new(config.held_bytes_max));
        Self {
            config,
            state: Mutex::default(),
            freed: Condvar::new(),
            results: Arc::default(),
            held,
        }
    }

    /// Room for objects that wait.
    pub fn held(&self) -> &Arc<HeldBudget> {
        &self.held
    }

    /// How many objects are worked on at once.
    pub fn workers(&self) -> usize {
        self.config.workers.max(1)
    }

    /// The largest data set that is taken.
    pub fn object_bytes_max(&self) -> u64 {
        self.config.object_bytes_max
    }

    /// Puts one data set into another form; waits for a worker, then for the work.
    ///
    /// Errors: see [`CodecError`]; the data set itself is never changed.
    pub fn transcode(&self, source: &Source<'_>, wish: &Wish) -> Result<Transcoded, CodecError> {
        self.check_size(source.length)?;
        match codec_here::transcode_file(self.held.memory(), source, wish)? {
            Some(done) => Ok(done),
            None => self.work(source, wish),
        }
    }

    /// Refuses what is larger than the limit.
    pub(crate) fn check_size(&self, bytes: u64) -> Result<(), CodecError> {
        let limit = self.config.object_bytes_max;
        if bytes > limit {
            return Err(CodecError::TooLarge { bytes, limit });
        }
        Ok(())
    }

    /// Has a worker do it.
    pub(crate) fn work(&self, source: &Source<'_>, wish: &Wish) -> Result<Transcoded, CodecError> {
        let result = self.results.take()?;
        let mut seat = self.take()?;
        let answer = seat
            .worker()?
            .work(source, wish, &result, self.config.timeout);
        // An object that cannot be worked on is no reason to stop the worker.
        if matches!(
            answer,
            Err(CodecError::Died | CodecError::Late(_) | CodecError::System(_))
        ) {
            seat.spoil();
        }
        drop(seat);
        Ok(match answer? {
            None => Transcoded::Kept,
            Some(done) => {
                let object = ReadyObject {
                    syntax: done.syntax,
                    content: Content::Shared(result),
                    length: done.length,
                };
                Transcoded::New(object, done.sop_instance)
            }
        })
    }

    fn take(&self) -> Result<Seat<'_>, CodecError> {
        let mut state = self.state.lock();
        loop {
            if let Some(worker) = state.idle.pop() {
                return Ok(Seat {
                    pool: self,
                    worker: Some(worker),
                });
            }
            if state.count < self.workers() {
                state.count += 1;
                break;
            }
            self.freed.wait(&mut state);
        }
        drop(state);
        let mut seat = Seat {
            pool: self,
            worker: None,
        };
        seat.worker = Some(Worker::start(&self.config)?);
        Ok(seat)
    }
}

/// A worker in use; dropping it gives it back, or makes room for another.
struct Seat<'a> {
    pool: &'a CodecPool,
    worker: Option<Worker>,
}

impl Seat<'_> {
    fn worker(&mut self) -> Result<&mut Worker, CodecError> {
        self.worker.as_mut().ok_or(CodecError::Died)
    }

    fn spoil(&mut self) {
        drop(self.worker.take());
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        match self.worker.take() {
            Some(worker) => state.idle.push(worker),
            None => state.count -= 1,
        }
        self.pool.freed.notify_one();
    }
}

/// What a worker says of its result.
struct Done {
    syntax: TransferSyntax,
    length: u64,
    sop_instance: Option<Uid>,
}

#[derive(Debug)]
struct Worker {
    child: Child,
    socket: OwnedFd,
}

impl Worker {
    fn start(config: &PoolConfig) -> io::Result<Self> {
        let (program, arguments) = config
            .command
            .split_first()
            .ok_or_else(|| io::Error::other("no command for the codec processes"))?;
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self {
            child,
            socket: ours,
        })
    }

    /// One job; `None`: the data set stays as it is.
    fn work(
        &mut self,
        source: &Source<'_>,
        wish: &Wish,
        result: &MemoryFile,
        timeout: Duration,
    ) -> Result<Option<Done>, CodecError> {
        let request = format!(
            "{} {} {} {}",
            source.offset,
            source.length,
            source.syntax.uid(),
            wish.text()
        );
        let files = [source.file, result.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
        let sent = rustix::net::sendmsg(
            &self.socket,
            &[IoSlice::new(request.as_bytes())],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        );
        sent.map_err(|_| CodecError::Died)?;
        sockopt::set_socket_timeout(&self.socket, sockopt::Timeout::Recv, Some(timeout))
            .map_err(io::Error::from)?;
        let mut answer = vec![0; MESSAGE_BYTES];
        let read = loop {
            match rustix::net::recv(&self.socket, &mut answer[..], RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Err(CodecError::Late(timeout)),
                Err(_) => return Err(CodecError::Died),
                Ok((read, _)) => break read,
            }
        };
        let answer = String::from_utf8_lossy(answer.get(..read).unwrap_or_default());
        read_answer(&answer, result)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It holds nothing that must be put away; a process already gone is as good.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// What a worker says, checked against the file it filled.
fn read_answer(answer: &str, result: &MemoryFile) -> Result<Option<Done>, CodecError> {
    let (word, rest) = answer.split_once(' ').unwrap_or((answer, ""));
    match word {
        "kept" => Ok(None),
        "failed" => Err(CodecError::Object(rest.to_owned())),
        "done" => {
            let mut words = rest.split(' ');
            let uid = |word: &str| word.parse::<Uid>().map_err(|_| CodecError::Died);
            let syntax = uid(words.next().ok_or(CodecError::Died)?)?;
            let length = words.next().and_then(|word| word.parse().ok());
            let length: u64 = length.ok_or(CodecError::Died)?;
            let sop_instance = words.next().map(uid).transpose()?;
            if result.metadata()?.len() != length {
                return Err(CodecError::Died);
            }
            Ok(Some(Done {
                syntax: TransferSyntax::from_uid(&syntax),
                length,
                sop_instance,
            }))
        }
        _ => Err(CodecError::Died),
    }
}

#[cfg(test)]
#[path = "codec_pool_tests.rs"]
mod tests;
