//! C-FIND SCP (PS3.4 C.4.1): rows become responses in the send buffer, a page at a time.
//!
//! A read transaction lives for one page; between pages the buffer is written and the socket is
//! looked at for C-CANCEL.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use pyserver_proto::dataset::{Dataset, DatasetLimits};
use pyserver_proto::dimse::{CFindRq, CommandRequest, CommandResponse};
use pyserver_proto::query::{InformationModel, Query};
use pyserver_proto::status::Status;
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_store::error::StoreError;
use pyserver_store::find::FindProgress;
use pyserver_store::held::Received;
use pyserver_store::plan::{BindOptions, BoundQuery};
use pyserver_store::respond::ResponseEncoder;

use crate::error::LinkError;
use crate::link::OUTPUT_BYTES_MAX;
use crate::log::{Level, escaped};
use crate::policy::{Hook, Policy, Ruling};
use crate::reply::Answer;
use crate::retrieve;
use crate::scp_worklist;
use crate::session::Session;
use crate::stats::Stats;

/// Rows read under one read transaction.
const PAGE_ROWS: usize = 256;

/// How a search ended.
pub enum End {
    /// Every match was sent.
    Complete,
    /// The peer wants no more.
    Cancelled,
    /// There are more matches than are allowed.
    Limit,
}

/// Answers one C-FIND.
pub fn perform(
    session: &mut Session,
    model: InformationModel,
    context_id: u8,
    request: &CFindRq,
    identifier: &[u8],
) -> Result<(), LinkError> {
    let began = Instant::now();
    Stats::add(&session.shared.stats.finds, 1);
    let asked = CommandRequest::CFind(request.clone());
    let mut matches = 0;
    let end = if model == InformationModel::ModalityWorklist {
        scp_worklist::search(session, context_id, &asked, identifier, &mut matches)
    } else {
        search(session, model, context_id, &asked, identifier, &mut matches)
    };
    Stats::add(&session.shared.stats.matches, matches);
    let (response, how) = match end {
        Ok(End::Complete) => (CommandResponse::to(&asked, Status::SUCCESS), "complete"),
        Ok(End::Cancelled) => (CommandResponse::to(&asked, Status::CANCEL), "cancelled"),
        Ok(End::Limit) => {
            let response = CommandResponse::to(&asked, Status::OUT_OF_RESOURCES)
                .with_comment("more matches than MaxFindResults");
            (response, "limit reached")
        }
        Err(SearchError::Refused(refused)) => {
            return retrieve::refuse(session, context_id, &asked, &refused);
        }
        Err(SearchError::Link(error)) => return Err(error),
    };
    let took = began.elapsed().as_secs_f64();
    session.log(
        Level::Info,
        format!("find: {matches} matches, {how}, {took:.3} s"),
    );
    if session.shared.log.debugs(2) {
        let text = format!("find identifier: {}", escaped(identifier));
        session.log(Level::Debug, text);
    }
    Answer {
        context_id,
        response,
    }
    .send(&mut session.link)
}

/// Why a search did not end.
pub enum SearchError {
    /// It is answered with a status.
    Refused(retrieve::Refused),
    /// There is nobody to answer any more.
    Link(LinkError),
}

impl From<LinkError> for SearchError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

/// The response that comes with each match, and how many matches are answered at most.
pub fn pending(session: &Session, asked: &CommandRequest) -> (Vec<u8>, u64) {
    let response = CommandResponse::to(asked, Status::PENDING).with_dataset();
    let limit = match session.settings.find_results_max {
        0 => u64::MAX,
        limit => limit,
    };
    (response.to_bytes(), limit)
}

/// A search that failed here.
pub fn unable(error: impl std::fmt::Display) -> SearchError {
    SearchError::Refused((Status::UNABLE_TO_PROCESS, error.to_string()))
}

