//! Opens and announces objects ahead of whoever sends them, so that disk and network overlap.
//!
//! A thread keeps a bounded number of objects, and a bounded number of bytes, ready: small ones read, large
//! ones opened with their first part asked of the kernel. Where a codec has to change them, as many are worked
//! on at once as there are codec processes. Objects come out in the order they were asked for; one that
//! cannot be read comes out as an error and the next one follows. What is handed out is always one
//! whole version of an object: a re-store in between replaces the file by rename.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Condvar, Mutex};
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::Uid;
use rustix::fs::Advice;

use crate::archive::{Archive, Shared};
use crate::conversion::{Conversion, without_nki};
use crate::error::StoreError;
use crate::held::Received;
use crate::locate::Located;
use crate::memory_file::file_of;
use crate::ready_object::{Content, ReadyObject};
use crate::virtual_device::device_name;

/// Objects up to this size are read, larger ones are left to the sender.
const SMALL_BYTES: u64 = 128 * 1024;
/// An object may be replaced while it is opened; more often than this in a row is a fault.
const OPEN_TRIES: usize = 4;

/// One object asked for.
#[derive(Debug)]
pub struct Ready {
    /// What was asked for; the file facts are those of the version that was opened.
    pub located: Located,
    /// The object, or why it cannot be read.
    pub object: Result<ReadyObject, StoreError>,
}

/// Objects in the order they were asked for.
pub struct LookAhead {
    source: Source,
    budget: Arc<Budget>,
    /// Bytes of the object handed out last, still held by the sender.
    held: u64,
}

/// Where one object will be when it is ready; places keep the order.
type Place = Receiver<Ready>;

enum Source {
    /// Prepared by threads.
    Ahead {
        ready: Option<Receiver<Place>>,
        thread: Option<JoinHandle<()>>,
    },
    /// Prepared when asked for.
    Inline {
        shared: Arc<Shared>,
        conversion: Option<Arc<Conversion>>,
        objects: std::vec::IntoIter<Located>,
    },
}

/// Bytes prepared and not yet given back.
struct Budget {
    state: Mutex<Spent>,
    changed: Condvar,
    bytes_max: u64,
}

#[derive(Default)]
struct Spent {
    bytes: u64,
    stop: bool,
}

impl LookAhead {
    /// Prepares objects, at most `objects_ahead` (0: none ahead) and `bytes_ahead` at a time.
    pub fn start(
        archive: &Archive,
        objects: Vec<Located>,
        objects_ahead: usize,
        bytes_ahead: u64,
    ) -> Self {
        Self::start_converting(archive, objects, objects_ahead, bytes_ahead, None)
    }

    /// The same, with objects changed into what their receiver takes.
    pub fn start_converting(
        archive: &Archive,
        objects: Vec<Located>,
        objects_ahead: usize,
        bytes_ahead: u64,
        conversion: Option<Conversion>,
    ) -> Self {
        let conversion = conversion.map(Arc::new);
        let shared = Arc::clone(&archive.shared);
        let budget = Arc::new(Budget {
            state: Mutex::new(Spent::default()),
            changed: Condvar::new(),
            bytes_max: bytes_ahead,
        });
        let inline = |objects: Vec<Located>| Source::Inline {
            shared: Arc::clone(&shared),
            conversion: conversion.clone(),
            objects: objects.into_iter(),
        };
        let source = if objects_ahead == 0 || objects.len() < 2 {
            inline(objects)
        } else {
            // The object in the sender's hands and the one in the thread's count as well.
            let (sender, ready) = crossbeam_channel::bounded(objects_ahead.saturating_sub(1));
            let objects = Arc::new(Mutex::new(objects));
            let workers = conversion
                .as_ref()
                .map_or(0, |conversion| conversion.workers());
            let announcer = Announcer {
                preparer: Preparer {
                    shared: Arc::clone(&shared),
                    budget: Arc::clone(&budget),
                    conversion: conversion.clone(),
                },
                sender,
                objects: Arc::clone(&objects),
                codecs: workers.min(objects_ahead),
            };
            match spawn(move || announcer.run()) {
                Ok(thread) => Source::Ahead {
                    ready: Some(ready),
                    thread: Some(thread),
                },
                // Without a thread to spare the sender waits for each object, that is all.
                Err(_) => inline(std::mem::take(&mut *objects.lock())),
            }
        };
        Self {
            source,
            budget,
            held: 0,
        }
    }
}

impl Iterator for LookAhead {
    type Item = Ready;

