//! Transfer syntaxes (PS3.5 chapter 10): how a data set's bytes are to be read.
//!
//! Only what decides the element encoding matters here; every syntax with encapsulated pixel data is
//! explicit VR little endian outside the pixel data, so one variant carries them all, also those which
//! this build has never heard of.

use crate::uid::Uid;

/// The ways a data set can be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransferSyntax {
    /// 1.2.840.10008.1.2, the default every peer must support.
    ImplicitLittleEndian,
    /// 1.2.840.10008.1.2.1.
    ExplicitLittleEndian,
    /// 1.2.840.10008.1.2.2, retired.
    ExplicitBigEndian,
    /// 1.2.840.10008.1.2.1.99: explicit little endian inside one raw deflate stream.
    Deflated,
    /// Explicit little endian with pixel data in fragments (JPEG, RLE, MPEG, …), or a private syntax.
    Encapsulated(Uid),
}

/// Byte order and VR presence of the element headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// Whether element headers name their VR.
    pub explicit: bool,
    /// Whether numbers are big endian.
    pub big_endian: bool,
}

impl Encoding {
    /// Implicit VR little endian.
    pub const IMPLICIT_LE: Self = Self {
        explicit: false,
        big_endian: false,
    };
    /// Explicit VR little endian.
    pub const EXPLICIT_LE: Self = Self {
        explicit: true,
        big_endian: false,
    };
    /// Explicit VR big endian.
    pub const EXPLICIT_BE: Self = Self {
        explicit: true,
        big_endian: true,
    };
}

impl TransferSyntax {
    /// UID of implicit VR little endian.
    pub const IMPLICIT_LE_UID: Uid = Uid::from_static("1.2.840.10008.1.2");
    /// UID of explicit VR little endian.
    pub const EXPLICIT_LE_UID: Uid = Uid::from_static("1.2.840.10008.1.2.1");
    /// UID of explicit VR big endian.
    pub const EXPLICIT_BE_UID: Uid = Uid::from_static("1.2.840.10008.1.2.2");
    /// UID of deflated explicit VR little endian.
    pub const DEFLATED_UID: Uid = Uid::from_static("1.2.840.10008.1.2.1.99");
    /// UID of RLE lossless.
    pub const RLE_UID: Uid = Uid::from_static("1.2.840.10008.1.2.5");

    /// Never fails: an unknown UID is taken as encapsulated, that is explicit little endian.
    pub fn from_uid(uid: &Uid) -> Self {
        match uid.as_str() {
            "1.2.840.10008.1.2" => Self::ImplicitLittleEndian,
            "1.2.840.10008.1.2.1" => Self::ExplicitLittleEndian,
            "1.2.840.10008.1.2.2" => Self::ExplicitBigEndian,
            "1.2.840.10008.1.2.1.99" => Self::Deflated,
            _ => Self::Encapsulated(*uid),
        }
    }

    /// The UID to negotiate and to write into file meta information.
    pub const fn uid(&self) -> Uid {
        match self {
            Self::ImplicitLittleEndian => Self::IMPLICIT_LE_UID,
            Self::ExplicitLittleEndian => Self::EXPLICIT_LE_UID,
            Self::ExplicitBigEndian => Self::EXPLICIT_BE_UID,
            Self::Deflated => Self::DEFLATED_UID,
            Self::Encapsulated(uid) => *uid,
        }
    }

    /// How element headers look (after inflating, for the deflated syntax).
    pub const fn encoding(&self) -> Encoding {
        match self {
            Self::ImplicitLittleEndian => Encoding::IMPLICIT_LE,
            Self::ExplicitBigEndian => Encoding::EXPLICIT_BE,
            _ => Encoding::EXPLICIT_LE,
        }
    }

    /// Whether element headers name their VR.
    pub const fn is_explicit(&self) -> bool {
        self.encoding().explicit
    }

    /// Whether numbers are big endian.
    pub const fn is_big_endian(&self) -> bool {
        self.encoding().big_endian
    }

    /// Whether pixel data comes in fragments.
    pub const fn is_encapsulated(&self) -> bool {
        matches!(self, Self::Encapsulated(_))
    }

    /// Whether the data set is one deflate stream.
    pub const fn is_deflated(&self) -> bool {
        matches!(self, Self::Deflated)
    }

    /// Whether this crate can convert to and from it without a codec.
    pub const fn is_uncompressed(&self) -> bool {
        matches!(
            self,
            Self::ImplicitLittleEndian | Self::ExplicitLittleEndian | Self::ExplicitBigEndian
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests
mod tests {
    use super::*;

    #[test]
    fn uid_round_trip() {
        for text in [
            "1.2.840.10008.1.2",
            "1.2.840.10008.1.2.1",
            "1.2.840.10008.1.2.2",
            "1.2.840.10008.1.2.1.99",
            "1.2.840.10008.1.2.4.70",
        ] {
            let syntax = TransferSyntax::from_uid(&text.parse().unwrap());
            assert_eq!(syntax.uid(), text);
        }
        let jpeg = TransferSyntax::from_uid(&"1.2.840.10008.1.2.4.70".parse().unwrap());
        assert!(jpeg.is_encapsulated() && jpeg.is_explicit() && !jpeg.is_big_endian());
        assert!(!TransferSyntax::ImplicitLittleEndian.is_explicit());
        assert!(TransferSyntax::ExplicitBigEndian.is_big_endian());
    }
}
