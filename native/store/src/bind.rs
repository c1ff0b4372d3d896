//! Binding a query to the columns in force, key by key, and choosing its plan.

use pyserver_proto::charset::CharacterSet;
use pyserver_proto::query::{Compare, Key, Level as QueryLevel, Matcher, Query};
use pyserver_proto::tag::Tag;
use pyserver_proto::vr::Vr;

use crate::columns::{ColumnType, Columns, unique_key};
use crate::fold::{fold, name_core};
use crate::index::Index;
use crate::layout::{CHARSET, ColumnSource};
use crate::plan::{
    Access, BindError, BindOptions, BoundPair, BoundQuery, Counted, Filter, Returned, Value,
};
use crate::schema::{Level, SearchKind, text_key};
use crate::search::date_text;

/// Builds a bound query key by key.
struct Binder<'a> {
    index: &'a Index,
    bound: BoundQuery,
}

impl BoundQuery {
    /// Binds a C-FIND query.
    pub fn bind(query: &Query, index: &Index, options: &BindOptions) -> Result<Self, BindError> {
        let level = level_of(query.level)?;
        let mut binder = Binder::new(query, index, level, options);
        binder.value_key(Tag::QUERY_RETRIEVE_LEVEL, Vr::Cs, Value::QueryLevel);
        for key in &query.keys {
            binder.key(key, level, options);
        }
        binder.unique_key(level);
        binder.pairs(query, level);
        binder.sort(query, level);
        Ok(binder.finish(level))
    }

    /// Binds a C-MOVE or C-GET identifier: all images below what it names. Keys above its level narrow.
    pub fn bind_retrieve(query: &Query, index: &Index) -> Result<Self, BindError> {
        let level = level_of(query.level)?;
        let mut binder = Binder::new(query, index, Level::Image, &BindOptions::default());
        let mut identified = false;
        for key in &query.keys {
            let Some(of) = Level::ALL.into_iter().find(|&l| unique_key(l) == key.tag) else {
                continue;
            };
            if of > level || key.matcher.is_universal() {
                continue;
            }
            if matches!(key.matcher, Matcher::Wildcard(_)) {
                return Err(BindError::Wildcard(key.tag));
            }
            binder.match_key(key, of);
            identified = true;
        }
        if !identified {
            return Err(BindError::NoIdentifier(unique_key(level)));
        }
        binder.identifiers();
        binder.bound.offset = 0;
        binder.bound.limit = None;
        Ok(binder.finish(level))
    }

    /// All images, in the order of their series; for checks of the whole archive.
    pub fn all_images(index: &Index) -> Self {
        let bound = Self::empty(Level::Image);
        let mut binder = Binder { index, bound };
        binder.identifiers();
        binder.finish(Level::Image)
    }

    /// All rows of a level with all their columns.
    pub(crate) fn dump(index: &Index, level: Level) -> Self {
        let bound = Self::empty(level);
        let mut binder = Binder { index, bound };
        let mut dumped = Vec::new();
        for source in index.layout().sources(level) {
            dumped.push(binder.source(level, *source));
        }
        binder.bound.dumped = dumped;
        if level == Level::Image {
            binder.all_columns();
        }
        binder.finish(level)
    }

    /// Values of the columns of a dump, in the order of `dicom.sql`.
    pub(crate) fn dumped(&self) -> &[Value] {
        &self.dumped
    }

    fn empty(level: Level) -> Self {
        Self {
            level,
            reads: std::array::from_fn(|_| vec![CHARSET]),
            filters: [const { Vec::new() }; 4],
            pairs: Vec::new(),
            returned: Vec::new(),
            dumped: Vec::new(),
            access: Access::Scan(level),
            sort: None,
            limit: None,
            offset: 0,
            own_ae: String::new(),
            charset: CharacterSet::default(),
            charset_given: false,
        }
    }
}

/// Level of the query as a level of rows.
fn level_of(level: QueryLevel) -> Result<Level, BindError> {
    match level {
        QueryLevel::Patient => Ok(Level::Patient),
        QueryLevel::Study => Ok(Level::Study),
        QueryLevel::Series => Ok(Level::Series),
        QueryLevel::Image => Ok(Level::Image),
        QueryLevel::Worklist => Err(BindError::Worklist),
    }
}

impl<'a> Binder<'a> {
    fn new(query: &Query, index: &'a Index, level: Level, options: &BindOptions) -> Self {
        Self {
            index,
            bound: BoundQuery {
                limit: query.limit,
                offset: query.offset,
                own_ae: options.own_ae.clone(),
                charset: query.charset.clone(),
                charset_given: query.charset_given,
                ..BoundQuery::empty(level)
            },
        }
    }

    /// Makes sure that a stored value is read; answers its place.
    fn read(&mut self, level: Level, position: usize) -> Value {
        let mut slot = 0;
        if let Some(reads) = self.bound.reads.get_mut(level.index()) {
            slot = reads
                .iter()
                .position(|&p| p == position)
                .unwrap_or_else(|| {
                    reads.push(position);
                    reads.len() - 1
                });
        }
        Value::Column(level, slot)
    }

