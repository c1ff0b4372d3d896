//! A disk that fails or stops at its N-th operation, and that knows what a power cut would leave.
//!
//! It works on real files. Everything that is not synced yet is kept as a list of things to undo; a power cut
//! undoes them, newest first, or keeps names and loses contents, as file systems do in either order.
#![allow(dead_code)] // no test file needs all of it

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use pyserver_store::blob::{BlobFile, Disk, SystemDisk};

/// What happens at the N-th operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done any more, then or later.
    Crash,
    /// That operation fails with this error number, later ones work.
    Once(i32),
    /// Every sync from then on fails.
    Syncs,
    /// There is no space from then on.
    Full,
    /// The same, for the index as well.
    FullIndex,
    /// Every commit of the index from then on fails.
    Commits,
    /// No file can be removed from then on.
    Removes,
}

/// What the machine loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The process was killed: nothing.
    Nothing,
    /// Power: every name and every content that was not synced.
    Unsynced,
    /// Power: contents that were not synced; names are there.
    Contents,
}

enum Undo {
    Created(PathBuf),
    Renamed {
        from: PathBuf,
        to: PathBuf,
        old: Option<Vec<u8>>,
    },
    Removed {
        path: PathBuf,
        bytes: Vec<u8>,
    },
    /// What stood in a file that is written again and again, as the journal is.
    Overwritten {
        path: PathBuf,
        offset: u64,
        old: Vec<u8>,
        /// The device has taken it in: the next sync of any file makes it safe.
        through: bool,
    },
}

/// Writes old bytes back.
fn restore(path: &Path, old: &[u8], offset: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(old, offset).unwrap();
}

#[derive(Default)]
struct State {
    operations: u64,
    fail_at: Option<(u64, Fault)>,
    crashed: bool,
    undo: Vec<Undo>,
    /// Files with content that is not synced.
    dirty: HashSet<PathBuf>,
    log: Vec<String>,
    /// Free bytes per device folder, where not plenty.
    free: HashMap<String, u64>,
    /// A commit of the index is under way.
    committing: bool,
}

#[derive(Default)]
pub struct FaultDisk {
    separate: bool,
    state: Mutex<State>,
}

impl FaultDisk {
    /// `separate`: the journal is on another file system than the objects.
    pub fn new(separate: bool) -> Self {
        Self {
            separate,
            ..Self::default()
        }
    }

    /// Fails at operation `number` from now, counted from 1.
    pub fn arm(&self, number: u64, fault: Fault) {
        let mut state = self.state.lock();
        state.operations = 0;
        state.log.clear();
        state.fail_at = Some((number, fault));
    }

    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    pub fn log(&self) -> Vec<String> {
        self.state.lock().log.clone()
    }

    /// Says how much room a device's folder has.
    pub fn set_free(&self, folder: &str, bytes: u64) {
        self.state.lock().free.insert(folder.into(), bytes);
    }

    /// Stops everything now.
    pub fn crash(&self) {
        self.state.lock().crashed = true;
    }

    /// Makes the files what they are after the machine comes up again.
    pub fn come_up(&self, loss: Loss) {
        let mut state = self.state.lock();
        match loss {
            Loss::Nothing => {}
            Loss::Unsynced => {
                while let Some(undo) = state.undo.pop() {
                    match undo {
                        Undo::Created(path) => drop(fs::remove_file(path)),
                        Undo::Renamed { from, to, old } => {
                            fs::rename(&to, &from).unwrap();
                            if let Some(old) = old {
                                fs::write(to, old).unwrap();
                            }
                        }
                        Undo::Overwritten {
                            path, offset, old, ..
                        } => restore(&path, &old, offset),
                        Undo::Removed { path, bytes } => {
                            fs::create_dir_all(path.parent().unwrap()).unwrap();
                            fs::write(path, bytes).unwrap();
                        }
                    }
                }
            }
            Loss::Contents => {
                for undo in state.undo.iter().rev() {
                    // The later half comes out first, or alone.
                    if let Undo::Overwritten {
                        path, offset, old, ..
                    } = undo
                    {
                        let half = old.len() / 2;
                        restore(path, &old[..half], *offset);
                    }
                }
                for path in state.dirty.drain() {
                    if let Ok(file) = File::options().write(true).open(&path) {
                        let length = file.metadata().unwrap().len();
                        file.set_len(length / 2).unwrap();
                        if length % 3 == 0 {
                            file.set_len(length).unwrap();
                        }
                    }
                }
            }
        }
    }

    /// Counts an operation; `Err` when it is to fail. `Ok(true)`: it is the one the crash falls into.
    fn step(&self, name: &str, path: &Path) -> io::Result<bool> {
        let mut state = self.state.lock();
        if state.crashed {
            return Err(io::Error::other("crashed"));
        }
        state.operations += 1;
        let number = state.operations;
        let short = path
            .components()
            .rev()
            .take(2)
            .map(|c| c.as_os_str().to_string_lossy());
        let line = format!("{number} {name} {:?}", short.collect::<Vec<_>>());
        state.log.push(line);
        let Some((at, fault)) = state.fail_at else {
            return Ok(false);
        };
        let error = |number: i32| Err(io::Error::from_raw_os_error(number));
        match fault {
            Fault::Crash if number >= at => {
                state.crashed = true;
                Ok(true)
            }
            Fault::Once(code) if number == at && !name.starts_with("commit") => error(code),
            Fault::Syncs if number >= at && name.starts_with("sync") => error(5),
            Fault::Removes if number >= at && name == "remove" => error(13),
            Fault::Commits if number >= at && name == "commit" => error(5),
            Fault::FullIndex if number >= at && name == "commit" => error(28),
            Fault::Full | Fault::FullIndex
                if number >= at && matches!(name, "create" | "write" | "link" | "folders") =>
            {
                error(28)
            }
            _ => Ok(false),
        }
    }

