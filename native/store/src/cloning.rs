//! Cloning as the archive offers it: rows of another server's images, entered by the committer like a store.

use crate::archive::Archive;
use crate::clone_rows::{CloneOrigin, CloneReport, CloneSeries};
use crate::dump::TableRow;
use crate::error::StoreError;

impl Archive {
    /// All rows of a table (`Index::dump_table`), with the names that files of cloned images would get.
    pub fn dump_table(&self, name: &str) -> Result<Option<Vec<TableRow>>, StoreError> {
        self.flush()?;
        let config = self.config();
        Ok(self.index().dump_table_with(name, Some(&config))?)
    }

    /// Enters rows and waits until they are durable and can be found. Stores that come meanwhile wait for the
    /// end of this one transaction. Without an index the rows are accepted and dropped.
    pub fn enter_clones(
        &self,
        series: Vec<CloneSeries>,
        origin: CloneOrigin,
    ) -> Result<CloneReport, StoreError> {
        if self.keeps_nothing() {
            let images = series.iter().map(|one| one.images.len() as u64).sum();
            return Ok(CloneReport {
                added: images,
                ..CloneReport::default()
            });
        }
        self.shared
            .committer
            .change(move |txn| txn.enter_clones(&series, &origin))
    }
}
