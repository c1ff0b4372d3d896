//! Ranges of dates, times and points in time (PS3.4 section C.2.2.2.5).
//!
//! A single value is the range of the period it names. Both ends belong to a range, either may be open. A
//! date and a time key can be matched as one range of moments, where peers have agreed on that.

use crate::datetime::{parse_date, parse_datetime, parse_time};
use crate::header::trim;
use crate::matching::Matcher;
use crate::query::Key;
use crate::tag::Tag;

/// Dates as YYYYMMDD; both ends belong to the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateRange {
    /// First date; `None` without lower end.
    pub from: Option<u32>,
    /// Last date; `None` without upper end.
    pub to: Option<u32>,
}

/// Times as microseconds since midnight; both ends belong to the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// First moment; `None` without lower end.
    pub from: Option<u64>,
    /// Last moment; `None` without upper end.
    pub to: Option<u64>,
}

/// Points in time as microseconds since 0000-01-01, in UTC where an offset is given; both ends belong to
/// the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTimeRange {
    /// First moment; `None` without lower end.
    pub from: Option<i64>,
    /// Last moment; `None` without upper end.
    pub to: Option<i64>,
}

/// A date and a time key matched as one (PS3.4 section C.2.2.2.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTimePair {
    /// The date element.
    pub date: Tag,
    /// The time element.
    pub time: Tag,
    /// First moment: date and microseconds of the day.
    pub from: Option<(u32, u64)>,
    /// Last moment.
    pub to: Option<(u32, u64)>,
}

/// Splits a range at its hyphen; each side may be empty, but not both.
fn split_range(value: &str) -> Option<(&str, &str)> {
    let (from, to) = value.split_once('-')?;
    let (from, to) = (from.trim(), to.trim());
    (!(from.is_empty() && to.is_empty())).then_some((from, to))
}

/// Text that is no date or time.
struct Malformed;

/// Parses one end of a range; `None` when it is open.
fn end<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Malformed> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse(text).map(Some).ok_or(Malformed)
    }
}

impl DateRange {
    /// A date, `from-to`, `from-` or `-to`; `None` when malformed.
    pub fn parse(value: &str) -> Option<Self> {
        let Some((from, to)) = split_range(value) else {
            let (from, to) = parse_date(value.trim())?;
            return Some(Self {
                from: Some(from),
                to: Some(to),
            });
        };
        let from = end(from, |text| parse_date(text).map(|period| period.0)).ok()?;
        let to = end(to, |text| parse_date(text).map(|period| period.1)).ok()?;
        Some(Self { from, to })
    }

    /// Whether a stored date lies in the range.
    pub fn matches(&self, stored: &str) -> bool {
        parse_date(stored.trim()).is_some_and(|(date, _)| within(date, self.from, self.to))
    }
}

impl TimeRange {
    /// A time, `from-to`, `from-` or `-to`; `None` when malformed. A time means the whole hour, minute or
    /// second that it names.
    pub fn parse(value: &str) -> Option<Self> {
        let Some((from, to)) = split_range(value) else {
            let (from, to) = parse_time(value.trim())?;
            return Some(Self {
                from: Some(from),
                to: Some(to),
            });
        };
        let from = end(from, |text| parse_time(text).map(|period| period.0)).ok()?;
        let to = end(to, |text| parse_time(text).map(|period| period.1)).ok()?;
        Some(Self { from, to })
    }

    /// Whether a stored time begins in the range.
    pub fn matches(&self, stored: &str) -> bool {
        parse_time(stored.trim()).is_some_and(|(time, _)| within(time, self.from, self.to))
    }
}

impl DateTimeRange {
    /// A point in time, `from-to`, `from-` or `-to`; `None` when malformed. Hyphens also begin offsets
    /// from UTC: the whole is one value if it can be, else the first hyphen that leaves two values splits.
    pub fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        if let Some((from, to)) = parse_datetime(value) {
            return Some(Self {
                from: Some(from),
                to: Some(to),
            });
        }
        value.match_indices('-').find_map(|(at, _)| {
            let (from, to) = split_range_at(value, at)?;
            let from = end(from, |text| parse_datetime(text).map(|period| period.0)).ok()?;
            let to = end(to, |text| parse_datetime(text).map(|period| period.1)).ok()?;
            Some(Self { from, to })
        })
    }

    /// Whether a stored point in time begins in the range.
    pub fn matches(&self, stored: &str) -> bool {
        parse_datetime(stored.trim()).is_some_and(|(time, _)| within(time, self.from, self.to))
    }
}

fn split_range_at(value: &str, at: usize) -> Option<(&str, &str)> {
    let (from, to) = (value.get(..at)?.trim(), value.get(at + 1..)?.trim());
    (!(from.is_empty() && to.is_empty())).then_some((from, to))
}

fn within<T: PartialOrd + Copy>(value: T, from: Option<T>, to: Option<T>) -> bool {
    from.is_none_or(|from| from <= value) && to.is_none_or(|to| value <= to)
}

/// Date and time elements that belong together.
const PAIRS: [(Tag, Tag); 6] = [
    (Tag::STUDY_DATE, Tag::STUDY_TIME),
    (Tag::SERIES_DATE, Tag::SERIES_TIME),
    (Tag::ACQUISITION_DATE, Tag::ACQUISITION_TIME),
    (Tag::CONTENT_DATE, Tag::CONTENT_TIME),
    (Tag::PATIENT_BIRTH_DATE, Tag::PATIENT_BIRTH_TIME),
    (
        Tag::SCHEDULED_PROCEDURE_STEP_START_DATE,
        Tag::SCHEDULED_PROCEDURE_STEP_START_TIME,
    ),
];

impl DateTimePair {
    /// Finds pairs of date and time keys; the time key of a pair becomes universal.
    pub(crate) fn combine(keys: &mut [Key]) -> Vec<Self> {
        PAIRS
            .iter()
            .filter_map(|(date, time)| Self::combine_one(keys, *date, *time))
            .collect()
    }

    fn combine_one(keys: &mut [Key], date: Tag, time: Tag) -> Option<Self> {
        let matcher = |tag| {
            keys.iter()
                .find(|key: &&Key| key.tag == tag)
                .map(|key| &key.matcher)
        };
        let (Some(Matcher::DateRange(dates)), Some(Matcher::TimeRange(times))) =
            (matcher(date), matcher(time))
        else {
            return None;
        };
        let from = dates.from.map(|date| (date, times.from.unwrap_or(0)));
        let to = dates.to.map(|date| (date, times.to.unwrap_or(u64::MAX)));
        let key = keys.iter_mut().find(|key| key.tag == time)?;
        key.matcher = Matcher::Universal;
        Some(Self {
            date,
            time,
            from,
            to,
        })
    }

    /// Whether a stored date and time lie in the range; a stored time that is missing is midnight.
    pub fn matches(&self, date: &[u8], time: &[u8]) -> bool {
        let text = |bytes| std::str::from_utf8(trim(bytes)).unwrap_or_default();
        let Some((date, _)) = parse_date(text(date)) else {
            return false;
        };
        let time = parse_time(text(time)).map_or(0, |(time, _)| time);
        within((date, time), self.from, self.to)
    }
}
