//! Broken PDUs: what each is answered with. Before an association stands the answer is action AA-1
//! (service user, no reason); within one it names the reason of PS3.8 table 9-26.

use pyserver_proto::association::{Event, Limits, PeerErrorKind};

use crate::support::{
    CT, Command, EXPLICIT, IMPLICIT, SECONDARY_CAPTURE, Server, VERIFICATION, element_of_length,
    outcome_of, pdata, pdu, pdu_of_length, pdv, pdv_of_length, request,
};

const UNRECOGNIZED: &str = "AC ABORT(2,1)";
const UNEXPECTED_PDU: &str = "AC ABORT(2,2)";
const UNEXPECTED_PARAMETER: &str = "AC ABORT(2,5)";
const INVALID: &str = "AC ABORT(2,6)";

#[test]
fn before_an_association() {
    let rq = request(&[(1, VERIFICATION, &[IMPLICIT])]);
    let mut too_short = rq.clone();
    too_short[2..6].copy_from_slice(&(rq.len() as u32 - 14).to_be_bytes());
    let mut accept_first = rq.clone();
    accept_first[0] = 2;
    let body = &rq[6..];
    for (what, stream) in [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (
            "TLS ClientHello",
            vec![0x16, 3, 1, 0, 0xc8, 1, 0, 0, 0xc4, 3, 3],
        ),
        ("type 0x00", pdu(0x00, &[0; 4])),
        ("type 0x08", pdu(0x08, &[0; 4])),
        ("type 0x7f", pdu(0x7f, &[0; 4])),
        ("type 0xff", pdu(0xff, &[0; 4])),
        ("request of no bytes", pdu(1, b"")),
        (
            "request of 4 GiB",
            pdu_of_length(1, &[0; 1024], 0xffff_ffff),
        ),
        (
            "request of 2 GiB - 1",
            pdu_of_length(1, &[0; 1024], 0x7fff_ffff),
        ),
        (
            "request of 256 MiB",
            pdu_of_length(1, &[0; 1024], 0x1000_0000),
        ),
        ("request whose last item is cut", too_short),
        ("request of 67 bytes", pdu(1, &body[..67])),
        ("data first", pdata(1, 3, &Command::echo().bytes())),
        ("release first", pdu(5, &[0; 4])),
        ("acceptance first", accept_first),
    ] {
        assert_eq!(outcome_of(&stream), "ABORT(0,0)", "{what}");
    }
    assert_eq!(outcome_of(&pdu(7, &[0; 4])), "", "an abort is not answered");
    assert_eq!(outcome_of(&rq[..100]), "", "half a request is waited for");
    assert_eq!(outcome_of(&[1, 0, 0]), "", "half a header is waited for");
}

#[test]
fn lengths_and_types_within_an_association() {
    let echo = Command::echo().bytes();
    let huge = |length| pdu_of_length(4, &pdv(1, 3, &[0; 100]), length);
    let value = |length| pdu(4, &pdv_of_length(1, 3, &[0; 50], length));
    let tiny = |length: u32| pdu(4, &[&length.to_be_bytes()[..], &[1, 3], &[0; 20]].concat());
    for (id, stream, expected) in [
        (
            "P15",
            request(&[(1, VERIFICATION, &[IMPLICIT])]),
            UNEXPECTED_PDU,
        ),
        ("P16", pdu(6, &[0; 4]), UNEXPECTED_PDU),
        ("P17", pdu(4, b""), INVALID),
        ("P18a", huge(0xffff_ffff), INVALID),
        ("P18b", huge(0x8000_0000), INVALID),
        ("P18c", huge(0x7fff_ffff), INVALID),
        ("P19a", tiny(0), INVALID),
        ("P19b", tiny(1), INVALID),
        ("P19c", tiny(2), INVALID),
        ("P19d", pdu(4, &[0, 0, 0, 1, 1]), INVALID),
        ("P20a", value(0xffff_ffff), INVALID),
        ("P20b", value(0x7fff_ffff), INVALID),
        ("P20c", value(200), INVALID),
        ("P21", pdu(4, &[0, 0, 0]), INVALID),
        ("P22a", pdata(0, 3, &echo), INVALID),
        ("P22b", pdata(2, 3, &echo), INVALID),
        ("P22c", pdata(255, 3, &echo), INVALID),
        ("P22d", pdata(77, 3, &echo), INVALID),
        ("P23", pdata(1, 0xff, &echo), "AC RSP8030=0000"),
        ("release of 5 bytes", pdu(5, &[0; 5]), INVALID),
        ("abort of 3 bytes", pdu(7, &[0; 3]), INVALID),
        ("no PDU type", pdu(9, &[0; 4]), UNRECOGNIZED),
    ] {
        assert_eq!(verification(&stream), expected, "{id}");
    }
}

