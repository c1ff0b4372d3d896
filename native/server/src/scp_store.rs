//! C-STORE SCP (PS3.4 annex B): fragments go straight into the archive; the archive says the status.
//!
//! The answer is sent when the archive has made the object as safe as the site asked for. A store
//! that fails half way keeps taking fragments, drops them, and answers at the end.

use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pyserver_proto::dimse::{CStoreRq, CommandRequest, CommandResponse};
use pyserver_proto::status::Status;
use pyserver_proto::tag::Tag;
use pyserver_store::codec_held::Space;
use pyserver_store::error::StoreError;
use pyserver_store::held::{self, Holder, Sender};
use pyserver_store::incoming::{Incoming, ReceiveContext, StoreOutcome, StoreTimes};
use pyserver_store::uidmods::is_uid_record;

use crate::error::LinkError;
use crate::link::{Fragment, Link, Received};
use crate::log::{Level, escaped};
use crate::policy::{Hook, Ruling, Verdict, job};
use crate::receive_codec::{Waiting, store_in_mode};
use crate::reply::Answer;
use crate::session::Session;
use crate::stats::Stats;

/// One object on its way in.
pub struct StoreReceiver {
    context_id: u8,
    request: CStoreRq,
    arriving: Result<Arriving, StoreError>,
    bytes: u64,
    began: Instant,
}

/// Where the data set goes.
enum Arriving {
    /// Straight into the archive.
    Direct(Box<Incoming>),
    /// Held until rules have seen it.
    Held(Box<Holder>),
    /// Held until a codec has changed it.
    Waiting(Box<Waiting>),
}

/// What became of an object that was not refused.
enum Done {
    Stored(StoreOutcome),
    /// Stored, with work of import rules to do afterwards.
    Queued(StoreOutcome),
    Discarded,
}

impl StoreReceiver {
    /// Opens a place in the archive; a failure is answered when the data set is in.
    pub fn begin(session: &mut Session, context_id: u8, request: CStoreRq) -> Self {
        let began = Instant::now();
        session.link.waited = Duration::ZERO;
        let rules = [Hook::Import, Hook::RejectedImage];
        let is_held = rules.iter().any(|hook| session.rules_for(*hook).is_some());
        let arriving = if is_held {
            let holder = session.shared.archive.hold(session.syntax_of(context_id));
            holder.map(|holder| Arriving::Held(Box::new(holder)))
        } else if let Some(waiting) = Waiting::begin(session, context_id, &request) {
            Ok(Arriving::Waiting(Box::new(waiting)))
        } else {
            let incoming = session.shared.archive.begin(&ReceiveContext {
                calling_ae: &session.calling_ae,
                called_ae: &session.called_ae,
                transfer_syntax: session.syntax_of(context_id),
                sop_class_uid: request.sop_class_uid.as_str(),
                sop_instance_uid: request.sop_instance_uid.as_str(),
                durability: None,
            });
            incoming.map(|mut incoming| {
                for job in export_jobs(session, request.sop_instance_uid.as_str()) {
                    incoming.queue(job);
                }
                Arriving::Direct(Box::new(incoming))
            })
        };
        Self {
            context_id,
            request,
            arriving,
            bytes: 0,
            began,
        }
    }

    /// Takes one fragment.
    pub fn take(&mut self, fragment: &[u8]) {
        self.bytes += fragment.len() as u64;
        let written = match &mut self.arriving {
            Ok(Arriving::Direct(incoming)) => incoming.write(fragment),
            Ok(Arriving::Held(holder)) => holder.write(fragment),
            Ok(Arriving::Waiting(waiting)) => match waiting.take(fragment) {
                None => return,
                Some(direct) => {
                    self.arriving = direct.map(|incoming| Arriving::Direct(Box::new(incoming)));
                    return;
                }
            },
            Err(_) => return,
        };
        if let Err(error) = written {
            // Dropping the half-written object removes every trace of it.
            self.arriving = Err(error);
        }
    }

    /// Reads once from a link that has a long fragment ahead. Returns also whether the data set is whole with it.
    pub fn read(&mut self, link: &mut Link) -> io::Result<(Received, bool)> {
        let space = match &mut self.arriving {
            Ok(Arriving::Direct(incoming)) => incoming.space().map(Space::Behind),
            Ok(Arriving::Waiting(waiting)) => waiting.space(link.association.fragment_ahead()),
            Ok(Arriving::Held(_)) | Err(_) => None,
        };
        let Some(space) = space else {
            return Ok((link.receive()?, false));
        };
        let Fragment {
            received,
            bytes,
            whole,
        } = link.receive_fragment(space)?;
        self.bytes += bytes as u64;
        match &mut self.arriving {
            Ok(Arriving::Direct(incoming)) => {
                if let Err(error) = incoming.filled(bytes) {
                    self.arriving = Err(error);
                }
            }
            Ok(Arriving::Waiting(waiting)) => waiting.filled(bytes),
            Ok(Arriving::Held(_)) | Err(_) => {}
        }
        Ok((received, whole))
    }

