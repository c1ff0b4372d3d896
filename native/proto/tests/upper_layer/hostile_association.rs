//! Broken and odd A-ASSOCIATE-RQ: what is refused, and what is taken all the same.

use pyserver_proto::ae::AeTitle;
use pyserver_proto::association::{Association, Limits};
use pyserver_proto::pdu::{AssociateRq, ProposedContext};

use crate::support::{
    APPLICATION_CONTEXT, IMPLICIT, Server, VERIFICATION, application, associate_body, context,
    item, item_of_length, outcome_of, pdu, request, request_of, uid, user_info,
};

/// AA-1 has neither source nor reason to tell (PS3.8 table 9-9).
const ABORT: &str = "ABORT(0,0)";
const SIX: &str = "ABORT(2,6)";

#[test]
fn protocol_version_and_application_context_are_rejected() {
    let items = items(&[]);
    let versioned = |version| pdu(1, &associate_body(version, &items));
    assert_eq!(outcome_of(&versioned(0)), "RJ(1,2,2)");
    assert_eq!(outcome_of(&versioned(2)), "RJ(1,2,2)");
    assert_eq!(outcome_of(&versioned(0xffff)), "AC", "bit 0 is set");
    let rest = [
        context(1, VERIFICATION, &[IMPLICIT]),
        user_info(16_384, &[]),
    ]
    .concat();
    for name in ["", "1.2.3.4", &"1.".repeat(30_000)] {
        let item = if name.is_empty() {
            Vec::new()
        } else {
            item(0x10, name.as_bytes())
        };
        assert_eq!(
            outcome_of(&request_of(&[item, rest.clone()].concat())),
            "RJ(1,1,2)"
        );
    }
}

#[test]
fn frames_that_run_over_are_aborted() {
    let verification = context(1, VERIFICATION, &[IMPLICIT]);
    let good = item(0x30, VERIFICATION.as_bytes());
    let long_application = item_of_length(0x10, APPLICATION_CONTEXT.as_bytes(), 0xffff);
    let body = [&[1, 0, 0, 0][..], &good, &item(0x40, IMPLICIT.as_bytes())].concat();
    let long_syntax = [&[1, 0, 0, 0][..], &item_of_length(0x30, b"1.2", 0xffff)].concat();
    let info = user_info(16_384, &[]);
    let in_info = |sub: &[u8]| item(0x50, sub);
    for (what, items) in [
        (
            "application context",
            [long_application, verification.clone(), info.clone()].concat(),
        ),
        (
            "presentation context",
            [application(), item_of_length(0x20, &body, 0xffff)].concat(),
        ),
        (
            "abstract syntax",
            [application(), item(0x20, &long_syntax), info.clone()].concat(),
        ),
        (
            "empty presentation context",
            [application(), item(0x20, b""), info.clone()].concat(),
        ),
        (
            "user information",
            [
                application(),
                verification.clone(),
                item_of_length(0x50, &info, 0xffff),
            ]
            .concat(),
        ),
        (
            "maximum length",
            [
                application(),
                verification.clone(),
                in_info(&item_of_length(0x51, &[0; 4], 0xffff)),
            ]
            .concat(),
        ),
        (
            "maximum length of two bytes",
            [
                application(),
                verification.clone(),
                in_info(&item(0x51, &[0, 1])),
            ]
            .concat(),
        ),
        (
            "a lone byte",
            [application(), verification, info, vec![0]].concat(),
        ),
    ] {
        assert_eq!(outcome_of(&request_of(&items)), ABORT, "{what}");
    }
    for (what, sub_item) in [
        ("asynchronous window of a byte", item(0x53, &[0xff])),
        (
            "role selection beyond",
            item(0x54, &[0xff, 0xff, b'1', 1, 1]),
        ),
        ("role selection of a byte", item(0x54, &[0])),
        ("extended negotiation junk", item(0x56, &[0xff; 52])),
        (
            "common extended negotiation junk",
            item(0x57, &[0, 16, 7, 7, 7]),
        ),
        (
            "user identity beyond",
            item(0x58, &[2, 1, 0xff, 0xff, b'u']),
        ),
    ] {
        assert_eq!(outcome_of(&request_of(&items(&sub_item))), ABORT, "{what}");
    }
}

#[test]
fn doubles_and_ids_that_cannot_be() {
    let twice = [application(), items(&[])].concat();
    assert_eq!(outcome_of(&request_of(&twice)), ABORT);
    for ids in [&[2][..], &[0], &[1, 1], &[254]] {
        let contexts: Vec<_> = ids
            .iter()
            .flat_map(|id| context(*id, VERIFICATION, &[IMPLICIT]))
            .collect();
        let items = [application(), contexts, user_info(16_384, &[])].concat();
        assert_eq!(outcome_of(&request_of(&items)), ABORT, "{ids:?}");
    }
}

