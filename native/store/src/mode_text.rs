//! A compression mode as configurations and AE titles write it: two letters, a quality, a mark.

/// LIMIT: digits of a quality; more are no number.
const QUALITY_DIGITS_MAX: usize = 3;
/// The highest quality; what is above means this.
const QUALITY_MAX: u16 = 100;

/// The parts of `j2!` or `j490`. What mode the letters are is not decided here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeText {
    /// The two characters that choose it, in small letters.
    pub name: String,
    /// The quality, 1 to 100, that lossy modes take instead of `LossyQuality`.
    pub quality: Option<u8>,
    /// Whether the peer gets nothing else (`!`).
    pub only: bool,
}

impl ModeText {
    /// Reads a text; `None`: it is too short for a mode.
    pub fn parse(text: &str) -> Option<Self> {
        let marked = text.trim();
        let text = marked.trim_end_matches('!');
        let mut letters = text.char_indices();
        letters.next()?;
        letters.next()?;
        let end = letters.next().map_or(text.len(), |(at, _)| at);
        let (name, number) = text.split_at(end);
        let is_number = !number.is_empty()
            && number.len() <= QUALITY_DIGITS_MAX
            && number.bytes().all(|digit| digit.is_ascii_digit());
        let quality = number.parse().ok().filter(|_| is_number);
        Some(Self {
            name: name.to_lowercase(),
            quality: quality.map(|quality: u16| quality.clamp(1, QUALITY_MAX) as u8),
            only: text.len() < marked.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_may_have_a_number_and_a_mark() {
        let read = |text| {
            let mode = ModeText::parse(text)?;
            Some((mode.name, mode.quality, mode.only))
        };
        let name = |name: &str| name.to_owned();
        assert_eq!(read(" J4 "), Some((name("j4"), None, false)));
        assert_eq!(read("j4!"), Some((name("j4"), None, true)));
        assert_eq!(read("j490"), Some((name("j4"), Some(90), false)));
        assert_eq!(read("j4999!!"), Some((name("j4"), Some(100), true)));
        assert_eq!(read("j40"), Some((name("j4"), Some(1), false)));
        for no_number in ["n#3,150", "j4+5", "j41000", "j4 9"] {
            assert_eq!(
                read(no_number).map(|mode| mode.1),
                Some(None),
                "{no_number}"
            );
        }
        assert_eq!(read("\u{c9}j7"), Some((name("\u{e9}j"), Some(7), false)));
        for text in ["", "j", "!!", "j!", " x "] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
