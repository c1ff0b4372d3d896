//! Broken command sets: those that nobody could answer abort, the others get a status.

use crate::support::{
    Command, EXPLICIT, IMPLICIT, SECONDARY_CAPTURE, STUDY_FIND, STUDY_GET, STUDY_MOVE,
    VERIFICATION, element_of_length, outcome_of, pdata, pdu, pdv, request,
};

const INVALID: &str = "AC ABORT(2,6)";

#[test]
fn frames_and_operations_that_abort() {
    let echo = Command::echo();
    let lying = |length| {
        let class = element_of_length(0, 2, VERIFICATION.as_bytes(), length);
        [class, echo.without_class().elements()].concat()
    };
    let big_endian = [
        0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0x38, 0, 0, 0, 2, 0, 0, 0, 2, b'1', 0,
    ];
    let sequence = element_of_length(0xfffe, 0xe000, b"", u32::MAX);
    let sequence = element_of_length(0, 0x5000, &sequence, u32::MAX);
    for (what, command, expected) in [
        ("empty", Vec::new(), INVALID),
        ("7 bytes", vec![0, 0, 0, 0, 4, 0, 0], INVALID),
        (
            "no command field",
            echo.clone().without(0x100).bytes(),
            INVALID,
        ),
        (
            "empty command field",
            echo.clone().raw(0x100, b"").bytes(),
            INVALID,
        ),
        (
            "command field 7777",
            echo.clone().us(0x100, 0x7777).bytes(),
            "AC ABORT(2,4)",
        ),
        ("length 0xffffffff", lying(0xffff_ffff), INVALID),
        ("length 0xfffffffe", lying(0xffff_fffe), INVALID),
        ("length 0x7fffffff", lying(0x7fff_ffff), INVALID),
        ("length 0x00010000", lying(0x0001_0000), INVALID),
        (
            "no message id",
            echo.clone().without(0x110).bytes(),
            INVALID,
        ),
        ("sequence", [echo.bytes(), sequence].concat(), INVALID),
        ("big endian", big_endian.to_vec(), INVALID),
        (
            "1 MiB element",
            echo.clone().raw(0x5000, &vec![b'x'; 1 << 20]).bytes(),
            INVALID,
        ),
        (
            "cancel of nothing named",
            Command::of(0x0fff).bytes(),
            INVALID,
        ),
    ] {
        assert_eq!(verification(&in_fragments(1, &command)), expected, "{what}");
    }
}

#[test]
fn what_nothing_depends_on_is_taken() {
    let echo = Command::echo();
    let private = [
        echo.bytes(),
        element_of_length(0x9999, 0x400, b"genuid:AAAAAAAAA", 16),
    ]
    .concat();
    for (what, command) in [
        ("group length 0", echo.bytes_with_group_length(0)),
        (
            "group length 0xffffffff",
            echo.bytes_with_group_length(u32::MAX),
        ),
        ("no group length", echo.elements()),
        ("a private element", private),
    ] {
        assert_eq!(
            verification(&pdata(1, 3, &command)),
            "AC RSP8030=0000",
            "{what}"
        );
    }
    let long_originator = Command::store("1.2.3")
        .raw(0x1030, &vec![b'A'; 60_000])
        .bytes();
    for command in [
        Command::store("1.2.3").us(0x700, 0xffff).bytes(),
        long_originator,
    ] {
        let stream = [in_fragments(1, &command), pdata(1, 2, &[0; 8])].concat();
        assert_eq!(storage(&stream), "AC RSP8001=0000");
    }
}

#[test]
fn echoes_that_get_a_status() {
    let echo = Command::echo();
    for (what, command, expected) in [
        (
            "no data set type",
            echo.clone().without(0x800),
            "AC RSP8030=0120",
        ),
        (
            "no SOP class",
            echo.clone().without(0x002),
            "AC RSP8030=0120",
        ),
        (
            "empty SOP class",
            echo.clone().raw(0x002, b""),
            "AC RSP8030=0121",
        ),
        (
            "SOP class of 10000",
            echo.clone().uid(0x002, &"1.".repeat(5000)),
            "AC RSP8030=0106",
        ),
        (
            "a response",
            echo.clone().us(0x100, 0x8030).us(0x120, 1),
            "AC",
        ),
        ("a data set that never comes", echo.us(0x800, 0), "AC"),
    ] {
        assert_eq!(
            verification(&pdata(1, 3, &command.bytes())),
            expected,
            "{what}"
        );
    }
}

