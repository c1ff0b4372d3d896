//! A file in a device's private folder while its bytes arrive. Dropped before it is handed over, it leaves
//! no trace.
//!
//! Bytes are hashed on the way, gathered into large writes, and their write-out is started early so that the
//! final sync has little left to wait for.

use std::sync::Arc;

use crate::blob::{BlobFile, Disk};
use crate::device::Device;
use crate::error::StoreError;

/// Pieces at least this long are written from where they are.
const DIRECT_WRITE_BYTES: usize = 64 * 1024;
/// Shorter ones are gathered up to this.
const GATHER_BYTES: usize = 128 * 1024;
/// Write-out is started each time this much has been written.
const WRITE_BACK_BYTES: u64 = 256 * 1024;

/// The file.
pub(crate) struct TempFile {
    disk: Arc<dyn Disk>,
    device: Arc<Device>,
    /// Name in the private folder.
    pub name: String,
    blob: Option<BlobFile>,
    gathered: Vec<u8>,
    written: u64,
    write_back_from: u64,
    write_back: bool,
}

impl TempFile {
    /// Creates the file. `gathered` is a buffer to reuse; `write_back` starts write-out early.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        device: &Arc<Device>,
        mut gathered: Vec<u8>,
        write_back: bool,
    ) -> Result<Self, StoreError> {
        let name = device.temp_name();
        let path = device.temp_path(&name);
        let blob = disk
            .create(&path)
            .map_err(|e| StoreError::io("create", &path, e))?;
        gathered.clear();
        Ok(Self {
            disk: Arc::clone(disk),
            device: Arc::clone(device),
            name,
            blob: Some(blob),
            gathered,
            written: 0,
            write_back_from: 0,
            write_back,
        })
    }

    /// Appends bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.gathered.is_empty() && bytes.len() >= DIRECT_WRITE_BYTES {
            return self.write(bytes);
        }
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Hands everything to the system, and has it start on what is left.
    pub(crate) fn complete(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        self.start_write_back(1);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let gathered = std::mem::take(&mut self.gathered);
        let result = self.write(&gathered);
        self.gathered = gathered;
        self.gathered.clear();
        result
    }

    /// Starts write-out when at least so many bytes have not been started.
    fn start_write_back(&mut self, bytes_min: u64) {
        let Some(blob) = self.blob.as_ref().filter(|_| self.write_back) else {
            return;
        };
        let unstarted = self.written - self.write_back_from;
        if unstarted >= bytes_min {
            self.disk
                .start_write_back(blob, self.write_back_from, unstarted);
            self.write_back_from = self.written;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(blob) = &self.blob else {
            return Err(StoreError::Closed);
        };
        self.disk
            .write_at(blob, bytes, self.written)
            .map_err(|e| StoreError::io("write", &blob.path, e))?;
        self.written += bytes.len() as u64;
        self.device.take_room(bytes.len() as u64);
        self.start_write_back(WRITE_BACK_BYTES);
        Ok(())
    }

    /// Bytes handed to the system so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Waits until content and name survive a power cut.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let Some(blob) = &self.blob else {
            return Err(StoreError::Closed);
        };
        self.disk
            .sync(blob)
            .map_err(|e| StoreError::io("sync", &blob.path, e))?;
        if self.device.needs_folder_sync() {
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
        let mut expected = Vec::new();
        let mut file = TempFile::create(&disk, &device, Vec::new(), true).unwrap();
        for (n, size) in [10, 70_000, 100_000, 300_000, 1, 64 * 1024]
            .into_iter()
            .enumerate()
        {
            let piece = vec![n as u8; size];
            expected.extend_from_slice(&piece);
            file.append(&piece).unwrap();
        }
        file.complete().unwrap();
        file.sync().unwrap();
        assert_eq!(file.written(), expected.len() as u64);
        let path = device.temp_path(&file.name);
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        drop(file);
        assert!(!path.exists());
        let file = TempFile::create(&disk, &device, Vec::new(), false).unwrap();
        let path = device.temp_path(&file.name);
        file.hand_over();
        assert!(path.exists());
    }
}
