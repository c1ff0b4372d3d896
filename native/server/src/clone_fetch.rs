//! Asks a peer for the images of one patient or study: at once where the peer answers that, else level by level.
//!
//! A query at image level with a patient's ID alone is *relational* (PS3.4 C.4.1.2.2): Conquest, Orthanc and
//! this server answer it, others refuse it, answer nothing or leave out what belongs to the levels above.

use std::sync::atomic::{AtomicBool, Ordering};

use pyserver_proto::dataset::Dataset;
use pyserver_proto::dict;
use pyserver_proto::dimse::{CFindRq, CommandRequest, Priority};
use pyserver_proto::header::Header;
use pyserver_proto::query::{InformationModel, QueryService};
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::Uid;
use pyserver_proto::vr::Vr;
use pyserver_store::clone_source::{Answers, CloneBuilder, keys_of};
use pyserver_store::columns::{Columns, unique_key};
use pyserver_store::extract::HeaderSource;
use pyserver_store::schema::Level;

use crate::client::sop_class;
use crate::error::LinkError;
use crate::peers::Destination;
use crate::scu::{Caller, Proposal, Requestor};

/// Largest answer taken (LIMIT: one record of dicom.sql has 2 KB).
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Models to ask in, most wanted first.
const MODELS: [InformationModel; 2] = [InformationModel::PatientRoot, InformationModel::StudyRoot];

/// What is asked for in one go.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Patient or study.
    pub level: Level,
    /// Patient ID or Study Instance UID.
    pub id: Vec<u8>,
    /// What the peer said about it.
    pub answer: Header,
}

impl Piece {
    /// Its name in the record of what is done.
    pub fn name(&self) -> Vec<u8> {
        let mut name = self.level.name().as_bytes().to_vec();
        name.push(b' ');
        name.extend_from_slice(&self.id);
        name
    }
}

/// Why a query brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The peer refused this query; the association is as good as before.
    #[error("{0}")]
    Refused(LinkError),
    /// The association is lost.
    #[error("{0}")]
    Link(#[from] LinkError),
    /// The receiver of the records has gone.
    #[error("stopped")]
    Stopped,
}

/// What the fetchers of one peer share.
pub struct Plan<'a> {
    /// Which elements to ask for.
    pub columns: &'a Columns,
    /// The peer answers relational queries as far as is known.
    pub relational: AtomicBool,
}

/// One association with a peer that is asked.
pub struct Fetcher<'a> {
    requestor: Requestor,
    plan: &'a Plan<'a>,
}

/// Where records go: gathered in the builder, taken out of it as often as the receiver likes.
pub struct Sink<'s, 'b> {
    /// Makes rows of records.
    pub builder: &'s mut CloneBuilder<'b>,
    /// Called after each record; false stops.
    pub after: &'s mut dyn FnMut(&mut CloneBuilder<'b>) -> bool,
    /// Called for a record without usable identifiers.
    pub refused: &'s mut dyn FnMut(String),
}

impl<'a> Fetcher<'a> {
    /// Connects, offering both information models.
    pub fn connect(
        caller: &Caller,
        peer: &Destination,
        plan: &'a Plan<'a>,
    ) -> Result<Self, LinkError> {
        let mut proposals = Vec::new();
        for model in MODELS {
            proposals.push(Proposal {
                abstract_syntax: Uid::from_static(sop_class(model, QueryService::Find)?),
                transfer_syntaxes: vec![
                    TransferSyntax::EXPLICIT_LE_UID,
                    TransferSyntax::IMPLICIT_LE_UID,
                ],
                as_scp: false,
            });
        }
        let requestor = Requestor::connect(caller, peer, &proposals, format!(">{}", peer.ae))?;
        Ok(Self { requestor, plan })
    }

    /// Ends the association.
    pub fn release(self) -> Result<(), LinkError> {
        self.requestor.release()
    }

    fn accepts(&self, model: InformationModel) -> Result<bool, LinkError> {
        let class = Uid::from_static(sop_class(model, QueryService::Find)?);
        Ok(self.requestor.any_context(class).is_ok())
    }

