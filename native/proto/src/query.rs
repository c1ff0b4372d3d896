//! Query and retrieve identifiers (PS3.4 annexes C and K) as legal, typed queries.
//!
//! [`Query::parse`] turns an identifier into keys with matchers, or refuses it with the status to send. It
//! knows information models and levels but no database: which keys exist at which level, and what is
//! returned, is decided by the index. A key whose value can match nothing (a malformed range) is no error:
//! it matches nothing, and a warning says so.

use crate::charset::CharacterSet;
use crate::dataset::{Dataset, DatasetError, Element, Value};
use crate::dict;
use crate::tag::Tag;
use crate::uid;
use crate::value::value_text;
use crate::vr::Vr;

pub use crate::matching::{Compare, MatchRules, Matcher, Pattern, Single};
pub use crate::range::{DateRange, DateTimePair, DateTimeRange, TimeRange};

/// Longest text of an error comment (0000,0902).
const COMMENT_BYTES_MAX: usize = 64;
/// Longest UID list and key list that is taken.
const KEYS_MAX: usize = 100_000;
/// Most values of a key that is no UID; each is compared with each row.
const VALUES_MAX: usize = 1000;
/// Longest value of a key that is no UID list. No stored value is nearly as long, so nothing matches more.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// The information models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InformationModel {
    /// Patient, study, series, image.
    PatientRoot,
    /// Study, series, image; patient attributes belong to the study.
    StudyRoot,
    /// Patient and study (retired).
    PatientStudyOnly,
    /// Modality worklist.
    ModalityWorklist,
}

/// What is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryService {
    /// C-FIND.
    Find,
    /// C-MOVE.
    Move,
    /// C-GET.
    Get,
}

impl InformationModel {
    /// Model and service of a SOP class; `None` for other SOP classes.
    pub fn from_sop_class(sop_class_uid: &str) -> Option<(Self, QueryService)> {
        use QueryService::{Find, Get, Move};
        Some(match sop_class_uid {
            uid::PATIENT_ROOT_FIND => (Self::PatientRoot, Find),
            uid::PATIENT_ROOT_MOVE => (Self::PatientRoot, Move),
            uid::PATIENT_ROOT_GET => (Self::PatientRoot, Get),
            uid::STUDY_ROOT_FIND => (Self::StudyRoot, Find),
            uid::STUDY_ROOT_MOVE => (Self::StudyRoot, Move),
            uid::STUDY_ROOT_GET => (Self::StudyRoot, Get),
            uid::PATIENT_STUDY_ONLY_FIND => (Self::PatientStudyOnly, Find),
            uid::PATIENT_STUDY_ONLY_MOVE => (Self::PatientStudyOnly, Move),
            uid::PATIENT_STUDY_ONLY_GET => (Self::PatientStudyOnly, Get),
            uid::MODALITY_WORKLIST_FIND => (Self::ModalityWorklist, Find),
            _ => return None,
        })
    }

    /// Whether the model has this level.
    pub const fn has_level(self, level: Level) -> bool {
        match (self, level) {
            (Self::ModalityWorklist, level) => matches!(level, Level::Worklist),
            (_, Level::Worklist) => false,
            (Self::PatientRoot, _) => true,
            (Self::StudyRoot, level) => !matches!(level, Level::Patient),
            (Self::PatientStudyOnly, level) => matches!(level, Level::Patient | Level::Study),
        }
    }
}

/// The level that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// `PATIENT`.
    Patient,
    /// `STUDY`.
    Study,
    /// `SERIES`.
    Series,
    /// `IMAGE`.
    Image,
    /// The worklist has one level and does not name it.
    Worklist,
}

