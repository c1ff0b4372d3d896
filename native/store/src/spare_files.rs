//! Empty files made ahead in the devices' private folders, for objects too large for the journal.
//!
//! To find a free inode takes long where many files were removed lately, and the first sync of a new file also
//! writes its folder and the folder's own record, one after the other. An object that takes a file made ahead waits
//! for neither: those for durable objects have names that survive a power cut already. Files are made while many
//! objects arrive, in portions; an object that finds none makes its own. What is left over is removed after a rest,
//! when the device is full and at the end of the program, or found in the private folder by the next start.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::blob::{BlobFile, Disk};
use crate::device::Device;
use crate::error::StoreError;

/// Files of one kind kept for a device. LIMIT: each holds a descriptor.
const KEPT_MAX: usize = 32;
/// More are made when so few are left.
const KEPT_MIN: usize = 16;

/// No file is made for the first objects: they may be the only ones.
const FIRST_OBJECTS: u32 = 8;
/// Files that nobody took for so long are removed.
const REST: Duration = Duration::from_secs(10);

/// An empty file in a device's private folder.
pub(crate) struct SpareFile {
    /// Name in the private folder.
    pub name: String,
    pub blob: BlobFile,
}

/// The files made ahead.
pub(crate) struct SpareFiles {
    stock: Arc<Stock>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Stock {
    state: Mutex<State>,
    wanted: Condvar,
}

struct State {
    shelves: Vec<Shelf>,
    stop: bool,
}

/// The files of one kind for one device.
struct Shelf {
    device: Arc<Device>,
    durable: bool,
    files: VecDeque<SpareFile>,
    /// Objects that asked since the last rest.
    asked: u32,
    /// The same when the thread last looked.
    asked_before: u32,
    wanted: bool,
    /// Whether the device has no room left.
    full: bool,
}

impl SpareFiles {
    /// Starts the thread that makes the files; there are none until one is asked for.
    pub(crate) fn start(disk: &Arc<dyn Disk>, devices: &[Arc<Device>]) -> Result<Self, StoreError> {
        let shelf = |device: &Arc<Device>, durable| Shelf {
            device: Arc::clone(device),
            durable,
            files: VecDeque::with_capacity(KEPT_MAX),
            asked: 0,
            asked_before: 0,
            wanted: false,
            full: false,
        };
        let shelves = devices
            .iter()
            .flat_map(|device| [shelf(device, false), shelf(device, true)]);
        let stock = Arc::new(Stock {
            state: Mutex::new(State {
                shelves: shelves.collect(),
                stop: false,
            }),
            wanted: Condvar::new(),
        });
        let worker = Worker {
            stock: Arc::clone(&stock),
            disk: Arc::clone(disk),
        };
        let thread = std::thread::Builder::new()
            .name("spare files".into())
            .spawn(move || worker.run())
            .map_err(|e| StoreError::io("start", Path::new("spare files"), e))?;
        Ok(Self {
            stock,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// A file of the device, if one is ready. `durable`: its name survives a power cut.
    pub(crate) fn take(&self, device: &Device, durable: bool) -> Option<SpareFile> {
        let mut state = self.stock.state.lock();
        let number = 2 * usize::from(device.number()) + usize::from(durable);
        let shelf = state.shelves.get_mut(number)?;
        let file = shelf.files.pop_front();
        shelf.asked = shelf.asked.saturating_add(1);
        if shelf.files.len() < KEPT_MIN && shelf.asked > FIRST_OBJECTS && !shelf.wanted {
            shelf.wanted = true;
            self.stock.wanted.notify_one();
        }
        file
    }

    /// The device has no room: it gets the files back.
    pub(crate) fn give_up(&self, device: &Device) {
        let mut state = self.stock.state.lock();
        for shelf in &mut state.shelves {
            if shelf.device.number() == device.number() && !shelf.files.is_empty() {
                shelf.full = true;
                self.stock.wanted.notify_one();
            }
        }
    }

    /// Ends the thread and removes what is left.
    pub(crate) fn stop(&self) {
        self.stock.state.lock().stop = true;
        self.stock.wanted.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            let _panicked = thread.join();
        }
    }
}

struct Worker {
    stock: Arc<Stock>,
    disk: Arc<dyn Disk>,
}

impl Worker {
    fn run(self) {
        while let Some((number, device, durable)) = self.next() {
            // What is wrong with the device, the next object that makes its own file will hear.
            let made = self.make(&device, durable).unwrap_or_default();
            let mut state = self.stock.state.lock();
            if let Some(shelf) = state.shelves.get_mut(number) {
                shelf.files.extend(made);
                shelf.wanted = false;
            }
        }
        let mut state = self.stock.state.lock();
        for shelf in &mut state.shelves {
            self.remove(shelf.files.drain(..));
        }
    }

    /// The shelf that wants files.
    fn next(&self) -> Option<(usize, Arc<Device>, bool)> {
        let mut state = self.stock.state.lock();
        loop {
            if state.stop {
                return None;
            }
            for shelf in state.shelves.iter_mut().filter(|shelf| shelf.full) {
                self.remove(shelf.files.drain(..));
                (shelf.full, shelf.asked) = (false, 0);
            }
            let mut shelves = state.shelves.iter().enumerate();
            if let Some((number, shelf)) = shelves.find(|(_, shelf)| shelf.wanted) {
                return Some((number, Arc::clone(&shelf.device), shelf.durable));
            }
            if state.shelves.iter().all(|shelf| shelf.asked == 0) {
                self.stock.wanted.wait(&mut state);
            } else if self.stock.wanted.wait_for(&mut state, REST).timed_out() {
                self.rest(&mut state);
            }
        }
    }

    /// Removes the files of kinds that nobody asked for since the last time.
    fn rest(&self, state: &mut State) {
        for shelf in &mut state.shelves {
            if shelf.asked == shelf.asked_before {
                self.remove(shelf.files.drain(..));
                shelf.asked = 0;
            }
            shelf.asked_before = shelf.asked;
        }
    }

    /// Makes one portion; after a failure none of it is left.
    fn make(&self, device: &Device, durable: bool) -> io::Result<Vec<SpareFile>> {
        let mut made = Vec::with_capacity(KEPT_MAX - KEPT_MIN);
        let result = self.make_each(device, durable, &mut made);
        if result.is_err() || device.read_only().is_some() {
            self.remove(made.drain(..));
        }
        result.map(|()| made)
    }

    fn make_each(
        &self,
        device: &Device,
        durable: bool,
        made: &mut Vec<SpareFile>,
    ) -> io::Result<()> {
        for _ in KEPT_MIN..KEPT_MAX {
            let name = device.temp_name();
            let blob = self.disk.create(&device.temp_path(&name))?;
            made.push(SpareFile { name, blob });
        }
        if durable {
            // Their names, all at once; the file itself is synced with what comes into it.
            self.disk.sync_folder(device.temp_folder())?;
        }
        Ok(())
    }

    fn remove(&self, files: impl Iterator<Item = SpareFile>) {
        for file in files {
            // A failure leaves the file to start-up, which empties the private folder.
            let _left = self.disk.remove(&file.blob.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::blob::SystemDisk;

    fn start() -> (tempfile::TempDir, Arc<Device>, SpareFiles) {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let device = Arc::new(Device::open(0, folder.path(), &SystemDisk).unwrap());
        let spares = SpareFiles::start(&disk, std::slice::from_ref(&device)).unwrap();
        (folder, device, spares)
    }

    fn taken(spares: &SpareFiles, device: &Device, durable: bool) -> SpareFile {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(file) = spares.take(device, durable) {
                return file;
            }
            assert!(Instant::now() < until, "no file was made");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn names(device: &Device) -> usize {
        std::fs::read_dir(device.temp_folder()).unwrap().count()
    }

    #[test]
    fn files_are_made_once_asked_for_and_go_at_the_end() {
        let (_folder, device, spares) = start();
        assert_eq!(names(&device), 0);
        let mut taken_names = std::collections::HashSet::new();
        for number in 0..3 * KEPT_MAX {
            let file = taken(&spares, &device, number % 3 > 0);
            assert_eq!(file.blob.path, device.temp_path(&file.name));
            assert_eq!(file.blob.file.metadata().unwrap().len(), 0);
            assert!(taken_names.insert(file.name));
        }
        spares.stop();
        assert_eq!(names(&device), 3 * KEPT_MAX);
        assert!(spares.take(&device, true).is_none());
    }

    #[test]
    fn a_rest_removes_what_nobody_asks_for() {
        let (_folder, device, spares) = start();
        for _ in 0..FIRST_OBJECTS {
            assert!(spares.take(&device, true).is_none());
        }
        assert_eq!(names(&device), 0);
        drop(taken(&spares, &device, true));
        let stock = Arc::clone(&spares.stock);
        spares.stop();
        assert_eq!(names(&device), 1);
        let disk = Arc::new(SystemDisk);
        let worker = Worker { stock, disk };
        let mut state = worker.stock.state.lock();
        state.shelves[1]
            .files
            .extend(worker.make(&device, true).unwrap());
        worker.rest(&mut state);
        assert_eq!(state.shelves[1].files.len(), KEPT_MAX - KEPT_MIN);
        worker.rest(&mut state);
        assert!(state.shelves[1].files.is_empty() && state.shelves[1].asked == 0);
        drop(state);
        assert_eq!(names(&device), 1);
    }

    #[test]
    fn a_full_device_gets_its_files_back() {
        let (_folder, device, spares) = start();
        let taken = taken(&spares, &device, false);
        spares.give_up(&device);
        let until = Instant::now() + Duration::from_secs(20);
        while names(&device) > 1 {
            assert!(Instant::now() < until, "files are left");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(taken.blob.path.exists());
    }

    #[test]
    fn a_device_that_fails_gets_none() {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let device = Arc::new(Device::open(0, folder.path(), &SystemDisk).unwrap());
        device.set_read_only("sync failed");
        let spares = SpareFiles::start(&disk, std::slice::from_ref(&device)).unwrap();
        for _ in 0..2 * FIRST_OBJECTS {
            assert!(spares.take(&device, true).is_none());
        }
        spares.stop();
        assert!(spares.take(&device, true).is_none());
        assert_eq!(names(&device), 0);
    }
}
