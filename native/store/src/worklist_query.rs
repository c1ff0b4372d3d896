//! A worklist query (PS3.4 annex K) bound to the columns of the worklist: what an entry must be like, and what
//! the answer says.
//!
//! An entry is one scheduled procedure step. Its columns answer keys with their tags wherever these stand: the
//! answer has the sequences of the identifier, each with one item. What a sequence asks for that no column
//! has comes back as a sequence without items; other keys without column neither match nor return. Keys are
//! matched by the rules of all queries.

use pyserver_proto::charset::CharacterSet;
use pyserver_proto::dataset::{Dataset, Element, Value};
use pyserver_proto::dict;
use pyserver_proto::query::{DateTimePair, Key, MatchRules, Matcher, Query};
use pyserver_proto::tag::Tag;
use pyserver_proto::vr::Vr;

use crate::columns::{Column, ColumnType, Columns};
use crate::driver::Condition;
use crate::respond::put_number;
use crate::row_query::narrowing;
use crate::worklist::{Entry, value_columns};

/// What one key asks for.
#[derive(Debug)]
enum Asked {
    /// The value of a column.
    Value(Tag, Vr),
    /// An item with these; none where nothing is known.
    Sequence(Tag, Vec<Asked>),
}

/// One comparison.
#[derive(Debug)]
struct Filter {
    key: Key,
    ignore_case: bool,
    multi_valued: bool,
}

/// A query ready to run.
#[derive(Debug)]
pub struct WorklistQuery {
    asked: Vec<Asked>,
    filters: Vec<Filter>,
    pairs: Vec<DateTimePair>,
    /// Character set that answers are to have, then the one of the query.
    wanted: Vec<CharacterSet>,
    /// Whether answers name their character set in any case.
    named: bool,
    utf8: CharacterSet,
}

impl WorklistQuery {
    /// Binds a query. Answers have the character set `charset`; an empty name leaves it to their text.
    pub fn bind(query: &Query, columns: &Columns, charset: &str) -> Self {
        let mut bound = Self {
            asked: Vec::new(),
            filters: Vec::new(),
            pairs: Vec::new(),
            wanted: Vec::new(),
            named: !charset.is_empty(),
            utf8: CharacterSet::utf8(),
        };
        if !charset.is_empty() {
            bound.wanted.push(CharacterSet::parse(charset.as_bytes()));
        }
        if query.charset_given {
            bound.wanted.push(query.charset.clone());
        }
        bound.asked = bound.take(&query.keys, columns);
        let has = |tag| value_columns(columns).any(|column| column.tag == tag);
        let pairs = query.date_times.iter().copied();
        bound.pairs = pairs
            .filter(|pair| has(pair.date) && has(pair.time))
            .collect();
        bound
    }

    fn take(&mut self, keys: &[Key], columns: &Columns) -> Vec<Asked> {
        let mut asked = Vec::with_capacity(keys.len());
        for key in keys {
            if let Matcher::Sequence(inner) = &key.matcher {
                let inner = if inner.is_empty() {
                    whole_item(key.tag, columns)
                } else {
                    self.take(inner, columns)
                };
                asked.push(Asked::Sequence(key.tag, inner));
            } else if key.vr == Vr::Sq {
                asked.push(Asked::Sequence(key.tag, whole_item(key.tag, columns)));
            } else if let Some(column) = value_columns(columns).find(|c| c.tag == key.tag) {
                asked.push(Asked::Value(key.tag, key.vr));
                if !key.matcher.is_universal() {
                    self.filters.push(Filter {
                        key: key.clone(),
                        ignore_case: column.kind == ColumnType::Istr,
                        multi_valued: column.kind == ColumnType::Mstr,
                    });
                }
            }
        }
        asked
    }

    /// What a database may leave out.
    pub fn conditions(&self) -> Vec<(Tag, Condition)> {
        let mut conditions = Vec::new();
        for filter in &self.filters {
            let exact = !filter.ignore_case && !filter.multi_valued;
            let of_key = narrowing(
                &filter.key.matcher,
                filter.key.vr,
                exact,
                filter.multi_valued,
            );
            conditions.extend(
                of_key
                    .into_iter()
                    .map(|condition| (filter.key.tag, condition)),
            );
        }
        conditions
    }

