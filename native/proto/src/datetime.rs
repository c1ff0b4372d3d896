//! Dates, times and points in time as the periods that DICOM text names (PS3.5 table 6.2-1).
//!
//! `10` is an hour, `1430` a minute, `143000` a second: each is read as its first and last microsecond, so
//! that ranges and single values are comparisons of numbers. The older forms with dots and colons are read
//! too. Nothing here knows calendars beyond what comparing needs.

/// Microseconds of a second.
const SECOND: u64 = 1_000_000;
/// Microseconds of a day.
const DAY: u64 = 86_400 * SECOND;

/// First and last day (YYYYMMDD as a number) of a date, a month (`YYYYMM`) or a year.
pub fn parse_date(text: &str) -> Option<(u32, u32)> {
    let mut digits = [0u8; 8];
    let mut count = 0;
    for byte in text.bytes().filter(|byte| *byte != b'.') {
        *digits.get_mut(count)? = byte;
        count += 1;
    }
    let digits = digits.get(..count)?;
    let number = u32::try_from(parse_digits(digits)?).ok()?;
    match count {
        8 => Some((number, number)),
        6 => Some((number * 100, number * 100 + 99)),
        4 => Some((number * 10_000, number * 10_000 + 9999)),
        _ => None,
    }
}

/// First and last microsecond of the day that a time names.
pub fn parse_time(text: &str) -> Option<(u64, u64)> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let mut digits = [0u8; 6];
    let mut count = 0;
    for byte in whole.bytes().filter(|byte| *byte != b':') {
        *digits.get_mut(count)? = byte;
        count += 1;
    }
    let part = |at: usize| digits.get(at..at + 2).and_then(parse_digits);
    let hours = part(0).filter(|hours| *hours < 24)?;
    let (minutes, seconds) = match count {
        2 => (0, 0),
        4 => (part(2)?, 0),
        6 => (part(2)?, part(4)?),
        _ => return None,
    };
    // 60 is a leap second.
    if minutes > 59 || seconds > 60 {
        return None;
    }
    let start = (hours * 3600 + minutes * 60 + seconds) * SECOND;
    let Some(fraction) = fraction else {
        let length = match count {
            2 => 3600 * SECOND,
            4 => 60 * SECOND,
            _ => SECOND,
        };
        return Some((start, start + length - 1));
    };
    if count != 6 {
        return None;
    }
    let (first, last) = parse_fraction(fraction)?;
    Some((start + first, start + last))
}

/// First and last microsecond that the digits after a period name.
fn parse_fraction(text: &str) -> Option<(u64, u64)> {
    let number = parse_digits(text.as_bytes()).filter(|_| text.len() <= 6)?;
    let unit = 10u64.pow(6 - text.len() as u32);
    Some((number * unit, number * unit + unit - 1))
}

/// First and last microsecond since year 0 that a DT value names; in UTC if the value has an offset.
pub fn parse_datetime(text: &str) -> Option<(i64, i64)> {
    let sign = text.rfind(['+', '-']);
    let (local, offset) = match sign.and_then(|at| text.split_at_checked(at)) {
        Some((local, offset)) => (local, parse_offset(offset)?),
        None => (text, 0),
    };
    let date_bytes = local.len().min(8);
    let (date, time) = local.split_at_checked(date_bytes)?;
    let (first_day, last_day) = parse_date(date).filter(|_| !date.contains('.'))?;
    if date.len() > 4 && !(1..=12).contains(&(first_day / 100 % 100)) {
        return None;
    }
    if date.len() < 8 && !time.is_empty() {
        return None;
    }
    let (first, last) = if time.is_empty() {
        (0, DAY - 1)
    } else {
        parse_time(time)?
    };
    let start = days(first_day) * DAY as i64 + first as i64;
    let end = if first_day == last_day {
        days(last_day) * DAY as i64 + last as i64
    } else {
        // Up to the first day after the month or year.
        let next = if date.len() == 4 {
            first_day + 10_000
        } else {
            first_day + 100
        };
        days(next) * DAY as i64 - 1
    };
    Some((start - offset, end - offset))
}

