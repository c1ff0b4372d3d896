//! Round trips of every PDU and command set, and decoders under arbitrary bytes.

use proptest::prelude::*;
use pyserver_proto::ae::AeTitle;
use pyserver_proto::association::Limits;
use pyserver_proto::dimse::{
    CCancelRq, CEchoRq, CFindRq, CGetRq, CMoveRq, CStoreRq, CommandRequest, CommandResponse,
    CommandSet, NOperation, NServiceRq, Priority, SubOperations,
};
use pyserver_proto::pdu::{
    AcContext, AssociateAc, AssociateRq, CommonExtended, ContextResult, Pdu, PdvHeader,
    ProposedContext, Rejection, RoleSelection, SopClassExtended, UserIdentity, UserInfo,
};
use pyserver_proto::status::{STATUSES, Status, StatusClass};
use pyserver_proto::tag::Tag;
use pyserver_proto::uid::Uid;

use crate::support::{CT, Command, EXPLICIT, Server, pdata, request, uid};

fn any_uid() -> impl Strategy<Value = Uid> {
    "[0-9](\\.[0-9]{1,6}){0,8}".prop_map(|text| uid(&text))
}

fn any_title() -> impl Strategy<Value = AeTitle> {
    "[!-\\[\\]-~]{1,16}".prop_map(|text| AeTitle::new(&text).unwrap())
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

fn ids() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::btree_set(0u8..128, 0..20)
        .prop_map(|ids| ids.into_iter().map(|n| 2 * n + 1).collect())
}

prop_compose! {
    fn any_user_info(request: bool)(
        (max_pdu, class, version) in (
            any::<Option<u32>>(), prop::option::of(any_uid()), "[!-~]{0,16}"
        ),
        roles in prop::collection::vec((any_uid(), any::<bool>(), any::<bool>()), 0..4),
        async_window in any::<Option<(u16, u16)>>(),
        extended in prop::collection::vec((any_uid(), bytes(40)), 0..4),
        common in prop::collection::vec(
            (any_uid(), any_uid(), prop::collection::vec(any_uid(), 0..3)), 0..3
        ),
        identity in prop::option::of((any::<u8>(), any::<bool>(), bytes(40), bytes(40))),
        response in prop::option::of(bytes(40)),
    ) -> UserInfo {
        let role = |(sop_class_uid, scu, scp)| RoleSelection { sop_class_uid, scu, scp };
        let extension =
            |(sop_class_uid, information)| SopClassExtended { sop_class_uid, information };
        let common_extension = |(sop_class_uid, service_class_uid, related)| CommonExtended {
            sop_class_uid, service_class_uid, related,
        };
        let user = |(kind, response_requested, primary, secondary)| UserIdentity {
            kind, response_requested, primary, secondary,
        };
        UserInfo {
            max_pdu,
            implementation_class_uid: class,
            implementation_version: version,
            roles: roles.into_iter().map(role).collect(),
            async_window,
            sop_class_extended: extended.into_iter().map(extension).collect(),
            common_extended: common.into_iter().map(common_extension).collect(),
            user_identity: identity.map(user).filter(|_| request),
            user_identity_response: response.filter(|_| !request),
        }
    }
}

prop_compose! {
    fn any_rq()(
        (called, calling) in (any_title(), any_title()),
        ids in ids(),
        uids in prop::collection::vec(any_uid(), 5),
        info in any_user_info(true),
    ) -> AssociateRq {
        let context = |id: u8| ProposedContext {
            id,
            abstract_syntax: uids[usize::from(id) % 5],
            transfer_syntaxes: uids[..usize::from(id) % 5].to_vec(),
        };
        let contexts = ids.into_iter().map(context).collect();
        let mut rq = AssociateRq::new(called, calling, contexts);
        rq.user_info = info;
        rq
    }
}

fn any_ac() -> impl Strategy<Value = AssociateAc> {
    (any_rq(), any_user_info(false), any_uid()).prop_map(|(rq, info, syntax)| {
        let reply = |c: &ProposedContext| {
            let result = ContextResult::from_byte(c.id % 5);
            let accepted = result == ContextResult::Accepted;
            AcContext {
                id: c.id,
                result,
                transfer_syntax: accepted.then_some(syntax),
            }
        };
        let replies = rq.contexts.iter().map(reply).collect();
        AssociateAc::new(&rq, replies, info)
    })
}

