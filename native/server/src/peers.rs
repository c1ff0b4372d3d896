//! acrnema.map: which AE title lives where, and who counts as known.
//!
//! Manual section 7.4: AE, host and port may end in `*`; the part of the caller's title that the
//! AE's `*` stands for is copied into the host's and the port's. The first line that fits wins.

use std::collections::HashMap;
use std::net::IpAddr;

use pyserver_proto::uid::Uid;
use pyserver_store::codec_pool::Wish;
use pyserver_store::mode_text::ModeText;

/// One line of acrnema.map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEntry {
    /// AE title, perhaps ending in `*`.
    pub ae: String,
    /// Host name or address, perhaps ending in `*`.
    pub host: String,
    /// Port, perhaps ending in `*`.
    pub port: String,
    /// What to propose when sending to it (fourth column).
    pub compression: Compression,
}

/// The fourth column of acrnema.map, as transfer syntaxes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    /// Those that the peer is to get, most wanted first; empty: as stored, else uncompressed.
    pub syntaxes: Vec<Uid>,
    /// Whether it gets no others (`j2!`).
    pub only: bool,
    /// Quality of a lossy mode, 1 to 100; 0: that of `LossyQuality`.
    pub quality: u8,
    /// A mode without a transfer syntax, NKI or a smaller image, that objects go through first; or empty.
    pub mode: String,
}

impl Compression {
    /// What a mode with its number and mark (`j2!`, `j490`) stands for; `None`: there is no such mode.
    pub fn of_mode(modes: &HashMap<String, Self>, text: &str) -> Option<Self> {
        let ModeText {
            name,
            quality,
            only,
        } = ModeText::parse(text)?;
        let found = modes.get(&name)?.clone();
        Some(Self {
            only,
            quality: quality.unwrap_or(found.quality),
            ..found
        })
    }

    /// The quality of a lossy mode where `otherwise` is the site's.
    pub fn quality_or(&self, otherwise: u8) -> u8 {
        if self.quality == 0 {
            otherwise
        } else {
            self.quality
        }
    }

    /// What a codec is to do first.
    pub fn first(&self) -> Option<Wish> {
        (!self.mode.is_empty()).then(|| Wish::Mode {
            name: self.mode.clone(),
            quality: self.quality,
        })
    }
}

/// A peer one can connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// AE title to call.
    pub ae: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Compression column of its line.
    pub compression: Compression,
}

/// The whole map, in file order.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    entries: Vec<PeerEntry>,
}

impl Peers {
    /// Takes the lines in file order.
    pub fn new(entries: Vec<PeerEntry>) -> Self {
        Self { entries }
    }

    /// Where `ae` is reached, or `None` when no line fits or its port is no number.
    pub fn destination(&self, ae: &str) -> Option<Destination> {
        self.entries.iter().find_map(|entry| {
            let rest = star_rest(&entry.ae, ae)?;
            let port = fill_star(&entry.port, rest).parse().ok()?;
            let host = fill_star(&entry.host, rest);
            let compression = entry.compression.clone();
            Some(Destination {
                ae: ae.to_owned(),
                host,
                port,
                compression,
            })
        })
    }

    /// Whether a caller is one of ours: its title fits a line, and a line that names the loopback
    /// host vouches only for callers on this machine.
    pub fn knows(&self, ae: &str, address: IpAddr) -> bool {
        self.entries.iter().any(|entry| {
            star_rest(&entry.ae, ae).is_some()
                && (!is_loopback_name(&entry.host) || address.to_canonical().is_loopback())
        })
    }
}

/// What the pattern's trailing `*` stands for in `text` (empty without a star), or `None`.
fn star_rest<'a>(pattern: &str, text: &'a str) -> Option<&'a str> {
    match pattern.strip_suffix('*') {
        Some(head) => text.strip_prefix(head),
        None => (pattern == text).then_some(""),
    }
}

fn fill_star(pattern: &str, rest: &str) -> String {
    match pattern.strip_suffix('*') {
        Some(head) => format!("{head}{rest}"),
        None => pattern.to_owned(),
    }
}

fn is_loopback_name(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(lines: &[(&str, &str, &str)]) -> Peers {
        let entry = |&(ae, host, port): &(&str, &str, &str)| PeerEntry {
            ae: ae.into(),
            host: host.into(),
            port: port.into(),
            compression: Compression::default(),
        };
        Peers::new(lines.iter().map(entry).collect())
    }

    #[test]
    fn the_star_of_the_title_fills_host_and_port() {
        let map = peers(&[
            ("EXACT", "10.0.0.9", "104"),
            ("V*", "*", "1234"),
            ("P*", "h", "56*"),
        ]);
        let found = |ae: &str| map.destination(ae).map(|d| (d.host, d.port));
        assert_eq!(found("EXACT"), Some(("10.0.0.9".into(), 104)));
        assert_eq!(found("V10.1.2.3"), Some(("10.1.2.3".into(), 1234)));
        assert_eq!(found("P78"), Some(("h".into(), 5678)));
        assert_eq!(found("Px"), None);
        assert_eq!(found("OTHER"), None);
    }

    #[test]
    fn a_mode_in_a_title_stands_for_its_line_in_the_map() {
        let lossy = Compression {
            syntaxes: vec![Uid::from_static("1.2.840.10008.1.2.4.51")],
            ..Compression::default()
        };
        let modes = HashMap::from([("j4".to_owned(), lossy.clone())]);
        let of = |text| Compression::of_mode(&modes, text);
        let with = |only, quality| {
            Some(Compression {
                only,
                quality,
                ..lossy.clone()
            })
        };
        assert_eq!(of("J4 "), Some(lossy.clone()));
        assert_eq!(of("j4200!"), with(true, 100));
        assert_eq!(of("j4200!").map(|found| found.quality_or(95)), Some(100));
        assert_eq!(of("j4!").map(|found| found.quality_or(95)), Some(95));
        for text in ["", "j", "xy"] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn a_loopback_line_vouches_only_for_this_machine() {
        let map = peers(&[
            ("FINDSCU", "127.0.0.1", "1"),
            ("ARCHIVE", "10.0.0.9", "104"),
        ]);
        let far: IpAddr = "10.0.0.5".parse().unwrap();
        let near: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        assert!(map.knows("FINDSCU", near));
        assert!(!map.knows("FINDSCU", far));
        assert!(map.knows("ARCHIVE", far));
        assert!(!map.knows("NOBODY", near));
    }
}
