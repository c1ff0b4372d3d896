//! One association we accepted, from its request to its end.
//!
//! Negotiates, then turns events into calls of the service class providers (`scp_*.rs`). Every
//! request is answered before the next one is looked at (asynchronous operations are not
//! negotiated); only C-CANCEL is seen in between, by the providers that can be cancelled.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyserver_proto::association::{Association, Event};
use pyserver_proto::dimse::{CommandRequest, CommandResponse, CommandSet};
use pyserver_proto::pdu::{AssociateRq, Rejection};
use pyserver_proto::status::Status;
use pyserver_proto::transfer_syntax::TransferSyntax;

use crate::acceptance::{self, Acceptance};
use crate::error::LinkError;
use crate::link::{Link, Received};
use crate::log::Level;
use crate::policy::{Hook, Origin, Policy};
use crate::reply::Answer;
use crate::scp_store::StoreReceiver;
use crate::scp_table::{self, Service};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::shutdown::Phase;
use crate::stats::Stats;
use crate::sub_operations::Books;

/// While draining, an association that asks for nothing this long is aborted.
const DRAIN_IDLE: Duration = Duration::from_secs(2);

/// A served association.
pub struct Session {
    /// The connection.
    pub link: Link,
    /// What all associations share.
    pub shared: Arc<Shared>,
    /// The settings this association began with.
    pub settings: Arc<Settings>,
    /// AE title that called us.
    pub calling_ae: String,
    /// AE title it called us by.
    pub called_ae: String,
    /// Whether it may query and retrieve.
    pub trusted: bool,
    /// The site's import rules, if it has any.
    pub policy: Option<Arc<dyn Policy>>,
    /// What the books of this association say, for its closing log line.
    pub tally: Tally,
}

/// Totals of one association.
#[derive(Default)]
pub struct Tally {
    /// Requests answered.
    pub requests: u64,
    /// Objects stored.
    pub stored: u64,
    /// Objects refused.
    pub refused: u64,
    /// Objects sent.
    pub sent: u64,
    /// Data set bytes received and sent.
    pub bytes: u64,
}

/// The data set that is on its way in.
enum Receiving {
    /// None: a command is due.
    Nothing,
    /// An object, straight into the archive.
    Object(Box<StoreReceiver>),
    /// An identifier, collected.
    Identifier {
        context_id: u8,
        service: Service,
        request: Box<CommandRequest>,
        bytes: Vec<u8>,
    },
    /// Something refused already; the answer goes out when its last fragment is in.
    Refused { answer: Option<Box<Answer>> },
}

/// A fragment with so much ahead is read to where it goes; a shorter one comes with what follows it.
const LONG_FRAGMENT_BYTES: usize = 32 * 1024;