    /// Whether an entry is one of those asked for.
    pub fn matches(&self, entry: &Entry) -> bool {
        self.filters.iter().all(|filter| {
            let rules = MatchRules {
                charset: &self.utf8,
                vr: filter.key.vr,
                ignore_case: filter.ignore_case,
                multi_valued: filter.multi_valued,
            };
            let text = entry.get(filter.key.tag).unwrap_or_default();
            filter.key.matcher.matches_text(text, &rules)
        }) && self.pairs.iter().all(|pair| {
            let bytes = |tag| entry.get(tag).unwrap_or_default().as_bytes();
            pair.matches(bytes(pair.date), bytes(pair.time))
        })
    }

    /// The answer about an entry.
    pub fn answer(&self, entry: &Entry) -> Dataset {
        let charset = self.charset(entry);
        let mut answer = answered(&self.asked, entry, charset);
        if self.named || !charset.name().is_empty() && !is_plain(&self.asked, entry) {
            answer.put_bytes(Tag::SPECIFIC_CHARACTER_SET, Vr::Cs, charset.name());
        }
        answer
    }

    /// The first wanted character set that can say everything, else UTF-8.
    fn charset(&self, entry: &Entry) -> &CharacterSet {
        let can_say = |charset: &&CharacterSet| says(&self.asked, entry, charset);
        self.wanted.iter().find(can_say).unwrap_or(&self.utf8)
    }
}

/// Everything that stands between the marks of a sequence in `dicom.sql`.
fn whole_item(sequence: Tag, columns: &Columns) -> Vec<Asked> {
    let columns = columns.worklist().iter();
    let begun = columns.skip_while(|column| !is_mark(column, ColumnType::StartSequence, sequence));
    let inside = begun
        .skip(1)
        .take_while(|column| !is_mark(column, ColumnType::EndSequence, sequence));
    inside
        .filter(|column| !column.is_sequence_mark())
        .map(|column| Asked::Value(column.tag, dict::vr(column.tag)))
        .collect()
}

fn is_mark(column: &Column, kind: ColumnType, sequence: Tag) -> bool {
    column.kind == kind && column.tag == sequence
}

fn values<'a>(
    asked: &'a [Asked],
    entry: &'a Entry,
    each: &mut dyn FnMut(&str, Vr) -> bool,
) -> bool {
    asked.iter().all(|asked| match asked {
        Asked::Sequence(_, inner) => values(inner, entry, each),
        Asked::Value(tag, vr) => each(entry.get(*tag).unwrap_or_default(), *vr),
    })
}

fn says(asked: &[Asked], entry: &Entry, charset: &CharacterSet) -> bool {
    values(asked, entry, &mut |text, vr| {
        !vr.uses_charset() || charset.encode(text, vr).complete
    })
}

fn is_plain(asked: &[Asked], entry: &Entry) -> bool {
    values(asked, entry, &mut |text, _| text.is_ascii())
}

fn answered(asked: &[Asked], entry: &Entry, charset: &CharacterSet) -> Dataset {
    let mut answer = Dataset::new();
    for asked in asked {
        match asked {
            Asked::Sequence(tag, inner) if inner.is_empty() => answer.put_items(*tag, Vec::new()),
            Asked::Sequence(tag, inner) => {
                answer.put_items(*tag, vec![answered(inner, entry, charset)]);
            }
            Asked::Value(tag, vr) => answer.put(Element {
                tag: *tag,
                vr: *vr,
                value: Value::Bytes(bytes(entry.get(*tag).unwrap_or_default(), *vr, charset)),
            }),
        }
    }
    answer
}

/// A value as bytes; text that is no number leaves a binary value empty.
fn bytes(text: &str, vr: Vr, charset: &CharacterSet) -> Vec<u8> {
    if vr.is_text() {
        return charset.encode(text, vr).bytes.into_owned();
    }
    let mut bytes = Vec::new();
    for number in text.split('\\').map(str::trim).filter(|n| !n.is_empty()) {
        if put_number(&mut bytes, vr, number).is_none() {
            return Vec::new();
        }
    }
    bytes
}

#[cfg(test)]
#[path = "worklist_query_tests.rs"]
mod tests;