    fn next(&mut self) -> Option<Ready> {
        self.budget.give_back(std::mem::take(&mut self.held));
        match &mut self.source {
            Source::Ahead { ready, .. } => {
                let ready = ready.as_ref()?.recv().ok()?.recv().ok()?;
                self.held = ready.object.as_ref().map_or(0, |object| object.length);
                Some(ready)
            }
            Source::Inline {
                shared,
                conversion,
                objects,
            } => {
                let conversion = conversion.as_deref();
                let next = objects.next();
                next.map(|located| prepare(shared, conversion, located, 0))
            }
        }
    }
}

impl Drop for LookAhead {
    fn drop(&mut self) {
        self.budget.state.lock().stop = true;
        self.budget.changed.notify_all();
        if let Source::Ahead { ready, thread } = &mut self.source {
            drop(ready.take());
            if let Some(thread) = thread.take() {
                let _panicked = thread.join();
            }
        }
    }
}

impl Budget {
    /// Waits for room for an object; one larger than everything allowed goes alone. False: stop.
    fn take(&self, bytes: u64) -> bool {
        let mut spent = self.state.lock();
        while !spent.stop && spent.bytes > 0 && spent.bytes.saturating_add(bytes) > self.bytes_max {
            self.changed.wait(&mut spent);
        }
        spent.bytes = spent.bytes.saturating_add(bytes);
        !spent.stop
    }

    /// Counts bytes that an object has grown by.
    fn add(&self, bytes: u64) {
        let mut spent = self.state.lock();
        spent.bytes = spent.bytes.saturating_add(bytes);
    }

    fn give_back(&self, bytes: u64) {
        if bytes > 0 {
            let mut spent = self.state.lock();
            spent.bytes = spent.bytes.saturating_sub(bytes);
            self.changed.notify_all();
        }
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("look-ahead".into())
        .spawn(work)
}

/// An object to prepare, and its place.
type Job = (Located, Sender<Ready>);

/// Announces objects in their order, and prepares those that need no codec.
struct Announcer {
    preparer: Preparer,
    sender: Sender<Place>,
    objects: Arc<Mutex<Vec<Located>>>,
    /// How many that need a codec are prepared at once.
    codecs: usize,
}

impl Announcer {
    fn run(self) {
        let mut helpers = Helpers::default();
        let objects = std::mem::take(&mut *self.objects.lock());
        for located in objects {
            if !self.preparer.budget.take(dataset_bytes(&located)) {
                break;
            }
            let (place, ready) = crossbeam_channel::bounded(1);
            if self.preparer.needs_codec(&located) {
                helpers.start(&self.preparer, self.codecs);
                // Announced below at once, so that the next can be begun meanwhile.
                helpers.give((located, place), &self.preparer);
            } else {
                self.preparer.prepare((located, place));
            }
            if self.sender.send(ready).is_err() {
                break;
            }
        }
        helpers.end();
    }
}

/// Threads that wait for codecs.
#[derive(Default)]
struct Helpers {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Helpers {
    /// Starts them, as many as there are to spare, when they are first needed.
    fn start(&mut self, preparer: &Preparer, count: usize) {
        if self.jobs.is_some() {
            return;
        }
        let (sender, jobs) = crossbeam_channel::unbounded::<Job>();
        for _ in 0..count {
            let (preparer, jobs) = (preparer.clone(), jobs.clone());
            let work = move || jobs.iter().for_each(|job| preparer.prepare(job));
            let Ok(thread) = spawn(work) else {
                break;
            };
            self.threads.push(thread);
        }
        self.jobs = Some(sender);
    }

    /// Without a thread the caller works itself.
    fn give(&self, job: Job, preparer: &Preparer) {
        match self.jobs.as_ref().filter(|_| !self.threads.is_empty()) {
            None => preparer.prepare(job),
            Some(jobs) => {
                // Never refused: the threads go on until this end is gone.
                let _taken = jobs.send(job);
            }
        }
    }

