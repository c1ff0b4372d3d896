//! The worklist table: scheduled procedure steps, one row each, with the columns that `dicom.sql` names.

use crate::columns::Column;
use crate::heads::ParentHead;
use crate::index::{Index, WriteTxn};
use crate::index_error::IndexError;
use crate::row::put_column;

impl Index {
    /// The columns of the worklist that hold values, in stored order.
    pub fn worklist_columns(&self) -> impl Iterator<Item = &Column> {
        let columns = self.columns().worklist().iter();
        columns.filter(|column| !column.is_sequence_mark())
    }
}

impl WriteTxn<'_> {
    /// Adds an entry; `values` in the order of `Index::worklist_columns`, cut to the columns' widths.
    /// Answers its number.
    pub fn add_worklist(&mut self, values: &[Option<&[u8]>], now: u32) -> Result<u32, IndexError> {
        self.counters.worklist += 1;
        let number = self.counters.worklist;
        let head = ParentHead {
            layout: self.index.layout_number,
            accessed: now,
            ..ParentHead::default()
        };
        let mut row = Vec::with_capacity(256);
        head.put(&mut row);
        let index = self.index;
        for (at, column) in index.worklist_columns().enumerate() {
            let value = values.get(at).copied().flatten();
            let width = usize::from(column.length);
            put_column(&mut row, value.map(|v| v.get(..width).unwrap_or(v)));
        }
        let table = index.tables.worklist;
        table.put(&mut self.txn, &number.to_be_bytes(), &row)?;
        Ok(number)
    }

    /// Removes an entry; answers whether there was one.
    pub fn remove_worklist(&mut self, number: u32) -> Result<bool, IndexError> {
        let table = self.index.tables.worklist;
        Ok(table.delete(&mut self.txn, &number.to_be_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use crate::apply_tests::Fixture;

    #[test]
    fn entries_are_dumped_as_a_table() {
        let f = Fixture::new();
        let mut txn = f.index.write().unwrap();
        let long = [b'x'; 40];
        let number = txn
            .add_worklist(&[Some(&long), None, Some(b"A^B")], 100)
            .unwrap();
        txn.commit().unwrap();
        let rows = f.index.dump_table("DICOMWorkList").unwrap().unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0][0].1.as_deref().map(str::len), Some(16));
        assert_eq!(rows[0][1], ("PatientID".to_owned(), None));
        assert_eq!(rows[0].len(), 24 + 4);
        let mut txn = f.index.write().unwrap();
        assert!(txn.remove_worklist(number).unwrap());
        assert!(!txn.remove_worklist(number).unwrap());
    }
}