fn any_pdu() -> impl Strategy<Value = Pdu> {
    let value = (any::<u8>(), any::<bool>(), any::<bool>(), bytes(300));
    let value = value.prop_map(|(context_id, command, last, data)| {
        (
            PdvHeader {
                payload: data.len() as u32,
                context_id,
                command,
                last,
            },
            data,
        )
    });
    prop_oneof![
        any_rq().prop_map(|rq| Pdu::AssociateRq(Box::new(rq))),
        any_ac().prop_map(|ac| Pdu::AssociateAc(Box::new(ac))),
        any::<(u8, u8, u8)>().prop_map(|(result, source, reason)| {
            Pdu::AssociateRj(Rejection {
                result,
                source,
                reason,
            })
        }),
        prop::collection::vec(value, 1..5).prop_map(Pdu::PData),
        Just(Pdu::ReleaseRq),
        Just(Pdu::ReleaseRp),
        any::<(u8, u8)>().prop_map(|(source, reason)| Pdu::Abort { source, reason }),
    ]
}

fn any_priority() -> impl Strategy<Value = Priority> {
    prop_oneof![
        Just(Priority::Medium),
        Just(Priority::High),
        Just(Priority::Low)
    ]
}

fn any_n_service() -> impl Strategy<Value = NServiceRq> {
    let operations = [
        NOperation::EventReport,
        NOperation::Get,
        NOperation::Set,
        NOperation::Action,
        NOperation::Create,
        NOperation::Delete,
    ];
    let attributes = prop::collection::vec(any::<u32>().prop_map(Tag), 0..5);
    let fields = (
        any::<u16>(),
        any_uid(),
        any_uid(),
        any::<u16>(),
        any::<bool>(),
    );
    (
        prop::sample::select(operations.to_vec()),
        attributes,
        fields,
    )
        .prop_map(
            |(operation, attributes, (message_id, class, instance, type_id, flag))| {
                let typed = matches!(operation, NOperation::EventReport | NOperation::Action);
                let unnamed = operation == NOperation::Create && flag;
                NServiceRq {
                    operation,
                    message_id,
                    sop_class_uid: class,
                    sop_instance_uid: (!unnamed).then_some(instance),
                    type_id: typed.then_some(type_id),
                    attributes,
                    has_dataset: flag,
                }
            },
        )
}

fn any_request() -> impl Strategy<Value = CommandRequest> {
    let c = || (any::<u16>(), any_uid(), any_priority());
    prop_oneof![
        (any::<u16>(), any_uid()).prop_map(|(message_id, sop_class_uid)| {
            CommandRequest::CEcho(CEchoRq {
                message_id,
                sop_class_uid,
            })
        }),
        (
            c(),
            any_uid(),
            prop::option::of(any_title()),
            any::<Option<u16>>()
        )
            .prop_map(
                |((message_id, sop_class_uid, priority), sop_instance_uid, ae, id)| {
                    CommandRequest::CStore(CStoreRq {
                        message_id,
                        sop_class_uid,
                        sop_instance_uid,
                        priority,
                        move_originator_ae: ae,
                        move_originator_message_id: id,
                    })
                }
            ),
        c().prop_map(|(message_id, sop_class_uid, priority)| {
            CommandRequest::CFind(CFindRq {
                message_id,
                sop_class_uid,
                priority,
            })
        }),
        c().prop_map(|(message_id, sop_class_uid, priority)| {
            CommandRequest::CGet(CGetRq {
                message_id,
                sop_class_uid,
                priority,
            })
        }),
        (c(), any_title()).prop_map(|((message_id, sop_class_uid, priority), destination)| {
            CommandRequest::CMove(CMoveRq {
                message_id,
                sop_class_uid,
                priority,
                destination,
            })
        }),
        any::<u16>().prop_map(|message_id_being_responded_to| {
            CommandRequest::CCancel(CCancelRq {
                message_id_being_responded_to,
            })
        }),
        any_n_service().prop_map(CommandRequest::NService),
    ]
}

prop_compose! {
    fn any_response()(
        request in any_request().prop_filter("no response", |rq| rq.sop_class_uid().is_some()),
        status in any::<u16>(),
        counts in any::<Option<(Option<u16>, u16, u16, u16)>>(),
        comment in "[!-\\[\\]-~]{0,64}",
        offending in prop::collection::vec(any::<u32>().prop_map(Tag), 0..4),
        has_dataset in any::<bool>(),
    ) -> CommandResponse {
        let mut response = CommandResponse::to(&request, Status(status)).with_comment(&comment);
        response.sub_operations = counts.map(|(remaining, completed, failed, warning)| {
            SubOperations { remaining, completed, failed, warning }
        });
        response.offending = offending;
        response.has_dataset = has_dataset;
        response
    }
}

