//! Rebuilds rows from files: the whole archive, one device, one folder or one file.
//!
//! Files of deleted objects that the reaper has not removed yet are passed over. Files are read in parallel and entered in shared commits. What is done is noted after each portion, so
//! that an interrupted rebuild of the same scope goes on where it stopped. Rows of vanished files stay, as in
//! Conquest (`fsck` removes them). A second file of an object that is stored elsewhere is reported, and
//! entered only when the other file is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::apply::{Outcome, Stored};
use crate::archive::{Archive, Shared};
use crate::config::ArchiveConfig;
use crate::device::Device;
use crate::error::StoreError;
use crate::file_object::read_object;
use crate::held::Received;
use crate::in_place::job_in_place;
use crate::index::Progress;
use crate::job::StoreJob;
use crate::regen_rules::{RegenRules, Seen};
use crate::schema::Level;
use crate::settle::Entry;
use crate::virtual_device::is_virtual;
use crate::walk_files::{DeviceFiles, order, relative_to};

/// Files between two notes of what is done.
const PORTION: usize = 2048;
/// Refused files listed by name.
const LISTED_MAX: usize = 1000;
/// Stores a worker may have waiting for their commit.
const WINDOW: usize = 64;
/// What is done, in the index folder.
const STATE_FILE: &str = "regen.state";

/// What to rebuild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegenScope {
    /// Every device.
    All,
    /// One device.
    Device(u16),
    /// One folder of a device, as given by a person: absolute, or relative to the device.
    Folder(u16, PathBuf),
    /// One file on any device.
    File(PathBuf),
}

/// What a rebuild did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegenReport {
    /// Files looked at.
    pub files: u64,
    /// Objects entered that were not known.
    pub entered: u64,
    /// Objects whose rows were brought up to date.
    pub updated: u64,
    /// Further copies of objects that are stored elsewhere.
    pub duplicates: u64,
    /// Files that were not taken.
    pub refused_count: u64,
    /// The first of those and of the duplicates: file and reason.
    pub refused: Vec<(String, String)>,
    /// The file after which an interrupted rebuild went on.
    pub resumed_after: Option<String>,
}

impl Archive {
    /// Rebuilds rows from files.
    pub fn regen(
        &self,
        scope: &RegenScope,
        progress: Progress<'_>,
    ) -> Result<RegenReport, StoreError> {
        self.regen_with(scope, None, progress)
    }

    /// The same, with rules that see the files.
    pub fn regen_with(
        &self,
        scope: &RegenScope,
        rules: Option<&RegenRules>,
        progress: Progress<'_>,
    ) -> Result<RegenReport, StoreError> {
        self.needs_index("regen")?;
        let shared = &self.shared;
        let mut regen = Regen {
            shared,
            rules,
            config: self.config(),
            state: State::read(&self.config().index_dir, scope),
            report: Mutex::new(RegenReport::default()),
        };
        let parts = regen.parts(scope)?;
        regen
            .report
            .get_mut()
            .resumed_after
            .clone_from(&regen.state.after);
        for (device, folder) in parts {
            regen.device(&device, &folder, progress)?;
        }
        regen.state.remove();
        shared.settler.drain();
        Ok(regen.report.into_inner())
    }

