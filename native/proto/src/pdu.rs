//! The seven protocol data units of the DICOM upper layer (PS3.8 9.3): bytes to values and back.
//!
//! Decoders take whole slices and answer `Ok(None)` for "not all here yet". P-DATA-TF is the
//! exception that is never held whole: `association` walks its items with `PdvHeader` as the bytes
//! arrive. Nothing here knows a state, a negotiation rule or a clock. What is wrong with a PDU is
//! said by `PduError`, which also knows the A-ABORT reason of PS3.8 table 9-26.

mod associate;
mod items;
mod user_info;

pub(crate) use associate::Fixed;
pub use associate::{AcContext, AssociateAc, AssociateRq, ContextResult, ProposedContext};
pub use user_info::{
    CommonExtended, MAX_PDU_WHEN_ABSENT, RoleSelection, SopClassExtended, UserIdentity, UserInfo,
};

/// Bytes before each PDU's variable field: type, reserved, four byte length (PS3.8 9.3.1).
pub const PDU_HEADER_BYTES: usize = 6;
/// Bytes before each presentation data value: four byte length, context id, message control header
/// (PS3.8 9.3.5.1).
pub const PDV_HEADER_BYTES: usize = 6;
/// Part of a PDV header that its own length field counts: context id and message control header.
pub const PDV_LENGTH_MIN: u32 = 2;
/// Smallest P-DATA-TF variable field that carries a byte of payload.
pub const PDATA_BYTES_MIN: u32 = PDV_HEADER_BYTES as u32 + 1;
/// Length field of A-ASSOCIATE-RJ, A-RELEASE-RQ, A-RELEASE-RP and A-ABORT.
pub const SHORT_PDU_BYTES: u32 = 4;

/// Sources of an A-ABORT (PS3.8 table 9-26).
pub mod abort_source {
    /// The application ended the association.
    pub const SERVICE_USER: u8 = 0;
    /// The upper layer ended the association: the peer broke the protocol.
    pub const SERVICE_PROVIDER: u8 = 2;
}

/// Reasons of an A-ABORT by the service provider (PS3.8 table 9-26).
pub mod abort_reason {
    /// No reason given; the only value when the source is the service user.
    pub const NOT_SPECIFIED: u8 = 0;
    /// A PDU type that does not exist.
    pub const UNRECOGNIZED_PDU: u8 = 1;
    /// A PDU that does not belong into this state.
    pub const UNEXPECTED_PDU: u8 = 2;
    /// A parameter that does not exist.
    pub const UNRECOGNIZED_PARAMETER: u8 = 4;
    /// A parameter in the wrong place.
    pub const UNEXPECTED_PARAMETER: u8 = 5;
    /// A parameter with an impossible value.
    pub const INVALID_PARAMETER: u8 = 6;
}

/// Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// 1 permanent, 2 transient.
    pub result: u8,
    /// 1 service user, 2 service provider (ACSE), 3 service provider (presentation).
    pub source: u8,
    /// Meaning depends on the source.
    pub reason: u8,
}

impl Rejection {
    /// The application context name is not DICOM's.
    pub const APPLICATION_CONTEXT: Self = Self {
        result: 1,
        source: 1,
        reason: 2,
    };
    /// The calling AE title may not talk to us.
    pub const CALLING_AE: Self = Self {
        result: 1,
        source: 1,
        reason: 3,
    };
    /// The called AE title is not ours.
    pub const CALLED_AE: Self = Self {
        result: 1,
        source: 1,
        reason: 7,
    };
    /// Refused without a reason.
    pub const NO_REASON: Self = Self {
        result: 1,
        source: 1,
        reason: 1,
    };
    /// The protocol version has no bit that we know.
    pub const PROTOCOL_VERSION: Self = Self {
        result: 1,
        source: 2,
        reason: 2,
    };
    /// Too busy now; the peer may try again.
    pub const TEMPORARY_CONGESTION: Self = Self {
        result: 2,
        source: 3,
        reason: 1,
    };
    /// All places are taken now; the peer may try again.
    pub const LOCAL_LIMIT: Self = Self {
        result: 2,
        source: 3,
        reason: 2,
    };
    /// The request is larger than we shall ever allow.
    pub const LOCAL_LIMIT_PERMANENT: Self = Self {
        result: 1,
        source: 3,
        reason: 2,
    };
}

/// PDU types (PS3.8 9.3.2 to 9.3.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PduType {
    /// Request of an association.
    AssociateRq = 0x01,
    /// Acceptance of an association.
    AssociateAc = 0x02,
    /// Rejection of an association.
    AssociateRj = 0x03,
    /// Message fragments.
    PData = 0x04,
    /// Request of an orderly end.
    ReleaseRq = 0x05,
    /// Answer to it.
    ReleaseRp = 0x06,
    /// End at once.
    Abort = 0x07,
}

