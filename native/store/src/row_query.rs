//! A bound query as the columns and conditions that a database is asked for.
//!
//! The conditions only narrow: they let out every row that the query can match, and perhaps more, whatever the
//! database thinks of case, padding and character sets. Whether a row matches is decided by the same matchers
//! as everywhere (`joined`). So conditions are made of ASCII text only, and of none where numbers or times
//! compare by value.

use pyserver_proto::query::{Compare, Matcher};
use pyserver_proto::vr::Vr;

use crate::driver::{ColumnPlace, Condition, RowQuery};
use crate::fold::name_core;
use crate::layout::{ColumnSource, Layout};
use crate::plan::{BoundQuery, Counted, Filter, Value};
use crate::schema::Level;
use crate::search::date_text;

/// Where the values of a query's rows are in the cells that a database answers.
#[derive(Debug, Clone)]
pub(crate) struct CellPlan {
    /// What is asked.
    pub query: RowQuery,
    /// Per level, the cell of each value that the query reads.
    pub values: [Vec<Option<usize>>; 4],
    /// Cell of the key per level, where rows of that level are joined.
    pub keys: [Option<usize>; 4],
    /// First of the cells with counts.
    pub counts_at: usize,
    /// Cell of the SOP classes.
    pub sop_classes_at: Option<usize>,
    /// First of the two cells of the file.
    pub file_at: Option<usize>,
}

impl CellPlan {
    /// The plan for a query. `None`: it matches nothing, whatever is stored.
    pub(crate) fn of(bound: &BoundQuery, layout: &Layout, file: bool) -> Option<Self> {
        let filters = || bound.filters.iter().flatten();
        if filters().any(|filter| filter.matcher == Matcher::Nothing) {
            return None;
        }
        let asked = || bound.returned.iter().map(|returned| returned.value);
        let used = || asked().chain(filters().map(|filter| filter.value));
        let mut plan = Self {
            query: RowQuery {
                level: bound.level,
                columns: Vec::new(),
                counts: Vec::new(),
                sop_classes: used().any(|value| value == Value::SopClasses),
                file: file || asked().any(|v| matches!(v, Value::File | Value::Device)),
                conditions: Vec::new(),
                sort: None,
            },
            values: Default::default(),
            keys: [None; 4],
            counts_at: 0,
            sop_classes_at: None,
            file_at: None,
        };
        for counted in [Counted::Studies, Counted::Series, Counted::Instances] {
            if used().any(|value| value == Value::Count(bound.level, counted)) {
                plan.query.counts.push(counted);
            }
        }
        for level in Level::ALL {
            plan.read(bound, layout, level);
        }
        plan.narrow(bound, layout);
        plan.query.sort = bound
            .sort
            .and_then(|(level, slot)| place_of(bound, layout, level, slot));
        plan.counts_at = plan.query.columns.len();
        let mut next = plan.counts_at + plan.query.counts.len();
        if plan.query.sop_classes {
            plan.sop_classes_at = Some(next);
            next += 1;
        }
        plan.file_at = plan.query.file.then_some(next);
        Some(plan)
    }

    /// Asks for what the query reads of one level, and for the key of the level where anything is read.
    fn read(&mut self, bound: &BoundQuery, layout: &Layout, level: Level) {
        let reads = bound
            .reads
            .get(level.index())
            .map_or(&[][..], Vec::as_slice);
        let mut cells = Vec::with_capacity(reads.len());
        for &position in reads {
            cells.push(column_of(layout, level, position).map(|column| self.cell((level, column))));
        }
        if level <= bound.level && (level == bound.level || cells.iter().any(Option::is_some)) {
            let key = column_of(layout, level, layout.key_position(level));
            if let (Some(place), Some(key)) = (self.keys.get_mut(level.index()), key) {
                *place = Some(0);
                let cell = self.cell((level, key));
                if let Some(place) = self.keys.get_mut(level.index()) {
                    *place = Some(cell);
                }
            }
        }
        if let Some(place) = self.values.get_mut(level.index()) {
            *place = cells;
        }
    }

    /// The cell of a column, asked for once.
    fn cell(&mut self, column: ColumnPlace) -> usize {
        let columns = &mut self.query.columns;
        columns
            .iter()
            .position(|known| *known == column)
            .unwrap_or_else(|| {
                columns.push(column);
                columns.len() - 1
            })
    }

    fn narrow(&mut self, bound: &BoundQuery, layout: &Layout) {
        for filter in bound.filters.iter().flatten() {
            let Value::Column(level, slot) = filter.value else {
                continue;
            };
            let Some(place) = place_of(bound, layout, level, slot) else {
                continue;
            };
            let conditions = conditions(filter);
            self.query
                .conditions
                .extend(conditions.into_iter().map(|condition| (place, condition)));
        }
    }
}

