//! A file in a device's private folder while its bytes arrive. Dropped before it is handed over, it leaves
//! no trace.
//!
//! Bytes are gathered into large writes, which a writer does meanwhile when one is free, and their write-out is
//! started early so that the final sync has little left to wait for.

use std::ops::Range;
use std::sync::Arc;

use crate::blob::{BlobFile, Disk};
use crate::device::Device;
use crate::error::StoreError;
use crate::lmdb::PAGE_BYTES;
use crate::spare_files::{SpareFile, SpareFiles};
use crate::writers::{Progress, Writers};

/// Pieces at least this long are written from where they are.
const DIRECT_WRITE_BYTES: usize = 64 * 1024;
/// Shorter ones are gathered up to this.
const GATHER_BYTES: usize = 128 * 1024;

/// A file that will probably be longer is not given its length ahead.
const LENGTH_MAX: u64 = 64 << 20;
/// Its write-out is started in portions up to this.
const PORTION_MAX: u64 = 4 << 20;

/// The file.
pub(crate) struct TempFile {
    disk: Arc<dyn Disk>,
    device: Arc<Device>,
    /// Name in the private folder.
    pub name: String,
    blob: Option<Arc<BlobFile>>,
    gathered: Vec<u8>,
    /// Bytes handed to the system or to a writer.
    written: u64,
    write_back: Option<WriteBack>,
    /// How long it will probably be; 0 when it is not to be lengthened.
    usual: u64,
    /// How long it was made ahead of its bytes.
    length: u64,
    /// Written by its receiver, whoever is free.
    alone: bool,
    /// Whether the name survives a power cut already.
    name_is_safe: bool,
    writers: Arc<Writers>,
    progress: Arc<Progress>,
}

