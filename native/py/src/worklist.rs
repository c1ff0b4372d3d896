//! `Worklist`: the scheduled procedure steps of an archive.

use std::collections::{BTreeMap, HashMap};

use pyo3::prelude::*;
use pyserver_proto::dict;
use pyserver_proto::tag::Tag;
use pyserver_store::worklist::{Entry, Exact};

use crate::archive::PyArchive;
use crate::errors::{self, config};

/// Elements and their texts.
type Values = HashMap<String, String>;

/// Entries by element: in the index, or in the database where there is one.
#[pyclass(module = "pyserver._native", frozen)]
pub struct Worklist {
    archive: Py<PyArchive>,
}

#[pymethods]
impl Worklist {
    /// The worklist of an archive.
    #[new]
    fn new(archive: Py<PyArchive>) -> Self {
        Self { archive }
    }

    /// Entries with exactly these values.
    #[pyo3(signature = (keys=HashMap::new()))]
    fn entries(&self, py: Python<'_>, keys: Values) -> PyResult<Vec<BTreeMap<String, String>>> {
        let archive = self.archive.get().open()?;
        let exact = exact(keys)?;
        let found = py.detach(|| archive.worklist_entries(&exact));
        let texts = |entry: Entry| {
            let values = entry.values().iter();
            values
                .map(|(tag, text)| (tag.to_string(), text.clone()))
                .collect()
        };
        let found = found.map_err(|error| errors::store(&error))?;
        Ok(found.into_iter().map(texts).collect())
    }

    /// Take out the entries with the values of one of `removed`, then add others: all or nothing. How many
    /// went.
    fn change(&self, py: Python<'_>, removed: Vec<Values>, added: Vec<Values>) -> PyResult<u64> {
        let archive = self.archive.get().open()?;
        let removed = removed.into_iter().map(exact).collect::<PyResult<_>>()?;
        let entry = |values: Values| {
            let mut entry = Entry::default();
            for (tag, text) in exact(values)? {
                entry.put(tag, text);
            }
            Ok(entry)
        };
        let added = added.into_iter().map(entry).collect::<PyResult<_>>()?;
        py.detach(|| archive.change_worklist(removed, added))
            .map_err(|error| errors::store(&error))
    }
}

fn exact(values: Values) -> PyResult<Exact> {
    let tag = |name: &str| -> PyResult<Tag> {
        let tag = name.parse().ok().or_else(|| dict::tag_by_keyword(name));
        tag.ok_or_else(|| config(format!("there is no element {name}")))
    };
    let values = values.into_iter();
    values.map(|(name, text)| Ok((tag(&name)?, text))).collect()
}