    /// Enters one object whose file stands in its place; false when it does not fit what is stored.
    pub(crate) fn enter(&self, job: Box<StoreJob>) -> Result<bool, StoreError> {
        let file = job.file_candidate.clone();
        let Some(answer) = self.shared.committer.store(job).wait() else {
            return Err(StoreError::Closed);
        };
        match answer {
            Ok(stored) => settle_in_place(&self.shared, &stored, &file),
            Err(StoreError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

struct Regen<'a> {
    shared: &'a Arc<Shared>,
    rules: Option<&'a RegenRules>,
    config: Arc<ArchiveConfig>,
    state: State,
    report: Mutex<RegenReport>,
}

impl Regen<'_> {
    /// The folders to walk, device by device.
    fn parts(&self, scope: &RegenScope) -> Result<Vec<(Arc<Device>, PathBuf)>, StoreError> {
        let devices = &self.shared.devices;
        let device = |number: u16| {
            devices
                .get(usize::from(number))
                .cloned()
                .ok_or_else(|| StoreError::Config(format!("MAGDevice{number} is not configured")))
        };
        let outside =
            |path: &Path| StoreError::Config(format!("{} is not on a device", path.display()));
        Ok(match scope {
            RegenScope::All => devices
                .iter()
                .map(|d| (Arc::clone(d), PathBuf::new()))
                .collect(),
            RegenScope::Device(number) => vec![(device(*number)?, PathBuf::new())],
            RegenScope::Folder(number, folder) => {
                let device = device(*number)?;
                let folder = relative_to(device.root(), folder).ok_or_else(|| outside(folder))?;
                vec![(device, folder)]
            }
            RegenScope::File(file) => {
                let found = devices.iter().find_map(|device| {
                    Some((Arc::clone(device), relative_to(device.root(), file)?))
                });
                vec![found.ok_or_else(|| outside(file))?]
            }
        })
    }

    fn device(
        &mut self,
        device: &Arc<Device>,
        folder: &Path,
        progress: Progress<'_>,
    ) -> Result<(), StoreError> {
        let number = device.number();
        let mut files = DeviceFiles::new(number, device.root(), folder);
        loop {
            let mut portion = Vec::with_capacity(PORTION);
            for file in files.by_ref() {
                let (name, path) = file?;
                if !self.state.is_done(number, &name) {
                    portion.push((name, path));
                }
                if portion.len() >= PORTION {
                    break;
                }
            }
            let Some((last, _)) = portion.last().cloned() else {
                return Ok(());
            };
            self.portion(device, &portion)?;
            self.state.note(number, &last)?;
            let done = self.report.get_mut().files;
            progress("regen", done, 0);
        }
    }

    /// Enters a portion with as many threads as there are processors.
    fn portion(&self, device: &Device, files: &[(String, PathBuf)]) -> Result<(), StoreError> {
        let next = AtomicUsize::new(0);
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let mut results = Vec::new();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads.min(files.len()))
                .map(|_| scope.spawn(|| self.worker(device, files, &next)))
                .collect();
            for worker in workers {
                results.push(worker.join().unwrap_or(Err(StoreError::Closed)));
            }
        });
        results.into_iter().collect()
    }

    fn worker(
        &self,
        device: &Device,
        files: &[(String, PathBuf)],
        next: &AtomicUsize,
    ) -> Result<(), StoreError> {
        let mut waiting = Vec::with_capacity(WINDOW);
        while let Some((name, path)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            if self
                .shared
                .index
                .read()?
                .file_is_dead(device.number(), name)?
            {
                continue;
            }
            match self.read(device, name, path) {
                Ok(Some(job)) => waiting.push((name, self.shared.committer.store(job))),
                Ok(None) => {}
                Err(
                    error @ (StoreError::Refused { .. }
                    | StoreError::Io { .. }
                    | StoreError::Full(_)),
                ) => self.refuse(device, name, &error.to_string()),
                Err(error) => return Err(error),
            }
            if waiting.len() >= WINDOW {
                self.collect(device, &mut waiting)?;
            }
        }
        self.collect(device, &mut waiting)
    }

    /// The job for a file, unless its object is kept elsewhere.
    fn read(
        &self,
        device: &Device,
        name: &str,
        path: &Path,
    ) -> Result<Option<Box<StoreJob>>, StoreError> {
        self.report.lock().files += 1;
        let mut object = read_object(path, self.config.scan_limits)?;
        if let Some(rules) = self.rules.filter(|rules| rules.sees_files) {
            match (rules.ask)(Seen::File, Received::open(path)?, path) {
                // The file stays as it is: rules decide what is entered of it.
                Ok(Some(seen)) => object.scanned.header = seen.instance.header().clone(),
                Ok(None) => {
                    // No failure, so nothing for the rules about those.
                    self.list_refused(name, "a converter keeps it out");
                    return Ok(None);
                }
                Err(why) => return Err(self.kept_out(&format!("a converter failed: {why}"))),
            }
        }
        let extractor = self.shared.index.extractor();
        let number = device.number();
        let job = job_in_place(object, number, name.to_owned(), "", extractor, &self.config)?;
        let known = self.shared.index.read()?.locate_sop(job.uid.as_bytes())?;
        let Some(known) = known else {
            return Ok(Some(job));
        };
        if is_virtual(known.device) || (known.device, known.file.as_str()) == (number, name) {
            return Ok(Some(job));
        }
        let other = self.shared.devices.get(usize::from(known.device));
        if other.is_some_and(|other| other.path(&known.file).exists()) {
            let mut report = self.report.lock();
            report.duplicates += 1;
            let reason = format!("a copy of {}, stored as {}", known.sop_instance, known.file);
            report.list(name, &reason);
            return Ok(None);
        }
        // The file the row names is gone, so the row follows the object to this file.
        let sop = known.sop_instance.into_bytes();
        let now = crate::calendar::unix_time() as u32;
        self.shared.committer.change(move |txn| {
            let target = crate::delete::DeleteTarget {
                level: Level::Image,
                id: &sop,
            };
            txn.delete(target, now)
        })?;
        Ok(Some(job))
    }

    fn kept_out(&self, why: &str) -> StoreError {
        StoreError::refused(self.config.store_failed_status, why)
    }

    fn collect(
        &self,
        device: &Device,
        waiting: &mut Vec<(&String, crate::reply::Awaited<crate::commit::StoreAnswer>)>,
    ) -> Result<(), StoreError> {
        for (name, awaited) in waiting.drain(..) {
            let answer = awaited.wait().ok_or(StoreError::Closed)?;
            match answer {
                Ok(stored) => {
                    if !settle_in_place(self.shared, &stored, name)? {
                        self.refuse(device, name, "the file is being removed");
                        continue;
                    }
                    let mut report = self.report.lock();
                    match stored.outcome {
                        Outcome::New => report.entered += 1,
                        Outcome::Rewritten | Outcome::Ignored => report.updated += 1,
                    }
                }
                Err(error @ StoreError::Refused { .. }) => {
                    self.refuse(device, name, &error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn refuse(&self, device: &Device, name: &str, reason: &str) {
        if let Some(rules) = self.rules.filter(|rules| rules.sees_failures) {
            let path = device.path(name);
            // What cannot be read at all is only listed.
            if let Ok(object) = Received::open(&path) {
                let _no_further_say = (rules.ask)(Seen::Refused, object, &path);
            }
        }
        self.list_refused(name, reason);
    }

    fn list_refused(&self, name: &str, reason: &str) {
        let mut report = self.report.lock();
        report.refused_count += 1;
        report.list(name, reason);
    }
}

/// Ends the entering of a file that stands in its place; takes it back when the index would have it elsewhere,
/// because the file's name is about to be freed.
fn settle_in_place(shared: &Shared, stored: &Stored, file: &str) -> Result<bool, StoreError> {
    let Some(pending) = stored.pending else {
        return Ok(true);
    };
    if stored.file == file {
        shared.settler.add(Entry {
            pending,
            device: stored.device,
            journal_bytes: 0,
            mark: None,
            unwritten: None,
        });
        return Ok(true);
    }
    shared.committer.revoke(pending)?;
    Ok(false)
}

impl RegenReport {
    fn list(&mut self, name: &str, reason: &str) {
        if self.refused.len() < LISTED_MAX {
            self.refused.push((name.to_owned(), reason.to_owned()));
        }
    }
}

/// Where an interrupted rebuild stopped. Three lines: scope, device, last file.
struct State {
    path: PathBuf,
    scope: String,
    device: u16,
    after: Option<String>,
}

impl State {
    fn read(index_dir: &Path, scope: &RegenScope) -> Self {
        let path = index_dir.join(STATE_FILE);
        let mut state = Self {
            scope: format!("{scope:?}"),
            device: 0,
            after: None,
            path,
        };
        let text = fs::read_to_string(&state.path).unwrap_or_default();
        let mut lines = text.lines();
        if lines.next() == Some(state.scope.as_str()) {
            let device = lines.next().and_then(|line| line.parse().ok());
            if let (Some(device), Some(after)) = (device, lines.next()) {
                state.device = device;
                state.after = Some(after.to_owned());
            }
        }
        state
    }

    fn is_done(&self, device: u16, name: &str) -> bool {
        self.after.as_ref().is_some_and(|after| {
            (device, order(name, after)) <= (self.device, std::cmp::Ordering::Equal)
        })
    }

    /// Notes that everything up to a file is done. Losing the note only costs time.
    fn note(&mut self, device: u16, name: &str) -> Result<(), StoreError> {
        if name.contains(['\n', '\r']) {
            return Ok(());
        }
        self.device = device;
        self.after = Some(name.to_owned());
        let temp = self.path.with_extension("new");
        fs::write(&temp, format!("{}\n{device}\n{name}\n", self.scope))
            .and_then(|()| fs::rename(&temp, &self.path))
            .map_err(|e| StoreError::io("write", &self.path, e))
    }

    fn remove(&self) {
        // A state file left behind would make the next rebuild skip everything.
        if fs::remove_file(&self.path).is_err() {
            let _empty = fs::write(&self.path, "");
        }
    }
}
