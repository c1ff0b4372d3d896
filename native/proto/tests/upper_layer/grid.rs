//! PS3.8 table 9-10 twice: the constant against a table typed from the standard, and associations
//! driven into every state against the constant.

use std::time::Instant;

use pyserver_proto::ae::AeTitle;
use pyserver_proto::association::{Association, Event, Limits};
use pyserver_proto::negotiate::negotiate;
use pyserver_proto::pdu::{AssociateRq, Pdu, ProposedContext};
use pyserver_proto::state::{Action, EVENTS, Evt, STATES, State, step};

use crate::support::{self, IMPLICIT, VERIFICATION, policy, uid};

/// Typed from PS3.8 table 9-10 column by column: state, then event, action and next state.
const STANDARD: &str = "
Sta1:  1 AE-1 4, 5 AE-5 2
Sta2:  3 AA-1 13, 4 AA-1 13, 6 AE-6 3, 10 AA-1 13, 12 AA-1 13, 13 AA-1 13, 16 AA-2 1,
       17 AA-5 1, 18 AA-2 1, 19 AA-1 13
Sta3:  3 AA-8 13, 4 AA-8 13, 6 AA-8 13, 7 AE-7 6, 8 AE-8 13, 10 AA-8 13, 12 AA-8 13,
       13 AA-8 13, 15 AA-1 13, 16 AA-3 1, 17 AA-4 1, 19 AA-8 13
Sta4:  2 AE-2 5, 15 AA-2 1, 17 AA-4 1
Sta5:  3 AE-3 6, 4 AE-4 1, 6 AA-8 13, 10 AA-8 13, 12 AA-8 13, 13 AA-8 13, 15 AA-1 13,
       16 AA-3 1, 17 AA-4 1, 19 AA-8 13
Sta6:  3 AA-8 13, 4 AA-8 13, 6 AA-8 13, 9 DT-1 6, 10 DT-2 6, 11 AR-1 7, 12 AR-2 8, 13 AA-8 13,
       15 AA-1 13, 16 AA-3 1, 17 AA-4 1, 19 AA-8 13
Sta7:  3 AA-8 13, 4 AA-8 13, 6 AA-8 13, 10 AR-6 7, 12 AR-8 9, 13 AR-3 1, 15 AA-1 13, 16 AA-3 1,
       17 AA-4 1, 19 AA-8 13
Sta8:  3 AA-8 13, 4 AA-8 13, 6 AA-8 13, 9 AR-7 8, 10 AA-8 13, 12 AA-8 13, 13 AA-8 13,
       14 AR-4 13, 15 AA-1 13, 16 AA-3 1, 17 AA-4 1, 19 AA-8 13
Sta9:  3 AA-8 13, 4 AA-8 13, 6 AA-8 13, 10 AA-8 13, 12 AA-8 13, 13 AA-8 13, 14 AR-9 11,
       15 AA-1 13, 16 AA-3 1, 17 AA-4 1, 19 AA-8 13
Sta10: 3 AA-8 13, 4 AA-8 13, 6 AA-8 13, 10 AA-8 13, 12 AA-8 13, 13 AR-10 12, 15 AA-1 13,
       16 AA-3 1, 17 AA-4 1, 19 AA-8 13
Sta11: 3 AA-8 13, 4 AA-8 13, 6 AA-8 13, 10 AA-8 13, 12 AA-8 13, 13 AR-3 1, 15 AA-1 13,
       16 AA-3 1, 17 AA-4 1, 19 AA-8 13
Sta12: 3 AA-8 13, 4 AA-8 13, 6 AA-8 13, 10 AA-8 13, 12 AA-8 13, 13 AA-8 13, 14 AR-4 13,
       15 AA-1 13, 16 AA-3 1, 17 AA-4 1, 19 AA-8 13
Sta13: 3 AA-6 13, 4 AA-6 13, 6 AA-7 13, 10 AA-6 13, 12 AA-6 13, 13 AA-6 13, 16 AA-2 1,
       17 AR-5 1, 18 AA-2 1, 19 AA-7 13
";

#[test]
fn the_table_is_the_standards() {
    let mut ours = Vec::new();
    for state in STATES {
        let cell = |event: Evt| {
            let (action, next) = step(state, event)?;
            let action = format!("{action:?}").to_uppercase();
            let (family, number) = action.split_at(2);
            Some(format!("{} {family}-{number} {}", event as u8, next as u8))
        };
        let cells: Vec<_> = EVENTS.iter().filter_map(|e| cell(*e)).collect();
        ours.push(format!("{state:?}: {}", cells.join(", ")));
    }
    let standard: Vec<_> = STANDARD.split_ascii_whitespace().collect();
    assert_eq!(ours.join(" "), standard.join(" "));
}

