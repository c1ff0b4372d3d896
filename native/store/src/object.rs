//! An object's header as a source of file names.

use std::borrow::Cow;
use std::fmt::Write;

use pyserver_proto::header::Header;
use pyserver_proto::path::Path;

use crate::filename::{ElementPath, ElementText};

impl ElementText for Header {
    fn text(&self, path: &ElementPath) -> Option<Vec<u8>> {
        let value = if path.anywhere {
            self.search(path.tag)?.text_bytes()
        } else if path.steps.is_empty() {
            self.text_bytes(path.tag)
        } else {
            self.path(&proto_path(path)?)?.text_bytes()
        };
        value.map(Cow::into_owned)
    }
}

fn proto_path(path: &ElementPath) -> Option<Path> {
    let mut text = String::new();
    for (tag, item) in &path.steps {
        write!(text, "{tag}.{item}/").ok()?;
    }
    write!(text, "{}", path.tag).ok()?;
    text.parse().ok()
}