impl Level {
    /// The value of (0008,0052), which is case-sensitive.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Patient => "PATIENT",
            Self::Study => "STUDY",
            Self::Series => "SERIES",
            Self::Image => "IMAGE",
            Self::Worklist => "",
        }
    }

    /// The unique key of the level; the worklist has none.
    pub const fn unique_key(self) -> Option<Tag> {
        match self {
            Self::Patient => Some(Tag::PATIENT_ID),
            Self::Study => Some(Tag::STUDY_INSTANCE_UID),
            Self::Series => Some(Tag::SERIES_INSTANCE_UID),
            Self::Image => Some(Tag::SOP_INSTANCE_UID),
            Self::Worklist => None,
        }
    }

    fn from_value(value: &[u8]) -> Option<Self> {
        let value = value.trim_ascii();
        [Self::Patient, Self::Study, Self::Series, Self::Image]
            .into_iter()
            .find(|level| level.as_str().as_bytes() == value)
    }
}

/// One element of an identifier that is to be matched or returned.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// The tag.
    pub tag: Tag,
    /// The VR: the dictionary's, or the identifier's for elements the dictionary does not know.
    pub vr: Vr,
    /// What a stored value must be like.
    pub matcher: Matcher,
}

/// Choices of an association that change what an identifier means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryOptions {
    /// Date and time keys of one kind are matched as one point in time (PS3.4 section C.5.2.1.1 extended
    /// negotiation); otherwise each for itself.
    pub combined_datetime: bool,
}

/// A legal query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The information model.
    pub model: InformationModel,
    /// The level.
    pub level: Level,
    /// Keys in tag order, without level, character set and the private sort, limit and offset keys.
    pub keys: Vec<Key>,
    /// Character set of the identifier.
    pub charset: CharacterSet,
    /// Whether the identifier has (0008,0005) at all, perhaps empty.
    pub charset_given: bool,
    /// Date and time keys to match together; their single matchers only narrow the search.
    pub date_times: Vec<DateTimePair>,
    /// Private 9999,0C00: name of the column to sort by.
    pub sort: Option<String>,
    /// Private 9999,0C01: largest number of responses.
    pub limit: Option<u64>,
    /// Private 9999,0C02: responses to skip.
    pub offset: u64,
    /// What was odd about the identifier, for the log.
    pub warnings: Vec<String>,
}

/// Why an identifier is refused, and the status to say it with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct QueryError {
    /// A900 (identifier does not match SOP class) or C001 (unable to process).
    pub status: u16,
    /// At most 64 characters, for the error comment.
    pub text: String,
    /// The element at fault.
    pub offending: Option<Tag>,
}

impl QueryError {
    fn mismatch(text: &str, offending: Tag) -> Self {
        let text = text.chars().take(COMMENT_BYTES_MAX).collect();
        Self {
            status: 0xA900,
            text,
            offending: Some(offending),
        }
    }

    fn too_many(what: &str, offending: Option<Tag>) -> Self {
        Self {
            status: 0xC001,
            text: format!("too many {what}"),
            offending,
        }
    }
}

impl From<DatasetError> for QueryError {
    fn from(error: DatasetError) -> Self {
        let text = format!("identifier: {error}")
            .chars()
            .take(COMMENT_BYTES_MAX)
            .collect();
        Self {
            status: 0xC001,
            text,
            offending: None,
        }
    }
}

impl Query {
    /// Reads an identifier. A query without any key is legal; the unique key is what it returns.
    pub fn parse(
        model: InformationModel,
        identifier: &Dataset,
        options: &QueryOptions,
    ) -> Result<Self, QueryError> {
        let level = parse_level(model, identifier)?;
        if identifier.len() > KEYS_MAX {
            return Err(QueryError::too_many("keys", None));
        }
        let charset = identifier.bytes(Tag::SPECIFIC_CHARACTER_SET);
        let mut query = Self {
            model,
            level,
            keys: Vec::with_capacity(identifier.len()),
            charset: CharacterSet::parse(charset.unwrap_or_default()),
            charset_given: charset.is_some(),
            date_times: Vec::new(),
            sort: None,
            limit: None,
            offset: 0,
            warnings: Vec::new(),
        };
        for element in identifier {
            query.take(element)?;
        }
        if options.combined_datetime {
            query.date_times = DateTimePair::combine(&mut query.keys);
        }
        if model == InformationModel::ModalityWorklist {
            query.combine_steps();
        }
        Ok(query)
    }

