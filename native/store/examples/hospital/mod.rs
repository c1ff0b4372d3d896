//! The archive of the manual's appendix 1 as a generator: 14 700 patients, 36 000 studies, 195 000 series and
//! 4.375 million images, or a part of it. The same scale gives the same archive on every machine.
//!
//! Identifiers look like those of real scanners (four makers, UIDs of 40 to 62 characters that hold serial
//! numbers and times) and patients come in shuffled order, so nothing arrives sorted by any key.

use std::collections::BTreeMap;

use pyserver_proto::tag::Tag;

mod values;

/// The manual's numbers: patients, studies, series, images.
pub const WHOLE: [u64; 4] = [14_700, 36_000, 195_000, 4_375_000];

/// How many there are of each level, for a part of the whole.
pub fn sizes(scale: f64) -> [u64; 4] {
    let mut least = 1;
    WHOLE.map(|whole| {
        least = ((whole as f64 * scale).round() as u64).max(least);
        least
    })
}

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each key.
    pub fn of(kind: u64, number: u64) -> Self {
        let mut random = Self(kind << 56 ^ number);
        random.next();
        random
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// One of these.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// Gives each of `parents` at least one of `total` children, the rest by weight.
struct Shares {
    parents: u64,
    total: u64,
    weights: u64,
    passed: u64,
    given: u64,
}

impl Shares {
    fn new(parents: u64, total: u64, weight: impl Fn(u64) -> u64) -> Self {
        Self {
            parents,
            total,
            weights: (0..parents).map(weight).sum(),
            passed: 0,
            given: 0,
        }
    }

    fn next(&mut self, weight: u64) -> u64 {
        self.passed += weight;
        let spare = u128::from(self.total - self.parents);
        let due = spare * u128::from(self.passed) / u128::from(self.weights.max(1));
        let share = due as u64 - self.given;
        self.given += share;
        share + 1
    }
}

/// The values of one image after the other; a header for `Extractor::extract`.
pub struct Hospital {
    sizes: [u64; 4],
    order: Vec<u32>,
    shares: [Shares; 3],
    /// Patients, studies, series begun.
    begun: [u64; 3],
    /// Studies of the patient, series of the study and images of the series that are still to come.
    left: [u64; 3],
    series: values::Series,
    study: values::Study,
    /// Images of the series so far.
    image: u64,
    values: BTreeMap<Tag, Vec<u8>>,
}

impl Hospital {
    /// The part `scale` of the manual's archive.
    pub fn new(scale: f64) -> Self {
        let sizes = sizes(scale);
        let [patients, studies, series, images] = sizes;
        let mut order: Vec<u32> = (0..patients as u32).collect();
        let mut random = Random::of(9, 0);
        for at in (1..order.len()).rev() {
            order.swap(at, random.below(at as u64 + 1) as usize);
        }
        Self {
            sizes,
            order,
            shares: [
                Shares::new(patients, studies, |n| values::weight(1, n)),
                Shares::new(studies, series, |n| values::weight(2, n)),
                Shares::new(series, images, values::Series::weight),
            ],
            begun: [0; 3],
            left: [0; 3],
            series: values::Series::default(),
            study: values::Study::default(),
            image: 0,
            values: BTreeMap::new(),
        }
    }

    /// How many there are of each level.
    pub const fn sizes(&self) -> [u64; 4] {
        self.sizes
    }

    /// The next image's values; `None` behind the last one.
    pub fn next(&mut self) -> Option<&BTreeMap<Tag, Vec<u8>>> {
        if self.left[2] == 0 {
            if self.left[1] == 0 {
                if self.left[0] == 0 {
                    self.begin_patient()?;
                }
                self.begin_study();
            }
            self.begin_series();
        }
        self.left[2] -= 1;
        self.image += 1;
        values::image(&mut self.values, &self.study, &self.series, self.image);
        Some(&self.values)
    }

    fn begin_patient(&mut self) -> Option<()> {
        let number = *self.order.get(self.begun[0] as usize)?;
        self.left[0] = self.shares[0].next(values::weight(1, self.begun[0]));
        self.begun[0] += 1;
        values::patient(&mut self.values, u64::from(number));
        Some(())
    }

    fn begin_study(&mut self) {
        self.left[0] -= 1;
        self.left[1] = self.shares[1].next(values::weight(2, self.begun[1]));
        self.study = values::study(&mut self.values, self.begun[1]);
        self.begun[1] += 1;
    }

    fn begin_series(&mut self) {
        self.left[1] -= 1;
        self.left[2] = self.shares[2].next(values::Series::weight(self.begun[2]));
        self.series = values::series(&mut self.values, &self.study, self.begun[2]);
        self.begun[2] += 1;
        self.image = 0;
    }
}
