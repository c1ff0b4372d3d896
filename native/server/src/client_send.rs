//! C-STORE SCU for files of the command line: one association for each 128 kinds of objects.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use pyserver_proto::convert::is_convertible;
use pyserver_proto::dimse::{CStoreRq, Priority};
use pyserver_proto::file::{FileLayout, probe};
use pyserver_proto::scan::{HeaderScanner, ScanLimits};
use pyserver_proto::status::StatusClass;
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::Uid;
use pyserver_store::codec_pool::{CodecPool, Source, Transcoded, Wish};
use pyserver_store::ready_object::{Content, ReadyObject};

use crate::error::LinkError;
use crate::outgoing::{self, wanted_syntaxes};
use crate::peers::{Compression, Destination};
use crate::scu::{CONTEXTS_MAX, Caller, Requestor};
use crate::send_object::{SendError, Sender};

/// Called with what is done and what there is to do.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Read at once while looking for the header's end.
const READ_BYTES: usize = 64 * 1024;

/// How sending went.
#[derive(Debug, Default)]
pub struct SendReport {
    /// Objects answered with success or a warning.
    pub sent: u64,
    /// Data set bytes of these.
    pub bytes: u64,
    /// Files that did not arrive, and why.
    pub failures: Vec<(PathBuf, String)>,
    /// Whether the peer was lost on the way, so that more may arrive at another time.
    pub lost: bool,
}

/// Stored, uncompressed, and up to three syntaxes of a mode.
const CONTEXTS_PER_KIND: usize = 5;

/// SOP class and transfer syntax: what a presentation context is for.
type Kind = (Uid, Uid);

/// A file that is an object.
struct Candidate {
    path: PathBuf,
    layout: FileLayout,
    sop_class: Uid,
    sop_instance: Uid,
    length: u64,
}

/// Who recompresses objects for a peer that takes, or wants, another compression; and the quality.
pub type Codecs<'a> = Option<(&'a CodecPool, u8)>;

/// Sends files, as acrnema.map says with codecs. Those that are no objects, and those refused, are listed in
/// the report.
///
/// Errors: the first association cannot be had.
pub fn send(
    caller: &Caller,
    peer: &Destination,
    files: &[PathBuf],
    codecs: Codecs<'_>,
    progress: Progress<'_>,
) -> Result<SendReport, LinkError> {
    let mut report = SendReport::default();
    let mut objects = Vec::new();
    for path in files {
        match candidate(path) {
            Ok(object) => objects.push(object),
            Err(why) => report.failures.push((path.clone(), why)),
        }
    }
    let total = files.len() as u64;
    for (number, group) in groups(objects).into_iter().enumerate() {
        let kinds = group
            .iter()
            .map(|object| (object.sop_class, object.layout.syntax.uid()));
        let proposals = outgoing::proposals(kinds, &peer.compression, codecs.is_some());
        let requestor = match Requestor::connect(caller, peer, &proposals, ">".into()) {
            Ok(requestor) => requestor,
            Err(error) if number == 0 => return Err(error),
            Err(error) => {
                let why = error.to_string();
                report.lost = true;
                report
                    .failures
                    .extend(group.into_iter().map(|o| (o.path, why.clone())));
                continue;
            }
        };
        let form = (&peer.compression, codecs);
        send_group(requestor, group, form, &mut report, &mut |done| {
            progress(done, total);
        });
    }
    Ok(report)
}

/// What the peer is to get, and who makes it.
type Form<'a> = (&'a Compression, Codecs<'a>);

fn send_group(
    mut requestor: Requestor,
    group: Vec<Candidate>,
    form: Form<'_>,
    report: &mut SendReport,
    progress: &mut dyn FnMut(u64),
) {
    let mut sender = Sender::default();
    let mut broken: Option<String> = None;
    for object in group {
        let outcome = match &broken {
            Some(why) => Err(SendError::Object(why.clone())),
            None => send_one(&mut requestor, &mut sender, &object, form),
        };
        match outcome {
            Ok(()) => {
                report.sent += 1;
                report.bytes += object.length;
            }
            Err(error) => {
                let why = error.to_string();
                if let SendError::Link(_) = error {
                    report.lost = true;
                    broken = Some(format!("not sent: {why}"));
                }
                report.failures.push((object.path, why));
            }
        }
        progress(report.sent + report.failures.len() as u64);
    }
    if broken.is_some() {
        requestor.link.abort(0, 0);
    } else {
        // Everything is answered; a peer that does not say goodbye changes nothing.
        let _ = requestor.release();
    }
}

