//! Sending held objects on: one association that rules keep open over several objects.
//!
//! Who decides how long it stays open, and what is tried again, is above; here is one connection and one
//! object at a time. An object counts as sent when the peer has answered with success or a warning.

use pyserver_proto::convert::is_convertible;
use pyserver_proto::dimse::{CStoreRq, Priority};
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::{self, Uid};
use pyserver_store::codec_pool::{CodecPool, Wish};
use pyserver_store::error::StoreError;
use pyserver_store::held::Received;

use crate::error::LinkError;
use crate::peers::Destination;
use crate::scu::{CONTEXTS_MAX, Caller, Proposal, Requestor};
use crate::send_object::{SendError, Sender};

/// Why an object did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// No association, or it broke before the answer.
    #[error("{0}")]
    Link(#[from] LinkError),
    /// The peer does not take such objects, or this one cannot be read or converted.
    #[error("{0}")]
    Object(String),
}

/// What the peer answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// C-STORE status.
    pub status: u16,
    /// Error comment.
    pub comment: String,
}

/// An association to one peer, opened when it is needed.
pub struct Forwarder {
    caller: Caller,
    peer: Destination,
    open: Option<Requestor>,
    sender: Sender,
}

impl Forwarder {
    /// Prepares; nothing is connected yet.
    pub fn new(caller: Caller, peer: Destination) -> Self {
        Self {
            caller,
            peer,
            open: None,
            sender: Sender::default(),
        }
    }

    /// Connects, with a presentation context for each of these SOP classes and one for verification.
    pub fn connect(&mut self, sop_classes: &[Uid], syntaxes: &[Uid]) -> Result<(), LinkError> {
        self.close(true);
        let proposal = |class| Proposal {
            abstract_syntax: class,
            transfer_syntaxes: syntaxes.to_vec(),
            as_scp: false,
        };
        let verification = Uid::from_static(uid::VERIFICATION);
        let classes = sop_classes.iter().take(CONTEXTS_MAX - 1);
        let classes = classes.chain([&verification]);
        let proposals: Vec<Proposal> = classes.map(|class| proposal(*class)).collect();
        let id = ">".to_owned();
        let requestor = Requestor::connect(&self.caller, &self.peer, &proposals, id)?;
        self.open = Some(requestor);
        Ok(())
    }

    /// The first of these transfer syntaxes that the peer accepted for a SOP class.
    pub fn accepted(&self, sop_class: Uid, syntaxes: &[Uid]) -> Option<Uid> {
        let context = self.open.as_ref()?.context_for(sop_class, syntaxes)?;
        Some(context.transfer_syntax)
    }

    /// Whether there is an association.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Sends an object in the first of these transfer syntaxes that the peer accepted; `codecs` puts it
    /// into one that it is not in, with this quality.
    pub fn send(
        &mut self,
        object: &Received,
        syntaxes: &[Uid],
        codecs: Option<(&CodecPool, u8)>,
    ) -> Result<Answered, ForwardError> {
        let answered = self.send_on_open(object, syntaxes, codecs);
        if let Err(ForwardError::Link(_)) = &answered {
            // Half a message may be under way: nothing more can go out.
            if let Some(mut requestor) = self.open.take() {
                requestor.link.abort(0, 0);
            }
        }
        answered
    }

    fn send_on_open(
        &mut self,
        object: &Received,
        syntaxes: &[Uid],
        codecs: Option<(&CodecPool, u8)>,
    ) -> Result<Answered, ForwardError> {
        let Some(requestor) = &mut self.open else {
            return Err(ForwardError::Object("there is no association".to_owned()));
        };
        let class = object.instance.uid(Tag::SOP_CLASS_UID);
        let Some(context) = requestor.context_for(class, syntaxes) else {
            return Err(ForwardError::Object(format!(
                "the peer does not take SOP class {class} in this form"
            )));
        };
        let context = (context.id, context.transfer_syntax);
        let unsendable = |error: StoreError| ForwardError::Object(error.to_string());
        let target = TransferSyntax::from_uid(&context.1);
        let stored = object.instance.syntax();
        let recompressed = match codecs {
            Some((pool, quality)) if stored != target && !is_convertible(stored, target) => {
                let uid = context.1;
                let wish = Wish::Syntax { uid, quality };
                object.recompressed(pool, &wish).map_err(unsendable)?
            }
            _ => None,
        };
        let object = recompressed.as_ref().unwrap_or(object);
        let ready = object.ready().map_err(unsendable)?;
        let message_id = requestor.next_message_id();
        let request = CStoreRq {
            message_id,
            sop_class_uid: class,
            sop_instance_uid: object.instance.uid(Tag::SOP_INSTANCE_UID),
            priority: Priority::Medium,
            move_originator_ae: None,
            move_originator_message_id: None,
        };
        let sent = self
            .sender
            .send(&mut requestor.link, context, request, &ready);
        sent.map_err(|error| match error {
            SendError::Object(why) => ForwardError::Object(why),
            SendError::Link(error) => ForwardError::Link(error),
        })?;
        let (response, _) = requestor.response(message_id, 0)?;
        Ok(Answered {
            status: response.status.0,
            comment: response.error_comment.clone(),
        })
    }

    /// Ends the association: released, or the connection dropped.
    pub fn close(&mut self, release: bool) {
        if let Some(mut requestor) = self.open.take() {
            if release {
                // Everything is answered; a peer that does not say goodbye changes nothing.
                let _ = requestor.release();
            } else {
                requestor.link.hang_up();
            }
        }
    }
}