    /// Makes sure that the value of a column is read.
    /// Every column of every level, from the image up: what file names are made of.
    fn all_columns(&mut self) {
        for level in Level::ALL.into_iter().rev() {
            let columns = self.index.columns().level(level);
            let sources = self.index.layout().sources(level);
            for (column, source) in columns.iter().zip(sources) {
                let value = self.source(level, *source);
                self.bound.returned.push(Returned {
                    tag: column.tag,
                    vr: pyserver_proto::dict::vr(column.tag),
                    value,
                });
            }
        }
    }

    fn source(&mut self, level: Level, source: ColumnSource) -> Value {
        match source {
            ColumnSource::Stored(position) => self.read(level, position),
            ColumnSource::KeyOf(above) => {
                let position = self.index.layout().key_position(above);
                self.read(above, position)
            }
        }
    }

    /// Looks an element up in the columns of a level and those above.
    fn find(&mut self, tag: Tag, level: Level) -> Option<(Value, ColumnType)> {
        let columns: &Columns = self.index.columns();
        for at in Level::ALL.into_iter().rev().filter(|&at| at <= level) {
            let of_level = columns.level(at);
            let Some(place) = of_level.iter().position(|c| c.tag == tag) else {
                continue;
            };
            let kind = of_level.get(place)?.kind;
            let source = *self.index.layout().sources(at).get(place)?;
            return Some((self.source(at, source), kind));
        }
        None
    }

    /// Takes one key of a C-FIND identifier.
    fn key(&mut self, key: &Key, level: Level, options: &BindOptions) {
        if key.vr == Vr::Sq || matches!(key.matcher, Matcher::Sequence(_)) {
            self.value_key(key.tag, Vr::Sq, Value::NoItems);
            return;
        }
        let special = match key.tag {
            Tag::RETRIEVE_AE_TITLE => Some(Value::OwnAe),
            Tag::INSTANCE_AVAILABILITY => Some(Value::Availability),
            Tag::CONQUEST_FILE_KEY if level == Level::Image => Some(Value::File),
            Tag::CONQUEST_DEVICE_KEY if level == Level::Image => Some(Value::Device),
            _ => None,
        };
        if let Some(value) = special {
            // A private key has no VR where the request is in implicit VR; what we answer is text.
            let vr = if key.tag.is_private() { Vr::Lo } else { key.vr };
            self.value_key(key.tag, vr, value);
            return;
        }
        if let Some(value) = computed(key.tag, level) {
            if options.computed_fields {
                self.filter(key, value, ColumnType::Mstr, level);
                self.value_key(key.tag, key.vr, value);
            }
            return;
        }
        if let Some((value, kind)) = self.find(key.tag, level) {
            self.filter(key, value, kind, level);
            self.value_key(key.tag, key.vr, value);
        }
    }

    /// Takes one key of a retrieve: it only narrows.
    fn match_key(&mut self, key: &Key, level: Level) {
        if let Some((value, kind)) = self.find(key.tag, level) {
            self.filter(key, value, kind, level);
        }
    }

    fn filter(&mut self, key: &Key, value: Value, kind: ColumnType, level: Level) {
        if key.matcher.is_universal() {
            return;
        }
        let at = match value {
            Value::Column(at, _) => at,
            _ => level,
        };
        if let Some(filters) = self.bound.filters.get_mut(at.index()) {
            filters.push(Filter {
                value,
                matcher: key.matcher.clone(),
                vr: key.vr,
                ignore_case: kind == ColumnType::Istr,
                multi_valued: kind == ColumnType::Mstr,
                tag: key.tag,
            });
        }
    }

    fn value_key(&mut self, tag: Tag, vr: Vr, value: Value) {
        self.bound.returned.push(Returned { tag, vr, value });
    }

    /// What a retrieve needs to know of an image.
    fn identifiers(&mut self) {
        for tag in [Tag::SOP_CLASS_UID, Tag::SOP_INSTANCE_UID] {
            if let Some((value, _)) = self.find(tag, Level::Image) {
                self.value_key(tag, Vr::Ui, value);
            }
        }
    }

    /// The unique key of the level is returned whether asked for or not.
    fn unique_key(&mut self, level: Level) {
        let tag = unique_key(level);
        if self.bound.returned.iter().any(|r| r.tag == tag) {
            return;
        }
        if let Some((value, _)) = self.find(tag, level) {
            let vr = if level == Level::Patient {
                Vr::Lo
            } else {
                Vr::Ui
            };
            self.value_key(tag, vr, value);
        }
    }

    fn pairs(&mut self, query: &Query, level: Level) {
        for pair in &query.date_times {
            let date = self.find(pair.date, level);
            let time = self.find(pair.time, level);
            if let (Some((date, _)), Some((time, _))) = (date, time) {
                let pair = *pair;
                self.bound.pairs.push(BoundPair { pair, date, time });
            }
        }
    }