fn send_one(
    requestor: &mut Requestor,
    sender: &mut Sender,
    object: &Candidate,
    (compression, codecs): Form<'_>,
) -> Result<(), SendError> {
    let unreadable = |error: io::Error| SendError::Object(error.to_string());
    let file = File::open(&object.path).map_err(unreadable)?;
    let source = Source {
        file: file.as_fd(),
        offset: object.layout.dataset_offset,
        length: object.length,
        syntax: object.layout.syntax,
    };
    // What the mode cannot change goes as it is.
    let changed = match (compression.first(), codecs) {
        (Some(mode), Some((pool, _))) => match pool.transcode(&source, &mode) {
            Ok(Transcoded::New(new, derived)) => Some((new, derived)),
            Ok(Transcoded::Kept) | Err(_) => None,
        },
        _ => None,
    };
    let syntax = changed.as_ref().map_or(source.syntax, |new| new.0.syntax);
    let mut wishes = wanted_syntaxes(syntax, compression);
    if syntax.is_encapsulated() && codecs.is_none() {
        wishes.truncate(1);
    }
    let Some(context) = requestor.context_for(object.sop_class, &wishes) else {
        let (class, syntax) = (object.sop_class, syntax.uid());
        let why = format!("the peer accepted no context for SOP class {class} in {syntax}");
        return Err(SendError::Object(why));
    };
    let context = (context.id, context.transfer_syntax);
    let recompressed = match codecs {
        Some((pool, quality)) if changed.is_none() => {
            let quality = compression.quality_or(quality);
            recompressed(&source, context.1, (pool, quality))?
        }
        _ => changed,
    };
    let as_it_is = || ReadyObject {
        syntax: object.layout.syntax,
        content: Content::File {
            file,
            offset: object.layout.dataset_offset,
        },
        length: object.length,
    };
    let (outgoing, derived) = recompressed.unwrap_or_else(|| (as_it_is(), None));
    let message_id = requestor.next_message_id();
    let request = CStoreRq {
        message_id,
        sop_class_uid: object.sop_class,
        sop_instance_uid: derived.unwrap_or(object.sop_instance),
        priority: Priority::Medium,
        move_originator_ae: None,
        move_originator_message_id: None,
    };
    sender.send(&mut requestor.link, context, request, &outgoing)?;
    let (response, _) = requestor.response(message_id, 0)?;
    match response.status.class() {
        StatusClass::Success | StatusClass::Warning => Ok(()),
        _ => {
            let why = format!(
                "answered with {}: {}",
                response.status, response.error_comment
            );
            Err(SendError::Object(why))
        }
    }
}

/// The object in a transfer syntax that only a codec can put it into, and its SOP Instance UID where that is
/// a new one; `None` for all others.
fn recompressed(
    source: &Source<'_>,
    uid: Uid,
    (pool, quality): (&CodecPool, u8),
) -> Result<Option<(ReadyObject, Option<Uid>)>, SendError> {
    let (syntax, target) = (source.syntax, TransferSyntax::from_uid(&uid));
    if syntax == target || is_convertible(syntax, target) {
        return Ok(None);
    }
    let worked = pool.transcode(source, &Wish::Syntax { uid, quality });
    let worked = worked.map_err(|error| SendError::Object(error.to_string()))?;
    Ok(match worked {
        Transcoded::Kept => None,
        Transcoded::New(new, derived) => Some((new, derived)),
    })
}

/// Reads as much of a file as says what it is.
fn candidate(path: &Path) -> Result<Candidate, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    let mut bytes = Vec::new();
    let layout = loop {
        match probe(&bytes).map_err(|error| error.to_string())? {
            Some(layout) => break layout,
            None if read_more(&mut file, &mut bytes)? => {}
            None => return Err("not a DICOM file".to_owned()),
        }
    };
    let mut scanner = HeaderScanner::new(layout.syntax, ScanLimits::default());
    let start = usize::try_from(layout.dataset_offset).unwrap_or(usize::MAX);
    scanner
        .push(bytes.get(start..).unwrap_or_default())
        .map_err(|error| error.to_string())?;
    while scanner.value(Tag::SOP_INSTANCE_UID).is_none() && !scanner.header_complete() {
        bytes.clear();
        if !read_more(&mut file, &mut bytes)? {
            break;
        }
        scanner.push(&bytes).map_err(|error| error.to_string())?;
    }
    let uid = |tag: Tag, meta: Tag, what: &str| {
        scanner
            .value(tag)
            .and_then(|value| Uid::from_value(value).ok())
            .or_else(|| layout.meta_uid(meta))
            .filter(|uid| !uid.is_empty())
            .ok_or_else(|| format!("no {what} UID"))
    };
    let sop_class = uid(
        Tag::SOP_CLASS_UID,
        Tag::MEDIA_STORAGE_SOP_CLASS_UID,
        "SOP class",
    )?;
    let sop_instance = uid(
        Tag::SOP_INSTANCE_UID,
        Tag::MEDIA_STORAGE_SOP_INSTANCE_UID,
        "SOP instance",
    )?;
    let length = size.saturating_sub(layout.dataset_offset);
    Ok(Candidate {
        path: path.to_owned(),
        layout,
        sop_class,
        sop_instance,
        length,
    })
}

fn read_more(file: &mut File, bytes: &mut Vec<u8>) -> Result<bool, String> {
    let read = file.by_ref().take(READ_BYTES as u64).read_to_end(bytes);
    read.map(|n| n > 0).map_err(|error| error.to_string())
}

/// Splits the objects so that each group's contexts fit one association.
fn groups(objects: Vec<Candidate>) -> Vec<Vec<Candidate>> {
    let mut groups: Vec<(BTreeSet<Kind>, Vec<Candidate>)> = Vec::new();
    for object in objects {
        let kind = (object.sop_class, object.layout.syntax.uid());
        // A kind may need several contexts: its own syntax and those for the forms we can make of it.
        let fits = |(kinds, _): &&mut (BTreeSet<_>, Vec<_>)| {
            kinds.contains(&kind) || (kinds.len() + 1) * CONTEXTS_PER_KIND <= CONTEXTS_MAX
        };
        match groups.last_mut().filter(fits) {
            Some((kinds, members)) => {
                kinds.insert(kind);
                members.push(object);
            }
            None => groups.push((BTreeSet::from([kind]), vec![object])),
        }
    }
    groups.into_iter().map(|(_, members)| members).collect()
}