#[test]
fn stores_that_get_a_status() {
    let data = pdata(1, 2, &[0; 8]);
    let store = Command::store("1.2.3");
    for (what, command, expected) in [
        (
            "no SOP class",
            store.clone().without(0x0002),
            "AC RSP8001=0120",
        ),
        (
            "no SOP instance",
            store.clone().without(0x1000),
            "AC RSP8001=0120",
        ),
        (
            "empty SOP instance",
            store.clone().raw(0x1000, b""),
            "AC RSP8001=0121",
        ),
        (
            "SOP instance of 4096",
            store.clone().uid(0x1000, &"1.".repeat(2048)),
            "AC RSP8001=0106",
        ),
        (
            "SOP instance not ASCII",
            store.raw(0x1000, &[0xff; 8]),
            "AC RSP8001=0106",
        ),
    ] {
        let stream = [pdata(1, 3, &command.bytes()), data.clone()].concat();
        assert_eq!(storage(&stream), expected, "{what}");
    }
    let without = Command::store("1.2.3").us(0x800, 0x101);
    assert_eq!(storage(&pdata(1, 3, &without.bytes())), "AC RSP8001=c000");
}

#[test]
fn queries_that_get_a_status() {
    let none = |field, class| pdata(1, 3, &Command::query(field, class).us(0x800, 0x101).bytes());
    let on = |class, stream: &[u8]| {
        outcome_of(&[&request(&[(1, class, &[IMPLICIT])])[..], stream].concat())
    };
    assert_eq!(on(STUDY_FIND, &none(0x20, STUDY_FIND)), "AC RSP8020=a900");
    assert_eq!(on(STUDY_GET, &none(0x10, STUDY_GET)), "AC RSP8010=a900");
    assert_eq!(on(STUDY_MOVE, &none(0x21, STUDY_MOVE)), "AC RSP8021=a900");
    let move_to = |destination: &[u8]| {
        let command = Command::query(0x21, STUDY_MOVE)
            .raw(0x600, destination)
            .bytes();
        let stream = [in_fragments(1, &command), pdata(1, 2, &[0; 8])].concat();
        on(STUDY_MOVE, &stream)
    };
    assert_eq!(move_to(b"DESTINATION "), "AC RSP8021=0000");
    for destination in [
        &b""[..],
        b"    ",
        &[b'A'; 1000],
        &vec![b'A'; 60_000],
        b";touch /tmp/hzcan",
    ] {
        assert_eq!(move_to(destination), "AC RSP8021=a801");
    }
}

#[test]
fn n_services_are_understood() {
    let delete = Command::of(0x150)
        .us(0x110, 1)
        .uid(0x003, SECONDARY_CAPTURE);
    let whole = delete.clone().uid(0x1001, "1.2.3");
    assert_eq!(
        storage(&pdata(1, 3, &whole.bytes())),
        "AC RSP8150=0000",
        "the service refuses it"
    );
    assert_eq!(storage(&pdata(1, 3, &delete.bytes())), "AC RSP8150=0120");
    let action = Command::of(0x130)
        .us(0x110, 1)
        .uid(0x003, VERIFICATION)
        .uid(0x1001, "1.2.3");
    assert_eq!(
        verification(&pdata(1, 3, &action.bytes())),
        "AC RSP8130=0120",
        "no action type"
    );
}

impl Command {
    fn without_class(&self) -> Self {
        self.clone().without(0x0002)
    }
}

/// A command set in fragments of 16 KiB, two to a PDU.
fn in_fragments(context_id: u8, command: &[u8]) -> Vec<u8> {
    let mut chunks: Vec<_> = command.chunks(16_384).collect();
    if chunks.is_empty() {
        chunks.push(b"");
    }
    let last = chunks.len() - 1;
    let values: Vec<_> = chunks
        .iter()
        .enumerate()
        .map(|(i, chunk)| pdv(context_id, 1 | u8::from(i == last) << 1, chunk))
        .collect();
    values
        .chunks(2)
        .flat_map(|pair| pdu(4, &pair.concat()))
        .collect()
}

fn verification(stream: &[u8]) -> String {
    outcome_of(&[&request(&[(1, VERIFICATION, &[IMPLICIT])])[..], stream].concat())
}

fn storage(stream: &[u8]) -> String {
    outcome_of(&[&request(&[(1, SECONDARY_CAPTURE, &[EXPLICIT])])[..], stream].concat())
}