/// The column of `dicom.sql` that fills a stored value; none for the hidden ones.
pub(crate) fn column_of(layout: &Layout, level: Level, position: usize) -> Option<usize> {
    let sources = layout.sources(level);
    sources
        .iter()
        .position(|source| *source == ColumnSource::Stored(position))
}

fn place_of(bound: &BoundQuery, layout: &Layout, level: Level, slot: usize) -> Option<ColumnPlace> {
    let position = *bound.reads.get(level.index())?.get(slot)?;
    Some((level, column_of(layout, level, position)?))
}

/// What a filter lets a database leave out.
fn conditions(filter: &Filter) -> Vec<Condition> {
    let exact = !filter.multi_valued && !filter.ignore_case;
    narrowing(&filter.matcher, filter.vr, exact, filter.multi_valued)
}

/// The same for a matcher. `exact`: the column has one value, and case counts.
pub(crate) fn narrowing(
    matcher: &Matcher,
    vr: Vr,
    exact: bool,
    multi_valued: bool,
) -> Vec<Condition> {
    match matcher {
        Matcher::UidList(uids) if exact => {
            let uids = uids.iter().map(|uid| uid.as_str().to_owned());
            vec![Condition::AnyOf(uids.collect())]
        }
        Matcher::Single(single) if single.text.is_ascii() => match single.compare {
            Compare::Exact if exact => vec![Condition::AnyOf(vec![single.text.to_string()])],
            Compare::Exact => like(&single.text, true),
            Compare::PersonName => like(name_core(&single.text).trim_end_matches('='), true),
            Compare::Number => Vec::new(),
        },
        Matcher::Wildcard(pattern) => {
            let inside = vr == Vr::Pn || multi_valued;
            like(&pattern.text, inside)
        }
        Matcher::DateRange(range) if exact => {
            let from = range.from.map(|day| Condition::AtLeast(date_text(day)));
            let to = range.to.map(|day| Condition::AtMost(date_text(day)));
            from.into_iter().chain(to).collect()
        }
        _ => Vec::new(),
    }
}

/// Text with wildcards; what a database may read otherwise becomes a wildcard. `inside`: part of the value.
fn like(pattern: &str, inside: bool) -> Vec<Condition> {
    let mut text = String::with_capacity(pattern.len() + 2);
    if inside {
        text.push('*');
    }
    for c in pattern.chars() {
        let literal = c.is_ascii_graphic() && !matches!(c, '*' | '?') || c == ' ';
        let c = if literal { c } else { '*' };
        if !(c == '*' && text.ends_with('*')) {
            text.push(c);
        }
    }
    if inside && !text.ends_with('*') {
        text.push('*');
    }
    if text.chars().all(|c| c == '*') {
        return Vec::new();
    }
    vec![Condition::Like(text)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyserver_proto::tag::Tag;

    fn of(tag: Tag, vr: Vr, value: &str) -> Vec<Condition> {
        conditions(&Filter {
            value: Value::Column(Level::Patient, 1),
            matcher: Matcher::parse(vr, value),
            vr,
            ignore_case: false,
            multi_valued: false,
            tag,
        })
    }

    #[test]
    fn conditions_narrow_no_more_than_the_matcher() {
        let like = |text: &str| vec![Condition::Like(text.to_owned())];
        assert_eq!(
            of(Tag::PATIENT_NAME, Vr::Pn, "Doe^John^^"),
            like("*Doe^John*")
        );
        assert_eq!(
            of(Tag::PATIENT_NAME, Vr::Pn, "M\u{fc}l?er*"),
            like("*M*l*er*")
        );
        assert_eq!(of(Tag::PATIENT_NAME, Vr::Pn, "M\u{fc}ller"), vec![]);
        assert_eq!(
            of(Tag::PATIENT_ID, Vr::Lo, "A_B%C"),
            vec![Condition::AnyOf(vec!["A_B%C".into()])]
        );
        assert_eq!(of(Tag::PATIENT_ID, Vr::Lo, "PAT*1"), like("PAT*1"));
        assert_eq!(of(Tag::PATIENT_ID, Vr::Lo, "?"), vec![]);
        assert_eq!(
            of(Tag::STUDY_DATE, Vr::Da, "20100101-20101231"),
            vec![
                Condition::AtLeast("20100101".into()),
                Condition::AtMost("20101231".into())
            ]
        );
        assert_eq!(of(Tag::STUDY_DATE, Vr::Tm, "1200"), vec![]);
    }
}
