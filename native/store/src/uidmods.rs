//! What identifiers were changed to, so that the same one is always changed alike and can be changed back.
//!
//! Key: old identifier, a zero byte, the stage. Value: Unix time u32, kind, new identifier, annotation.
//! Beside it the way back, key: byte 1, new identifier, a zero byte, the stage; value: old identifier.
//! And under byte 2 the start that generated UIDs have, a u64.

use crate::bytes::{Reader, put_var_bytes};
use crate::dump::{TableRow, latin1};
use crate::index::{ReadTxn, WriteTxn};
use crate::index_error::IndexError;

/// First field of a record that changes this table with an object.
const RECORD: &str = "uidmod";

/// Whether a record that is queued with an object changes this table and is no work.
pub fn is_uid_record(record: &[u8]) -> bool {
    UidMod::from_record(record).is_some()
}

/// One changed identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UidMod {
    /// Unix time of the change.
    pub time: u32,
    /// Identifier before.
    pub old: String,
    /// What made the change.
    pub kind: String,
    /// Identifier now.
    pub new: String,
    /// Keeps changes of different purposes apart.
    pub stage: String,
    /// A note.
    pub annotation: String,
}

impl UidMod {
    fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let zero = key.iter().position(|&b| b == 0)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let mut r = Reader::new(value);
        Some(Self {
            time: r.u32()?,
            kind: r.var_str()?.to_owned(),
            new: r.var_str()?.to_owned(),
            annotation: r.var_str()?.to_owned(),
            old: text(key.get(..zero)?)?,
            stage: text(key.get(zero + 1..)?)?,
        })
    }

    /// The change as a record that travels with an object: committed with it, not queued.
    pub fn record(&self) -> Vec<u8> {
        let time = self.time.to_string();
        [RECORD, &time, &self.old, &self.kind, &self.new, &self.stage]
            .join("\t")
            .into_bytes()
    }

    /// The change in such a record; `None` for queued work.
    pub(crate) fn from_record(record: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(record.strip_prefix(RECORD.as_bytes())?).ok()?;
        let mut fields = text.strip_prefix('\t')?.split('\t');
        let mut field = || fields.next().map(str::to_owned);
        Some(Self {
            time: field()?.parse().ok()?,
            old: field()?,
            kind: field()?,
            new: field()?,
            stage: field()?,
            annotation: String::new(),
        })
    }

    fn row(&self) -> TableRow {
        let time = self.time.to_string();
        [
            ("MODTime", &time),
            ("OldUID", &self.old),
            ("MODType", &self.kind),
            ("NewUID", &self.new),
            ("Stage", &self.stage),
            ("Annotation", &self.annotation),
        ]
        .map(|(name, value)| (name.to_owned(), Some(latin1(value.as_bytes()))))
        .into()
    }
}

/// First byte of the keys of the way back.
const BACK: u8 = 1;
/// Key of the last start of generated UIDs.
const START: [u8; 1] = [2];

fn back_key(new: &str, stage: &str) -> Vec<u8> {
    let mut key = vec![BACK];
    key.extend(self::key(new, stage));
    key
}

fn key(old: &str, stage: &str) -> Vec<u8> {
    [old.as_bytes(), stage.as_bytes()].join(&0)
}

impl ReadTxn<'_> {
    /// What an identifier was changed to in a stage.
    pub fn uid_mod(&self, old: &str, stage: &str) -> Result<Option<UidMod>, IndexError> {
        let key = key(old, stage);
        let value = self.index.tables.uidmods.get(&self.txn, &key)?;
        let found = value.map(|value| UidMod::decode(&key, value));
        found
            .map(|found| found.ok_or(IndexError::Corrupt("uidmods record")))
            .transpose()
    }

    /// What an identifier was before it was changed in a stage.
    pub fn original_uid(&self, new: &str, stage: &str) -> Result<Option<String>, IndexError> {
        let value = self
            .index
            .tables
            .uidmods
            .get(&self.txn, &back_key(new, stage))?;
        let text = value.map(|value| String::from_utf8(value.to_vec()));
        text.transpose()
            .map_err(|_| IndexError::Corrupt("uidmods record"))
    }

    pub(crate) fn dump_uid_mods(&self) -> Result<Vec<TableRow>, IndexError> {
        let mut rows = Vec::new();
        for item in self.index.tables.uidmods.iter(&self.txn)? {
            let (key, value) = item?;
            if key.first().is_some_and(|&first| first <= START[0]) {
                continue;
            }
            let record = UidMod::decode(key, value);
            rows.push(record.ok_or(IndexError::Corrupt("uidmods record"))?.row());
        }
        Ok(rows)
    }
}

impl WriteTxn<'_> {
    /// Remembers a changed identifier; the last one of an identifier and stage counts.
    pub fn put_uid_mod(&mut self, record: &UidMod) -> Result<(), IndexError> {
        let mut value = record.time.to_be_bytes().to_vec();
        for text in [&record.kind, &record.new, &record.annotation] {
            put_var_bytes(&mut value, text.as_bytes());
        }
        let key = key(&record.old, &record.stage);
        let table = self.index.tables.uidmods;
        table.put(&mut self.txn, &key, &value)?;
        let back = back_key(&record.new, &record.stage);
        table.put(&mut self.txn, &back, record.old.as_bytes())?;
        Ok(())
    }

    /// What an identifier was changed to in a stage.
    pub fn uid_mod(&self, old: &str, stage: &str) -> Result<Option<UidMod>, IndexError> {
        let key = key(old, stage);
        let value = self.index.tables.uidmods.get(&self.txn, &key)?;
        let found = value.map(|value| UidMod::decode(&key, value));
        found
            .map(|found| found.ok_or(IndexError::Corrupt("uidmods record")))
            .transpose()
    }

    /// A start for generated UIDs, later than every one before.
    pub fn reserve_uid_start(&mut self, now: u64) -> Result<u64, IndexError> {
        let table = self.index.tables.uidmods;
        let last = match table.get(&self.txn, &START)? {
            Some(value) => Reader::new(value)
                .u64()
                .ok_or(IndexError::Corrupt("uidmods start"))?,
            None => 0,
        };
        let start = now.max(last + 1);
        table.put(&mut self.txn, &START, &start.to_be_bytes())?;
        Ok(start)
    }
}

#[cfg(test)]
mod tests {
    use super::UidMod;
    use crate::apply_tests::Fixture;

    #[test]
    fn changed_identifiers_are_found_by_stage() {
        let f = Fixture::new();
        let record = UidMod {
            time: 5,
            old: "1.2".to_owned(),
            kind: "PATID".to_owned(),
            new: "9.9".to_owned(),
            stage: "a".to_owned(),
            annotation: String::new(),
        };
        let mut txn = f.index.write().unwrap();
        txn.put_uid_mod(&record).unwrap();
        txn.commit().unwrap();
        let txn = f.index.read().unwrap();
        assert_eq!(txn.uid_mod("1.2", "a").unwrap(), Some(record));
        assert_eq!(txn.uid_mod("1.2", "b").unwrap(), None);
        drop(txn);
        let rows = f.index.dump_table("UIDMODS").unwrap().unwrap();
        assert_eq!(rows[0][3], ("NewUID".to_owned(), Some("9.9".to_owned())));
    }
}