    /// The key with this tag.
    pub fn key(&self, tag: Tag) -> Option<&Key> {
        let at = self.keys.partition_point(|key| key.tag < tag);
        self.keys.get(at).filter(|key| key.tag == tag)
    }

    /// The start of a procedure step is one range of moments without any negotiation (PS3.4 K.6.1.2.2).
    fn combine_steps(&mut self) {
        for key in &mut self.keys {
            if let Matcher::Sequence(keys) = &mut key.matcher {
                self.date_times.extend(DateTimePair::combine(keys));
            }
        }
    }

    fn take(&mut self, element: &Element) -> Result<(), QueryError> {
        match element.tag {
            Tag::QUERY_RETRIEVE_LEVEL | Tag::SPECIFIC_CHARACTER_SET => {}
            Tag::CONQUEST_SORT_KEY => {
                let text = String::from_utf8_lossy(element.bytes()).trim().to_owned();
                self.sort = Some(text).filter(|text| !text.is_empty());
            }
            Tag::CONQUEST_LIMIT_KEY => self.limit = self.number(element),
            Tag::CONQUEST_OFFSET_KEY => self.offset = self.number(element).unwrap_or(0),
            _ => {
                let key = Key::parse(element, &self.charset)?;
                if key.matcher == Matcher::Nothing {
                    self.warnings
                        .push(format!("key {} can match nothing", key.tag));
                }
                self.keys.push(key);
            }
        }
        Ok(())
    }

    fn number(&mut self, element: &Element) -> Option<u64> {
        let text = String::from_utf8_lossy(element.bytes());
        let number = text.trim().parse().ok();
        if number.is_none() && !text.trim().is_empty() {
            self.warnings
                .push(format!("key {} is no number", element.tag));
        }
        number
    }
}

impl Key {
    fn parse(element: &Element, charset: &CharacterSet) -> Result<Self, QueryError> {
        let tag = element.tag;
        let vr = match dict::vr(tag) {
            Vr::Un => element.vr,
            vr => vr,
        };
        let matcher = match &element.value {
            Value::Items(items) => {
                // PS3.4 section C.2.2.2.6: one item holds the keys; further ones say nothing.
                let keys = items.iter().take(1).flat_map(Dataset::iter);
                let keys = keys.map(|element| Self::parse(element, charset));
                Matcher::Sequence(keys.collect::<Result<_, _>>()?)
            }
            Value::Bytes(bytes) => {
                let uids = vr == Vr::Ui && element.vr.is_text();
                if !uids && bytes.len() > VALUE_BYTES_MAX {
                    Matcher::Nothing
                } else if let Some(text) = value_text(element.vr, bytes, false) {
                    let text = charset.decode(&text, vr);
                    let most = if uids { KEYS_MAX } else { VALUES_MAX };
                    if vr.is_multi_valued() && text.split('\\').count() > most {
                        return Err(QueryError::too_many("values", Some(tag)));
                    }
                    Matcher::parse(vr, &text)
                } else {
                    Matcher::Universal
                }
            }
        };
        Ok(Self { tag, vr, matcher })
    }
}

fn parse_level(model: InformationModel, identifier: &Dataset) -> Result<Level, QueryError> {
    let tag = Tag::QUERY_RETRIEVE_LEVEL;
    if model == InformationModel::ModalityWorklist {
        if identifier.is_empty() {
            return Err(QueryError::mismatch("the identifier is empty", tag));
        }
        return Ok(Level::Worklist);
    }
    let value = identifier.bytes(tag).unwrap_or_default();
    if value.is_empty() {
        return Err(QueryError::mismatch("Query/Retrieve Level is missing", tag));
    }
    match Level::from_value(value) {
        None => {
            let text = format!(
                "unknown level {}",
                String::from_utf8_lossy(value).escape_debug()
            );
            Err(QueryError::mismatch(&text, tag))
        }
        Some(level) if !model.has_level(level) => {
            let text = format!("this information model has no level {}", level.as_str());
            Err(QueryError::mismatch(&text, tag))
        }
        Some(level) => Ok(level),
    }
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