#[test]
fn what_decides_nothing_is_taken() {
    let long = |n: usize| "1.".repeat(n / 2);
    for (what, extra) in [
        (
            "implementation version of 60000",
            item(0x55, &vec![b'V'; 60_000]),
        ),
        (
            "implementation version of escapes",
            item(0x55, b"\x1b[31m\r\n"),
        ),
        ("asynchronous window", item(0x53, &[0xff; 4])),
        ("unlimited asynchronous window", item(0x53, &[0; 4])),
        ("empty user name", item(0x58, &[1, 1, 0, 0, 0, 0])),
        (
            "user identity of an unknown type",
            item(0x58, &[99, 1, 0, 1, b'a', 0, 0]),
        ),
        (
            "unknown items",
            (0x5a..=0xff).flat_map(|kind| item(kind, b"junk")).collect(),
        ),
    ] {
        assert_eq!(outcome_of(&request_of(&items(&extra))), "AC", "{what}");
    }
    let odd_contexts = [
        (1, long(66)),
        (3, long(60_000)),
        (5, String::new()),
        (7, "../../../tmp/x".to_owned()),
        (9, VERIFICATION.to_owned()),
    ];
    let mut items = application();
    for (id, syntax) in &odd_contexts {
        items.extend(context(*id, syntax, &[IMPLICIT]));
    }
    items.extend(item(0x60, &[b'x'; 100]));
    items.extend(item(0x20, &[11, 0, 0, 0]));
    let many: Vec<_> = (0..2000).map(|n| format!("1.2.{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    items.extend(context(13, VERIFICATION, &many));
    items.extend(context(15, VERIFICATION, &[]));
    assert_eq!(
        outcome_of(&request_of(&items)),
        "AC",
        "no user information either"
    );
    let none = [application(), user_info(0, &[])].concat();
    assert_eq!(
        outcome_of(&request_of(&none)),
        "AC",
        "no presentation context"
    );
}

#[test]
fn maximum_lengths() {
    for (max, expected) in [
        (0, "AC"),
        (1, "RJ(1,1,1)"),
        (6, "RJ(1,1,1)"),
        (7, "AC"),
        (8, "AC"),
        (u32::MAX, "AC"),
    ] {
        let items = [
            application(),
            context(1, VERIFICATION, &[IMPLICIT]),
            user_info(max, &[]),
        ];
        assert_eq!(outcome_of(&request_of(&items.concat())), expected, "{max}");
    }
}

#[test]
fn a_request_over_the_limit_is_not_waited_for() {
    let items = [items(&[]), vec![0; 1024 * 1024]].concat();
    assert_eq!(outcome_of(&request_of(&items)), ABORT);
}

fn items(extra: &[u8]) -> Vec<u8> {
    [
        application(),
        context(1, VERIFICATION, &[IMPLICIT]),
        user_info(16_384, extra),
    ]
    .concat()
}

#[test]
fn more_contexts_than_allowed_are_rejected() {
    let limits = Limits {
        contexts_max: 2,
        ..Limits::default()
    };
    for (count, expected) in [(2, "AC"), (3, "RJ(1,3,2)")] {
        let contexts: Vec<_> = (0..count)
            .map(|n| (2 * n + 1, VERIFICATION, &[IMPLICIT][..]))
            .collect();
        let mut server = Server::new(limits.clone());
        server.feed(&request(&contexts), &[]);
        assert_eq!(server.outcome(), expected);
    }
}

#[test]
fn acceptances_that_answer_nothing() {
    let accepted = |id, syntax: &str| {
        item(
            0x21,
            &[&[id, 0, 0, 0][..], &item(0x40, syntax.as_bytes())].concat(),
        )
    };
    let refused = item(0x21, &[1, 0, 3, 0, 0x40, 0, 0xff, 0xff]);
    let info = |max| user_info(max, &[]);
    for (what, items, expected, contexts) in [
        (
            "as proposed",
            [accepted(1, IMPLICIT), info(0)].concat(),
            "",
            1,
        ),
        (
            "refused, with junk for a syntax",
            [refused, info(0)].concat(),
            "",
            0,
        ),
        (
            "a syntax that was not proposed",
            [accepted(1, "1.2.3"), info(0)].concat(),
            "",
            0,
        ),
        (
            "a context that was not proposed",
            [accepted(3, IMPLICIT), info(0)].concat(),
            SIX,
            0,
        ),
        (
            "an even context",
            [accepted(2, IMPLICIT), info(0)].concat(),
            SIX,
            0,
        ),
        (
            "no room for data",
            [accepted(1, IMPLICIT), info(6)].concat(),
            SIX,
            0,
        ),
        ("no user information", accepted(1, IMPLICIT), "", 1),
        (
            "a cut item",
            [accepted(1, IMPLICIT), vec![0x50, 0, 0, 9]].concat(),
            SIX,
            0,
        ),
    ] {
        let mut client = Server::new(Limits::default());
        let context = ProposedContext {
            id: 1,
            abstract_syntax: uid(VERIFICATION),
            transfer_syntaxes: vec![uid(IMPLICIT)],
        };
        let title = AeTitle::from_wire(b"X");
        let rq = AssociateRq::new(title, title, vec![context]);
        client.association = Association::requestor(Limits::default(), &rq, client.now);
        client.act();
        client.sent.clear();
        client.feed(
            &pdu(2, &associate_body(1, &[application(), items].concat())),
            &[3],
        );
        assert_eq!(client.outcome(), expected, "{what}");
        assert_eq!(client.association.contexts().len(), contexts, "{what}");
    }
}