    /// By the column that 9999,0C00 names, else by patient name when that is asked for.
    fn sort(&mut self, query: &Query, level: Level) {
        let tag = match &query.sort {
            Some(name) => {
                let columns = self.index.columns();
                let levels = Level::ALL.into_iter().rev().filter(|&at| at <= level);
                let mut columns = levels.flat_map(|at| columns.level(at));
                let named = columns.find(|c| {
                    c.name.eq_ignore_ascii_case(name) || c.db_name().eq_ignore_ascii_case(name)
                });
                named.map(|c| c.tag)
            }
            None => query.key(Tag::PATIENT_NAME).map(|key| key.tag),
        };
        if let Some((Value::Column(at, slot), _)) = tag.and_then(|tag| self.find(tag, level)) {
            self.bound.sort = Some((at, slot));
        }
    }

    fn finish(mut self, level: Level) -> BoundQuery {
        self.bound.returned.sort_by_key(|r| r.tag);
        self.bound.returned.dedup_by_key(|r| r.tag);
        self.bound.access = self.access(level);
        self.bound
    }

    /// The most selective way in.
    fn access(&self, level: Level) -> Access {
        let filters = || self.bound.filters.iter().flatten();
        let by_tag = |tag| filters().find(|f| f.tag == tag);
        for at in Level::ALL.into_iter().rev() {
            let filter = by_tag(unique_key(at)).filter(|f| !f.ignore_case && !f.multi_valued);
            if let Some(keys) = filter.and_then(|f| exact_keys(&f.matcher)) {
                return Access::Keys(at, keys);
            }
        }
        let searches = || filters().filter_map(search_access);
        if let Some(exact) = searches().find(|a| matches!(a, Access::Search { exact: true, .. })) {
            return exact;
        }
        if let Some(Matcher::Wildcard(pattern)) = by_tag(Tag::PATIENT_ID)
            .filter(|f| !f.ignore_case)
            .map(|f| &f.matcher)
        {
            let start = pattern.literal_prefix().as_bytes();
            if !start.is_empty() && start.is_ascii() {
                return Access::PatientIds(text_key(start));
            }
        }
        let ranged = searches().next();
        ranged.unwrap_or(Access::Scan(if level == Level::Patient {
            Level::Patient
        } else {
            Level::Study
        }))
    }
}

/// Keys that are counted or collected rather than stored.
fn computed(tag: Tag, level: Level) -> Option<Value> {
    use Counted::{Instances, Series, Studies};
    let (at, counted) = match tag {
        Tag::NUMBER_OF_PATIENT_RELATED_STUDIES => (Level::Patient, Studies),
        Tag::NUMBER_OF_PATIENT_RELATED_SERIES => (Level::Patient, Series),
        Tag::NUMBER_OF_PATIENT_RELATED_INSTANCES => (Level::Patient, Instances),
        Tag::NUMBER_OF_STUDY_RELATED_SERIES => (Level::Study, Series),
        Tag::NUMBER_OF_STUDY_RELATED_INSTANCES => (Level::Study, Instances),
        Tag::NUMBER_OF_SERIES_RELATED_INSTANCES => (Level::Series, Instances),
        Tag::SOP_CLASSES_IN_STUDY if level == Level::Study => return Some(Value::SopClasses),
        _ => return None,
    };
    (at == level).then_some(Value::Count(at, counted))
}

/// The identifiers that a matcher names exactly.
fn exact_keys(matcher: &Matcher) -> Option<Vec<Vec<u8>>> {
    match matcher {
        Matcher::UidList(uids) => Some(uids.iter().map(|u| u.as_bytes().to_vec()).collect()),
        // Stored patient IDs in another character set would have other bytes; those are scanned for.
        Matcher::Single(single) if single.compare == Compare::Exact && single.text.is_ascii() => {
            Some(vec![single.text.as_bytes().to_vec()])
        }
        _ => None,
    }
}

/// The part of the search table that holds all rows a filter can accept.
fn search_access(filter: &Filter) -> Option<Access> {
    let Value::Column(level, _) = filter.value else {
        return None;
    };
    let kind = match (level, filter.tag) {
        (Level::Patient, Tag::PATIENT_NAME) => SearchKind::PatientName,
        (Level::Study, Tag::PATIENT_NAME) => SearchKind::StudyPatientName,
        (Level::Study, Tag::STUDY_DATE) => SearchKind::StudyDate,
        (Level::Study, Tag::ACCESSION_NUMBER) => SearchKind::Accession,
        _ => return None,
    };
    if filter.multi_valued {
        return None;
    }
    let is_name = filter.tag == Tag::PATIENT_NAME;
    let text_access = |text: &str, exact: bool| {
        let text = if is_name {
            name_core(text.split('=').next().unwrap_or_default())
        } else {
            text
        };
        let text = fold(text);
        (!text.is_empty()).then(|| Access::Search {
            kind,
            to: Some(text.clone()),
            from: text,
            exact,
        })
    };
    match &filter.matcher {
        Matcher::Single(single) => text_access(&single.text, true),
        Matcher::Wildcard(pattern) => text_access(pattern.literal_prefix(), false),
        Matcher::DateRange(range) if kind == SearchKind::StudyDate => Some(Access::Search {
            kind,
            from: range.from.map_or_else(String::new, date_text),
            to: range.to.map(date_text),
            exact: false,
        }),
        _ => None,
    }
}