#[test]
fn fragments_out_of_place() {
    let data = element_of_length(8, 0x18, b"1.2.3\0", 6);
    let store = Command::store("1.2.3").bytes();
    let echo = Command::echo().bytes();
    let interleaved = [
        pdv(1, 1, &echo[..20]),
        pdv(3, 1, &store[..20]),
        pdv(1, 3, &echo[20..]),
    ];
    let in_between = [
        pdv(3, 1, &store[..20]),
        pdv(3, 2, &data),
        pdv(3, 3, &store[20..]),
    ];
    let rq = request(&[
        (1, VERIFICATION, &[IMPLICIT]),
        (3, SECONDARY_CAPTURE, &[EXPLICIT]),
        (5, CT, &[IMPLICIT]),
    ]);
    for (id, stream) in [
        ("P24 data without a command", pdata(3, 2, &data)),
        (
            "P36 commands of two contexts",
            pdu(4, &interleaved.concat()),
        ),
        (
            "P37 data between command fragments",
            pdu(4, &in_between.concat()),
        ),
        (
            "P38 data on another context",
            [pdata(3, 3, &store), pdata(5, 2, &data)].concat(),
        ),
        (
            "data after a command without",
            [pdata(1, 3, &echo), pdata(1, 2, &data)].concat(),
        ),
        (
            "a command instead of data",
            [pdata(3, 3, &store), pdata(1, 3, &echo)].concat(),
        ),
    ] {
        let outcome = outcome_of(&[rq.clone(), stream].concat());
        let expected = if id.starts_with("data after") {
            "AC RSP8030=0000 ABORT(2,5)"
        } else {
            UNEXPECTED_PARAMETER
        };
        assert_eq!(outcome, expected, "{id}");
    }
}

#[test]
fn floods() {
    let empty = pdata(1, 1, b"").repeat(100_000);
    assert_eq!(
        verification(&empty),
        "AC",
        "P27: costs nothing and may go on until the idle timer"
    );
    let endless = pdata(1, 1, &[0; 16_000]).repeat(64);
    assert_eq!(verification(&endless), INVALID, "P28");
    let echoes = pdata(1, 3, &Command::echo().bytes()).repeat(1000);
    let answers = " RSP8030=0000".repeat(1000);
    assert_eq!(verification(&echoes), format!("AC{answers}"), "P39");
}

#[test]
fn the_negotiated_maximum_is_enforced() {
    let limits = Limits {
        pdu_bytes_max: 16_384,
        ..Limits::default()
    };
    for (payload, refused) in [(16_378, false), (16_384, false), (16_385, true)] {
        let mut server = Server::new(limits.clone());
        server.feed(&request(&[(1, SECONDARY_CAPTURE, &[EXPLICIT])]), &[]);
        server.feed(&pdata(1, 3, &Command::store("1.2.3").bytes()), &[]);
        server.feed(&pdata(1, 0, &vec![0; payload]), &[]);
        assert_eq!(server.outcome() == INVALID, refused, "{payload}");
    }
}

