//! `Instance`, an object that rules read and change, and `UidTable`, where changed UIDs are remembered.

use std::path::PathBuf;

use parking_lot::{Mutex, MutexGuard};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyserver_proto::dict;
use pyserver_proto::edit_path::EditPath;
use pyserver_proto::file::{MetaFields, encode_part10, probe};
use pyserver_proto::instance::{Found, Instance as NativeInstance};
use pyserver_proto::path::Path;
use pyserver_proto::scrub::Scrub;
use pyserver_proto::tag::Tag;
use pyserver_store::error::StoreError;
use pyserver_store::held::{Received, Sender};
use pyserver_store::uid_changes::{Except, UidChanges};

use crate::archive::PyArchive;
use crate::codecs::{PyCodecPool, wish};
use crate::errors::{self, NativeError};

/// A DICOM object: elements by path, changed in place, pixel data untouched.
#[pyclass(module = "pyserver._native", frozen)]
pub struct Instance {
    object: Mutex<Option<Received>>,
}

/// The object is with someone else.
fn gone() -> PyErr {
    NativeError::new_err("the object is not held any more")
}

fn value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> PyResult<T> {
    text.parse()
        .map_err(|error| value_error(format_args!("{text:?}: {error}")))
}

impl Instance {
    /// Holds it.
    pub fn new(object: Received) -> Self {
        Self {
            object: Mutex::new(Some(object)),
        }
    }

    /// Gives it away; every later use fails.
    pub fn take(&self) -> Option<Received> {
        self.object.lock().take()
    }

    /// Looks at it.
    pub fn with<T>(&self, look: impl FnOnce(&mut Received) -> PyResult<T>) -> PyResult<T> {
        let mut guard: MutexGuard<'_, Option<Received>> = self.object.lock();
        look(guard.as_mut().ok_or_else(gone)?)
    }

    /// Work that waits: the interpreter is given free meanwhile.
    pub fn detached<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Received) -> PyResult<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| self.with(work))
    }
}

fn text(found: Found<'_>) -> Option<String> {
    match found {
        Found::Nothing => None,
        Found::Sequence => Some("(sequence)".to_owned()),
        Found::Long => Some("(too long)".to_owned()),
        Found::Text(text) => Some(text.into_owned()),
    }
}

#[pymethods]
impl Instance {
    /// The object in a DICOM file.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let object = py.detach(|| Received::open(&path));
        object.map(Self::new).map_err(|error| errors::store(&error))
    }

    /// The text at a path; None when there is no such element.
    fn get(&self, path: &str) -> PyResult<Option<String>> {
        let path: Path = parsed(path)?;
        self.with(|object| Ok(text(object.instance.get(&path))))
    }

    /// The text of the first element with this tag at any depth.
    fn search(&self, tag: &str) -> PyResult<Option<String>> {
        let tag: Tag = parsed(tag)?;
        self.with(|object| Ok(text(object.instance.search(tag))))
    }

    /// Set the element at a path; sequences and items on the way are made.
    fn set(&self, path: &str, value: &str) -> PyResult<()> {
        let path: EditPath = parsed(path)?;
        self.with(|object| object.instance.set(&path, value).map_err(value_error))
    }

    /// Remove the element at a path, if there is one.
    fn delete(&self, path: &str) -> PyResult<()> {
        let path: EditPath = parsed(path)?;
        self.with(|object| object.instance.delete(&path).map_err(value_error))
    }

    /// Remove (`-LIST`) or keep (`+LIST`) top-level elements by VR, group, tag or `Private`.
    fn scrub(&self, list: &str) -> PyResult<()> {
        let list: Scrub = parsed(list)?;
        self.with(|object| object.instance.scrub(&list).map_err(value_error))
    }

    /// UID of the transfer syntax.
    #[getter]
    fn transfer_syntax(&self) -> PyResult<String> {
        self.with(|object| Ok(object.instance.syntax().uid().as_str().to_owned()))
    }

    /// The path that the object would be stored under now.
    fn predicted_path(
        &self,
        archive: &PyArchive,
        calling_ae: &str,
        called_ae: &str,
    ) -> PyResult<PathBuf> {
        let archive = archive.open()?;
        self.with(|object| {
            let sender = Sender {
                calling_ae,
                called_ae,
                durability: None,
            };
            archive
                .predicted_path(object, sender)
                .map_err(|error| errors::store(&error))
        })
    }

    /// Whether anything was changed.
    #[getter]
    fn changed(&self) -> PyResult<bool> {
        self.with(|object| Ok(object.instance.is_changed()))
    }

    /// Write a DICOM file, whole and durable on return.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        self.detached(py, |object| {
            object.save(&path).map_err(|error| errors::store(&error))
        })
    }

    /// The bytes of a DICOM file of the object as it is now.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.detached(py, |object| {
            let instance = &object.instance;
            let mut bytes = encode_part10(&MetaFields {
                sop_class_uid: instance.uid(Tag::SOP_CLASS_UID).as_bytes(),
                sop_instance_uid: instance.uid(Tag::SOP_INSTANCE_UID).as_bytes(),
                transfer_syntax: instance.syntax(),
            });
            bytes.extend(object.dataset().map_err(|error| errors::store(&error))?);
            Ok(bytes)
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Put it into a compression mode or transfer syntax; whether that changed it.
    #[pyo3(signature = (codecs, mode="", syntax="", quality=95))]
    fn recompress(
        &self,
        py: Python<'_>,
        codecs: &PyCodecPool,
        mode: &str,
        syntax: &str,
        quality: u8,
    ) -> PyResult<bool> {
        let wish = wish(mode, syntax, quality)?;
        let pool = codecs.pool();
        self.detached(py, |object| {
            let new = object.recompressed(&pool, &wish);
            let new = new.map_err(|error| errors::store(&error))?;
            Ok(match new {
                Some(new) => {
                    *object = new;
                    true
                }
                None => false,
            })
        })
    }

    /// Another object of its own, with the changes made so far.
    fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        self.detached(py, |object| {
            let bytes = object.dataset().map_err(|error| errors::store(&error))?;
            let copied = Received::from_dataset(bytes, object.instance.syntax());
            copied.map(Self::new).map_err(|error| errors::store(&error))
        })
    }

    /// Put the object of another DICOM file, given as bytes, in place of this one.
    fn replace(&self, py: Python<'_>, file: Vec<u8>) -> PyResult<()> {
        self.detached(py, |object| {
            let layout = probe(&file)
                .map_err(value_error)?
                .ok_or_else(|| value_error("not a DICOM file"))?;
            let start = usize::try_from(layout.dataset_offset).unwrap_or(usize::MAX);
            let dataset = file.get(start..).unwrap_or_default().to_vec();
            let new = Received::from_dataset(dataset, layout.syntax);
            *object = new.map_err(|error| errors::store(&error))?;
            Ok(())
        })
    }
}