impl PduType {
    /// The type of a PDU's first byte, if there is one.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0x01 => Self::AssociateRq,
            0x02 => Self::AssociateAc,
            0x03 => Self::AssociateRj,
            0x04 => Self::PData,
            0x05 => Self::ReleaseRq,
            0x06 => Self::ReleaseRp,
            0x07 => Self::Abort,
            _ => return None,
        })
    }
}

/// First six bytes of a PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PduHeader {
    /// What follows.
    pub pdu_type: PduType,
    /// Bytes that follow.
    pub length: u32,
}

impl PduHeader {
    /// Reads a header; an unknown type is reported with its first byte, so that garbage is refused
    /// at once.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, PduError> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let pdu_type = PduType::from_byte(first).ok_or(PduError::UnrecognizedPdu(first))?;
        let &[_, _, a, b, c, d, ..] = bytes else {
            return Ok(None);
        };
        Ok(Some(Self {
            pdu_type,
            length: u32::from_be_bytes([a, b, c, d]),
        }))
    }

    /// Checks the length of a PDU that must be held whole.
    pub fn check_length(self, associate_bytes_max: u32) -> Result<(), PduError> {
        let Self { pdu_type, length } = self;
        let fits = match pdu_type {
            PduType::AssociateRq | PduType::AssociateAc => length <= associate_bytes_max,
            PduType::PData => true,
            _ => length == SHORT_PDU_BYTES,
        };
        if fits {
            Ok(())
        } else {
            Err(PduError::Length { pdu_type, length })
        }
    }

    /// The header's bytes.
    pub fn encode(self) -> [u8; PDU_HEADER_BYTES] {
        let [a, b, c, d] = self.length.to_be_bytes();
        [self.pdu_type as u8, 0, a, b, c, d]
    }
}

/// First six bytes of a presentation data value item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PdvHeader {
    /// Payload bytes that follow (the length field less the two bytes that it also counts).
    pub payload: u32,
    /// Presentation context.
    pub context_id: u8,
    /// Command set (true) or data set fragment.
    pub command: bool,
    /// Last fragment of its command or data set.
    pub last: bool,
}

impl PdvHeader {
    /// Reads a header of which `left` bytes of the PDU remain, itself included.
    pub fn decode(bytes: &[u8], left: u32) -> Result<Option<Self>, PduError> {
        if left < PDV_HEADER_BYTES as u32 {
            return Err(PduError::Truncated {
                what: "presentation data value",
                need: PDV_HEADER_BYTES,
                have: left as usize,
            });
        }
        let &[a, b, c, d, context_id, control, ..] = bytes else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        if length < PDV_LENGTH_MIN || length > left - 4 {
            return Err(PduError::PdvLength {
                length,
                left: left - 4,
            });
        }
        // PS3.8 E.2: bits 2 to 7 of the message control header are not tested.
        Ok(Some(Self {
            payload: length - PDV_LENGTH_MIN,
            context_id,
            command: control & 1 != 0,
            last: control & 2 != 0,
        }))
    }

    /// The header's bytes.
    pub fn encode(self) -> [u8; PDV_HEADER_BYTES] {
        let [a, b, c, d] = (self.payload + PDV_LENGTH_MIN).to_be_bytes();
        [
            a,
            b,
            c,
            d,
            self.context_id,
            u8::from(self.command) | u8::from(self.last) << 1,
        ]
    }
}

/// A whole PDU. P-DATA-TF is never built on the receiving path, where its values are handed out
/// piecewise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pdu {
    /// Request of an association.
    AssociateRq(Box<AssociateRq>),
    /// Acceptance of an association.
    AssociateAc(Box<AssociateAc>),
    /// Rejection of an association.
    AssociateRj(Rejection),
    /// Presentation data values, each header with its payload.
    PData(Vec<(PdvHeader, Vec<u8>)>),
    /// Request of an orderly end.
    ReleaseRq,
    /// Answer to it.
    ReleaseRp,
    /// End at once.
    Abort {
        /// See `abort_source`.
        source: u8,
        /// See `abort_reason`.
        reason: u8,
    },
}

impl Pdu {
    /// Decodes the PDU at the front of `bytes` and says how many bytes it took; `None` while it is
    /// not whole.
    pub fn decode(
        bytes: &[u8],
        associate_bytes_max: u32,
    ) -> Result<Option<(Self, usize)>, PduError> {
        let Some(header) = PduHeader::decode(bytes)? else {
            return Ok(None);
        };
        header.check_length(associate_bytes_max)?;
        let end = PDU_HEADER_BYTES + header.length as usize;
        let Some(body) = bytes.get(PDU_HEADER_BYTES..end) else {
            return Ok(None);
        };
        Ok(Some((Self::decode_body(header.pdu_type, body)?, end)))
    }

