//! Command line options as `--name value` pairs.
//!
//! An option that a command never asks for is an error: a mistyped `--asociations 8` must not
//! become a figure for one association.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// The options of one run.
pub struct Args {
    values: BTreeMap<String, String>,
    asked: RefCell<BTreeSet<String>>,
}

impl Args {
    /// Reads `--name value` pairs.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut values = BTreeMap::new();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else {
                return Err(Error::new(format!("expected --option, found {word}")));
            };
            let Some(value) = words.next() else {
                return Err(Error::new(format!("--{name} needs a value")));
            };
            values.insert(name.to_owned(), value);
        }
        Ok(Self {
            values,
            asked: RefCell::new(BTreeSet::new()),
        })
    }

    /// The text of an option, if given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.asked.borrow_mut().insert(name.to_owned());
        self.values.get(name).map(String::as_str)
    }

    /// A parsed option or its default.
    pub fn or<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        match self.text(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| Error::new(format!("--{name} {text}: not understood"))),
        }
    }

    /// A parsed option that must be given.
    pub fn need<T: FromStr>(&self, name: &str) -> Result<T> {
        let text = self
            .text(name)
            .ok_or_else(|| Error::new(format!("--{name} is needed")))?;
        text.parse()
            .map_err(|_| Error::new(format!("--{name} {text}: not understood")))
    }

    /// A duration in seconds, if given.
    pub fn seconds(&self, name: &str) -> Result<Option<Duration>> {
        let seconds: f64 = self.or(name, 0.0)?;
        Duration::try_from_secs_f64(seconds)
            .map(|duration| (!duration.is_zero()).then_some(duration))
            .map_err(|_| Error::new(format!("--{name} {seconds}: not a duration")))
    }

    /// Fails when an option was given that nothing has asked for so far. Call it after the last
    /// option was read and before any traffic.
    pub fn finish(&self) -> Result<()> {
        let asked = self.asked.borrow();
        match self.values.keys().find(|name| !asked.contains(*name)) {
            Some(name) => Err(Error::new(format!("this command has no option --{name}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Args;

    fn args(words: &[&str]) -> Args {
        Args::parse(words.iter().map(|word| (*word).to_owned())).unwrap()
    }

    #[test]
    fn values_are_parsed_and_defaulted() {
        let args = args(&["--port", "104", "--called", "X"]);
        assert_eq!(args.need::<u16>("port").unwrap(), 104);
        assert_eq!(args.or("count", 7_u32).unwrap(), 7);
        assert_eq!(args.text("called"), Some("X"));
        assert!(args.finish().is_ok());
    }

    #[test]
    fn a_mistyped_option_is_refused() {
        let args = args(&["--prot", "104"]);
        assert!(args.need::<u16>("port").is_err());
        assert!(args.finish().is_err());
    }

    #[test]
    fn a_value_is_required() {
        assert!(Args::parse(["--port".to_owned()].into_iter()).is_err());
        assert!(Args::parse(["port".to_owned()].into_iter()).is_err());
    }
}
