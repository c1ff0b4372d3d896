//! C-STORE SCP (PS3.4 annex B): fragments go straight into the archive; the archive says the status.
//!
//! The answer is sent when the archive has made the object as safe as the site asked for. A store
//! that fails half way keeps taking fragments, drops them, and answers at the end.

use std::time::{Duration, Instant};

use pyserver_proto::dimse::{CStoreRq, CommandRequest, CommandResponse};
use pyserver_proto::status::Status;
use pyserver_store::error::StoreError;
use pyserver_store::incoming::{Incoming, ReceiveContext, StoreTimes};

use crate::error::LinkError;
use crate::log::{Level, escaped};
use crate::reply::Answer;
use crate::session::Session;
use crate::stats::Stats;

/// One object on its way in.
pub struct StoreReceiver {
    context_id: u8,
    request: CStoreRq,
    incoming: Result<Incoming, StoreError>,
    bytes: u64,
    began: Instant,
}

impl StoreReceiver {
    /// Opens a place in the archive; a failure is answered when the data set is in.
    pub fn begin(session: &mut Session, context_id: u8, request: CStoreRq) -> Self {
        let began = Instant::now();
        session.link.waited = Duration::ZERO;
        let incoming = session.shared.archive.begin(&ReceiveContext {
            calling_ae: &session.calling_ae,
            called_ae: &session.called_ae,
            transfer_syntax: session.syntax_of(context_id),
            sop_class_uid: request.sop_class_uid.as_str(),
            sop_instance_uid: request.sop_instance_uid.as_str(),
            durability: None,
        });
        Self {
            context_id,
            request,
            incoming,
            bytes: 0,
            began,
        }
    }

    /// Takes one fragment.
    pub fn take(&mut self, fragment: &[u8]) {
        self.bytes += fragment.len() as u64;
        if let Ok(incoming) = &mut self.incoming
            && let Err(error) = incoming.write(fragment)
        {
            // Dropping the half-written object removes every trace of it.
            self.incoming = Err(error);
        }
    }

    /// The data set is whole: makes it safe and answers.
    pub fn finish(self, session: &mut Session) -> Result<(), LinkError> {
        let Self {
            context_id,
            request,
            incoming,
            bytes,
            began,
        } = self;
        let outcome = incoming.and_then(Incoming::finish);
        let sop = request.sop_instance_uid;
        let stats = &session.shared.stats;
        let (status, comment) = match &outcome {
            Ok(_) => {
                Stats::add(&stats.stores, 1);
                Stats::add(&stats.bytes_stored, bytes);
                session.tally.stored += 1;
                session.tally.bytes += bytes;
                (Status::SUCCESS, String::new())
            }
            Err(error) => {
                Stats::add(&stats.stores_refused, 1);
                session.tally.refused += 1;
                (Status(error.status()), error.to_string())
            }
        };
        let before_reply = Instant::now();
        let mut response = CommandResponse::to(&CommandRequest::CStore(request), status);
        if !comment.is_empty() {
            response = response.with_comment(&comment);
        }
        Answer {
            context_id,
            response,
        }
        .send(&mut session.link)?;
        let reply = before_reply.elapsed();
        let took = began.elapsed().as_secs_f64() * 1e3;
        match outcome {
            Ok(stored) => {
                let StoreTimes {
                    scan,
                    write,
                    sync,
                    index,
                    place,
                } = stored.times;
                let phases = [
                    (&stats.network_ns, session.link.waited),
                    (&stats.scan_ns, scan),
                    (&stats.write_ns, write),
                    (&stats.sync_ns, sync),
                    (&stats.index_ns, index),
                    (&stats.place_ns, place),
                    (&stats.reply_ns, reply),
                ];
                for (counter, spent) in phases {
                    Stats::add(counter, spent.as_nanos() as u64);
                }
                let text = format!(
                    "stored {sop} as {}: {bytes} bytes, {took:.1} ms",
                    stored.file
                );
                session.log(Level::Info, text);
                for warning in &stored.warnings {
                    session.log(Level::Warning, escaped(warning.as_bytes()));
                }
            }
            Err(error) => {
                let sop = escaped(sop.as_str().as_bytes());
                let why = escaped(error.to_string().as_bytes());
                session.log(
                    Level::Warning,
                    format!("refused {sop} with {status}: {why}"),
                );
            }
        }
        Ok(())
    }
}