proptest! {
    #[test]
    fn pdus_round_trip(pdu in any_pdu(), behind in bytes(20)) {
        let mut out = Vec::new();
        pdu.encode(&mut out);
        let n = out.len();
        out.extend(behind);
        prop_assert_eq!(Pdu::decode(&out, u32::MAX), Ok(Some((pdu, n))));
        for cut in [0, 1, 5, 6, n / 2, n - 1] {
            prop_assert_eq!(Pdu::decode(&out[..cut], u32::MAX), Ok(None));
        }
    }

    #[test]
    fn requests_round_trip(request in any_request()) {
        let command = CommandSet::decode(&request.to_bytes()).unwrap();
        prop_assert_eq!(command.unanswerable(), None);
        prop_assert_eq!(command.parse(), Ok(request));
    }

    #[test]
    fn responses_round_trip(response in any_response()) {
        let bytes = response.to_bytes();
        prop_assert_eq!(bytes.len() % 2, 0);
        let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
        prop_assert_eq!(length, bytes.len() - 12, "group length");
        let command = CommandSet::decode(&bytes).unwrap();
        prop_assert_eq!(command.parse_response(), Some(response));
    }

    #[test]
    fn elements_rise(request in any_request(), response in any_response()) {
        for bytes in [request.to_bytes(), response.to_bytes()] {
            let command = CommandSet::decode(&bytes).unwrap();
            let tags: Vec<_> = command.elements().map(|(tag, _)| tag.0).collect();
            prop_assert!(tags.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn decoders_take_any_bytes(bytes in bytes(400), kind in 1u8..8) {
        let _ = Pdu::decode(&bytes, 65_536);
        let _ = Pdu::decode(&crate::support::pdu(kind, &bytes), 65_536);
        if let Ok(command) = CommandSet::decode(&bytes) {
            let _ = (command.parse(), command.parse_response(), command.unanswerable());
            prop_assert_eq!(command.as_bytes(), &bytes[..]);
        }
    }

    #[test]
    fn every_parse_error_of_an_answerable_command_has_a_response(
        field in prop::sample::select(vec![1u16, 0x10, 0x20, 0x21, 0x30, 0x100, 0x110, 0x130]),
        elements in prop::collection::vec((0u16..0x1100, bytes(20)), 0..6),
    ) {
        let mut command = Command::of(field).us(0x0110, 1);
        for (element, value) in elements {
            command = command.raw(element, &value);
        }
        if let Ok(command) = CommandSet::decode(&command.elements())
            && command.unanswerable().is_none()
            && let Err(error) = command.parse()
        {
            let answered = error.response(&command).is_some();
            prop_assert!(answered || command.is_response());
        }
    }

    #[test]
    fn a_damaged_stream_ends_the_same_way_however_it_is_cut(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cuts in prop::collection::vec(1usize..100, 1..10),
    ) {
        let mut stream = request(&[(1, CT, &[EXPLICIT])]);
        for _ in 0..3 {
            let store = Command::store("1.2.3").bytes();
            stream.extend(pdata(1, 1, &store[..50]));
            stream.extend(pdata(1, 3, &store[50..]));
            stream.extend(pdata(1, 0, &[7; 300]));
            stream.extend(pdata(1, 2, &[7; 300]));
        }
        stream.extend(crate::support::pdu(5, &[0; 4]));
        for (at, byte) in damage {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        let run = |cuts: &[usize]| {
            let mut server = Server::new(Limits::default());
            server.feed(&stream, cuts);
            server.close();
            (server.lines, server.sent)
        };
        prop_assert_eq!(run(&cuts), run(&[]));
    }

    #[test]
    fn titles_survive_the_wire(title in any_title()) {
        prop_assert_eq!(AeTitle::from_wire(&title.to_wire()), title);
    }

    #[test]
    fn any_title_field_is_harmless(field in prop::array::uniform16(any::<u8>())) {
        let title = AeTitle::from_wire(&field);
        prop_assert!(title.as_str().bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'\\'));
    }

    #[test]
    fn every_status_has_a_class_and_a_meaning(code in any::<u16>()) {
        let status = Status(code);
        prop_assert!(!status.meaning().is_empty());
        prop_assert_eq!(status.is_pending(), status.class() == StatusClass::Pending);
    }
}

#[test]
fn statuses_rise_and_have_the_classes_of_the_standard() {
    assert!(STATUSES.is_sorted_by_key(|(status, _)| status.0));
    for (code, class) in [
        (0x0000, StatusClass::Success),
        (0x0001, StatusClass::Warning),
        (0x0107, StatusClass::Warning),
        (0x0110, StatusClass::Failure),
        (0xa700, StatusClass::Failure),
        (0xb000, StatusClass::Warning),
        (0xbfff, StatusClass::Warning),
        (0xc001, StatusClass::Failure),
        (0xfe00, StatusClass::Cancel),
        (0xff00, StatusClass::Pending),
        (0xff01, StatusClass::Pending),
    ] {
        assert_eq!(Status(code).class(), class, "{code:04X}");
    }
    assert_eq!(Status(0xa7ff).meaning(), "Out of resources");
    assert_eq!(Status::PENDING.to_string(), "FF00 (Pending)");
}