fn search(
    session: &mut Session,
    model: InformationModel,
    context_id: u8,
    asked: &CommandRequest,
    identifier: &[u8],
    matches: &mut u64,
) -> Result<End, SearchError> {
    let identifier = retrieve::revised(session, Hook::Query, context_id, identifier, "")
        .map_err(SearchError::Refused)?;
    let query = retrieve::parse_query(session, model, context_id, &identifier)
        .map_err(SearchError::Refused)?;
    let archive = Arc::clone(&session.shared.archive);
    let options = BindOptions {
        own_ae: session.settings.ae_title.clone(),
        computed_fields: session.settings.computed_fields,
    };
    let bound = BoundQuery::bind(&query, archive.index(), &options)
        .map_err(|error| SearchError::Refused((Status(error.status()), error.to_string())))?;
    let mut encoder =
        ResponseEncoder::new(&bound, session.syntax_of(context_id).encoding().explicit);
    let (pending, limit) = pending(session, asked);
    let result_rules = session.rules_for(Hook::QueryResult).cloned();
    let mut known = session
        .rules_for(Hook::VirtualServers)
        .map(|_| Known::new(&query, session.syntax_of(context_id)));
    let mut record = Vec::with_capacity(1024);
    let mut held = Vec::new();
    let mut answers = archive.answers(&bound).map_err(unable)?;
    loop {
        let association = &mut session.link.association;
        let progress = answers
            .page(PAGE_ROWS, &mut |row| {
                if *matches >= limit {
                    return ControlFlow::Break(());
                }
                *matches += 1;
                record.clear();
                encoder.encode(row, &mut record);
                if let Some(known) = &mut known {
                    known.add(&record);
                }
                if result_rules.is_some() {
                    held.push(record.clone());
                    return ControlFlow::Continue(());
                }
                association.send_command(context_id, &pending);
                association.send_dataset(context_id, &record);
                ControlFlow::Continue(())
            })
            .map_err(unable)?;
        // Rules may ask the index, so they wait until the page's transaction has ended.
        for record in held.drain(..) {
            let hook = Hook::QueryResult;
            let Some(record) = revised(session, hook, result_rules.as_ref(), context_id, record)
            else {
                continue;
            };
            let association = &mut session.link.association;
            association.send_command(context_id, &pending);
            association.send_dataset(context_id, &record);
        }
        let more = progress == FindProgress::More;
        if *matches >= limit && more {
            return Ok(End::Limit);
        }
        if !more {
            break;
        }
        if session.link.association.output().len() >= OUTPUT_BYTES_MAX {
            session.link.flush().map_err(LinkError::from)?;
        }
        if retrieve::cancelled(&mut session.link, asked.message_id())? {
            return Ok(End::Cancelled);
        }
    }
    drop(answers);
    match &mut known {
        None => Ok(End::Complete),
        Some(known) => {
            let context = (context_id, pending.as_slice());
            elsewhere(
                session,
                model,
                context,
                &identifier,
                known,
                (matches, limit),
            )
        }
    }
}

/// Answers that were given already, by the unique key of their level.
struct Known {
    key: Tag,
    syntax: TransferSyntax,
    values: HashSet<Vec<u8>>,
}

impl Known {
    fn new(query: &Query, syntax: TransferSyntax) -> Self {
        Self {
            key: query.level.unique_key().unwrap_or(Tag::PATIENT_ID),
            syntax,
            values: HashSet::new(),
        }
    }

    /// Notes an answer; whether it is new.
    fn add(&mut self, record: &[u8]) -> bool {
        let answer = Dataset::decode(record, self.syntax, &DatasetLimits::default());
        let value = answer
            .ok()
            .and_then(|a| a.bytes(self.key).map(<[u8]>::to_vec));
        value.is_some_and(|value| self.values.insert(value))
    }
}

/// Sends what virtual servers answer and this one has not.
fn elsewhere(
    session: &mut Session,
    model: InformationModel,
    (context_id, pending): (u8, &[u8]),
    identifier: &[u8],
    known: &mut Known,
    (matches, limit): (&mut u64, u64),
) -> Result<End, SearchError> {
    let Some(policy) = session.rules_for(Hook::VirtualServers).cloned() else {
        return Ok(End::Complete);
    };
    // What was found here goes out while others are asked.
    session.link.flush().map_err(LinkError::from)?;
    let syntax = session.syntax_of(context_id);
    let object = Received::from_dataset(identifier.to_vec(), syntax).map_err(unable)?;
    let answers = policy.elsewhere(object, model, &session.origin());
    let rules = session.rules_for(Hook::QueryResult).cloned();
    for answer in answers {
        let mut record = answer.dataset().map_err(unable)?;
        if !known.add(&record) {
            continue;
        }
        if *matches >= limit {
            return Ok(End::Limit);
        }
        *matches += 1;
        if rules.is_some() {
            match revised(
                session,
                Hook::QueryResult,
                rules.as_ref(),
                context_id,
                record,
            ) {
                Some(ruled) => record = ruled,
                None => continue,
            }
        }
        let association = &mut session.link.association;
        association.send_command(context_id, pending);
        association.send_dataset(context_id, &record);
        if association.output().len() >= OUTPUT_BYTES_MAX {
            session.link.flush().map_err(LinkError::from)?;
        }
    }
    Ok(End::Complete)
}

/// An answer as the site's rules leave it; `None`: it is not given. One whose rule failed is not given
/// either.
pub fn revised(
    session: &Session,
    hook: Hook,
    rules: Option<&Arc<dyn Policy>>,
    context_id: u8,
    record: Vec<u8>,
) -> Option<Vec<u8>> {
    let policy = rules?;
    let object = Received::from_dataset(record, session.syntax_of(context_id));
    let ruled = object.map(|object| policy.rule(hook, object, &session.origin(), ""));
    let revised = ruled.and_then(|(object, ruling)| match (object, ruling) {
        (_, Ruling::Failed(why)) => Err(StoreError::Config(why)),
        (Some(object), Ruling::Keep | Ruling::Retry) => object.dataset().map(Some),
        (_, Ruling::Drop) | (None, _) => Ok(None),
    });
    revised.unwrap_or_else(|error| {
        session.log(Level::Warning, format!("an answer is left out: {error}"));
        None
    })
}
