//! The upper layer's state machine: PS3.8 table 9-10 as one constant.
//!
//! Everything that decides *what may happen when* stands in `TABLE`, row by row in the order of the
//! standard, and `step` reads it. `association` carries the actions out. Two cells name two next
//! states (AE-6 and AR-8); the table holds the regular one, and the caller goes to Sta13 after a
//! rejection and to Sta10 as acceptor.
//!
//! ```text
//!       acceptor                                     requestor
//!  Sta1 --Evt5--> Sta2 --RQ--> Sta3 --accept--+    Sta1 --> Sta4 --> Sta5 --AC--+
//!                   |            `-reject-> Sta13                      `-RJ-> Sta1
//!                   v                         v                                 v
//!            (error, ARTIM)                 Sta6 data transfer <----------------+
//!                                release-RQ |  | local release request
//!                                   Sta8 <--+  +--> Sta7      both at once: Sta9 .. Sta12
//!                    local response |                 | RP
//!                                   v                 v
//!                                 Sta13 --closed--> Sta1
//! ```

/// States (PS3.8 tables 9-1 to 9-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Idle.
    Sta1 = 1,
    /// Transport connection open, awaiting A-ASSOCIATE-RQ.
    Sta2,
    /// Awaiting the local A-ASSOCIATE response.
    Sta3,
    /// Awaiting the transport connection.
    Sta4,
    /// Awaiting A-ASSOCIATE-AC or -RJ.
    Sta5,
    /// Association established, ready for data transfer.
    Sta6,
    /// Awaiting A-RELEASE-RP.
    Sta7,
    /// Awaiting the local A-RELEASE response.
    Sta8,
    /// Release collision, requestor: awaiting the local A-RELEASE response.
    Sta9,
    /// Release collision, acceptor: awaiting A-RELEASE-RP.
    Sta10,
    /// Release collision, requestor: awaiting A-RELEASE-RP.
    Sta11,
    /// Release collision, acceptor: awaiting the local A-RELEASE response.
    Sta12,
    /// Awaiting the close of the transport connection; the association no longer exists.
    Sta13,
}

/// All states in the order of the table's columns.
pub const STATES: [State; 13] = [
    State::Sta1,
    State::Sta2,
    State::Sta3,
    State::Sta4,
    State::Sta5,
    State::Sta6,
    State::Sta7,
    State::Sta8,
    State::Sta9,
    State::Sta10,
    State::Sta11,
    State::Sta12,
    State::Sta13,
];

/// Events (PS3.8 table 9-10, first column).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Evt {
    /// Evt1: local A-ASSOCIATE request.
    AssociateRequest = 1,
    /// Evt2: transport connection confirmed.
    TransportConfirm,
    /// Evt3: A-ASSOCIATE-AC PDU.
    AssociateAcPdu,
    /// Evt4: A-ASSOCIATE-RJ PDU.
    AssociateRjPdu,
    /// Evt5: transport connection indicated.
    TransportIndication,
    /// Evt6: A-ASSOCIATE-RQ PDU.
    AssociateRqPdu,
    /// Evt7: local A-ASSOCIATE response, accept.
    AssociateAccept,
    /// Evt8: local A-ASSOCIATE response, reject.
    AssociateReject,
    /// Evt9: local P-DATA request.
    DataRequest,
    /// Evt10: P-DATA-TF PDU.
    DataPdu,
    /// Evt11: local A-RELEASE request.
    ReleaseRequest,
    /// Evt12: A-RELEASE-RQ PDU.
    ReleaseRqPdu,
    /// Evt13: A-RELEASE-RP PDU.
    ReleaseRpPdu,
    /// Evt14: local A-RELEASE response.
    ReleaseResponse,
    /// Evt15: local A-ABORT request.
    AbortRequest,
    /// Evt16: A-ABORT PDU.
    AbortPdu,
    /// Evt17: transport connection closed.
    TransportClosed,
    /// Evt18: ARTIM timer expired.
    ArtimExpired,
    /// Evt19: unrecognised or invalid PDU.
    InvalidPdu,
}

