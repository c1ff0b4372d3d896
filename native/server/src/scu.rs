//! Service class user: associations that we request, for C-MOVE destinations and the command line.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use pyserver_proto::ae::AeTitle;
use pyserver_proto::association::{AcceptedContext, Association, Event, Limits};
use pyserver_proto::dataset::Dataset;
use pyserver_proto::dimse::{CEchoRq, CommandRequest, CommandResponse};
use pyserver_proto::pdu::{AssociateRq, ProposedContext, RoleSelection};
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::{self, Uid};

use crate::error::LinkError;
use crate::link::Link;
use crate::peers::Destination;

/// Presentation contexts that fit one association: odd ids of one byte (PS3.8 9.3.2.2).
pub const CONTEXTS_MAX: usize = 128;

/// How we call a peer.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Our AE title.
    pub calling_ae: String,
    /// Patience while connecting.
    pub connect_timeout: Duration,
    /// Patience while waiting for an answer.
    pub dimse_timeout: Duration,
    /// Limits of the upper layer.
    pub limits: Limits,
}

/// LIMIT: how long a peer may take to confirm a release.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// What one presentation context proposes.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// SOP class.
    pub abstract_syntax: Uid,
    /// Transfer syntaxes, most wanted first.
    pub transfer_syntaxes: Vec<Uid>,
    /// Ask for the SCP role too (C-GET).
    pub as_scp: bool,
}

/// An association that we requested.
pub struct Requestor {
    /// The connection.
    pub link: Link,
    dimse_timeout: Duration,
    message_id: u16,
}

impl Requestor {
    /// Connects and negotiates.
    ///
    /// Errors: no connection, rejection, abort, silence, or titles that are none.
    pub fn connect(
        caller: &Caller,
        peer: &Destination,
        proposals: &[Proposal],
        id: String,
    ) -> Result<Self, LinkError> {
        let request = request(caller, peer, proposals)?;
        let stream = connect_stream(peer, caller.connect_timeout)?;
        let association = Association::requestor(caller.limits.clone(), &request, Instant::now());
        let mut link = Link::new(stream, association, id, caller.dimse_timeout)?;
        let deadline = Instant::now() + caller.dimse_timeout;
        loop {
            match link.association.next_event() {
                Some(Event::Associated) => break,
                Some(event) => return Err(LinkError::from_event(&event)),
                None if Instant::now() >= deadline => {
                    link.abort(0, 0);
                    return Err(LinkError::Silent(caller.dimse_timeout));
                }
                None => {
                    link.receive()?;
                }
            }
        }
        Ok(Self {
            link,
            dimse_timeout: caller.dimse_timeout,
            message_id: 0,
        })
    }

    /// A message id that no open request has.
    pub fn next_message_id(&mut self) -> u16 {
        self.message_id = self.message_id.wrapping_add(1).max(1);
        self.message_id
    }

    /// The accepted context for a SOP class and one of these transfer syntaxes, first wish first.
    pub fn context_for(&self, class: Uid, wishes: &[Uid]) -> Option<&AcceptedContext> {
        let contexts = self.link.association.contexts();
        wishes.iter().find_map(|wish| {
            contexts
                .iter()
                .find(|c| c.abstract_syntax == class && c.transfer_syntax == *wish)
        })
    }

    /// Any accepted context for a SOP class.
    pub fn any_context(&self, class: Uid) -> Result<u8, LinkError> {
        let contexts = self.link.association.contexts();
        let found = contexts.iter().find(|c| c.abstract_syntax == class);
        found
            .map(|c| c.id)
            .ok_or_else(|| LinkError::NoContext(class.to_string()))
    }

    /// Waits for the response to `message_id`; others are an error.
    pub fn response(
        &mut self,
        message_id: u16,
        dataset_bytes_max: usize,
    ) -> Result<(CommandResponse, Option<Vec<u8>>), LinkError> {
        let message = self
            .link
            .next_message(dataset_bytes_max, self.dimse_timeout)?;
        let response = message.command.parse_response();
        if let Some(response) = response.filter(|response| response.message_id == message_id) {
            return Ok((response, message.dataset));
        }
        self.link.abort(0, 0);
        Err(LinkError::Unexpected("a response to another request"))
    }

    /// Sends a request with an identifier; the context it went out on and its syntax.
    pub fn request(
        &mut self,
        request: &CommandRequest,
        identifier: &Dataset,
    ) -> Result<(u8, TransferSyntax), LinkError> {
        let class = request.sop_class_uid().copied().unwrap_or_default();
        let context_id = self.any_context(class)?;
        let association = &mut self.link.association;
        let syntax = association
            .context(context_id)
            .map(|c| c.transfer_syntax)
            .unwrap_or_default();
        let syntax = TransferSyntax::from_uid(&syntax);
        let mut bytes = Vec::new();
        identifier.encode(syntax, &mut bytes);
        association.send_command(context_id, &request.to_bytes());
        association.send_dataset(context_id, &bytes);
        Ok((context_id, syntax))
    }

    /// C-ECHO: the status.
    pub fn echo(&mut self) -> Result<u16, LinkError> {
        let class = Uid::from_static(uid::VERIFICATION);
        let context_id = self.any_context(class)?;
        let message_id = self.next_message_id();
        let request = CommandRequest::CEcho(CEchoRq {
            message_id,
            sop_class_uid: class,
        });
        self.link
            .association
            .send_command(context_id, &request.to_bytes());
        Ok(self.response(message_id, 0)?.0.status.0)
    }

    /// Ends the association in good order. Every answer is here by now, so a peer that does not
    /// confirm is not waited for long (gdcm's receiver confirms when its own request has ended).
    pub fn release(mut self) -> Result<(), LinkError> {
        self.link.release(self.dimse_timeout.min(RELEASE_TIMEOUT))
    }
}

fn request(
    caller: &Caller,
    peer: &Destination,
    proposals: &[Proposal],
) -> Result<AssociateRq, LinkError> {
    let title = |text: &str| {
        AeTitle::new(text).map_err(|error| LinkError::Protocol(format!("AE {text}: {error}")))
    };
    let contexts = proposals
        .iter()
        .take(CONTEXTS_MAX)
        .zip((1..=255).step_by(2));
    let contexts = contexts
        .map(|(proposal, id)| ProposedContext {
            id,
            abstract_syntax: proposal.abstract_syntax,
            transfer_syntaxes: proposal.transfer_syntaxes.clone(),
        })
        .collect();
    let mut scp_classes: Vec<Uid> = proposals
        .iter()
        .filter(|p| p.as_scp)
        .map(|p| p.abstract_syntax)
        .collect();
    scp_classes.dedup();
    let mut request = AssociateRq::new(title(&peer.ae)?, title(&caller.calling_ae)?, contexts);
    request.user_info.roles = scp_classes
        .into_iter()
        .map(|sop_class_uid| RoleSelection {
            sop_class_uid,
            scu: false,
            scp: true,
        })
        .collect();
    Ok(request)
}

fn connect_stream(peer: &Destination, timeout: Duration) -> Result<TcpStream, LinkError> {
    let failed = |error| LinkError::Connect {
        host: peer.host.clone(),
        port: peer.port,
        error,
    };
    let addresses = (peer.host.as_str(), peer.port)
        .to_socket_addrs()
        .map_err(failed)?;
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "no such host");
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}
