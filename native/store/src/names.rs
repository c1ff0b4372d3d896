//! Which name an object's file gets: two objects never share one.
//!
//! A re-store keeps its old name unless its extension changes, it moves to another device or the site wants
//! new names. A new object gets the name its syntax gives; when that is taken, the image number, which is
//! never used twice, keeps the two apart.

use crate::apply::{BlobFacts, ReplacedFile, Standing};
use crate::heads::ImageRow;
use crate::index::{ReadTxn, WriteTxn};
use crate::index_error::IndexError;
use crate::pending::PendingId;
use crate::schema::{FILE_BEING_REMOVED, ImageKey, Level, file_key, orphan_key, tomb_key};
use crate::virtual_device::is_virtual;

/// The chosen name.
pub(crate) struct ChosenName {
    pub file: String,
    pub follows: Option<PendingId>,
    pub overwrites: bool,
    pub replaced: Option<ReplacedFile>,
}

/// Whether a name that has an owner can be taken.
enum Takeover {
    /// It belongs to someone.
    No,
    /// It is free.
    Free,
    /// It is free, but this unsettled store must have finished with the file first.
    After(PendingId),
}

/// How often a name is varied before giving up; each try is one lookup.
const TRIES_MAX: u32 = 1000;

impl WriteTxn<'_> {
    /// Chooses the final name of an image's file and enters it into `files`.
    pub(crate) fn choose_file(
        &mut self,
        image: ImageKey,
        old_row: Option<&[u8]>,
        blob: &BlobFacts<'_>,
    ) -> Result<ChosenName, IndexError> {
        let Some(old_row) = old_row else {
            return self.free_name(image, blob, None);
        };
        let row = ImageRow::split(old_row)?;
        let old = row.facts()?;
        if is_virtual(old.device) {
            return self.free_name(image, blob, None);
        }
        let candidate = blob.file_candidate;
        let same_kind = extension(old.file) == extension(candidate) && !blob.rename_on_rewrite;
        if old.device == blob.device && (same_kind || old.file == candidate) {
            return Ok(ChosenName {
                file: old.file.to_owned(),
                follows: self.unsettled(row.head.pending)?,
                overwrites: true,
                replaced: None,
            });
        }
        let replaced = ReplacedFile {
            device: old.device,
            file: old.file.to_owned(),
        };
        self.free_name(image, blob, Some(replaced))
    }

    /// Varies the candidate until nothing stands there.
    fn free_name(
        &mut self,
        image: ImageKey,
        blob: &BlobFacts<'_>,
        replaced: Option<ReplacedFile>,
    ) -> Result<ChosenName, IndexError> {
        let files = self.index.tables.files;
        for attempt in 0..TRIES_MAX {
            let file = varied(blob.file_candidate, image.image, attempt);
            let key = file_key(blob.device, &file);
            let owner = self.file_owner(blob.device, &file)?;
            let follows = match owner {
                None if attempt == 0 && blob.standing == Standing::Other => continue,
                None => None,
                Some(owner) => match self.takeover(image, owner)? {
                    Takeover::No => continue,
                    Takeover::Free => None,
                    Takeover::After(pending) => Some(pending),
                },
            };
            files.put(&mut self.txn, &key, &image.encode())?;
            let same = |old: &ReplacedFile| (old.device, &old.file) == (blob.device, &file);
            return Ok(ChosenName {
                follows,
                overwrites: owner.is_some(),
                replaced: replaced.filter(|old| !same(old)),
                file,
            });
        }
        Err(IndexError::Corrupt("no free file name"))
    }

    /// The image that a name belongs to, `FILE_BEING_REMOVED` included.
    pub(crate) fn file_owner(
        &self,
        device: u16,
        file: &str,
    ) -> Result<Option<ImageKey>, IndexError> {
        let owner = self
            .index
            .tables
            .files
            .get(&self.txn, &file_key(device, file))?;
        owner
            .map(|owner| ImageKey::decode(owner).ok_or(IndexError::Corrupt("file owner")))
            .transpose()
    }

    /// Whether `image` may take a name that `owner` has: its own always, a deleted image's when nothing
    /// has begun to remove the file.
    fn takeover(&mut self, image: ImageKey, owner: ImageKey) -> Result<Takeover, IndexError> {
        if owner == FILE_BEING_REMOVED {
            return Ok(Takeover::No);
        }
        let live = owner != image && self.parent_is_live(Level::Series, owner.series)?;
        let tables = &self.index.tables;
        let row = match tables.images.get(&self.txn, &owner.encode())? {
            Some(_) if live => return Ok(Takeover::No),
            Some(row) => row,
            // A deleted image whose row waits for the reaper.
            None => match tables
                .tombs
                .get(&self.txn, &tomb_key(Level::Image, owner.image))?
            {
                Some(tomb) => tomb.get(4..).unwrap_or_default(),
                None => return Ok(Takeover::No),
            },
        };
        let pending = ImageRow::split(row)?.head.pending;
        Ok(self
            .unsettled(pending)?
            .map_or(Takeover::Free, Takeover::After))
    }

    fn unsettled(&self, pending: u64) -> Result<Option<PendingId>, IndexError> {
        Ok(self.is_pending(pending)?.then_some(PendingId(pending)))
    }

    /// Marks a file to be unlinked, when its name still belongs to this image.
    pub(crate) fn orphan_if_owned(
        &mut self,
        image: ImageKey,
        file: &ReplacedFile,
    ) -> Result<bool, IndexError> {
        let tables = self.index.tables;
        let key = file_key(file.device, &file.file);
        if tables.files.get(&self.txn, &key)? != Some(image.encode().as_slice()) {
            return Ok(false);
        }
        tables
            .files
            .put(&mut self.txn, &key, &FILE_BEING_REMOVED.encode())?;
        let orphan = orphan_key(file.device, &file.file);
        tables
            .orphans
            .put(&mut self.txn, &orphan, file.file.as_bytes())?;
        Ok(true)
    }

    /// A file that waited to be unlinked is gone: its name is free again.
    pub fn file_removed(&mut self, file: &ReplacedFile) -> Result<(), IndexError> {
        let tables = self.index.tables;
        let key = file_key(file.device, &file.file);
        let orphan = orphan_key(file.device, &file.file);
        tables.orphans.delete(&mut self.txn, &orphan)?;
        let owner = tables.files.get(&self.txn, &key)?;
        if owner == Some(FILE_BEING_REMOVED.encode().as_slice()) {
            tables.files.delete(&mut self.txn, &key)?;
        }
        Ok(())
    }
}