/// What an event asks for, once the bytes it borrowed are taken.
enum Step {
    Again,
    Tick,
    Begin { context_id: u8, command: CommandSet },
    Finish,
    Release,
    End(&'static str),
}

impl Session {
    /// Serves the association until it ends; its one log line is written here.
    pub fn serve(
        shared: &Arc<Shared>,
        stream: TcpStream,
        association: Association,
        id: &str,
        request: &AssociateRq,
    ) {
        let settings = shared.settings();
        let link = match Link::new(stream, association, id.to_owned(), settings.dimse_timeout) {
            Ok(link) => link,
            Err(error) => {
                shared
                    .log
                    .line(Level::Warning, id, format!("lost before it began: {error}"));
                return;
            }
        };
        let mut session = Self {
            link,
            shared: Arc::clone(shared),
            settings,
            calling_ae: request.calling_ae.to_string(),
            called_ae: request.called_ae.to_string(),
            trusted: false,
            policy: shared.policy(),
            tally: Tally::default(),
        };
        let began = Instant::now();
        match session.negotiate(request) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                session.log(Level::Warning, format!("negotiation failed: {error}"));
                return;
            }
        }
        Stats::add(&shared.stats.associations_accepted, 1);
        let end = session.run();
        if let Some(policy) = &session.policy {
            policy.ended(&session.link.id);
        }
        session.close(began, &end);
    }

    /// A line about this association.
    pub fn log(&self, level: Level, text: String) {
        self.shared.log.line(level, &self.link.id, text);
    }

    /// The compression mode behind a `~` in the AE title that was called.
    pub fn called_mode(&self) -> Option<&str> {
        self.called_ae.split_once('~').map(|(_, mode)| mode)
    }

    /// Who is at the other end.
    pub fn origin(&self) -> Origin {
        Origin {
            calling_ae: self.calling_ae.clone(),
            called_ae: self.called_ae.clone(),
            association: self.link.id.clone(),
        }
    }

    /// The site's rules, if it has some for this hook.
    pub fn rules_for(&self, hook: Hook) -> Option<&Arc<dyn Policy>> {
        self.policy.as_ref().filter(|policy| policy.has(hook))
    }

    /// The transfer syntax of a context's data sets.
    pub fn syntax_of(&self, context_id: u8) -> TransferSyntax {
        let context = self.link.association.context(context_id);
        context.map_or(TransferSyntax::ImplicitLittleEndian, |context| {
            TransferSyntax::from_uid(&context.transfer_syntax)
        })
    }

    /// Books what a retrieve sent.
    pub fn sent(&mut self, books: &Books, bytes: u64) {
        let stats = &self.shared.stats;
        Stats::add(&stats.objects_sent, books.arrived().into());
        Stats::add(&stats.objects_failed, books.failed().into());
        Stats::add(&stats.bytes_sent, bytes);
        self.tally.sent += u64::from(books.arrived());
        self.tally.bytes += bytes;
    }

    fn negotiate(&mut self, request: &AssociateRq) -> std::io::Result<bool> {
        let address = self.link.peer_address;
        match acceptance::judge(request, address.ip(), &self.settings) {
            Acceptance::Accepted { contexts, trusted } => {
                self.trusted = trusted;
                self.link.association.accept(&contexts);
                self.link.flush()?;
                let text = format!(
                    "association from {} at {address} to {}: {} of {} contexts accepted",
                    self.calling_ae,
                    self.called_ae,
                    self.link.association.contexts().len(),
                    request.contexts.len()
                );
                self.log(Level::Info, text);
                Ok(true)
            }
            Acceptance::Rejected { rejection, why } => {
                Stats::add(&self.shared.stats.associations_rejected, 1);
                let text = format!("rejected {} at {address}: {why}", self.calling_ae);
                self.log(Level::Info, text);
                let Rejection {
                    result,
                    source,
                    reason,
                } = rejection;
                self.link.association.reject(result, source, reason);
                self.link.hang_up();
                Ok(false)
            }
        }
    }

    fn run(&mut self) -> Result<&'static str, LinkError> {
        let mut receiving = Receiving::Nothing;
        let mut last_request = Instant::now();
        loop {
            let step = match self.next_step(&mut receiving)? {
                Some(step) => step,
                None if self.link.association.is_closed() => return Ok("closed"),
                None => self.read(&mut receiving)?,
            };
            match step {
                Step::Again => {}
                Step::Begin {
                    context_id,
                    command,
                } => {
                    last_request = Instant::now();
                    receiving = self.begin(context_id, &command)?;
                }
                Step::Finish => {
                    let whole = std::mem::replace(&mut receiving, Receiving::Nothing);
                    self.finish(whole)?;
                    last_request = Instant::now();
                    // A long retrieve is no silence of the peer's.
                    self.link.association.activity(last_request);
                }
                Step::Release => {
                    self.link.association.accept_release();
                    self.link.hang_up();
                    return Ok("released");
                }
                Step::End(how) => {
                    self.link.hang_up();
                    return Ok(how);
                }
                Step::Tick => {
                    let idle = matches!(receiving, Receiving::Nothing)
                        && last_request.elapsed() >= DRAIN_IDLE;
                    match self.shared.shutdown.phase() {
                        Phase::Running => {}
                        Phase::Draining if !idle => {}
                        Phase::Draining | Phase::Stopping => {
                            self.link.abort(0, 0);
                            return Ok("aborted: the server is shutting down");
                        }
                    }
                }
            }
        }
    }

    /// What the next event asks for; `None`: more is to be read.
    fn next_step(&mut self, receiving: &mut Receiving) -> Result<Option<Step>, LinkError> {
        let Some(event) = self.link.association.next_event() else {
            return Ok(None);
        };
        Ok(Some(match event {
            Event::Command {
                context_id,
                command,
            } => Step::Begin {
                context_id,
                command,
            },
            Event::Data { fragment, last, .. } => {
                receiving.take(fragment, self.settings.identifier_bytes_max);
                if last { Step::Finish } else { Step::Again }
            }
            Event::ReleaseRequested => Step::Release,
            Event::Released => Step::End("released"),
            Event::ConnectionClosed => Step::End("connection closed by the peer"),
            Event::TimedOut => Step::End("idle too long"),
            event => {
                let error = LinkError::from_event(&event);
                self.link.hang_up();
                return Err(error);
            }
        }))
    }

    /// Reads once, a long fragment of an object straight to where it goes.
    fn read(&mut self, receiving: &mut Receiving) -> Result<Step, LinkError> {
        let (received, whole) = match receiving {
            Receiving::Object(receiver)
                if self.link.association.fragment_ahead() >= LONG_FRAGMENT_BYTES =>
            {
                receiver.read(&mut self.link)?
            }
            Receiving::Nothing => {
                let patience = self.shared.archive.patience();
                (self.link.receive_soon(patience)?, false)
            }
            _ => (self.link.receive()?, false),
        };
        Ok(match received {
            _ if whole => Step::Finish,
            Received::Something => Step::Again,
            Received::Tick => Step::Tick,
        })
    }

    /// A command set is whole: answers it, or prepares for its data set.
    fn begin(&mut self, context_id: u8, command: &CommandSet) -> Result<Receiving, LinkError> {
        let request = match command.parse() {
            Ok(CommandRequest::CCancel(_)) => return Ok(Receiving::Nothing),
            Ok(request) => request,
            Err(error) => {
                self.log(Level::Warning, format!("refused a request: {error}"));
                let Some(response) = error.response(command) else {
                    // Nobody to answer: a late response, or no message id.
                    return Ok(Receiving::unwanted(command, None));
                };
                return self.answer_after_data(
                    command,
                    Answer {
                        context_id,
                        response,
                    },
                );
            }
        };
        self.tally.requests += 1;
        let service = match scp_table::service(&self.link.association, context_id, &request) {
            Ok(service) => service,
            Err(refusal) => {
                self.log(
                    Level::Warning,
                    format!("refused a request: {}", refusal.why),
                );
                let response = CommandResponse::to(&request, refusal.status);
                let response = response.with_comment(&refusal.why);
                return self.answer_after_data(
                    command,
                    Answer {
                        context_id,
                        response,
                    },
                );
            }
        };
        if service.needs_trust() && !self.trusted {
            let text = format!(
                "refused {service:?}: {} is not in acrnema.map",
                self.calling_ae
            );
            self.log(Level::Warning, text);
            let response = CommandResponse::to(&request, Status::NOT_AUTHORIZED)
                .with_comment("calling AE title is not in acrnema.map");
            return self.answer_after_data(
                command,
                Answer {
                    context_id,
                    response,
                },
            );
        }
        match (service, request) {
            (Service::Echo, request) => {
                Stats::add(&self.shared.stats.echoes, 1);
                let response = CommandResponse::to(&request, Status::SUCCESS);
                self.answer_after_data(
                    command,
                    Answer {
                        context_id,
                        response,
                    },
                )
            }
            (Service::Store, CommandRequest::CStore(request)) => {
                let receiver = StoreReceiver::begin(self, context_id, request);
                Ok(Receiving::Object(Box::new(receiver)))
            }
            (service, request) => Ok(Receiving::Identifier {
                context_id,
                service,
                request: Box::new(request),
                bytes: Vec::new(),
            }),
        }
    }

    /// Sends the answer, now or when the data set that the command announced is in.
    fn answer_after_data(
        &mut self,
        command: &CommandSet,
        answer: Answer,
    ) -> Result<Receiving, LinkError> {
        if command.has_dataset() {
            return Ok(Receiving::Refused {
                answer: Some(Box::new(answer)),
            });
        }
        answer.send(&mut self.link)?;
        Ok(Receiving::Nothing)
    }

    /// A data set is whole: does what its command asked.
    fn finish(&mut self, whole: Receiving) -> Result<(), LinkError> {
        match whole {
            Receiving::Nothing => Ok(()),
            Receiving::Object(receiver) => receiver.finish(self),
            Receiving::Refused { answer } => match answer {
                Some(answer) => answer.send(&mut self.link),
                None => Ok(()),
            },
            Receiving::Identifier {
                context_id,
                service,
                request,
                bytes,
            } => scp_table::perform(self, service, context_id, &request, &bytes),
        }
    }

    fn close(&mut self, began: Instant, end: &Result<&'static str, LinkError>) {
        let how = match end {
            Ok(how) => (*how).to_owned(),
            Err(error) => {
                Stats::add(&self.shared.stats.associations_aborted, 1);
                error.to_string()
            }
        };
        let tally = &self.tally;
        let text = format!(
            "association ended ({how}): {} from {}, {} requests, {} stored, {} refused, {} sent, \
             {} bytes, {:.3} s",
            self.calling_ae,
            self.link.peer_address,
            tally.requests,
            tally.stored,
            tally.refused,
            tally.sent,
            tally.bytes,
            began.elapsed().as_secs_f64()
        );
        let level = if end.is_ok() {
            Level::Info
        } else {
            Level::Warning
        };
        self.log(level, text);
    }
}

impl Receiving {
    fn unwanted(command: &CommandSet, answer: Option<Box<Answer>>) -> Self {
        if command.has_dataset() {
            Self::Refused { answer }
        } else {
            Self::Nothing
        }
    }

    /// Takes one fragment; what is too large or not wanted is dropped, and answered at its end.
    fn take(&mut self, fragment: &[u8], identifier_bytes_max: usize) {
        match self {
            Self::Nothing | Self::Refused { .. } => {}
            Self::Object(receiver) => receiver.take(fragment),
            Self::Identifier {
                context_id,
                request,
                bytes,
                ..
            } => {
                if bytes.len() + fragment.len() <= identifier_bytes_max {
                    bytes.extend_from_slice(fragment);
                    return;
                }
                let response = CommandResponse::to(request, Status::OUT_OF_RESOURCES)
                    .with_comment("identifier larger than this server takes");
                let answer = Box::new(Answer {
                    context_id: *context_id,
                    response,
                });
                *self = Self::Refused {
                    answer: Some(answer),
                };
            }
        }
    }
}