impl TempFile {
    /// Creates the file, or takes it from `spares`. `gathered` is a buffer to reuse; the write-out of
    /// a `durable` one starts early; `usual` is how long it will probably be.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        device: &Arc<Device>,
        writers: &Arc<Writers>,
        mut gathered: Vec<u8>,
        durable: bool,
        spares: &SpareFiles,
        usual: u64,
    ) -> Result<Self, StoreError> {
        let spare = spares.take(device, durable);
        let name_is_safe = durable && spare.is_some();
        let SpareFile { name, blob } = if let Some(spare) = spare {
            spare
        } else {
            let name = device.temp_name();
            let path = device.temp_path(&name);
            let blob = disk.create(&path);
            let blob = blob.map_err(|e| StoreError::io("create", &path, e))?;
            SpareFile { name, blob }
        };
        gathered.clear();
        Ok(Self {
            disk: Arc::clone(disk),
            device: Arc::clone(device),
            name,
            blob: Some(Arc::new(blob)),
            gathered,
            written: 0,
            write_back: durable.then(WriteBack::default),
            usual: if device.allocates_by_length() {
                usual
            } else {
                0
            },
            length: 0,
            alone: false,
            name_is_safe,
            writers: Arc::clone(writers),
            progress: Arc::default(),
        })
    }

    /// Leaves the writers to others: every core has work already, and to wake one costs more than it saves.
    /// The write-out is left to the sync that follows at once.
    pub(crate) fn write_alone(&mut self) {
        self.alone = true;
        self.write_back = None;
    }

    /// Appends bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() >= DIRECT_WRITE_BYTES {
            if self.alone {
                self.flush()?;
                return self.write(bytes);
            }
            let nobody_helps = !self.progress.is_busy() && !self.writers.is_free();
            if self.gathered.is_empty() && nobody_helps {
                return self.write(bytes);
            }
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = GATHER_BYTES.saturating_sub(self.gathered.len()).max(1);
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.gathered.extend_from_slice(now);
            rest = later;
            self.filled()?;
        }
        Ok(())
    }

    /// What is gathered, to be added to within its capacity; then `filled` is to be called.
    pub(crate) fn space(&mut self) -> Option<&mut Vec<u8>> {
        with_room(&mut self.gathered, GATHER_BYTES)
    }

    /// Takes what was gathered before the file was opened, and gives an empty buffer back.
    pub(crate) fn adopt(&mut self, gathered: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let empty = std::mem::replace(&mut self.gathered, gathered);
        self.filled()?;
        Ok(empty)
    }

    /// What is gathered and not handed on yet.
    pub(crate) fn gathered(&self) -> &[u8] {
        &self.gathered
    }

    /// What is gathered has been added to.
    pub(crate) fn filled(&mut self) -> Result<(), StoreError> {
        if self.gathered.len() < GATHER_BYTES {
            return Ok(());
        }
        self.hand_on()
    }

    /// Hands on what is still gathered: nothing follows.
    pub(crate) fn complete(&mut self) -> Result<(), StoreError> {
        if let Some(write_back) = &mut self.write_back {
            write_back.portion = 0;
        }
        if self.progress.is_busy() && !self.gathered.is_empty() {
            return self.hand_on();
        }
        self.flush()
    }

    /// Waits until everything is with the system, and the file as long as what was written.
    pub(crate) fn wait(&self) -> Result<(), StoreError> {
        self.progress
            .wait()
            .map_err(|e| StoreError::io("write", &self.device.temp_path(&self.name), e))?;
        if let Some(blob) = self.blob.as_ref().filter(|_| self.length > self.written) {
            let cut = self.disk.set_length(blob, self.written);
            cut.map_err(|e| StoreError::io("cut", &blob.path, e))?;
        }
        Ok(())
    }

    /// Has what is gathered written by a free writer, or writes it.
    fn hand_on(&mut self) -> Result<(), StoreError> {
        if self.progress.failed() {
            return self.wait();
        }
        if self.alone {
            return self.flush();
        }
        let gathered = std::mem::take(&mut self.gathered);
        let (length, at) = (gathered.len() as u64, self.written);
        let range = self.start_write_back(at + length);
        let blob = self.blob.as_ref().ok_or(StoreError::Closed)?;
        let offered = self
            .writers
            .offer(blob, gathered, at, range.clone(), &self.progress);
        match offered {
            Ok(empty) => {
                self.gathered = empty;
                self.count(length);
                Ok(())
            }
            Err(gathered) => self.write_gathered(gathered, range),
        }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let gathered = std::mem::take(&mut self.gathered);
        let range = self.start_write_back(self.written + gathered.len() as u64);
        self.write_gathered(gathered, range)
    }

    /// Writes what was gathered, and keeps its memory for what comes.
    fn write_gathered(
        &mut self,
        gathered: Vec<u8>,
        range: Option<Range<u64>>,
    ) -> Result<(), StoreError> {
        let result = self.write_range(&gathered, range);
        self.gathered = gathered;
        self.gathered.clear();
        result
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let range = self.start_write_back(self.written + bytes.len() as u64);
        self.write_range(bytes, range)
    }

    /// Writes bytes behind the others, then starts the write-out of a range.
    fn write_range(&mut self, bytes: &[u8], range: Option<Range<u64>>) -> Result<(), StoreError> {
        let blob = self.blob.as_ref().ok_or(StoreError::Closed)?;
        self.disk
            .write_at(blob, bytes, self.written)
            .map_err(|e| StoreError::io("write", &blob.path, e))?;
        if let Some(range) = range {
            self.disk.start_write_back(blob, range);
        }
        self.count(bytes.len() as u64);
        Ok(())
    }

    fn count(&mut self, bytes: u64) {
        self.written += bytes;
        self.device.take_room(bytes);
    }

    /// Bytes of the file so far, but for those still gathered.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// What to start the write-out of when the file is written up to `end`. Before the first, the file gets the length
    /// it will probably have: ext4 then finds room for all of it at once, and not for the last page by itself.
    fn start_write_back(&mut self, end: u64) -> Option<Range<u64>> {
        let range = self.write_back.as_mut()?.due(end)?;
        if range.start == 0 && end < self.usual && self.usual <= LENGTH_MAX {
            let blob = self.blob.as_ref()?;
            // It goes without, if it has to.
            if self.disk.set_length(blob, self.usual).is_ok() {
                self.length = self.usual;
            }
        }
        Some(range)
    }

    /// Waits until content and name survive a power cut. Everything must be with the system.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let Some(blob) = &self.blob else {
            return Err(StoreError::Closed);
        };
        self.disk
            .sync(blob)
            .map_err(|e| StoreError::io("sync", &blob.path, e))?;
        if self.device.needs_folder_sync() && !self.name_is_safe {
            let folder = self.device.temp_folder();
            self.disk
                .sync_folder(folder)
                .map_err(|e| StoreError::io("sync", folder, e))?;
        }
        Ok(())
    }

    /// Takes the file out of this guard's care: it stays where it is. Gives the gather buffer back.
    pub(crate) fn hand_over(mut self) -> Vec<u8> {
        self.blob = None;
        std::mem::take(&mut self.gathered)
    }
}

