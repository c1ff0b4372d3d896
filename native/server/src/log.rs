//! Log lines leave native threads through a bounded queue; Python drains it and writes the files.
//!
//! A full queue drops lines and counts them: no peer can make the server wait for its log. What a
//! peer sent is escaped before it stands in a line.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed that an operator should see.
    Error = 0,
    /// Something odd that went on.
    Warning = 1,
    /// One line per association, store, query and retrieve.
    Info = 2,
    /// `DebugLevel` 1 and above.
    Debug = 3,
}

/// One line on its way to the log files.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// Seconds since 1970.
    pub time: f64,
    /// How much it matters.
    pub level: Level,
    /// Which association, empty for the server itself.
    pub association: String,
    /// What happened.
    pub text: String,
}

/// Lines kept while nobody drains (LIMIT: some 2 MB).
const QUEUE_LINES: usize = 16_384;

/// The queue and its verbosity.
pub struct Log {
    sender: Sender<LogLine>,
    receiver: Receiver<LogLine>,
    dropped: AtomicU64,
    debug_level: AtomicU8,
}

impl Default for Log {
    fn default() -> Self {
        let (sender, receiver) = bounded(QUEUE_LINES);
        Self {
            sender,
            receiver,
            dropped: AtomicU64::new(0),
            debug_level: AtomicU8::new(0),
        }
    }
}

impl Log {
    /// Sets `DebugLevel`.
    pub fn set_debug_level(&self, level: u8) {
        self.debug_level.store(level, Ordering::Relaxed);
    }

    /// Whether debug lines of this level are wanted.
    pub fn debugs(&self, level: u8) -> bool {
        self.debug_level.load(Ordering::Relaxed) >= level
    }

    /// Adds a line.
    pub fn line(&self, level: Level, association: &str, text: String) {
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |d| d.as_secs_f64());
        let line = LogLine {
            time,
            level,
            association: association.to_owned(),
            text,
        };
        if self.sender.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits up to `timeout` for a line, then takes what is there, at most `lines_max`.
    pub fn drain(&self, timeout: Duration, lines_max: usize) -> Vec<LogLine> {
        let mut lines = Vec::new();
        if let Ok(first) = self.receiver.recv_timeout(timeout) {
            lines.push(first);
            lines.extend(self.receiver.try_iter().take(lines_max.saturating_sub(1)));
        }
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.line(
                Level::Warning,
                "",
                format!("{dropped} log lines were dropped: queue full"),
            );
        }
        lines
    }
}

/// What a peer sent, made fit for one log line: control and non-ASCII bytes as `\xNN`, quotes and
/// backslashes escaped, at most 120 characters.
pub fn escaped(text: &[u8]) -> String {
    const CHARACTERS_MAX: usize = 120;
    let mut out = String::with_capacity(text.len().min(CHARACTERS_MAX));
    for &byte in text {
        if out.len() >= CHARACTERS_MAX {
            out.push_str("...");
            break;
        }
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'"' => out.push_str("\\\""),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_says_so() {
        let log = Log::default();
        for n in 0..QUEUE_LINES + 5 {
            log.line(Level::Info, "a1", n.to_string());
        }
        let lines = log.drain(Duration::ZERO, usize::MAX);
        assert_eq!(lines.len(), QUEUE_LINES);
        let next = log.drain(Duration::ZERO, 10);
        assert!(next[0].text.starts_with("5 log lines"));
    }

    #[test]
    fn what_a_peer_sent_cannot_break_a_line() {
        assert_eq!(escaped(b"A\"\\\n\xff"), "A\\\"\\\\\\x0a\\xff");
        assert!(escaped(&[b'x'; 500]).len() < 130);
    }
}