/// Every state that an open connection can be in (Sta4 has no connection yet).
const REACHABLE: [State; 11] = [
    State::Sta2,
    State::Sta3,
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

#[test]
fn every_pdu_in_every_state() {
    for state in REACHABLE {
        for (event, bytes) in received_pdus() {
            let mut association = in_state(state);
            let (action, next) = step(state, event).expect("a PDU may arrive in any of them");
            let events = feed(&mut association, &bytes);
            let next = match (action, state) {
                (Action::Ar8, _) if !is_requestor(state) => State::Sta10,
                _ => next,
            };
            let what = format!("{event:?} in {state:?}");
            assert_eq!(association.state(), next, "{what}");
            let expected = match (action, event) {
                (Action::Aa7 | Action::Aa8, Evt::InvalidPdu) => "ABORT(2,1)",
                (Action::Aa7 | Action::Aa8, _) => "ABORT(2,2)",
                _ => expected_pdu(action),
            };
            assert_eq!(sent(&association), expected, "{what}");
            assert_eq!(events, expected_event(action, event), "{what}");
            assert_eq!(
                association.is_closed(),
                next == State::Sta1 || next == State::Sta13
            );
        }
    }
}

#[test]
fn every_local_request_in_every_state() {
    for state in REACHABLE {
        for (event, act) in local_requests() {
            let mut association = in_state(state);
            act(&mut association);
            let what = format!("{event:?} in {state:?}");
            match step(state, event) {
                Some((action, next)) => {
                    assert_eq!(association.state(), next, "{what}");
                    assert_eq!(sent(&association), expected_pdu(action), "{what}");
                }
                // The one thing that may always be done is to give up the connection.
                None if event == Evt::AbortRequest => {
                    assert_eq!(association.state(), State::Sta1, "{what}");
                }
                None => {
                    assert_eq!(association.state(), state, "{what}");
                    assert_eq!(sent(&association), "", "{what}");
                }
            }
        }
    }
}

#[test]
fn the_connection_ends_in_every_state() {
    for state in REACHABLE {
        let mut association = in_state(state);
        association.connection_closed();
        assert_eq!(
            association.next_event(),
            Some(Event::ConnectionClosed),
            "{state:?}"
        );
        assert_eq!(association.next_event(), None);
        assert_eq!(association.state(), State::Sta1);
    }
}

#[test]
fn patience_ends_in_every_state() {
    for state in REACHABLE {
        let mut association = in_state(state);
        let due = association
            .poll_timeout()
            .expect("every open connection has a limit");
        association.handle_timeout(due.checked_sub(std::time::Duration::from_nanos(1)).unwrap());
        assert_eq!(association.state(), state, "not before its time");
        association.handle_timeout(due);
        let (next, pdu, event) = match state {
            State::Sta2 => (State::Sta1, "", Some(Event::TimedOut)),
            State::Sta13 => (State::Sta1, "", None),
            _ => (State::Sta13, "ABORT(2,0)", Some(Event::TimedOut)),
        };
        assert_eq!(association.state(), next, "{state:?}");
        assert_eq!(sent(&association), pdu, "{state:?}");
        assert_eq!(association.next_event(), event, "{state:?}");
    }
}

fn received_pdus() -> Vec<(Evt, Vec<u8>)> {
    let ac = {
        let mut body = support::application();
        body.extend(support::item(
            0x21,
            &[&[1, 0, 0, 0], &*support::item(0x40, IMPLICIT.as_bytes())].concat(),
        ));
        body.extend(support::user_info(16_384, &[]));
        support::pdu(2, &support::associate_body(1, &body))
    };
    vec![
        (Evt::AssociateAcPdu, ac),
        (Evt::AssociateRjPdu, support::pdu(3, &[0, 1, 1, 1])),
        (
            Evt::AssociateRqPdu,
            support::request(&[(1, VERIFICATION, &[IMPLICIT])]),
        ),
        (
            Evt::DataPdu,
            support::pdata(1, 3, &support::Command::echo().bytes()),
        ),
        (Evt::ReleaseRqPdu, support::pdu(5, &[0; 4])),
        (Evt::ReleaseRpPdu, support::pdu(6, &[0; 4])),
        (Evt::AbortPdu, support::pdu(7, &[0; 4])),
        (Evt::InvalidPdu, support::pdu(0x7f, &[0; 4])),
    ]
}

type Act = fn(&mut Association);

fn local_requests() -> [(Evt, Act); 5] {
    [
        (Evt::AssociateReject, |a| a.reject(1, 1, 1)),
        (Evt::DataRequest, |a| {
            a.send_command(1, &support::Command::echo().bytes());
        }),
        (Evt::ReleaseRequest, Association::request_release),
        // In Sta10 the answer waits for the peer, which the pair tests follow to its end.
        (Evt::ReleaseResponse, Association::accept_release),
        (Evt::AbortRequest, |a| a.abort(0, 0)),
    ]
}

const fn is_requestor(state: State) -> bool {
    matches!(
        state,
        State::Sta5 | State::Sta7 | State::Sta9 | State::Sta11
    )
}

/// An association in a state, with nothing in its output. Sta9 and Sta11 are requestors.
fn in_state(state: State) -> Association {
    let mut association = if is_requestor(state) {
        requestor(state != State::Sta5)
    } else {
        acceptor(state)
    };
    let release = support::pdu(5, &[0; 4]);
    let confirmation = support::pdu(6, &[0; 4]);
    match state {
        State::Sta7 => association.request_release(),
        State::Sta8 => drop(feed(&mut association, &release)),
        State::Sta9 | State::Sta11 => {
            association.request_release();
            feed(&mut association, &release);
            if state == State::Sta11 {
                association.accept_release();
            }
        }
        State::Sta10 | State::Sta12 => {
            association.request_release();
            feed(&mut association, &release);
            if state == State::Sta12 {
                feed(&mut association, &confirmation);
            }
        }
        State::Sta13 => {
            feed(&mut association, &release);
            association.accept_release();
        }
        _ => {}
    }
    assert_eq!(association.state(), state);
    let n = association.output().len();
    association.output_written(n);
    association
}

fn acceptor(state: State) -> Association {
    let mut association = Association::acceptor(Limits::default(), Instant::now());
    if state == State::Sta2 {
        return association;
    }
    let request = support::request(&[(1, VERIFICATION, &[IMPLICIT])]);
    let space = association.read_space();
    space[..request.len()].copy_from_slice(&request);
    association.received(request.len(), Instant::now());
    let Some(Event::AssociateRequested(rq)) = association.next_event() else {
        panic!()
    };
    if state != State::Sta3 {
        association.accept(&negotiate(&rq, &policy()));
    }
    association
}

fn requestor(established: bool) -> Association {
    let context = ProposedContext {
        id: 1,
        abstract_syntax: uid(VERIFICATION),
        transfer_syntaxes: vec![uid(IMPLICIT)],
    };
    let title = |text| AeTitle::new(text).unwrap();
    let rq = AssociateRq::new(title("THERE"), title("HERE"), vec![context]);
    let mut association = Association::requestor(Limits::default(), &rq, Instant::now());
    if established {
        let (_, ac) = received_pdus().remove(0);
        assert_eq!(feed(&mut association, &ac), "associated");
    }
    association
}

/// Feeds a PDU and describes the events.
fn feed(association: &mut Association, bytes: &[u8]) -> String {
    let space = association.read_space();
    space[..bytes.len()].copy_from_slice(bytes);
    association.received(bytes.len(), Instant::now());
    let mut events = Vec::new();
    while let Some(event) = association.next_event() {
        events.push(match event {
            Event::AssociateRequested(_) => "requested".to_owned(),
            Event::Command { .. } => "data".to_owned(),
            Event::ProtocolError(_) => "error".to_owned(),
            Event::Rejected { .. } => "rejected".to_owned(),
            Event::Aborted { .. } => "aborted".to_owned(),
            other => support::describe(&other),
        });
    }
    events.join(", ")
}

fn sent(association: &Association) -> String {
    match Pdu::decode(association.output(), u32::MAX).unwrap() {
        None => String::new(),
        Some((Pdu::Abort { source, reason }, _)) => format!("ABORT({source},{reason})"),
        Some((Pdu::AssociateRj(_), _)) => "RJ".to_owned(),
        Some((Pdu::PData(_), _)) => "DATA".to_owned(),
        Some((Pdu::ReleaseRq, _)) => "RELRQ".to_owned(),
        Some((Pdu::ReleaseRp, _)) => "RELRP".to_owned(),
        Some((other, _)) => format!("{other:?}"),
    }
}

/// What each action sends; reasons are the subject of the hostile tests.
fn expected_pdu(action: Action) -> &'static str {
    match action {
        Action::Aa1 => "ABORT(0,0)",
        Action::Ae8 => "RJ",
        Action::Dt1 | Action::Ar7 => "DATA",
        Action::Ar1 => "RELRQ",
        Action::Ar4 | Action::Ar9 => "RELRP",
        _ => "",
    }
}

fn expected_event(action: Action, event: Evt) -> &'static str {
    match action {
        Action::Aa1 | Action::Aa7 | Action::Aa8 => "error",
        Action::Aa2 | Action::Aa3 => "aborted",
        Action::Ae3 => "associated",
        Action::Ae4 => "rejected",
        Action::Ae6 => "requested",
        Action::Dt2 | Action::Ar6 => "data",
        Action::Ar2 | Action::Ar8 => "release requested",
        Action::Ar3 | Action::Ar10 => "released",
        Action::Aa6 => "",
        other => panic!("{other:?} is no answer to {event:?}"),
    }
}
