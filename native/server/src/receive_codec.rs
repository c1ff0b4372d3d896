//! Compression of objects on their way in: `IncomingCompression`, or what stands behind a `~` in the AE
//! title that was called.
//!
//! An object that a codec is to see is kept whole until its last fragment; then a worker changes it, and
//! the archive gets the result. The thread of the association waits meanwhile, and so does the sender.
//! Whatever goes wrong, the object is stored as it was received, and the log says why. Where a site has
//! rules they come first, and see the object as it was received.

use std::sync::Arc;

use pyserver_proto::dimse::CStoreRq;
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::Uid;
use pyserver_store::codec_held::{HeldObject, NO_ROOM, Space};
use pyserver_store::codec_pool::{Transcoded, Wish};
use pyserver_store::error::StoreError;
use pyserver_store::held::{Received, Sender};
use pyserver_store::incoming::{Incoming, ReceiveContext, StoreOutcome};
use pyserver_store::look::Busy;
use pyserver_store::queue::retargeted;

use crate::log::{Level, escaped};
use crate::scp_store::export_jobs;
use crate::session::Session;
use crate::shared::Shared;

/// An object in the waiting room of the codecs.
pub struct Waiting {
    object: HeldObject,
    wish: Wish,
    shared: Arc<Shared>,
    association: String,
    calling_ae: String,
    called_ae: String,
    syntax: TransferSyntax,
    request: CStoreRq,
    jobs: Vec<Vec<u8>>,
    _busy: Busy,
}

impl Waiting {
    /// A place for the object that begins, if a codec is to see it.
    pub fn begin(session: &Session, context_id: u8, request: &CStoreRq) -> Option<Self> {
        let codecs = session.shared.codecs.as_ref()?;
        let syntax = session.syntax_of(context_id);
        let wish = wish(session, syntax)?;
        match HeldObject::new(codecs.held(), &wish, syntax) {
            Ok(object) => Some(Self {
                object,
                wish,
                shared: Arc::clone(&session.shared),
                association: session.link.id.clone(),
                calling_ae: session.calling_ae.clone(),
                called_ae: session.called_ae.clone(),
                syntax,
                request: request.clone(),
                jobs: export_jobs(session, request.sop_instance_uid.as_str()),
                _busy: session.shared.archive.busy(),
            }),
            Err(error) => {
                session.log(Level::Warning, format!("stored as received: {error}"));
                None
            }
        }
    }

    /// A place for the rest of a fragment to be read to; then `filled` is to be called. `None`: `take` must take it.
    pub fn space(&mut self, bytes: usize) -> Option<Space<'_>> {
        self.object.space(bytes)
    }

    /// So many bytes were read to `space`.
    pub fn filled(&mut self, bytes: usize) {
        self.object.filled(bytes);
    }

    /// Takes a fragment. When there is no room for it, the object goes straight into the archive from
    /// here on: `Some`.
    pub fn take(&mut self, fragment: &[u8]) -> Option<Result<Incoming, StoreError>> {
        if self.object.take(fragment) {
            return None;
        }
        self.warn(NO_ROOM);
        let begun = self.begin_store(self.syntax, self.request.sop_instance_uid, &self.jobs);
        Some(begun.and_then(|mut incoming| {
            self.object.write_to(&mut incoming)?;
            incoming.write(fragment)?;
            Ok(incoming)
        }))
    }

    fn begin_store(
        &self,
        transfer_syntax: TransferSyntax,
        sop_instance: Uid,
        jobs: &[Vec<u8>],
    ) -> Result<Incoming, StoreError> {
        let mut incoming = self.shared.archive.begin(&ReceiveContext {
            calling_ae: &self.calling_ae,
            called_ae: &self.called_ae,
            transfer_syntax,
            sop_class_uid: self.request.sop_class_uid.as_str(),
            sop_instance_uid: sop_instance.as_str(),
            durability: None,
        })?;
        for job in jobs {
            incoming.queue(job.clone());
        }
        Ok(incoming)
    }

    fn warn(&self, why: &str) {
        let text = as_received(self.request.sop_instance_uid.as_str(), why);
        self.shared
            .log
            .line(Level::Warning, &self.association, text);
    }

    /// The whole object is here: into its new form, and into the archive.
    pub fn finish(&self) -> Result<Incoming, StoreError> {
        let codecs = self.shared.codecs.as_ref();
        let worked = codecs.map(|pool| self.object.transcode(pool, self.syntax, &self.wish));
        match worked {
            // One of a new UID would hide that the object is not the one announced: it is refused as received.
            Some(Ok(Transcoded::New(new, derived)))
                if derived.is_none()
                    || self.object.is(&self.request.sop_instance_uid, self.syntax) =>
            {
                let received = self.request.sop_instance_uid;
                let uid = derived.unwrap_or(received);
                let jobs = retargeted(&self.jobs, received.as_str(), uid.as_str());
                let mut incoming = self.begin_store(new.syntax, uid, &jobs)?;
                new.write_to(&mut incoming)?;
                return Ok(incoming);
            }
            Some(Err(error)) => self.warn(&error.to_string()),
            None | Some(Ok(_)) => {}
        }
        let uid = self.request.sop_instance_uid;
        let mut incoming = self.begin_store(self.syntax, uid, &self.jobs)?;
        self.object.write_to(&mut incoming)?;
        Ok(incoming)
    }
}

fn as_received(sop_instance: &str, why: &str) -> String {
    let sop = escaped(sop_instance.as_bytes());
    format!("{sop} is stored as received: {}", escaped(why.as_bytes()))
}

/// What is wanted of an object in this transfer syntax; `None`: nothing.
fn wish(session: &Session, syntax: TransferSyntax) -> Option<Wish> {
    let configured = session.settings.incoming_compression.as_str();
    let mode = session.called_mode().unwrap_or(configured);
    let keeps_nki = session.shared.archive.config().keeps_nki();
    let wish = Wish::to_store(mode, session.settings.lossy_quality, keeps_nki);
    (!wish.leaves_alone(syntax)).then_some(wish)
}

/// Stores an object that rules have seen, in the mode that is configured.
pub fn store_in_mode(
    session: &Session,
    object: &Received,
    sender: Sender<'_>,
    device: Option<u16>,
    jobs: &[Vec<u8>],
) -> Result<StoreOutcome, StoreError> {
    let sop = object.instance.uid(Tag::SOP_INSTANCE_UID);
    let codecs = session.shared.codecs.as_deref();
    let wanted = codecs.zip(wish(session, object.instance.syntax()));
    let changed = wanted.and_then(|(pool, wish)| {
        object.recompressed(pool, &wish).unwrap_or_else(|error| {
            let why = as_received(sop.as_str(), &error.to_string());
            session.log(Level::Warning, why);
            None
        })
    });
    let object = changed.as_ref().unwrap_or(object);
    let stored = object.instance.uid(Tag::SOP_INSTANCE_UID);
    let jobs = retargeted(jobs, sop.as_str(), stored.as_str());
    let archive = &session.shared.archive;
    archive.store_received(object, sender, device, jobs)
}
