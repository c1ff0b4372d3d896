//! Rules that see the files of a rebuild: what is entered of them, and those that were refused.

use std::path::Path;

use crate::held::Received;

/// Why rules see a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is about to be entered.
    File,
    /// It was not taken.
    Refused,
}

/// Asks about a file: the object to enter, `None` for one that is to stay out, or why a rule failed.
pub type Ask = Box<dyn Fn(Seen, Received, &Path) -> Result<Option<Received>, String> + Send + Sync>;

/// A site's rules for rebuilds.
pub struct RegenRules {
    /// Whether they see each file.
    pub sees_files: bool,
    /// Whether they see refused files.
    pub sees_failures: bool,
    /// Asks them.
    pub ask: Ask,
}
