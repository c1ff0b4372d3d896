//! C-FIND SCP of the modality worklist (PS3.4 annex K).
//!
//! Entries come a page at a time, each under a transaction of its own; rules see each answer before it is sent.

use std::sync::Arc;

use pyserver_proto::dimse::CommandRequest;
use pyserver_proto::query::InformationModel;
use pyserver_store::worklist_query::WorklistQuery;

use crate::error::LinkError;
use crate::link::OUTPUT_BYTES_MAX;
use crate::policy::Hook;
use crate::retrieve;
use crate::scp_find::{End, SearchError, pending, revised, unable};
use crate::session::Session;

/// Sends the entries that match; counts them in `matches`.
pub fn search(
    session: &mut Session,
    context_id: u8,
    asked: &CommandRequest,
    identifier: &[u8],
    matches: &mut u64,
) -> Result<End, SearchError> {
    let identifier = retrieve::revised(session, Hook::WorkListQuery, context_id, identifier, "")
        .map_err(SearchError::Refused)?;
    let model = InformationModel::ModalityWorklist;
    let query = retrieve::parse_query(session, model, context_id, &identifier)
        .map_err(SearchError::Refused)?;
    let archive = Arc::clone(&session.shared.archive);
    let charset = &archive.config().worklist_charset;
    let bound = WorklistQuery::bind(&query, archive.index().columns(), charset);
    let syntax = session.syntax_of(context_id);
    let (pending, limit) = pending(session, asked);
    let hook = Hook::ModalityWorkListQueryResult;
    let rules = session.rules_for(hook).cloned();
    let mut entries = archive.worklist(&bound.conditions()).map_err(unable)?;
    loop {
        let (page, more) = entries.page().map_err(unable)?;
        for entry in page.iter().filter(|entry| bound.matches(entry)) {
            if *matches >= limit {
                return Ok(End::Limit);
            }
            *matches += 1;
            let mut record = Vec::new();
            bound.answer(entry).encode(syntax, &mut record);
            if rules.is_some() {
                match revised(session, hook, rules.as_ref(), context_id, record) {
                    Some(ruled) => record = ruled,
                    None => continue,
                }
            }
            let association = &mut session.link.association;
            association.send_command(context_id, &pending);
            association.send_dataset(context_id, &record);
            if association.output().len() >= OUTPUT_BYTES_MAX {
                session.link.flush().map_err(LinkError::from)?;
            }
        }
        if !more {
            return Ok(End::Complete);
        }
        if retrieve::cancelled(&mut session.link, asked.message_id())? {
            return Ok(End::Cancelled);
        }
    }
}