    /// The data set is whole: makes it safe and answers.
    pub fn finish(self, session: &mut Session) -> Result<(), LinkError> {
        let Self {
            context_id,
            request,
            arriving,
            bytes,
            began,
        } = self;
        let sop = request.sop_instance_uid;
        let outcome = match arriving {
            Ok(Arriving::Direct(incoming)) => incoming.finish().map(Done::Stored),
            Ok(Arriving::Held(holder)) => {
                session.shared.archive.expect_store();
                let class = request.sop_class_uid;
                let object = holder.finish(class.as_str(), sop.as_str());
                object.and_then(|object| judge(session, object))
            }
            Ok(Arriving::Waiting(waiting)) => waiting
                .finish()
                .and_then(Incoming::finish)
                .map(Done::Stored),
            Err(error) => Err(error),
        };
        let by_rules = matches!(outcome, Ok(Done::Queued(_)));
        if by_rules || (outcome.is_ok() && session.settings.queues_work()) {
            session.shared.bell.ring();
        }
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
            Ok(Done::Discarded) => {
                session.log(
                    Level::Info,
                    format!("not kept: {sop}, {bytes} bytes, {took:.1} ms"),
                );
            }
            Ok(Done::Stored(stored) | Done::Queued(stored)) => {
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

/// Asks the site's rules, then does as they say.
fn judge(session: &Session, object: held::Received) -> Result<Done, StoreError> {
    let archive = &session.shared.archive;
    let (object, verdict) = if let Some(policy) = session.rules_for(Hook::Import) {
        policy.import(object, &session.origin())
    } else {
        let verdict = Verdict::Store {
            device: None,
            as_it_is: false,
            jobs: Vec::new(),
        };
        (Some(object), verdict)
    };
    match (verdict, object) {
        (Verdict::Discard, _) => Ok(Done::Discarded),
        (Verdict::Refuse { status, why }, _) => Err(StoreError::refused(status, why)),
        (Verdict::Store { .. }, None) => Err(StoreError::refused(
            archive.failed_status(),
            "the rules kept the object",
        )),
        (
            Verdict::Store {
                device,
                as_it_is,
                jobs,
            },
            Some(object),
        ) => {
            let form = (device, as_it_is);
            // Changed UIDs travel with the object and are nothing to wake anyone for.
            let has_work = jobs.iter().any(|job| !is_uid_record(job));
            let stored = match store(session, &object, form, jobs.clone()) {
                Err(error @ StoreError::Refused { .. }) => {
                    let object = appeal(session, object, error)?;
                    store(session, &object, form, jobs)?
                }
                stored => stored?,
            };
            Ok(if has_work {
                Done::Queued(stored)
            } else {
                Done::Stored(stored)
            })
        }
    }
}

/// Stores an object that rules have seen, on a device if one was chosen, perhaps in the form that it has.
fn store(
    session: &Session,
    object: &held::Received,
    (device, as_it_is): (Option<u16>, bool),
    mut jobs: Vec<Vec<u8>>,
) -> Result<StoreOutcome, StoreError> {
    let sop = object.instance.uid(Tag::SOP_INSTANCE_UID);
    jobs.extend(export_jobs(session, sop.as_str()));
    let sender = Sender {
        calling_ae: &session.calling_ae,
        called_ae: &session.called_ae,
        durability: None,
    };
    if as_it_is {
        let archive = &session.shared.archive;
        return archive.store_received(object, sender, device, jobs);
    }
    store_in_mode(session, object, sender, device, &jobs)
}

/// Shows rules an object that was refused: they may change it and have it stored once more.
fn appeal(
    session: &Session,
    object: held::Received,
    error: StoreError,
) -> Result<held::Received, StoreError> {
    let Some(policy) = session.rules_for(Hook::RejectedImage) else {
        return Err(error);
    };
    match policy.rule(Hook::RejectedImage, object, &session.origin(), "") {
        (Some(object), Ruling::Retry) => Ok(object),
        (_, Ruling::Failed(why)) => {
            session.log(Level::Warning, escaped(why.as_bytes()));
            Err(error)
        }
        _ => Err(error),
    }
}

/// One for each export converter, and one for the mirror.
pub fn export_jobs(session: &Session, sop_instance: &str) -> Vec<Vec<u8>> {
    let settings = &session.settings;
    if !settings.queues_work() {
        return Vec::new();
    }
    let origin = session.origin();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let time_s = now.map_or(0, |elapsed| elapsed.as_secs());
    let export = |number: &u32| job("export", *number, sop_instance, &origin, time_s);
    let mut jobs: Vec<_> = settings.export_converters.iter().map(export).collect();
    if settings.has_mirrors {
        jobs.push(job("mirror", 0, sop_instance, &origin, time_s));
    }
    jobs
}