/// All events in the order of the table's rows.
pub const EVENTS: [Evt; 19] = [
    Evt::AssociateRequest,
    Evt::TransportConfirm,
    Evt::AssociateAcPdu,
    Evt::AssociateRjPdu,
    Evt::TransportIndication,
    Evt::AssociateRqPdu,
    Evt::AssociateAccept,
    Evt::AssociateReject,
    Evt::DataRequest,
    Evt::DataPdu,
    Evt::ReleaseRequest,
    Evt::ReleaseRqPdu,
    Evt::ReleaseRpPdu,
    Evt::ReleaseResponse,
    Evt::AbortRequest,
    Evt::AbortPdu,
    Evt::TransportClosed,
    Evt::ArtimExpired,
    Evt::InvalidPdu,
];

/// Actions (PS3.8 tables 9-6 to 9-9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open the transport connection.
    Ae1,
    /// Send A-ASSOCIATE-RQ.
    Ae2,
    /// Confirm: accepted.
    Ae3,
    /// Confirm: rejected; close.
    Ae4,
    /// Accept the transport connection, start ARTIM.
    Ae5,
    /// Stop ARTIM; indicate the request, or send A-ASSOCIATE-RJ and start ARTIM (Sta13).
    Ae6,
    /// Send A-ASSOCIATE-AC.
    Ae7,
    /// Send A-ASSOCIATE-RJ, start ARTIM.
    Ae8,
    /// Send P-DATA-TF.
    Dt1,
    /// Indicate P-DATA.
    Dt2,
    /// Send A-RELEASE-RQ.
    Ar1,
    /// Indicate A-RELEASE.
    Ar2,
    /// Confirm A-RELEASE, close.
    Ar3,
    /// Send A-RELEASE-RP, start ARTIM.
    Ar4,
    /// Stop ARTIM.
    Ar5,
    /// Indicate P-DATA while releasing.
    Ar6,
    /// Send P-DATA-TF while the peer releases.
    Ar7,
    /// Indicate A-RELEASE (collision): requestor Sta9, acceptor Sta10.
    Ar8,
    /// Send A-RELEASE-RP (collision, requestor).
    Ar9,
    /// Confirm A-RELEASE (collision, acceptor).
    Ar10,
    /// Send A-ABORT (service user), start ARTIM.
    Aa1,
    /// Stop ARTIM, close.
    Aa2,
    /// Indicate A-ABORT, close.
    Aa3,
    /// Indicate A-P-ABORT: the connection is gone.
    Aa4,
    /// Stop ARTIM.
    Aa5,
    /// Ignore the PDU.
    Aa6,
    /// Send A-ABORT.
    Aa7,
    /// Send A-ABORT (service provider), indicate A-P-ABORT, start ARTIM.
    Aa8,
}

/// A cell of the table; `None` where the event cannot happen.
pub type Cell = Option<(Action, State)>;

/// What to do and where to go when `event` happens in `state`; `None` if it cannot.
pub fn step(state: State, event: Evt) -> Cell {
    let row = TABLE.get(event as usize - 1)?;
    *row.get(state as usize - 1)?
}

