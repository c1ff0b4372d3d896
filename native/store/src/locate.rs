//! Finding the files of images: for retrieves, for checks of the archive and by identifier.

use std::ops::ControlFlow;

use crate::content_hash::ContentHash;
use crate::find::{FindCursor, FindProgress};
use crate::heads::ImageRow;
use crate::index::ReadTxn;
use crate::index_error::IndexError;
use crate::layout::Layout;
use crate::pending::PendingId;
use crate::plan::BoundQuery;
use crate::row::column;
use crate::schema::{ImageKey, Level};
use pyserver_proto::tag::Tag;

/// Everything needed to send an image or to check its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Place of its row.
    pub image: ImageKey,
    /// SOP Class UID.
    pub sop_class: String,
    /// SOP Instance UID.
    pub sop_instance: String,
    /// Device of the file.
    pub device: u16,
    /// Path below the device.
    pub file: String,
    /// Transfer syntax of the data set in the file.
    pub transfer_syntax: String,
    /// Size of the whole file.
    pub file_bytes: u64,
    /// Where the data set begins.
    pub dataset_offset: u32,
    /// Hash of the data set.
    pub hash: ContentHash,
    /// Pixel data and frame offsets, as given when it was stored.
    pub pixel: Vec<u8>,
    /// The store that wrote the row; while it is unsettled the file may still be on its way.
    pub stored_by: PendingId,
}

impl Located {
    fn of(layout: &Layout, image: ImageKey, row: &ImageRow<'_>) -> Result<Self, IndexError> {
        let facts = row.facts()?;
        let text = |tag| {
            let position = layout.position(Level::Image, tag);
            let value = position.and_then(|p| column(row.columns, p));
            String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
        };
        Ok(Self {
            image,
            sop_class: text(Tag::SOP_CLASS_UID),
            sop_instance: text(Tag::SOP_INSTANCE_UID),
            device: facts.device,
            file: facts.file.to_owned(),
            transfer_syntax: facts.transfer_syntax.to_owned(),
            file_bytes: facts.file_bytes,
            dataset_offset: facts.dataset_offset,
            hash: facts.hash,
            pixel: facts.pixel.to_vec(),
            stored_by: PendingId(row.head.pending),
        })
    }
}

impl ReadTxn<'_> {
    /// The next images of a query bound with `bind_retrieve` or `all_images`, at most `limit`.
    pub fn locate(
        &self,
        query: &BoundQuery,
        cursor: &mut FindCursor,
        limit: usize,
    ) -> Result<(Vec<Located>, FindProgress), IndexError> {
        let mut found = Vec::new();
        let mut failed = None;
        let layout = self.index.layout();
        let progress = self.find(query, cursor, limit, &mut |row| {
            match Located::of(layout, row.image(), row.image_row()) {
                Ok(located) => found.push(located),
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        match failed {
            Some(error) => Err(error),
            None => Ok((found, progress)),
        }
    }

    /// The image with this SOP Instance UID.
    pub fn locate_sop(&self, sop_instance: &[u8]) -> Result<Option<Located>, IndexError> {
        let Some(image) = self.find_image(sop_instance)? else {
            return Ok(None);
        };
        self.locate_image(image)
    }

    /// The image at this place.
    pub fn locate_image(&self, image: ImageKey) -> Result<Option<Located>, IndexError> {
        let row = self.index.tables.images.get(&self.txn, &image.encode())?;
        let layout = self.index.layout();
        row.map(|row| Located::of(layout, image, &ImageRow::split(row)?))
            .transpose()
    }

    /// The live image that a file belongs to; `None` for files the index does not know.
    pub fn owner_of_file(&self, device: u16, path: &str) -> Result<Option<Located>, IndexError> {
        let key = crate::schema::file_key(device, path);
        let Some(owner) = self.index.tables.files.get(&self.txn, &key)? else {
            return Ok(None);
        };
        let owner = ImageKey::decode(owner).ok_or(IndexError::Corrupt("file owner"))?;
        if !self.is_live(Level::Series, owner.series)? {
            return Ok(None);
        }
        let located = self.locate_image(owner)?;
        Ok(located.filter(|l| (l.device, l.file.as_str()) == (device, path)))
    }
}