    /// The operation, unless it fails or falls into the crash.
    fn run<T>(
        &self,
        name: &str,
        path: &Path,
        operation: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.step(name, path)? {
            return Err(io::Error::other("crashed"));
        }
        operation(&mut self.state.lock())
    }
}

impl Disk for FaultDisk {
    fn create(&self, path: &Path) -> io::Result<BlobFile> {
        self.run("create", path, |state| {
            let blob = SystemDisk.create(path)?;
            state.undo.push(Undo::Created(path.to_path_buf()));
            state.dirty.insert(path.to_path_buf());
            Ok(blob)
        })
    }

    fn write_at(&self, blob: &BlobFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.step("write", &blob.path)? {
            // A crash in the middle of a write leaves a part of it.
            SystemDisk.write_at(blob, &bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::other("crashed"));
        }
        let mut state = self.state.lock();
        let mut old = vec![0; bytes.len()];
        if !state.dirty.contains(&blob.path) && blob.file.read_exact_at(&mut old, offset).is_ok() {
            let path = blob.path.clone();
            state.undo.push(Undo::Overwritten {
                path,
                offset,
                old,
                through: false,
            });
        } else {
            state.dirty.insert(blob.path.clone());
        }
        drop(state);
        SystemDisk.write_at(blob, bytes, offset)
    }

    fn start_write_back(&self, _blob: &BlobFile, _range: Range<u64>) {}

    fn write_through(&self, blob: &BlobFile, range: Range<u64>) -> io::Result<()> {
        self.run("sync range", &blob.path, |state| {
            for undo in &mut state.undo {
                if let Undo::Overwritten {
                    path,
                    offset,
                    old,
                    through,
                } = undo
                {
                    let end = *offset + old.len() as u64;
                    *through |= *path == blob.path && range.start <= *offset && end <= range.end;
                }
            }
            Ok(())
        })
    }

    fn sync_covers(&self, _synced: &File, _other: &File) -> bool {
        !self.separate
    }

    fn set_length(&self, blob: &BlobFile, length: u64) -> io::Result<()> {
        self.run("length", &blob.path, |_| {
            SystemDisk.set_length(blob, length)
        })
    }

    fn write_out(&self, _path: &Path) {}

    fn sync(&self, blob: &BlobFile) -> io::Result<()> {
        self.run("sync", &blob.path, |state| {
            state.dirty.remove(&blob.path);
            let synced = |undo: &Undo| match undo {
                Undo::Created(path) => *path == blob.path,
                Undo::Overwritten { path, through, .. } => *path == blob.path || *through,
                Undo::Renamed { .. } | Undo::Removed { .. } => false,
            };
            state.undo.retain(|undo| !synced(undo));
            Ok(())
        })
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.run("sync folder", path, |_| Ok(()))
    }

    fn sync_file_system(&self, _root: &File) -> io::Result<()> {
        self.run("sync all", Path::new(""), |state| {
            state.undo.clear();
            state.dirty.clear();
            Ok(())
        })
    }

    fn link(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.run("link", link, |state| {
            SystemDisk.link(target, link)?;
            state.undo.push(Undo::Created(link.to_path_buf()));
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run("rename", to, |state| {
            let old = fs::read(to).ok();
            SystemDisk.rename(from, to)?;
            let dirty = state.dirty.remove(from);
            state.dirty.remove(to);
            if dirty {
                state.dirty.insert(to.to_path_buf());
            }
            let (from, to) = (from.to_path_buf(), to.to_path_buf());
            state.undo.push(Undo::Renamed { from, to, old });
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.run("remove", path, |state| {
            let bytes = fs::read(path);
            SystemDisk.remove(path)?;
            let path = path.to_path_buf();
            state.dirty.remove(&path);
            if let Ok(bytes) = bytes {
                state.undo.push(Undo::Removed { path, bytes });
            }
            Ok(())
        })
    }

    fn create_folders(&self, path: &Path) -> io::Result<()> {
        self.run("folders", path, |_| SystemDisk.create_folders(path))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        // Not counted: whether a folder is empty depends on the order of threads.
        if self.state.lock().crashed {
            return Err(io::Error::other("crashed"));
        }
        SystemDisk.remove_folder(path)
    }

    fn free_bytes(&self, root: &File) -> io::Result<u64> {
        let free = self.state.lock().free.clone();
        // The folder's name stands for the device.
        let path = fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd()))?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(free.get(&name).copied().unwrap_or(1 << 40))
    }

    fn commit_point(&self) -> io::Result<()> {
        let before = {
            let mut state = self.state.lock();
            state.committing = !state.committing;
            state.committing
        };
        // What was committed cannot fail any more, but the process can end there.
        let name = if before { "commit" } else { "committed" };
        let passed = self.run(name, Path::new(""), |_| Ok(()));
        if passed.is_err() {
            self.state.lock().committing = false;
        }
        passed
    }
}