impl ReadTxn<'_> {
    /// Whether a file belongs to an image, or waits to be unlinked.
    pub fn file_is_named(&self, device: u16, file: &str) -> Result<bool, IndexError> {
        let files = self.index.tables.files;
        Ok(files.get(&self.txn, &file_key(device, file))?.is_some())
    }

    /// Whether a file is that of a deleted image, or one a re-store left behind, and waits to be unlinked.
    pub fn file_is_dead(&self, device: u16, file: &str) -> Result<bool, IndexError> {
        Ok(self.file_is_named(device, file)? && self.owner_of_file(device, file)?.is_none())
    }
}

/// What follows the last period of the name.
fn extension(path: &str) -> &str {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

/// The candidate, or the candidate with the image's number before its extension.
fn varied(candidate: &str, image: u64, attempt: u32) -> String {
    if attempt == 0 {
        return candidate.to_owned();
    }
    let suffix = match attempt {
        1 => format!("_{image:x}"),
        n => format!("_{image:x}_{n}"),
    };
    let name_at = candidate.rfind('/').map_or(0, |at| at + 1);
    match candidate.get(name_at..).and_then(|name| name.rfind('.')) {
        Some(dot) if dot > 0 => {
            let (stem, extension) = candidate.split_at(name_at + dot);
            format!("{stem}{suffix}{extension}")
        }
        _ => format!("{candidate}{suffix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_stand_before_the_extension() {
        assert_eq!(varied("a.b/c.dcm", 255, 0), "a.b/c.dcm");
        assert_eq!(varied("a.b/c.dcm", 255, 1), "a.b/c_ff.dcm");
        assert_eq!(varied("a.b/c", 255, 2), "a.b/c_ff_2");
        assert_eq!(varied(".hidden", 1, 1), ".hidden_1");
        assert_eq!(extension("a.b/c"), "");
        assert_eq!(extension("a/c.v2"), "v2");
    }
}
