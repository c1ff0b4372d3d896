//! DIMSE statuses (PS3.7 annex C, PS3.4 B.2.3, C.4): code, class, meaning.
//!
//! Codes that this server sends or expects have a name. A status that a peer sends and that is not
//! listed still has a class, because PS3.7 C.1 to C.3 define the classes by ranges. Nothing here
//! decides which status fits an error.

use std::fmt;

/// A status code as it stands in (0000,0900).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub u16);

/// Classes of PS3.7 annex C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusClass {
    /// The operation is done.
    Success,
    /// More responses follow.
    Pending,
    /// The operation was cancelled by the requestor.
    Cancel,
    /// Done, with something to tell.
    Warning,
    /// Not done.
    Failure,
}

macro_rules! statuses {
    ($($name:ident = $code:literal, $meaning:literal;)*) => {
        impl Status {
            $(#[doc = $meaning] pub const $name: Self = Self($code);)*
        }

        /// Every status with a name, by rising code: code and meaning.
        pub const STATUSES: &[(Status, &str)] = &[$((Status($code), $meaning),)*];
    };
}

statuses! {
    SUCCESS = 0x0000, "Success";
    OPTIONAL_ATTRIBUTES_NOT_SUPPORTED = 0x0001, "Requested optional attributes not supported";
    NO_SUCH_ATTRIBUTE = 0x0105, "No such attribute";
    INVALID_ATTRIBUTE_VALUE = 0x0106, "Invalid attribute value";
    ATTRIBUTE_LIST_ERROR = 0x0107, "Attribute list error";
    PROCESSING_FAILURE = 0x0110, "Processing failure";
    DUPLICATE_SOP_INSTANCE = 0x0111, "Duplicate SOP instance";
    NO_SUCH_SOP_INSTANCE = 0x0112, "No such SOP instance";
    NO_SUCH_EVENT_TYPE = 0x0113, "No such event type";
    NO_SUCH_ARGUMENT = 0x0114, "No such argument";
    INVALID_ARGUMENT_VALUE = 0x0115, "Invalid argument value";
    ATTRIBUTE_VALUE_OUT_OF_RANGE = 0x0116, "Attribute value out of range";
    INVALID_SOP_INSTANCE = 0x0117, "Invalid SOP instance";
    NO_SUCH_SOP_CLASS = 0x0118, "No such SOP class";
    CLASS_INSTANCE_CONFLICT = 0x0119, "Class-instance conflict";
    MISSING_ATTRIBUTE = 0x0120, "Missing attribute";
    MISSING_ATTRIBUTE_VALUE = 0x0121, "Missing attribute value";
    SOP_CLASS_NOT_SUPPORTED = 0x0122, "SOP class not supported";
    NO_SUCH_ACTION_TYPE = 0x0123, "No such action type";
    NOT_AUTHORIZED = 0x0124, "Not authorised";
    DUPLICATE_INVOCATION = 0x0210, "Duplicate invocation";
    UNRECOGNIZED_OPERATION = 0x0211, "Unrecognised operation";
    MISTYPED_ARGUMENT = 0x0212, "Mistyped argument";
    RESOURCE_LIMITATION = 0x0213, "Resource limitation";
    OUT_OF_RESOURCES = 0xA700, "Out of resources";
    OUT_OF_RESOURCES_MATCHES = 0xA701, "Out of resources: unable to calculate number of matches";
    OUT_OF_RESOURCES_SUB_OPERATIONS = 0xA702, "Out of resources: unable to perform sub-operations";
    MOVE_DESTINATION_UNKNOWN = 0xA801, "Move destination unknown";
    DATA_SET_DOES_NOT_MATCH = 0xA900, "Data set or identifier does not match SOP class";
    COERCION_OF_DATA_ELEMENTS = 0xB000, "Coercion of elements, or failed sub-operations";
    ELEMENTS_DISCARDED = 0xB006, "Elements discarded";
    DATA_SET_DOES_NOT_MATCH_WARNING = 0xB007, "Data set does not match SOP class";
    CANNOT_UNDERSTAND = 0xC000, "Cannot understand";
    UNABLE_TO_PROCESS = 0xC001, "Unable to process";
    MORE_THAN_ONE_MATCH = 0xC100, "More than one match found";
    UNABLE_TO_SUPPORT_TEMPLATE = 0xC200, "Unable to support requested template";
    CANCEL = 0xFE00, "Terminated by a cancel request";
    PENDING = 0xFF00, "Pending";
    PENDING_OPTIONAL_KEYS = 0xFF01, "Pending, optional keys were not supported";
}

impl Status {
    /// Sub-operations complete, at least one failed; the C-MOVE and C-GET reading of B000.
    pub const SUB_OPERATIONS_WITH_FAILURES: Self = Self::COERCION_OF_DATA_ELEMENTS;

    /// The class by PS3.7 annex C.
    pub const fn class(self) -> StatusClass {
        match self.0 {
            0x0000 => StatusClass::Success,
            0xFF00 | 0xFF01 => StatusClass::Pending,
            0xFE00 => StatusClass::Cancel,
            0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF => StatusClass::Warning,
            _ => StatusClass::Failure,
        }
    }

    /// What the code means; by range where it has no name here.
    pub fn meaning(self) -> &'static str {
        let named = STATUSES.iter().find(|(status, _)| *status == self);
        named.map_or_else(|| self.range_meaning(), |(_, meaning)| meaning)
    }

    /// More responses follow.
    pub const fn is_pending(self) -> bool {
        matches!(self.class(), StatusClass::Pending)
    }

    /// The operation was done, perhaps with a warning.
    pub const fn is_done(self) -> bool {
        matches!(self.class(), StatusClass::Success | StatusClass::Warning)
    }

    /// The same request may succeed later without a change: the peer lacked resources.
    pub const fn is_worth_retrying(self) -> bool {
        matches!(self.0, 0x0110 | 0x0213 | 0xA700..=0xA7FF)
    }

    const fn range_meaning(self) -> &'static str {
        match self.0 {
            0xA700..=0xA7FF => "Out of resources",
            0xA900..=0xA9FF => "Data set or identifier does not match SOP class",
            0xB000..=0xBFFF => "Warning",
            0xC000..=0xCFFF => "Cannot understand or unable to process",
            _ => "Failure",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X} ({})", self.0, self.meaning())
    }
}

impl From<Status> for u16 {
    fn from(status: Status) -> Self {
        status.0
    }
}