const NO: Cell = None;
const AA1: Cell = Some((Action::Aa1, State::Sta13));
const AA2: Cell = Some((Action::Aa2, State::Sta1));
const AA3: Cell = Some((Action::Aa3, State::Sta1));
const AA4: Cell = Some((Action::Aa4, State::Sta1));
const AA5: Cell = Some((Action::Aa5, State::Sta1));
const AA6: Cell = Some((Action::Aa6, State::Sta13));
const AA7: Cell = Some((Action::Aa7, State::Sta13));
const AA8: Cell = Some((Action::Aa8, State::Sta13));
const AE1: Cell = Some((Action::Ae1, State::Sta4));
const AE2: Cell = Some((Action::Ae2, State::Sta5));
const AE3: Cell = Some((Action::Ae3, State::Sta6));
const AE4: Cell = Some((Action::Ae4, State::Sta1));
const AE5: Cell = Some((Action::Ae5, State::Sta2));
const AE6: Cell = Some((Action::Ae6, State::Sta3));
const AE7: Cell = Some((Action::Ae7, State::Sta6));
const AE8: Cell = Some((Action::Ae8, State::Sta13));
const AR1: Cell = Some((Action::Ar1, State::Sta7));
const AR2: Cell = Some((Action::Ar2, State::Sta8));
const AR3: Cell = Some((Action::Ar3, State::Sta1));
const AR4: Cell = Some((Action::Ar4, State::Sta13));
const AR5: Cell = Some((Action::Ar5, State::Sta1));
const AR6: Cell = Some((Action::Ar6, State::Sta7));
const AR7: Cell = Some((Action::Ar7, State::Sta8));
const AR8: Cell = Some((Action::Ar8, State::Sta9));
const AR9: Cell = Some((Action::Ar9, State::Sta11));
const AR10: Cell = Some((Action::Ar10, State::Sta12));
const DT1: Cell = Some((Action::Dt1, State::Sta6));
const DT2: Cell = Some((Action::Dt2, State::Sta6));

/// PS3.8 table 9-10. Rows Evt1 to Evt19, columns Sta1 to Sta13.
#[rustfmt::skip]
const TABLE: [[Cell; 13]; 19] = [
    //      1    2    3    4    5    6    7    8    9    10    11   12   13
    /*  1*/ [AE1, NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,   NO,  NO,  NO],
    /*  2*/ [NO,  NO,  NO,  AE2, NO,  NO,  NO,  NO,  NO,  NO,   NO,  NO,  NO],
    /*  3*/ [NO,  AA1, AA8, NO,  AE3, AA8, AA8, AA8, AA8, AA8,  AA8, AA8, AA6],
    /*  4*/ [NO,  AA1, AA8, NO,  AE4, AA8, AA8, AA8, AA8, AA8,  AA8, AA8, AA6],
    /*  5*/ [AE5, NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,   NO,  NO,  NO],
    /*  6*/ [NO,  AE6, AA8, NO,  AA8, AA8, AA8, AA8, AA8, AA8,  AA8, AA8, AA7],
    /*  7*/ [NO,  NO,  AE7, NO,  NO,  NO,  NO,  NO,  NO,  NO,   NO,  NO,  NO],
    /*  8*/ [NO,  NO,  AE8, NO,  NO,  NO,  NO,  NO,  NO,  NO,   NO,  NO,  NO],
    /*  9*/ [NO,  NO,  NO,  NO,  NO,  DT1, NO,  AR7, NO,  NO,   NO,  NO,  NO],
    /* 10*/ [NO,  AA1, AA8, NO,  AA8, DT2, AR6, AA8, AA8, AA8,  AA8, AA8, AA6],
    /* 11*/ [NO,  NO,  NO,  NO,  NO,  AR1, NO,  NO,  NO,  NO,   NO,  NO,  NO],
    /* 12*/ [NO,  AA1, AA8, NO,  AA8, AR2, AR8, AA8, AA8, AA8,  AA8, AA8, AA6],
    /* 13*/ [NO,  AA1, AA8, NO,  AA8, AA8, AR3, AA8, AA8, AR10, AR3, AA8, AA6],
    /* 14*/ [NO,  NO,  NO,  NO,  NO,  NO,  NO,  AR4, AR9, NO,   NO,  AR4, NO],
    /* 15*/ [NO,  NO,  AA1, AA2, AA1, AA1, AA1, AA1, AA1, AA1,  AA1, AA1, NO],
    /* 16*/ [NO,  AA2, AA3, NO,  AA3, AA3, AA3, AA3, AA3, AA3,  AA3, AA3, AA2],
    /* 17*/ [NO,  AA5, AA4, AA4, AA4, AA4, AA4, AA4, AA4, AA4,  AA4, AA4, AR5],
    /* 18*/ [NO,  AA2, NO,  NO,  NO,  NO,  NO,  NO,  NO,  NO,   NO,  NO,  AA2],
    /* 19*/ [NO,  AA1, AA8, NO,  AA8, AA8, AA8, AA8, AA8, AA8,  AA8, AA8, AA7],
];