/// How far the write-out of a file has been started.
///
/// Each start costs the disk a request and the file system an extent; from the fifth on, ext4 keeps extents in
/// a block of their own, which is then written and given back. So the portions grow with the file.
struct WriteBack {
    started: u64,
    /// Bytes that are worth a start; 0 once no more come.
    portion: u64,
}

impl Default for WriteBack {
    fn default() -> Self {
        Self {
            started: 0,
            portion: GATHER_BYTES as u64,
        }
    }
}

impl WriteBack {
    /// What is to be started when the file is written up to `end`.
    fn due(&mut self, end: u64) -> Option<Range<u64>> {
        if end < self.started + self.portion {
            return None;
        }
        let end = match self.portion {
            0 => end,
            // A page that is not full yet would be written twice.
            _ => end / PAGE_BYTES * PAGE_BYTES,
        };
        let range = self.started..end;
        self.started = end;
        self.portion = (self.portion * 2).min(PORTION_MAX);
        Some(range)
    }
}

/// A buffer with room for `bytes` in all; `None` when it holds so many.
pub(crate) fn with_room(gathered: &mut Vec<u8>, bytes: usize) -> Option<&mut Vec<u8>> {
    let room = bytes.checked_sub(gathered.len())?;
    gathered.reserve_exact(room);
    (room > 0).then_some(gathered)
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(blob) = self.blob.take() {
            // A failure leaves the file to start-up, which empties the private folder.
            let _left = self.disk.remove(&blob.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::SystemDisk;

    #[test]
    fn bytes_arrive_in_order_and_an_abandoned_file_vanishes() {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let device = Arc::new(Device::open(0, folder.path(), &SystemDisk).unwrap());
        let writers = Arc::new(Writers::start(&disk, &Arc::default()).unwrap());
        let spares = SpareFiles::start(&disk, std::slice::from_ref(&device)).unwrap();
        let mut expected = Vec::new();
        let mut file =
            TempFile::create(&disk, &device, &writers, Vec::new(), true, &spares, 400_000).unwrap();
        for (n, size) in [10, 70_000, 100_000, 300_000, 1, 64 * 1024]
            .into_iter()
            .enumerate()
        {
            let piece = vec![n as u8; size];
            expected.extend_from_slice(&piece);
            file.append(&piece).unwrap();
        }
        file.complete().unwrap();
        file.wait().unwrap();
        file.sync().unwrap();
        assert_eq!(file.written(), expected.len() as u64);
        let path = device.temp_path(&file.name);
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        drop(file);
        assert!(!path.exists());
        // Shorter than the one before.
        let usual = expected.len() as u64;
        let mut file =
            TempFile::create(&disk, &device, &writers, Vec::new(), true, &spares, usual).unwrap();
        let bytes = vec![7; GATHER_BYTES + 100];
        file.append(&bytes).unwrap();
        assert_eq!(file.length > 0, device.allocates_by_length());
        file.complete().unwrap();
        file.wait().unwrap();
        let path = device.temp_path(&file.name);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        drop(file);
        let file =
            TempFile::create(&disk, &device, &writers, Vec::new(), false, &spares, 0).unwrap();
        let path = device.temp_path(&file.name);
        file.hand_over();
        assert!(path.exists());
    }
}
