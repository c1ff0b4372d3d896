//! Latency histogram: logarithmic buckets with 64 steps per power of two (error below 1.6 %),
//! fixed size, mergeable, no allocation while measuring.

use std::time::Duration;

use crate::json::Json;

/// Steps per power of two, as a power of two.
const STEP_BITS: u32 = 6;
const STEPS: u64 = 1 << STEP_BITS;
/// Values up to 2^40 ns (18 minutes) have their own bucket; longer ones share the last.
const BUCKETS: usize = ((40 - STEP_BITS + 1) as usize) << STEP_BITS;

/// Counts of durations.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum_ns: u128,
    max_ns: u64,
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            sum_ns: 0,
            max_ns: 0,
        }
    }

    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(ns)) {
            *count += 1;
        }
        self.total += 1;
        self.sum_ns += u128::from(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds another histogram's counts.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// The duration in nanoseconds that this share (0 to 1) of the values does not exceed.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let wanted = ((self.total as f64) * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_bound(index).min(self.max_ns);
            }
        }
        self.max_ns
    }

    /// p50, p90, p99, max and mean in microseconds.
    pub fn report(&self) -> Json {
        let us = |ns: u64| ns as f64 / 1e3;
        let mean = if self.total == 0 {
            0.0
        } else {
            self.sum_ns as f64 / self.total as f64 / 1e3
        };
        Json::object()
            .with("count", self.total)
            .with("mean", mean)
            .with("p50", us(self.quantile_ns(0.5)))
            .with("p90", us(self.quantile_ns(0.9)))
            .with("p99", us(self.quantile_ns(0.99)))
            .with("max", us(self.max_ns))
    }
}

fn bucket(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let exponent = ns.ilog2() - STEP_BITS;
    let step = (ns >> exponent) - STEPS;
    (((u64::from(exponent) + 1) << STEP_BITS) + step).min(BUCKETS as u64 - 1) as usize
}

fn upper_bound(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let exponent = (index >> STEP_BITS) - 1;
    ((index & (STEPS - 1)) + STEPS + 1) << exponent
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Histogram, bucket, upper_bound};

    #[test]
    fn a_bucket_holds_its_values_within_two_percent() {
        for ns in [
            0,
            1,
            63,
            64,
            65,
            127,
            128,
            1_000,
            999_999,
            123_456_789,
            1 << 39,
        ] {
            let bound = upper_bound(bucket(ns));
            assert!(bound >= ns, "{ns} {bound}");
            assert!(bound as f64 <= ns as f64 * 1.02 + 1.0, "{ns} {bound}");
        }
        assert!(bucket(u64::MAX) < super::BUCKETS);
    }

    #[test]
    fn quantiles_follow_the_counts() {
        let mut one = Histogram::new();
        let mut two = Histogram::new();
        for value in 1..=50 {
            one.record(Duration::from_micros(value));
            two.record(Duration::from_micros(value + 50));
        }
        one.merge(&two);
        assert!((49_000..=51_500).contains(&one.quantile_ns(0.5)));
        assert!((98_000..=100_000).contains(&one.quantile_ns(0.99)));
        assert_eq!(one.quantile_ns(1.0), 100_000);
    }
}
