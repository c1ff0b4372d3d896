//! C-MOVE SCP (PS3.4 C.4.2): the objects go to a third party on one association of our own.

use std::io::ErrorKind;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pyserver_proto::ae::AeTitle;
use pyserver_proto::dimse::{CMoveRq, CStoreRq, CommandRequest, Priority};
use pyserver_proto::query::InformationModel;
use pyserver_proto::status::Status;
use pyserver_store::error::StoreError;
use pyserver_store::locate::Located;
use pyserver_store::lookahead::LookAhead;
use pyserver_store::ready_object::ReadyObject;

use crate::error::LinkError;
use crate::log::Level;
use crate::outgoing::{conversion, fits, proposals, ranked};
use crate::peers::{Compression, Destination};
use crate::reply::Answer;
use crate::retrieve::{self, Identity};
use crate::scu::{Caller, Requestor};
use crate::send_object::{SendError, Sender};
use crate::session::Session;
use crate::stats::Stats;
use crate::sub_operations::{Books, PENDING_EVERY_ONE};

/// A receiver that refuses connections is tried again for so long (LIMIT: what a dead one costs the
/// requestor). gdcm's requestor opens the port to receive on only after its request is out.
const PORT_OPENS_WITHIN: Duration = Duration::from_secs(1);

/// The first pause between two tries; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Answers one C-MOVE.
pub fn perform(
    session: &mut Session,
    model: InformationModel,
    context_id: u8,
    request: &CMoveRq,
    identifier: &[u8],
) -> Result<(), LinkError> {
    let began = Instant::now();
    Stats::add(&session.shared.stats.moves, 1);
    let asked = CommandRequest::CMove(request.clone());
    let ae = request.destination.to_string();
    let Some(mut destination) = session.settings.peers.destination(&ae) else {
        let refused = (
            Status::MOVE_DESTINATION_UNKNOWN,
            format!("{ae} is not in acrnema.map"),
        );
        return retrieve::refuse(session, context_id, &asked, &refused);
    };
    let modes = &session.settings.modes;
    let asked_for = session.called_mode();
    if let Some(wanted) = asked_for.and_then(|mode| Compression::of_mode(modes, mode)) {
        destination.compression = wanted;
    }
    let located = match retrieve::locate(session, model, context_id, identifier, &ae) {
        Ok(located) => located,
        Err(refused) => return retrieve::refuse(session, context_id, &asked, &refused),
    };
    let mut mover = Mover {
        books: Books::new(located.len(), PENDING_EVERY_ONE),
        sender: Sender::default(),
        originator: (AeTitle::new(&session.calling_ae).ok(), request.message_id),
        compression: destination.compression.clone(),
        destination: ae.clone(),
        bytes: 0,
    };
    let mut receiver = None;
    let cancelled = match connect(session, &destination, &located) {
        Ok(requestor) => {
            receiver = requestor;
            mover.send_all(session, &mut receiver, context_id, &asked, located)?
        }
        Err(error) => {
            session.log(Level::Warning, format!("cannot move to {ae}: {error}"));
            for object in &located {
                mover.books.fail(Identity::of(object).sop_instance);
            }
            false
        }
    };
    session.sent(&mover.books, mover.bytes);
    let text = format!(
        "move to {ae}: {} objects sent, {} failed, {} bytes, {:.3} s",
        mover.books.arrived(),
        mover.books.failed(),
        mover.bytes,
        began.elapsed().as_secs_f64()
    );
    session.log(Level::Info, text);
    let concluded = retrieve::conclude(session, context_id, &asked, &mover.books, cancelled);
    // Only now: a receiver may be the requestor, and release no earlier than it has our answer.
    if let Some(Err(error)) = receiver.map(Requestor::release) {
        session.log(
            Level::Warning,
            format!("the receiver did not release: {error}"),
        );
    }
    concluded
}

/// One association with every context the objects need; none when there are no objects.
fn connect(
    session: &Session,
    destination: &Destination,
    located: &[Located],
) -> Result<Option<Requestor>, LinkError> {
    if located.is_empty() {
        return Ok(None);
    }
    let caller = Caller {
        calling_ae: session.settings.ae_title.clone(),
        connect_timeout: session.settings.connect_timeout,
        dimse_timeout: session.settings.dimse_timeout,
        limits: session.settings.limits.clone(),
    };
    let kinds = located.iter().map(|located| {
        let identity = Identity::of(located);
        (identity.sop_class, identity.transfer_syntax)
    });
    let has_codecs = session.shared.codecs.is_some();
    let proposals = proposals(kinds, &destination.compression, has_codecs);
    let id = format!("{}>{}", session.link.id, destination.ae);
    let deadline = Instant::now() + PORT_OPENS_WITHIN;
    let mut pause = FIRST_PAUSE;
    loop {
        match Requestor::connect(&caller, destination, &proposals, id.clone()) {
            Err(error) if is_closed_port(&error) && Instant::now() + pause < deadline => {
                thread::sleep(pause);
                pause *= 2;
            }
            connected => return connected.map(Some),
        }
    }
}