/// Microseconds that `+0200` is ahead of UTC.
fn parse_offset(text: &str) -> Option<i64> {
    let (sign, digits) = text.split_at_checked(1)?;
    if digits.len() != 4 {
        return None;
    }
    let number = parse_digits(digits.as_bytes())?;
    let (hours, minutes) = (number / 100, number % 100);
    if hours > 14 || minutes > 59 {
        return None;
    }
    let offset = ((hours * 60 + minutes) * 60 * SECOND) as i64;
    Some(if sign == "-" { -offset } else { offset })
}

/// Days since 0000-03-01 of a proleptic Gregorian date; month 0 is taken as 1, month 13 as the
/// next January, day 0 as 1.
fn days(date: u32) -> i64 {
    let (year, month, day) = (
        i64::from(date / 10_000),
        i64::from(date / 100 % 100),
        i64::from(date % 100),
    );
    let day = day.max(1);
    let months = year * 12 + month.max(1) - 1 - 2;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
    365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 1
}

fn parse_digits(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        digits
            .iter()
            .fold(0, |number, digit| number * 10 + u64::from(digit - b'0')),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates() {
        assert_eq!(parse_date("20100115"), Some((20_100_115, 20_100_115)));
        assert_eq!(parse_date("2010.01.15"), Some((20_100_115, 20_100_115)));
        assert_eq!(parse_date("201001"), Some((20_100_100, 20_100_199)));
        assert_eq!(parse_date("2010"), Some((20_100_000, 20_109_999)));
        for text in [
            "",
            "2010011",
            "201001155",
            "2010-1-1",
            "abcdefgh",
            "+2010115",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn times() {
        let at = |h: u64, m: u64, s: u64| (h * 3600 + m * 60 + s) * SECOND;
        assert_eq!(
            parse_time("143000"),
            Some((at(14, 30, 0), at(14, 30, 1) - 1))
        );
        assert_eq!(parse_time("14:30:00"), parse_time("143000"));
        assert_eq!(parse_time("1430"), Some((at(14, 30, 0), at(14, 31, 0) - 1)));
        assert_eq!(parse_time("14"), Some((at(14, 0, 0), at(15, 0, 0) - 1)));
        assert_eq!(
            parse_time("143000.123"),
            Some((at(14, 30, 0) + 123_000, at(14, 30, 0) + 123_999))
        );
        for text in [
            "",
            "1",
            "24",
            "1460",
            "143061",
            "143000.",
            "143000.1234567",
            "14.5",
            "1430000",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn points_in_time() {
        let day = parse_datetime("20100115").unwrap();
        assert_eq!(day.1 - day.0, DAY as i64 - 1);
        let second = parse_datetime("20100115143000").unwrap();
        assert!(day.0 < second.0 && second.1 < day.1);
        let east = parse_datetime("20100115143000+0200").unwrap();
        assert_eq!(second.0 - east.0, 7200 * SECOND as i64);
        assert_eq!(parse_datetime("20100115123000-0000").unwrap(), east);
        let year = parse_datetime("2010").unwrap();
        assert_eq!(year.1 + 1, parse_datetime("20110101").unwrap().0);
        let february = parse_datetime("201202").unwrap();
        assert_eq!(february.1 + 1, parse_datetime("20120301").unwrap().0);
        assert_eq!((february.1 + 1 - february.0) as u64 / DAY, 29);
        for text in [
            "",
            "20100115-20100116",
            "201001151430+9900",
            "2010x",
            "20101",
        ] {
            assert_eq!(parse_datetime(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_never_panics(text in "[0-9.:+\\-a é]{0,30}") {
            let _ = (parse_date(&text), parse_time(&text), parse_datetime(&text));
        }

        #[test]
        fn periods_are_ordered(text in "[0-9]{2,14}(\\.[0-9]{1,6})?") {
            if let Some((first, last)) = parse_time(&text) {
                prop_assert!(first <= last);
            }
            if let Some((first, last)) = parse_datetime(&text) {
                prop_assert!(first <= last);
            }
        }
    }
}