/// What UIDs were changed to (table UIDMODS), and UIDs that nobody has.
#[pyclass(module = "pyserver._native", frozen)]
pub struct UidTable {
    changes: UidChanges,
    prefix: String,
}

#[pymethods]
impl UidTable {
    /// The table of an archive; new UIDs begin with `prefix`.
    #[new]
    fn new(archive: &PyArchive, prefix: String) -> PyResult<Self> {
        let archive = archive.open()?;
        Ok(Self {
            changes: UidChanges::new(&archive),
            prefix,
        })
    }

    /// A UID that was never given out.
    fn fresh(&self, py: Python<'_>) -> PyResult<String> {
        py.detach(|| self.changes.fresh(&self.prefix, 6))
            .map_err(|error| errors::store(&error))
    }

    /// What a UID becomes in a stage, always the same.
    #[pyo3(signature = (uid, stage="", kind=""))]
    fn changed(&self, py: Python<'_>, uid: &str, stage: &str, kind: &str) -> PyResult<String> {
        let uids = [uid.to_owned()];
        let new = py
            .detach(|| self.changes.changed(&self.prefix, &uids, stage, kind))
            .map_err(|error| errors::store(&error))?;
        Ok(new.into_values().next().unwrap_or_default())
    }

    /// What a UID was before it was changed in a stage; None for one that was not.
    #[pyo3(signature = (uid, stage=""))]
    fn original(&self, py: Python<'_>, uid: &str, stage: &str) -> PyResult<Option<String>> {
        py.detach(|| self.changes.original(uid, stage))
            .map_err(|error| errors::store(&error))
    }

    /// Change the UIDs of an object, sequences included; how many values changed.
    fn change(
        &self,
        py: Python<'_>,
        instance: &Instance,
        stage: &str,
        except_tags: Vec<String>,
        except_uids: Vec<String>,
    ) -> PyResult<usize> {
        let except = except(&except_tags, except_uids)?;
        edit(py, instance, |object| {
            self.changes.change(object, &self.prefix, stage, &except)
        })
    }

    /// The same without a commit: the records that come back must be queued with the object, or given to
    /// `commit` before anyone sees it.
    fn change_with(
        &self,
        py: Python<'_>,
        instance: &Instance,
        stage: &str,
        except_tags: Vec<String>,
        except_uids: Vec<String>,
    ) -> PyResult<Vec<Vec<u8>>> {
        let except = except(&except_tags, except_uids)?;
        let changed = edit(py, instance, |object| {
            let changes = &self.changes;
            changes.change_with(object, &self.prefix, stage, &except)
        });
        changed.map(|(_, records)| records)
    }

    /// Make changes durable that `change_with` gave out.
    fn commit(&self, py: Python<'_>, records: Vec<Vec<u8>>) -> PyResult<()> {
        py.detach(|| self.changes.commit_records(&records))
            .map_err(|error| errors::store(&error))
    }

    /// Give an object the UIDs back that it had; how many values changed.
    fn change_back(
        &self,
        py: Python<'_>,
        instance: &Instance,
        stage: &str,
        except_tags: Vec<String>,
        except_uids: Vec<String>,
    ) -> PyResult<usize> {
        let except = except(&except_tags, except_uids)?;
        edit(py, instance, |object| {
            self.changes.change_back(object, stage, &except)
        })
    }
}

/// Changes an object while Python does other things.
fn edit<T: Send>(
    py: Python<'_>,
    instance: &Instance,
    change: impl FnOnce(&mut NativeInstance) -> Result<T, StoreError> + Send,
) -> PyResult<T> {
    instance.detached(py, |received| {
        change(&mut received.instance).map_err(|error| errors::store(&error))
    })
}

fn except(tags: &[String], uids: Vec<String>) -> PyResult<Except> {
    let tags = tags.iter().map(|tag| parsed(tag));
    Ok(Except {
        tags: tags.collect::<PyResult<_>>()?,
        uids,
    })
}

/// The element that a keyword or a written tag names, as `gggg,eeee`; None when it names none.
#[pyfunction]
pub fn find_tag(name: &str) -> Option<String> {
    let tag = name.parse().ok().or_else(|| dict::tag_by_keyword(name));
    tag.map(|tag: Tag| tag.to_string())
}