    /// Decodes a PDU's variable field.
    pub fn decode_body(pdu_type: PduType, body: &[u8]) -> Result<Self, PduError> {
        Ok(match pdu_type {
            PduType::AssociateRq => Self::AssociateRq(Box::new(AssociateRq::decode(body)?)),
            PduType::AssociateAc => Self::AssociateAc(Box::new(AssociateAc::decode(body)?)),
            PduType::PData => Self::PData(decode_pdata(body)?),
            PduType::ReleaseRq => Self::ReleaseRq,
            PduType::ReleaseRp => Self::ReleaseRp,
            PduType::AssociateRj | PduType::Abort => {
                let &[_, result, source, reason] = body else {
                    return Err(PduError::Length {
                        pdu_type,
                        length: body.len() as u32,
                    });
                };
                if pdu_type == PduType::Abort {
                    Self::Abort { source, reason }
                } else {
                    Self::AssociateRj(Rejection {
                        result,
                        source,
                        reason,
                    })
                }
            }
        })
    }

    /// Appends the PDU to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::AssociateRq(rq) => rq.encode(out),
            Self::AssociateAc(ac) => ac.encode(out),
            Self::AssociateRj(Rejection {
                result,
                source,
                reason,
            }) => {
                short(PduType::AssociateRj, [0, *result, *source, *reason], out);
            }
            Self::PData(values) => {
                let length: usize = values.iter().map(|(_, p)| PDV_HEADER_BYTES + p.len()).sum();
                out.extend(
                    PduHeader {
                        pdu_type: PduType::PData,
                        length: length as u32,
                    }
                    .encode(),
                );
                for (header, payload) in values {
                    out.extend(
                        PdvHeader {
                            payload: payload.len() as u32,
                            ..*header
                        }
                        .encode(),
                    );
                    out.extend_from_slice(payload);
                }
            }
            Self::ReleaseRq => short(PduType::ReleaseRq, [0; 4], out),
            Self::ReleaseRp => short(PduType::ReleaseRp, [0; 4], out),
            Self::Abort { source, reason } => {
                short(PduType::Abort, [0, 0, *source, *reason], out);
            }
        }
    }
}

fn decode_pdata(mut body: &[u8]) -> Result<Vec<(PdvHeader, Vec<u8>)>, PduError> {
    let mut values = Vec::new();
    if body.is_empty() {
        return Err(PduError::EmptyPData);
    }
    while !body.is_empty() {
        let short = || PduError::Truncated {
            what: "presentation data value",
            need: PDV_HEADER_BYTES,
            have: body.len(),
        };
        let header = PdvHeader::decode(body, body.len() as u32)?.ok_or_else(short)?;
        let end = PDV_HEADER_BYTES + header.payload as usize;
        let payload = body.get(PDV_HEADER_BYTES..end).ok_or_else(short)?;
        values.push((header, payload.to_vec()));
        body = body.get(end..).unwrap_or_default();
    }
    Ok(values)
}

fn short(pdu_type: PduType, body: [u8; SHORT_PDU_BYTES as usize], out: &mut Vec<u8>) {
    out.extend(
        PduHeader {
            pdu_type,
            length: SHORT_PDU_BYTES,
        }
        .encode(),
    );
    out.extend(body);
}

/// What is wrong with a PDU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PduError {
    /// First byte of no PDU.
    #[error("unrecognised PDU type 0x{0:02x}")]
    UnrecognizedPdu(u8),
    /// The length field is impossible for this type or over the limit.
    #[error("{pdu_type:?} PDU of {length} bytes")]
    Length {
        /// Type of the PDU.
        pdu_type: PduType,
        /// Its length field.
        length: u32,
    },
    /// A P-DATA-TF without any value.
    #[error("P-DATA-TF without a presentation data value")]
    EmptyPData,
    /// A presentation data value that is shorter than its header or runs past its PDU.
    #[error("presentation data value of {length} bytes where {left} remain")]
    PdvLength {
        /// The item's length field.
        length: u32,
        /// Bytes of the PDU behind that field.
        left: u32,
    },
    /// Something ends in the middle.
    #[error("{what} needs {need} bytes, {have} remain")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes that it needs.
        need: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// An item that may stand once stands twice.
    #[error("{0} appears twice")]
    Duplicate(&'static str),
    /// A value that the item may not have.
    #[error("{what} is invalid: {value}")]
    Invalid {
        /// Which item.
        what: &'static str,
        /// Its value, or its length where the value is not a number.
        value: u32,
    },
}

impl PduError {
    /// Reason for the A-ABORT by the service provider.
    pub const fn abort_reason(&self) -> u8 {
        match self {
            Self::UnrecognizedPdu(_) => abort_reason::UNRECOGNIZED_PDU,
            Self::Duplicate(_) => abort_reason::UNEXPECTED_PARAMETER,
            _ => abort_reason::INVALID_PARAMETER,
        }
    }
}