#[test]
fn the_end_in_the_middle_of_a_data_set() {
    let mut begin = request(&[(1, SECONDARY_CAPTURE, &[EXPLICIT])]);
    begin.extend(pdata(1, 3, &Command::store("1.2.3").bytes()));
    begin.extend(pdata(1, 0, &[0; 16_000]));
    let with = |end: &[u8]| outcome_of(&[&begin[..], end].concat());
    assert_eq!(with(&pdu(7, &[0; 4])), "AC", "P35a");
    assert_eq!(
        with(&pdu(5, &[0; 4])),
        "AC RELRP",
        "P35d: table 9-10 allows it"
    );
    assert_eq!(with(&request(&[])), UNEXPECTED_PDU, "P35e");
    let mut server = Server::new(Limits::default());
    server.feed(&begin, &[]);
    server.close();
    assert_eq!(
        server.lines.last().map(String::as_str),
        Some("connection closed"),
        "P35b"
    );
}

#[test]
fn errors_say_where() {
    let mut server = Server::new(Limits::default());
    let rq = request(&[(1, VERIFICATION, &[IMPLICIT])]);
    let at = rq.len() as u64 + 6;
    let bytes = [rq, pdata(77, 3, &Command::echo().bytes())].concat();
    let space = server.association.read_space();
    space[..bytes.len()].copy_from_slice(&bytes);
    server.association.received(bytes.len(), server.now);
    server.act();
    assert_eq!(
        server.lines.last().map(String::as_str),
        Some(&*format!(
            "error Abort {{ source: 2, reason: 6 }}: presentation context 77 was not accepted \
             (byte {at} of the stream)"
        ))
    );
}

#[test]
fn nothing_is_read_after_an_error() {
    let mut server = Server::new(Limits::default());
    server.feed(b"GET / HTTP/1.1\r\n\r\n", &[]);
    let sent = server.outcome();
    server.feed(&vec![0; 1_000_000], &[]);
    server.feed(&request(&[(1, VERIFICATION, &[IMPLICIT])]), &[]);
    assert_eq!(server.outcome(), sent);
    assert!(server.association.is_closed());
    assert_eq!(server.lines.len(), 1);
}

#[test]
fn a_request_larger_than_the_buffer_is_taken() {
    let contexts: Vec<_> = (0..128).map(|n| (2 * n + 1, CT, [EXPLICIT; 30])).collect();
    let contexts: Vec<_> = contexts
        .iter()
        .map(|(id, c, t)| (*id, *c, &t[..]))
        .collect();
    let rq = request(&contexts);
    assert!(rq.len() > 64 * 1024);
    assert_eq!(outcome_of(&rq), "AC");
}

#[test]
fn memory_follows_the_bytes_and_not_the_length_fields() {
    let mut server = Server::new(Limits::default());
    server.feed(&request(&[(1, SECONDARY_CAPTURE, &[EXPLICIT])]), &[]);
    server.feed(&pdata(1, 3, &Command::store("1.2.3").bytes()), &[]);
    server.feed(
        &pdu_of_length(4, &pdv_of_length(1, 0, &[0; 100], 1_000_002), 1_000_006),
        &[1],
    );
    assert!(server.association.read_space().len() <= 8 * 1024);
    for _ in 0..10 {
        server.feed(&vec![0; 60_000], &[]);
    }
    assert!(server.association.read_space().len() <= 256 * 1024);
}

#[test]
fn the_kind_of_an_error_is_typed() {
    let mut server = Server::new(Limits::default());
    let bytes = pdu(9, b"");
    server.association.read_space()[..6].copy_from_slice(&bytes);
    server.association.received(6, server.now);
    match server.association.next_event() {
        Some(Event::ProtocolError(error)) => {
            assert!(matches!(error.kind, PeerErrorKind::Pdu(_)));
            assert_eq!(error.offset, 0);
        }
        other => panic!("{other:?}"),
    }
}

/// The outcome of a stream behind a request for verification.
fn verification(stream: &[u8]) -> String {
    outcome_of(&[&request(&[(1, VERIFICATION, &[IMPLICIT])])[..], stream].concat())
}