    fn end(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

/// Prepares objects.
#[derive(Clone)]
struct Preparer {
    shared: Arc<Shared>,
    budget: Arc<Budget>,
    conversion: Option<Arc<Conversion>>,
}

impl Preparer {
    fn needs_codec(&self, located: &Located) -> bool {
        let conversion = self.conversion.as_ref();
        conversion.is_some_and(|conversion| conversion.needs_codec(located))
    }

    fn prepare(&self, (located, place): Job) {
        if self.budget.state.lock().stop {
            return;
        }
        let expected = dataset_bytes(&located);
        let conversion = self.conversion.as_deref();
        let ready = prepare(&self.shared, conversion, located, self.budget.bytes_max);
        let length = ready.object.as_ref().map_or(0, |object| object.length);
        // What the sender gives back is the real length; keep the sum right.
        self.budget.give_back(expected.saturating_sub(length));
        self.budget.add(length.saturating_sub(expected));
        // Nobody waits any more when the retrieve was ended.
        let _ended = place.send(ready);
    }
}

fn dataset_bytes(located: &Located) -> u64 {
    located
        .file_bytes
        .saturating_sub(u64::from(located.dataset_offset))
}

/// Opens one object, changes it if it must be, and announces at most `announce` bytes of it to the kernel.
fn prepare(
    shared: &Shared,
    conversion: Option<&Conversion>,
    mut located: Located,
    announce: u64,
) -> Ready {
    let object = open(shared, &mut located).and_then(|mut file| {
        let unreadable = |located: &Located, error| {
            let device = shared.devices.get(usize::from(located.device));
            let path = device.map_or_else(Default::default, |device| device.path(&located.file));
            StoreError::io("read", &path, error)
        };
        let mut syntax = syntax_of(&located)?;
        let mut native =
            without_nki(&located, &file).map_err(|error| unreadable(&located, error))?;
        if let Some(rules) = conversion.filter(|conversion| conversion.edits()) {
            let span = (u64::from(located.dataset_offset), dataset_bytes(&located));
            let object = match native.take() {
                Some(bytes) => Received::from_dataset(bytes, syntax),
                None => Received::of_file(
                    file.try_clone()
                        .map_err(|error| unreadable(&located, error))?,
                    span,
                    syntax,
                ),
            };
            if let Some(edited) = rules.edited(&mut located, object?)? {
                file = edited;
                syntax = syntax_of(&located)?;
            }
        }
        if let Some(bytes) = native.take_if(|_| conversion.is_some_and(|c| c.needs_codec(&located)))
        {
            // A codec is to see what was an NKI stream.
            file = file_of(&bytes).map_err(|error| unreadable(&located, error))?;
            located.file_bytes = bytes.len() as u64;
            located.dataset_offset = 0;
        }
        let length = dataset_bytes(&located);
        let offset = u64::from(located.dataset_offset);
        if let Some(bytes) = native {
            return Ok(ReadyObject {
                syntax,
                length: bytes.len() as u64,
                content: Content::Memory(bytes),
            });
        }
        let converted = conversion.map(|conversion| conversion.convert(&located, &file, syntax));
        let converted = converted.transpose().map_err(StoreError::Codec)?.flatten();
        if let Some((new, derived)) = converted {
            located.transfer_syntax = new.syntax.uid().to_string();
            if let Some(uid) = derived {
                located.sop_instance = uid.to_string();
            }
            return Ok(new);
        }
        let content =
            content(file, offset, length, announce).map_err(|error| unreadable(&located, error))?;
        Ok(ReadyObject {
            syntax,
            content,
            length,
        })
    });
    Ready { located, object }
}

fn syntax_of(located: &Located) -> Result<TransferSyntax, StoreError> {
    let syntax = Uid::from_value(located.transfer_syntax.as_bytes())
        .map_err(|error| StoreError::Index(error.to_string()))?;
    Ok(TransferSyntax::from_uid(&syntax))
}

/// Opens the file of an object. One that is still on its way to its place is waited for; one that was
/// replaced meanwhile is looked up again.
fn open(shared: &Shared, located: &mut Located) -> Result<File, StoreError> {
    let mut last = StoreError::Index(format!("{} is gone", located.sop_instance));
    for _ in 0..OPEN_TRIES {
        let device = shared
            .devices
            .get(usize::from(located.device))
            .ok_or_else(|| {
                let device = device_name(located.device);
                StoreError::Config(format!(
                    "{} is on {device}, which is not a device of this server",
                    located.sop_instance
                ))
            })?;
        let path = device.path(&located.file);
        match File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file))) {
            Ok((length, file)) if length == located.file_bytes => return Ok(file),
            Ok((length, _)) => {
                let wanted = located.file_bytes;
                last = StoreError::Index(format!(
                    "{} has {length} bytes, not {wanted}",
                    path.display()
                ));
            }
            Err(error) => last = StoreError::io("open", &path, error),
        }
        drop(shared.in_flight.enter(&located.sop_instance));
        shared.committer.flush()?;
        let now = shared
            .index
            .read()?
            .locate_sop(located.sop_instance.as_bytes())?;
        let Some(now) = now else {
            return Err(last);
        };
        *located = now;
    }
    Err(last)
}

fn content(file: File, offset: u64, length: u64, announce: u64) -> io::Result<Content> {
    if length <= SMALL_BYTES {
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, offset)?;
        return Ok(Content::Memory(bytes));
    }
    let announced = std::num::NonZeroU64::new(length.min(announce));
    if announced.is_some() {
        // Both are hints; a file system that knows neither still reads.
        let _unknown = rustix::fs::fadvise(&file, offset, None, Advice::Sequential);
        let _unknown = rustix::fs::fadvise(&file, offset, announced, Advice::WillNeed);
    }
    Ok(Content::File { file, offset })
}
