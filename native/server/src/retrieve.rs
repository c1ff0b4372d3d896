//! What C-MOVE and C-GET share: finding the objects, choosing contexts, answering the requestor.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use pyserver_proto::association::Event;
use pyserver_proto::dataset::{Dataset, DatasetLimits};
use pyserver_proto::dimse::{CommandRequest, CommandResponse};
use pyserver_proto::query::{InformationModel, Query, QueryOptions};
use pyserver_proto::status::Status;
use pyserver_proto::uid::Uid;
use pyserver_store::conversion::Edit;
use pyserver_store::error::StoreError;
use pyserver_store::find::FindProgress;
use pyserver_store::held::Received;
use pyserver_store::locate::Located;
use pyserver_store::plan::BoundQuery;

use crate::error::LinkError;
use crate::link::Link;
use crate::log::{Level, escaped};
use crate::policy::{Hook, Ruling};
use crate::reply::Answer;
use crate::session::Session;
use crate::sub_operations::Books;

/// What a C-FIND is answered with when rules stop it.
const BLOCKED_QUERY: Status = Status(0xC011);
/// What a C-MOVE or C-GET is answered with when rules stop it.
const BLOCKED_RETRIEVE: Status = Status(0xC013);

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

/// The objects an identifier names, in the order they will be sent. `destination` is empty for C-GET.
pub fn locate(
    session: &Session,
    model: InformationModel,
    context_id: u8,
    identifier: &[u8],
    destination: &str,
) -> Result<Vec<Located>, Refused> {
    let identifier = revised(session, Hook::Retrieve, context_id, identifier, destination)?;
    let query = parse_query(session, model, context_id, &identifier)?;
    if let Some(policy) = session.rules_for(Hook::VirtualServers) {
        let syntax = session.syntax_of(context_id);
        if let Ok(object) = Received::from_dataset(identifier.to_vec(), syntax) {
            policy.bring(object, model, &session.origin());
        }
    }
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

/// An identifier as the site's rules leave it.
///
/// Errors: they stop the request, or one of them failed.
pub fn revised<'a>(
    session: &Session,
    hook: Hook,
    context_id: u8,
    identifier: &'a [u8],
    about: &str,
) -> Result<Cow<'a, [u8]>, Refused> {
    let Some(policy) = session.rules_for(hook) else {
        return Ok(Cow::Borrowed(identifier));
    };
    let unreadable = |error: StoreError| (Status::CANNOT_UNDERSTAND, error.to_string());
    let syntax = session.syntax_of(context_id);
    let object = Received::from_dataset(identifier.to_vec(), syntax).map_err(unreadable)?;
    // The statuses of a real Conquest.
    let status = if matches!(hook, Hook::Query | Hook::WorkListQuery) {
        BLOCKED_QUERY
    } else {
        BLOCKED_RETRIEVE
    };
    match policy.rule(hook, object, &session.origin(), about) {
        (_, Ruling::Drop) => Err((status, "a converter stops this request".to_owned())),
        (_, Ruling::Failed(why)) => Err((status, format!("a converter failed: {why}"))),
        (Some(object), _) => object.dataset().map(Cow::Owned).map_err(unreadable),
        (None, _) => Err((status, "the rules kept the identifier".to_owned())),
    }
}

/// What rules do to copies of objects that are sent.
pub fn edit(session: &Session, destination: &str) -> Option<Edit> {
    let policy = Arc::clone(session.rules_for(Hook::RetrieveResult)?);
    let (origin, destination) = (session.origin(), destination.to_owned());
    Some(Box::new(move |object| {
        match policy.rule(Hook::RetrieveResult, object, &origin, &destination) {
            (_, Ruling::Failed(why)) => Err(format!("a converter failed: {why}")),
            (_, Ruling::Drop) => Err("a converter keeps it here".to_owned()),
            (Some(object), _) => Ok(object),
            (None, _) => Err("the rules kept the object".to_owned()),
        }
    }))
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
