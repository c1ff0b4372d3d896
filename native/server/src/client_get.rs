//! C-GET SCU: objects come back on our own association, into an archive or a folder.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use pyserver_proto::association::Event;
use pyserver_proto::dataset::Dataset;
use pyserver_proto::dimse::{CGetRq, CStoreRq, CommandRequest, CommandResponse, Priority};
use pyserver_proto::file::{MetaFields, encode_part10};
use pyserver_proto::query::{InformationModel, QueryService};
use pyserver_proto::status::Status;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::Uid;
use pyserver_store::archive::Archive;
use pyserver_store::incoming::{Incoming, ReceiveContext};

use crate::acceptance::UNCOMPRESSED;
use crate::client::{RetrieveReport, sop_class};
use crate::client_send::Progress;
use crate::error::LinkError;
use crate::peers::Destination;
use crate::reply::Answer;
use crate::scu::{CONTEXTS_MAX, Caller, Proposal, Requestor};

/// Where objects go.
pub enum GetTarget {
    /// Into an archive, like a store.
    Archive(Arc<Archive>),
    /// Into a folder, as `SOPInstanceUID.dcm`.
    Folder(PathBuf),
}

/// One object on its way in.
enum Receiving {
    Archive(Box<Incoming>),
    File {
        file: BufWriter<File>,
        part: PathBuf,
        whole: PathBuf,
    },
    Failed(Status, String),
}

/// C-GET. `storage_classes` are offered with the SCP role, as many as fit one association, in
/// the transfer syntaxes given.
///
/// Errors: no association, a broken one, or silence. A refused retrieve is a report.
pub fn get(
    caller: &Caller,
    peer: &Destination,
    model: InformationModel,
    identifier: &Dataset,
    (storage_classes, transfer_syntaxes): (&[Uid], &[Uid]),
    target: &GetTarget,
    progress: Progress<'_>,
) -> Result<RetrieveReport, LinkError> {
    let class = sop_class(model, QueryService::Get)?;
    let proposals = proposals(class, storage_classes, transfer_syntaxes);
    let mut requestor = Requestor::connect(caller, peer, &proposals, format!(">{}", peer.ae))?;
    let message_id = requestor.next_message_id();
    let request = CommandRequest::CGet(CGetRq {
        message_id,
        sop_class_uid: Uid::from_static(class),
        priority: Priority::Medium,
    });
    requestor.request(&request, identifier)?;
    let report = receive_all(caller, peer, &mut requestor, target, progress)?;
    requestor.release()?;
    Ok(report)
}

fn receive_all(
    caller: &Caller,
    peer: &Destination,
    requestor: &mut Requestor,
    target: &GetTarget,
    progress: Progress<'_>,
) -> Result<RetrieveReport, LinkError> {
    let mut report = RetrieveReport::default();
    let mut object: Option<(u8, CStoreRq, Receiving)> = None;
    let mut heard = Instant::now();
    let link = &mut requestor.link;
    loop {
        let finished = match link.association.next_event() {
            None if heard.elapsed() >= caller.dimse_timeout => {
                link.abort(0, 0);
                return Err(LinkError::Silent(caller.dimse_timeout));
            }
            None => {
                link.receive()?;
                continue;
            }
            Some(Event::Data { fragment, last, .. }) => {
                heard = Instant::now();
                if let Some((_, _, receiving)) = &mut object {
                    receiving.take(fragment);
                }
                last
            }
            Some(Event::Command {
                context_id,
                command,
            }) => {
                heard = Instant::now();
                if let Ok(CommandRequest::CStore(store)) = command.parse() {
                    let context = link.association.context(context_id);
                    let syntax = context.map(|c| c.transfer_syntax).unwrap_or_default();
                    let receiving = Receiving::begin(target, caller, peer, &store, syntax);
                    object = Some((context_id, store, receiving));
                    false
                } else if let Some(response) = command.parse_response() {
                    if let Some(counts) = response.sub_operations {
                        report.count(counts);
                        let done = u64::from(report.completed + report.failed + report.warning);
                        progress(done, done + u64::from(counts.remaining.unwrap_or(0)));
                    }
                    if !response.status.is_pending() && !response.has_dataset {
                        report.status = response.status.0;
                        report.comment = response.error_comment;
                        return Ok(report);
                    }
                    if !response.status.is_pending() {
                        report.status = response.status.0;
                        report.comment = response.error_comment;
                        object = None;
                    }
                    false
                } else {
                    link.abort(0, 0);
                    return Err(LinkError::Unexpected("neither C-STORE nor C-GET-RSP"));
                }
            }
            Some(event) => return Err(LinkError::from_event(&event)),
        };
        if finished {
            let Some((context_id, store, receiving)) = object.take() else {
                // The list of failed instances that ends the operation.
                return Ok(report);
            };
            let (status, comment) = receiving.finish();
            let response = CommandResponse::to(&CommandRequest::CStore(store), status);
            let response = response.with_comment(&comment);
            Answer {
                context_id,
                response,
            }
            .send(link)?;
        }
    }
}

