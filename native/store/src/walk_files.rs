//! Lists the files of a device in a fixed order, without following links, one folder at a time in memory.

use std::cmp::Ordering;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::device::TEMP_FOLDER;
use crate::error::StoreError;
use crate::filename::name_of_disk;

/// Drop folder on the first device: its files are not objects of the archive yet.
pub(crate) const INCOMING_FOLDER: &str = "incoming";

/// The files below a folder of a device, by path components.
pub(crate) struct DeviceFiles {
    root: PathBuf,
    /// What is still to visit, the next one last.
    todo: Vec<PathBuf>,
    /// Names at the top that are left out.
    left_out: Vec<&'static str>,
}

impl DeviceFiles {
    /// Files of device `number` below `folder` (relative, empty for all).
    pub(crate) fn new(number: u16, root: &Path, folder: &Path) -> Self {
        let mut left_out = vec![TEMP_FOLDER];
        if number == 0 {
            left_out.push(INCOMING_FOLDER);
        }
        Self {
            root: root.to_path_buf(),
            todo: vec![root.join(folder)],
            left_out,
        }
    }

    fn visit(&mut self, folder: &Path) -> Result<(), StoreError> {
        let error = |e| StoreError::io("list", folder, e);
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            // Freed meanwhile.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(error(e)),
        };
        let mut names: Vec<OsString> = Vec::new();
        for entry in entries {
            names.push(entry.map_err(error)?.file_name());
        }
        if folder == self.root {
            names.retain(|name| !self.left_out.iter().any(|out| name == out));
        }
        names.sort_unstable_by(|a, b| b.as_bytes().cmp(a.as_bytes()));
        self.todo
            .extend(names.into_iter().map(|name| folder.join(name)));
        Ok(())
    }
}

impl Iterator for DeviceFiles {
    /// The name on the device, and the path.
    type Item = Result<(String, PathBuf), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(path) = self.todo.pop() {
            let Ok(facts) = path.symlink_metadata() else {
                continue;
            };
            if facts.is_dir() {
                if let Err(error) = self.visit(&path) {
                    return Some(Err(error));
                }
            } else if facts.is_file() {
                let name = path.strip_prefix(&self.root).unwrap_or(&path);
                return Some(Ok((name_of_disk(name.as_os_str().as_bytes()), path)));
            }
        }
        None
    }
}

/// The order in which [`DeviceFiles`] gives names.
pub(crate) fn order(a: &str, b: &str) -> Ordering {
    a.split('/').cmp(b.split('/'))
}

/// A path given by a person, made relative to a device's folder.
pub(crate) fn relative_to(root: &Path, path: &Path) -> Option<PathBuf> {
    let full = if path.is_absolute() {
        path.canonicalize().ok()?
    } else {
        root.join(path).canonicalize().ok()?
    };
    let bytes = full
        .strip_prefix(root)
        .ok()?
        .as_os_str()
        .as_bytes()
        .to_vec();
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let names = [
            "b.dcm",
            "a/2",
            "a/1/x",
            "a/1/y",
            "a-b/c",
            "incoming/z",
            ".pyserver-tmp/t",
            "e/incoming/q",
        ];
        for name in names {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        std::os::unix::fs::symlink("/", root.join("link")).unwrap();
        let list = |number, below: &str| -> Vec<String> {
            DeviceFiles::new(number, root, Path::new(below))
                .map(|file| file.unwrap().0)
                .collect()
        };
        let all = list(0, "");
        assert_eq!(
            all,
            ["a/1/x", "a/1/y", "a/2", "a-b/c", "b.dcm", "e/incoming/q"]
        );
        assert!(
            all.windows(2)
                .all(|pair| order(&pair[0], &pair[1]) == Ordering::Less)
        );
        assert_eq!(list(0, "a"), ["a/1/x", "a/1/y", "a/2"]);
        assert_eq!(list(1, "").len(), 7);
        assert_eq!(list(0, "none"), Vec::<String>::new());
        let root = root.canonicalize().unwrap();
        assert_eq!(
            relative_to(&root, Path::new("a/1")),
            Some(PathBuf::from("a/1"))
        );
        assert_eq!(
            relative_to(&root, &root.join("a/2")),
            Some(PathBuf::from("a/2"))
        );
        assert_eq!(relative_to(&root, Path::new("..")), None);
    }
}
