//! What C-MOVE and C-GET share: finding the objects, choosing contexts, answering the requestor.

use std::time::Instant;

use pyserver_proto::association::Event;
use pyserver_proto::dataset::{Dataset, DatasetLimits};
use pyserver_proto::dimse::{CommandRequest, CommandResponse};
use pyserver_proto::query::{InformationModel, Query, QueryOptions};
use pyserver_proto::status::Status;
use pyserver_proto::uid::Uid;
use pyserver_store::find::FindProgress;
use pyserver_store::locate::Located;
use pyserver_store::plan::BoundQuery;

use crate::error::LinkError;
use crate::link::Link;
use crate::log::{Level, escaped};
use crate::reply::Answer;
use crate::session::Session;
use crate::sub_operations::Books;

/// Rows read under one read transaction.
const PAGE_ROWS: usize = 256;

/// The identifiers of a stored object, as the protocol wants them.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// SOP class.
    pub sop_class: Uid,
    /// SOP instance.
    pub sop_instance: Uid,
    /// Transfer syntax of the file.
    pub transfer_syntax: Uid,
}

impl Identity {
    /// Of an object in the archive.
    pub fn of(located: &Located) -> Self {
        // What is no identifier never gets a context, and fails by itself.
        let uid = |text: &str| text.parse::<Uid>().unwrap_or_default();
        Self {
            sop_class: uid(&located.sop_class),
            sop_instance: uid(&located.sop_instance),
            transfer_syntax: uid(&located.transfer_syntax),
        }
    }
}

/// A refusal of the whole retrieve: status and reason.
pub type Refused = (Status, String);

/// The objects an identifier names, in the order they will be sent.
pub fn locate(
    session: &Session,
    model: InformationModel,
    context_id: u8,
    identifier: &[u8],
) -> Result<Vec<Located>, Refused> {
    let query = parse_query(session, model, context_id, identifier)?;
    let archive = &session.shared.archive;
    let bound = BoundQuery::bind_retrieve(&query, archive.index())
        .map_err(|error| (Status(error.status()), error.to_string()))?;
    let unable = |error: &dyn std::fmt::Display| (Status::UNABLE_TO_PROCESS, error.to_string());
    let mut objects = Vec::new();
    let mut images = archive.images(&bound).map_err(|error| unable(&error))?;
    loop {
        let (page, progress) = images.locate(PAGE_ROWS).map_err(|error| unable(&error))?;
        objects.extend(page);
        if progress == FindProgress::Done {
            return Ok(objects);
        }
    }
}

/// Reads an identifier in the syntax of its context.
pub fn parse_query(
    session: &Session,
    model: InformationModel,
    context_id: u8,
    identifier: &[u8],
) -> Result<Query, Refused> {
    let syntax = session.syntax_of(context_id);
    let dataset = Dataset::decode(identifier, syntax, &DatasetLimits::default())
        .map_err(|error| (Status::CANNOT_UNDERSTAND, error.to_string()))?;
    Query::parse(model, &dataset, &QueryOptions::default())
        .map_err(|error| (Status(error.status), error.text))
}

/// Answers a request that is refused as a whole.
pub fn refuse(
    session: &mut Session,
    context_id: u8,
    request: &CommandRequest,
    refused: &Refused,
) -> Result<(), LinkError> {
    let (status, why) = refused;
    session.log(
        Level::Warning,
        format!("refused with {status}: {}", escaped(why.as_bytes())),
    );
    let response = CommandResponse::to(request, *status).with_comment(why);
    Answer {
        context_id,
        response,
    }
    .send(&mut session.link)
}

/// Sends the final response with the list of failed instances.
pub fn conclude(
    session: &mut Session,
    context_id: u8,
    request: &CommandRequest,
    books: &Books,
    cancelled: bool,
) -> Result<(), LinkError> {
    let (response, failed) = books.last(request, cancelled);
    let answer = Answer {
        context_id,
        response,
    };
    match failed {
        None => answer.send(&mut session.link),
        Some(list) => {
            let syntax = session.syntax_of(context_id);
            let mut bytes = Vec::new();
            list.encode(syntax, &mut bytes);
            answer.send_with(&mut session.link, &bytes)
        }
    }
}

/// Whether a C-CANCEL for `message_id` has come, without waiting for it.
///
/// Errors: the requestor went away or broke the protocol.
pub fn cancelled(link: &mut Link, message_id: u16) -> Result<bool, LinkError> {
    // The requestor waits for us: its silence is none.
    link.association.activity(Instant::now());
    link.receive_ready()?;
    let mut cancelled = false;
    loop {
        match link.association.next_event() {
            None => return Ok(cancelled),
            Some(Event::Command { command, .. }) => match command.parse() {
                Ok(CommandRequest::CCancel(cancel)) => {
                    cancelled |= cancel.message_id_being_responded_to == message_id;
                }
                _ => return Err(LinkError::Unexpected("another request before the answer")),
            },
            Some(event) => return Err(LinkError::from_event(&event)),
        }
    }
}