    /// Everything there is to fetch: patients, or studies where the peer has no patient root. Patients whose ID
    /// cannot be asked for (none, or one with wildcards) are told study by study.
    pub fn list(
        &mut self,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Vec<Piece>, FetchError> {
        let mut pieces = Vec::new();
        if !self.accepts(InformationModel::PatientRoot)? {
            self.list_level(Level::Study, &mut |piece| {
                pieces.push(piece);
                progress(pieces.len() as u64)
            })?;
            return Ok(pieces);
        }
        let mut awkward = Vec::new();
        self.list_level(Level::Patient, &mut |piece| {
            if is_askable(&piece.id) {
                pieces.push(piece);
            } else {
                awkward.push(piece.id);
            }
            progress(pieces.len() as u64)
        })?;
        if !awkward.is_empty() {
            self.list_level(Level::Study, &mut |piece| {
                let patient = piece.answer.get(Tag::PATIENT_ID).unwrap_or_default();
                if awkward.iter().any(|id| id == patient) {
                    pieces.push(piece);
                }
                progress(pieces.len() as u64)
            })?;
        }
        Ok(pieces)
    }

    /// All patients, or all studies with what the peer says there about their patients.
    fn list_level(
        &mut self,
        level: Level,
        each: &mut dyn FnMut(Piece) -> bool,
    ) -> Result<(), FetchError> {
        let mut request = Dataset::new();
        for at in [Level::Patient, level] {
            self.ask_for(&mut request, at);
        }
        let model = if level == Level::Study && self.accepts(InformationModel::StudyRoot)? {
            InformationModel::StudyRoot
        } else {
            InformationModel::PatientRoot
        };
        self.find(model, level, request, &mut |answer| {
            let id = answer.get(unique_key(level)).unwrap_or_default().to_vec();
            each(Piece { level, id, answer })
        })
    }

    /// Hands every image of a piece to the sink.
    pub fn fetch(&mut self, piece: &Piece, sink: &mut Sink<'_, '_>) -> Result<(), FetchError> {
        if self.plan.relational.load(Ordering::Relaxed) {
            match self.fetch_at_once(piece, sink) {
                Ok(Found::Images) => return Ok(()),
                Ok(Found::Nothing | Found::Incomplete) | Err(FetchError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
            let found = self.fetch_by_level(piece, sink)?;
            // Images that only this way brings are proof; a patient without images is none.
            if found {
                self.plan.relational.store(false, Ordering::Relaxed);
            }
            return Ok(());
        }
        self.fetch_by_level(piece, sink).map(drop)
    }

    /// One query at image level, with all that dicom.sql keeps.
    fn fetch_at_once(
        &mut self,
        piece: &Piece,
        sink: &mut Sink<'_, '_>,
    ) -> Result<Found, FetchError> {
        let mut request = Dataset::new();
        for level in Level::ALL {
            self.ask_for(&mut request, level);
        }
        let key = unique_key(piece.level);
        put_key(&mut request, key, &piece.id, &piece.answer);
        let mut found = Found::Nothing;
        let model = self.model_of(piece.level)?;
        self.find(model, Level::Image, request, &mut |answer| {
            let layers = [&answer, &piece.answer];
            let own = answer.get(key).unwrap_or_default();
            let of_another = !own.is_empty() && own != piece.id;
            let whole = [Tag::STUDY_INSTANCE_UID, Tag::SERIES_INSTANCE_UID]
                .iter()
                .all(|tag| answer.get(*tag).is_some_and(|uid| !uid.is_empty()));
            if !whole {
                found = Found::Incomplete;
                return false;
            }
            if of_another {
                return true;
            }
            found = Found::Images;
            sink.record(&Answers::new(&layers))
        })
        .or_else(|error| match (error, found) {
            (FetchError::Stopped, Found::Incomplete) => Ok(()),
            (error, _) => Err(error),
        })?;
        Ok(found)
    }

    /// Studies, their series, their images; answers whether there were any.
    fn fetch_by_level(
        &mut self,
        piece: &Piece,
        sink: &mut Sink<'_, '_>,
    ) -> Result<bool, FetchError> {
        let model = self.model_of(piece.level)?;
        let studies = if piece.level == Level::Study {
            vec![piece.answer.clone()]
        } else {
            self.below(model, Level::Study, &[&piece.answer])?
        };
        let mut found = false;
        for study in &studies {
            let above = [study, &piece.answer];
            for series in &self.below(model, Level::Series, &above)? {
                let above = [series, study, &piece.answer];
                let request = self.request_below(model, Level::Image, &above);
                self.find(model, Level::Image, request, &mut |image| {
                    found = true;
                    let layers = [&image, series, study, &piece.answer];
                    sink.record(&Answers::new(&layers))
                })?;
            }
        }
        Ok(found)
    }

    /// The answers one level below `above`, which is given from the lowest level up.
    fn below(
        &mut self,
        model: InformationModel,
        level: Level,
        above: &[&Header],
    ) -> Result<Vec<Header>, FetchError> {
        let request = self.request_below(model, level, above);
        let mut answers = Vec::new();
        self.find(model, level, request, &mut |answer| {
            answers.push(answer);
            true
        })?;
        Ok(answers)
    }

    /// A query as PS3.4 C.4.1.2.1 wants it: the level's keys, and above it unique keys alone.
    fn request_below(&self, model: InformationModel, level: Level, above: &[&Header]) -> Dataset {
        let mut request = Dataset::new();
        self.ask_for(&mut request, level);
        let known = Answers::new(above);
        for higher in Level::ALL.into_iter().filter(|higher| *higher < level) {
            // A patient is no level of the study root.
            if higher == Level::Patient && model == InformationModel::StudyRoot {
                request.remove(Tag::PATIENT_ID);
                continue;
            }
            let key = unique_key(higher);
            request.put_bytes(key, dict::vr(key), &known.text(key));
        }
        if let Some(charset) = known.value(Tag::SPECIFIC_CHARACTER_SET) {
            request.put_bytes(Tag::SPECIFIC_CHARACTER_SET, Vr::Cs, &charset);
        }
        request
    }

    /// Adds the elements of a level, without values.
    fn ask_for(&self, request: &mut Dataset, level: Level) {
        for tag in keys_of(self.plan.columns, level) {
            request.put_bytes(tag, dict::vr(tag), b"");
        }
    }

    /// The model in which a patient, or a study, is at the top.
    fn model_of(&self, level: Level) -> Result<InformationModel, LinkError> {
        let study = level == Level::Study && self.accepts(InformationModel::StudyRoot)?;
        Ok(if study {
            InformationModel::StudyRoot
        } else {
            InformationModel::PatientRoot
        })
    }

    /// One C-FIND; `each` gets the answers and may stop.
    fn find(
        &mut self,
        model: InformationModel,
        level: Level,
        mut request: Dataset,
        each: &mut dyn FnMut(Header) -> bool,
    ) -> Result<(), FetchError> {
        let name = level.name().as_bytes();
        request.put_bytes(Tag::QUERY_RETRIEVE_LEVEL, Vr::Cs, name);
        let message_id = self.requestor.next_message_id();
        let command = CommandRequest::CFind(CFindRq {
            message_id,
            sop_class_uid: Uid::from_static(sop_class(model, QueryService::Find)?),
            priority: Priority::Medium,
        });
        let (_, syntax) = self.requestor.request(&command, &request)?;
        let mut going_on = true;
        loop {
            let (response, dataset) = self.requestor.response(message_id, ANSWER_BYTES_MAX)?;
            if !response.status.is_pending() {
                return match response.status.0 {
                    0 if going_on => Ok(()),
                    0 => Err(FetchError::Stopped),
                    status => Err(FetchError::Refused(LinkError::Failed {
                        status,
                        comment: response.error_comment,
                    })),
                };
            }
            // The answers that are left are read, so that the association stays usable.
            if going_on {
                let bytes = dataset.unwrap_or_default();
                let answer = Header::parse(&bytes, syntax)
                    .map_err(|error| LinkError::Protocol(error.to_string()))?;
                going_on = each(answer);
            }
        }
    }
}

/// What a relational query brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    /// Answers without the identifiers of study and series.
    Incomplete,
    Images,
}

impl Sink<'_, '_> {
    fn record(&mut self, record: &Answers<'_>) -> bool {
        if let Err(refused) = self.builder.push(record) {
            let sop = record.text(Tag::SOP_INSTANCE_UID);
            let sop = String::from_utf8_lossy(&sop).into_owned();
            (self.refused)(format!("{sop}: {refused}"));
        }
        (self.after)(self.builder)
    }
}

/// Whether exactly this patient can be asked for: wildcards and lists would bring others.
fn is_askable(id: &[u8]) -> bool {
    !id.is_empty() && !id.iter().any(|b| matches!(b, b'*' | b'?' | b'\\'))
}

/// A key with its value, and the character set that the value is written in.
fn put_key(request: &mut Dataset, key: Tag, value: &[u8], source: &Header) {
    request.put_bytes(key, dict::vr(key), value);
    if let Some(charset) = source.get(Tag::SPECIFIC_CHARACTER_SET) {
        request.put_bytes(Tag::SPECIFIC_CHARACTER_SET, Vr::Cs, charset);
    }
}
