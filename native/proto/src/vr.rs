//! Value representations (PS3.5 section 6.2): how an element's length is written and its value padded.
//!
//! The names are those of the standard. An unknown pair of capital letters is no VR here; the element
//! reader treats such elements as UN and says so.

/// The value representations of PS3.5 table 6.2-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)] // the names are the standard's
pub enum Vr {
    Ae,
    As,
    At,
    Cs,
    Da,
    Ds,
    Dt,
    Fd,
    Fl,
    Is,
    Lo,
    Lt,
    Ob,
    Od,
    Of,
    Ol,
    Ov,
    Ow,
    Pn,
    Sh,
    Sl,
    Sq,
    Ss,
    St,
    Sv,
    Tm,
    Uc,
    Ui,
    Ul,
    Un,
    Ur,
    Us,
    Ut,
    Uv,
}

/// The VR of each pair of letters.
static BY_LETTERS: [[Option<Vr>; 26]; 26] = by_letters();

const fn by_letters() -> [[Option<Vr>; 26]; 26] {
    let mut table = [[None; 26]; 26];
    let mut i = 0;
    while i < Vr::ALL.len() {
        let letters = Vr::ALL[i].as_str().as_bytes();
        table[(letters[0] - b'A') as usize][(letters[1] - b'A') as usize] = Some(Vr::ALL[i]);
        i += 1;
    }
    table
}

impl Vr {
    /// All of them.
    pub const ALL: [Self; 34] = [
        Self::Ae,
        Self::As,
        Self::At,
        Self::Cs,
        Self::Da,
        Self::Ds,
        Self::Dt,
        Self::Fd,
        Self::Fl,
        Self::Is,
        Self::Lo,
        Self::Lt,
        Self::Ob,
        Self::Od,
        Self::Of,
        Self::Ol,
        Self::Ov,
        Self::Ow,
        Self::Pn,
        Self::Sh,
        Self::Sl,
        Self::Sq,
        Self::Ss,
        Self::St,
        Self::Sv,
        Self::Tm,
        Self::Uc,
        Self::Ui,
        Self::Ul,
        Self::Un,
        Self::Ur,
        Self::Us,
        Self::Ut,
        Self::Uv,
    ];

    /// Reads the two bytes of an explicit element header; `None` when they name no VR.
    #[inline]
    pub fn from_bytes([first, second]: [u8; 2]) -> Option<Self> {
        let row = usize::from(first.wrapping_sub(b'A'));
        let column = usize::from(second.wrapping_sub(b'A'));
        *BY_LETTERS.get(row)?.get(column)?
    }

    /// The two letters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ae => "AE",
            Self::As => "AS",
            Self::At => "AT",
            Self::Cs => "CS",
            Self::Da => "DA",
            Self::Ds => "DS",
            Self::Dt => "DT",
            Self::Fd => "FD",
            Self::Fl => "FL",
            Self::Is => "IS",
            Self::Lo => "LO",
            Self::Lt => "LT",
            Self::Ob => "OB",
            Self::Od => "OD",
            Self::Of => "OF",
            Self::Ol => "OL",
            Self::Ov => "OV",
            Self::Ow => "OW",
            Self::Pn => "PN",
            Self::Sh => "SH",
            Self::Sl => "SL",
            Self::Sq => "SQ",
            Self::Ss => "SS",
            Self::St => "ST",
            Self::Sv => "SV",
            Self::Tm => "TM",
            Self::Uc => "UC",
            Self::Ui => "UI",
            Self::Ul => "UL",
            Self::Un => "UN",
            Self::Ur => "UR",
            Self::Us => "US",
            Self::Ut => "UT",
            Self::Uv => "UV",
        }
    }

    /// Whether the explicit header has two reserved bytes and a 32-bit length (PS3.5 table 7.1-1).
    pub const fn has_long_length(self) -> bool {
        matches!(
            self,
            Self::Ob
                | Self::Od
                | Self::Of
                | Self::Ol
                | Self::Ov
                | Self::Ow
                | Self::Sq
                | Self::Sv
                | Self::Uc
                | Self::Un
                | Self::Ur
                | Self::Ut
                | Self::Uv
        )
    }

    /// Whether the value is characters (UI included).
    pub const fn is_text(self) -> bool {
        matches!(
            self,
            Self::Ae
                | Self::As
                | Self::Cs
                | Self::Da
                | Self::Ds
                | Self::Dt
                | Self::Is
                | Self::Lo
                | Self::Lt
                | Self::Pn
                | Self::Sh
                | Self::St
                | Self::Tm
                | Self::Uc
                | Self::Ui
                | Self::Ur
                | Self::Ut
        )
    }

    /// Whether Specific Character Set applies to the value (PS3.5 section 6.1.2.3).
    pub const fn uses_charset(self) -> bool {
        matches!(
            self,
            Self::Lo | Self::Lt | Self::Pn | Self::Sh | Self::St | Self::Uc | Self::Ut
        )
    }

    /// Whether a backslash separates values; in LT, ST, UT and UR it is a character.
    pub const fn is_multi_valued(self) -> bool {
        !matches!(self, Self::Lt | Self::St | Self::Ut | Self::Ur | Self::Sq)
    }

    /// The byte that makes an odd value even: a space for text, NUL for UI and binary values.
    pub const fn padding(self) -> u8 {
        if self.is_text() && !matches!(self, Self::Ui) {
            b' '
        } else {
            0
        }
    }

    /// Size of the numbers in the value, for byte swapping; 1 where bytes are bytes.
    pub const fn word_bytes(self) -> usize {
        match self {
            Self::At | Self::Ow | Self::Ss | Self::Us => 2,
            Self::Fl | Self::Of | Self::Ol | Self::Sl | Self::Ul => 4,
            Self::Fd | Self::Od | Self::Ov | Self::Sv | Self::Uv => 8,
            _ => 1,
        }
    }
}

impl std::fmt::Display for Vr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_round_trip() {
        for vr in Vr::ALL {
            let letters = vr.as_str().as_bytes();
            assert_eq!(Vr::from_bytes([letters[0], letters[1]]), Some(vr));
        }
        let named = |pair: &[u8; 2]| Vr::from_bytes(*pair).is_some();
        let pairs = (0..=u16::MAX).map(u16::to_be_bytes);
        assert_eq!(pairs.filter(named).count(), Vr::ALL.len());
        assert_eq!(Vr::from_bytes(*b"ZZ"), None);
        assert_eq!(Vr::from_bytes([0, 0]), None);
    }

    #[test]
    fn padding_by_kind() {
        assert_eq!(
            (Vr::Lo.padding(), Vr::Ui.padding(), Vr::Ob.padding()),
            (b' ', 0, 0)
        );
    }
}
