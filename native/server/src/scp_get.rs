//! C-GET SCP (PS3.4 C.4.3): the objects come back on the association that asked for them.

use std::sync::Arc;
use std::time::Instant;

use pyserver_proto::association::Event;
use pyserver_proto::dimse::{CGetRq, CStoreRq, CommandRequest, CommandSet, Priority};
use pyserver_proto::query::InformationModel;
use pyserver_proto::status::Status;
use pyserver_store::lookahead::LookAhead;

use crate::error::LinkError;
use crate::log::Level;
use crate::outgoing::{conversion, fits, ranked};
use crate::peers::Compression;
use crate::reply::Answer;
use crate::retrieve::{self, Identity};
use crate::send_object::{SendError, Sender};
use crate::session::Session;
use crate::stats::Stats;
use crate::sub_operations::{Books, PENDING_EVERY_SOME};

/// Answers one C-GET.
pub fn perform(
    session: &mut Session,
    model: InformationModel,
    context_id: u8,
    request: &CGetRq,
    identifier: &[u8],
) -> Result<(), LinkError> {
    let began = Instant::now();
    Stats::add(&session.shared.stats.gets, 1);
    let message_id = request.message_id;
    let request = CommandRequest::CGet(request.clone());
    let located = match retrieve::locate(session, model, context_id, identifier, "") {
        Ok(located) => located,
        Err(refused) => return retrieve::refuse(session, context_id, &request, &refused),
    };
    let mut books = Books::new(located.len(), PENDING_EVERY_SOME);
    let mut sender = Sender::default();
    let mut bytes = 0;
    let mut cancelled = retrieve::cancelled(&mut session.link, message_id)?;
    let mut sub_message_id: u16 = 0;
    let settings = &session.settings;
    let archive = &session.shared.archive;
    let codecs = session.shared.codecs.as_ref();
    let mut contexts = session.link.association.contexts().to_vec();
    contexts.retain(|context| context.scp_role);
    // What the requestor proposed is what it wants; acrnema.map is about associations of ours.
    let compression = Compression::default();
    let conversion = conversion(
        codecs.map(Arc::clone),
        contexts.clone(),
        compression.clone(),
        settings.lossy_quality,
        retrieve::edit(session, &session.calling_ae),
    );
    let ahead = LookAhead::start_converting(
        archive,
        located,
        settings.read_ahead,
        settings.read_ahead_bytes,
        Some(conversion),
    );
    for ready in ahead {
        if cancelled {
            break;
        }
        let identity = Identity::of(&ready.located);
        let instance = identity.sop_instance;
        let object = match ready.object {
            Ok(object) => object,
            Err(error) => {
                session.log(Level::Warning, format!("cannot send {instance}: {error}"));
                books.fail(instance);
                continue;
            }
        };
        let ranked = ranked(&contexts, &identity, &compression, |_| true);
        let context = ranked.into_iter().find(|context| fits(&object, context));
        let context = context.cloned();
        let Some(context) = context else {
            let text = format!(
                "cannot send {instance}: no context with the SCP role for class {} in {}",
                identity.sop_class, identity.transfer_syntax
            );
            session.log(Level::Warning, text);
            books.fail(instance);
            continue;
        };
        sub_message_id = sub_message_id.wrapping_add(1).max(1);
        let store = CStoreRq {
            message_id: sub_message_id,
            sop_class_uid: identity.sop_class,
            sop_instance_uid: instance,
            priority: Priority::Medium,
            move_originator_ae: None,
            move_originator_message_id: None,
        };
        let link = &mut session.link;
        match sender.send(link, (context.id, context.transfer_syntax), store, &object) {
            Ok(()) => {}
            Err(SendError::Object(why)) => {
                session.log(Level::Warning, format!("cannot send {instance}: {why}"));
                books.fail(instance);
                continue;
            }
            Err(SendError::Link(error)) => return Err(error),
        }
        bytes += object.length;
        let (status, cancel) = await_response(session, sub_message_id, message_id)?;
        cancelled |= cancel;
        books.answered(instance, status);
        if let Some(response) = books.pending(&request) {
            Answer {
                context_id,
                response,
            }
            .queue(&mut session.link);
        }
    }
    session.sent(&books, bytes);
    let text = format!(
        "get: {} objects sent, {} failed, {bytes} bytes, {:.3} s",
        books.arrived(),
        books.failed(),
        began.elapsed().as_secs_f64()
    );
    session.log(Level::Info, text);
    retrieve::conclude(session, context_id, &request, &books, cancelled)
}

/// Waits for the C-STORE-RSP; a C-CANCEL that comes before it is remembered.
fn await_response(
    session: &mut Session,
    sub_message_id: u16,
    get_message_id: u16,
) -> Result<(Status, bool), LinkError> {
    let timeout = session.settings.dimse_timeout;
    let deadline = Instant::now() + timeout;
    let mut cancelled = false;
    loop {
        match session.link.association.next_event() {
            Some(Event::Command { command, .. }) => {
                if let Some(status) = store_status(&command, sub_message_id) {
                    return Ok((status, cancelled));
                }
                match command.parse() {
                    Ok(CommandRequest::CCancel(cancel)) => {
                        cancelled |= cancel.message_id_being_responded_to == get_message_id;
                    }
                    _ => return Err(LinkError::Unexpected("another message than C-STORE-RSP")),
                }
            }
            Some(event) => return Err(LinkError::from_event(&event)),
            None if Instant::now() >= deadline => return Err(LinkError::Silent(timeout)),
            None => {
                session.link.receive()?;
            }
        }
    }
}

fn store_status(command: &CommandSet, message_id: u16) -> Option<Status> {
    let response = command.parse_response()?;
    (response.message_id == message_id).then_some(response.status)
}