impl Receiving {
    fn begin(
        target: &GetTarget,
        caller: &Caller,
        peer: &Destination,
        store: &CStoreRq,
        syntax: Uid,
    ) -> Self {
        match target {
            GetTarget::Archive(archive) => {
                let context = ReceiveContext {
                    calling_ae: &peer.ae,
                    called_ae: &caller.calling_ae,
                    transfer_syntax: TransferSyntax::from_uid(&syntax),
                    sop_class_uid: store.sop_class_uid.as_str(),
                    sop_instance_uid: store.sop_instance_uid.as_str(),
                    durability: None,
                };
                match archive.begin(&context) {
                    Ok(incoming) => Self::Archive(Box::new(incoming)),
                    Err(error) => Self::Failed(Status(error.status()), error.to_string()),
                }
            }
            GetTarget::Folder(folder) => Self::open(folder, store, syntax)
                .unwrap_or_else(|error| Self::Failed(Status::OUT_OF_RESOURCES, error.to_string())),
        }
    }

    fn open(folder: &Path, store: &CStoreRq, syntax: Uid) -> std::io::Result<Self> {
        // Whatever the peer calls the object, its file stays in the folder.
        let name: String = store
            .sop_instance_uid
            .as_str()
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '.' {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let part = folder.join(format!(".{name}.part"));
        let mut file = BufWriter::new(File::create(&part)?);
        file.write_all(&encode_part10(&MetaFields {
            sop_class_uid: store.sop_class_uid.as_bytes(),
            sop_instance_uid: store.sop_instance_uid.as_bytes(),
            transfer_syntax: TransferSyntax::from_uid(&syntax),
        }))?;
        Ok(Self::File {
            file,
            part,
            whole: folder.join(format!("{name}.dcm")),
        })
    }

    fn take(&mut self, fragment: &[u8]) {
        let failure = match self {
            Self::Archive(incoming) => incoming
                .write(fragment)
                .err()
                .map(|error| (Status(error.status()), error.to_string())),
            Self::File { file, .. } => file
                .write_all(fragment)
                .err()
                .map(|error| (Status::OUT_OF_RESOURCES, error.to_string())),
            Self::Failed(..) => None,
        };
        if let Some((status, why)) = failure {
            self.discard();
            *self = Self::Failed(status, why);
        }
    }

    fn discard(&self) {
        if let Self::File { part, .. } = self {
            // Nothing more can be done about a part that cannot be removed.
            let _ = fs::remove_file(part);
        }
    }

    fn finish(self) -> (Status, String) {
        match self {
            Self::Archive(incoming) => match incoming.finish() {
                Ok(_) => (Status::SUCCESS, String::new()),
                Err(error) => (Status(error.status()), error.to_string()),
            },
            Self::File {
                mut file,
                part,
                whole,
            } => match file.flush().and_then(|()| fs::rename(&part, whole)) {
                Ok(()) => (Status::SUCCESS, String::new()),
                Err(error) => (Status::OUT_OF_RESOURCES, error.to_string()),
            },
            Self::Failed(status, why) => (status, why),
        }
    }
}

fn proposals(class: &'static str, storage_classes: &[Uid], syntaxes: &[Uid]) -> Vec<Proposal> {
    let uncompressed: Vec<Uid> = UNCOMPRESSED
        .iter()
        .map(|text| Uid::from_static(text))
        .collect();
    let get = Proposal {
        abstract_syntax: Uid::from_static(class),
        transfer_syntaxes: uncompressed,
        as_scp: false,
    };
    let storage = storage_classes.iter().map(|class| Proposal {
        abstract_syntax: *class,
        transfer_syntaxes: syntaxes.to_vec(),
        as_scp: true,
    });
    std::iter::once(get)
        .chain(storage)
        .take(CONTEXTS_MAX)
        .collect()
}
