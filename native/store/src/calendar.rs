//! The wall clock: Unix time, and the local date that file names carry.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

/// `yyyymmdd` of a Unix time where this machine is.
pub(crate) fn local_date(seconds: u64) -> String {
    let time = seconds as libc::time_t;
    let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid for the call; a zeroed `tm` is a valid value should it fail.
    let parts = unsafe {
        libc::localtime_r(&raw const time, parts.as_mut_ptr());
        parts.assume_init()
    };
    format!(
        "{:04}{:02}{:02}",
        i64::from(parts.tm_year) + 1900,
        parts.tm_mon + 1,
        parts.tm_mday
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        // Noon UTC is the same date everywhere but in the far Pacific.
        assert!(["20000229", "20000301"].contains(&local_date(951_825_600).as_str()));
        assert!(unix_time() > 1_700_000_000);
    }
}