fn is_closed_port(error: &LinkError) -> bool {
    matches!(error, LinkError::Connect { error, .. } if error.kind() == ErrorKind::ConnectionRefused)
}

struct Mover {
    books: Books,
    sender: Sender,
    originator: (Option<AeTitle>, u16),
    compression: Compression,
    destination: String,
    bytes: u64,
}

impl Mover {
    /// Sends everything; whether the requestor cancelled. A receiver that was lost is taken away.
    fn send_all(
        &mut self,
        session: &mut Session,
        receiver: &mut Option<Requestor>,
        context_id: u8,
        asked: &CommandRequest,
        located: Vec<Located>,
    ) -> Result<bool, LinkError> {
        let Some(requestor) = receiver.as_mut() else {
            return Ok(false);
        };
        let settings = &session.settings;
        let archive = &session.shared.archive;
        let codecs = session.shared.codecs.as_ref();
        let conversion = conversion(
            codecs.map(Arc::clone),
            requestor.link.association.contexts().to_vec(),
            self.compression.clone(),
            settings.lossy_quality,
            retrieve::edit(session, &self.destination),
        );
        let ahead = LookAhead::start_converting(
            archive,
            located,
            settings.read_ahead,
            settings.read_ahead_bytes,
            Some(conversion),
        );
        let mut broken = None;
        let mut cancelled = false;
        for ready in ahead {
            if retrieve::cancelled(&mut session.link, asked.message_id())? {
                cancelled = true;
                break;
            }
            let identity = Identity::of(&ready.located);
            let instance = identity.sop_instance;
            if broken.is_some() {
                self.books.fail(instance);
                continue;
            }
            match self.send_one(requestor, identity, ready.object) {
                Ok(status) => {
                    if !matches!(status, Status::SUCCESS) {
                        let text = format!("{instance} was answered with {status}");
                        session.log(Level::Warning, text);
                    }
                    self.books.answered(instance, status);
                }
                Err(SendError::Object(why)) => {
                    session.log(Level::Warning, format!("cannot send {instance}: {why}"));
                    self.books.fail(instance);
                }
                Err(SendError::Link(error)) => {
                    session.log(Level::Warning, format!("the receiver is lost: {error}"));
                    self.books.fail(instance);
                    broken = Some(error);
                }
            }
            if let Some(response) = self.books.pending(asked) {
                Answer {
                    context_id,
                    response,
                }
                .send(&mut session.link)?;
            }
        }
        if broken.is_some() {
            requestor.link.abort(0, 0);
            *receiver = None;
        }
        Ok(cancelled)
    }

    fn send_one(
        &mut self,
        requestor: &mut Requestor,
        identity: Identity,
        object: Result<ReadyObject, StoreError>,
    ) -> Result<Status, SendError> {
        let object = object.map_err(|error| SendError::Object(error.to_string()))?;
        let contexts = requestor.link.association.contexts();
        let ranked = ranked(contexts, &identity, &self.compression, |_| true);
        let Some(context) = ranked.into_iter().find(|context| fits(&object, context)) else {
            let (class, syntax) = (identity.sop_class, identity.transfer_syntax);
            let why = format!("the peer accepted no context for class {class} in {syntax}");
            return Err(SendError::Object(why));
        };
        let (id, syntax) = (context.id, context.transfer_syntax);
        let message_id = requestor.next_message_id();
        let store = CStoreRq {
            message_id,
            sop_class_uid: identity.sop_class,
            sop_instance_uid: identity.sop_instance,
            priority: Priority::Medium,
            move_originator_ae: self.originator.0,
            move_originator_message_id: Some(self.originator.1),
        };
        self.sender
            .send(&mut requestor.link, (id, syntax), store, &object)?;
        let (response, _) = requestor.response(message_id, 0)?;
        self.bytes += object.length;
        Ok(response.status)
    }
}
