//! From C-FIND answers to rows: what to ask for, how answers of several levels make one record, and how
//! records of a series are gathered.

use std::borrow::Cow;

use pyserver_proto::header::Header;
use pyserver_proto::tag::Tag;

use crate::clone_rows::{CloneImage, CloneSeries};
use crate::columns::Columns;
use crate::extract::{ExtractPolicy, Extractor, HeaderSource, Refused, RowValues, trimmed};
use crate::fold::recode;
use crate::schema::Level;

/// The elements of dicom.sql at a level, each once.
pub fn keys_of(columns: &Columns, level: Level) -> Vec<Tag> {
    let mut tags: Vec<Tag> = columns.level(level).iter().map(|c| c.tag).collect();
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// What answers of several levels say together: the lowest one that has a value counts. Text is given in the
/// character set of the lowest answer that names one.
pub struct Answers<'a> {
    /// From the lowest level up.
    layers: &'a [&'a Header],
    charset: &'a [u8],
}

impl<'a> Answers<'a> {
    /// Of one record, from the lowest level up.
    pub fn new(layers: &'a [&'a Header]) -> Self {
        let named = |header: &&'a Header| header.get(Tag::SPECIFIC_CHARACTER_SET);
        let mut names = layers.iter().filter_map(named);
        Self {
            layers,
            charset: names.find(|name| !name.is_empty()).unwrap_or_default(),
        }
    }

    /// A value without its padding; empty when there is none.
    pub fn text(&self, tag: Tag) -> Vec<u8> {
        let value = self.value(tag).unwrap_or_default();
        trimmed(&value).to_vec()
    }
}

impl HeaderSource for Answers<'_> {
    fn value(&self, tag: Tag) -> Option<Cow<'_, [u8]>> {
        if tag == Tag::SPECIFIC_CHARACTER_SET {
            return (!self.charset.is_empty()).then_some(Cow::Borrowed(self.charset));
        }
        let mut empty = None;
        for header in self.layers {
            let Some(value) = header.value(tag) else {
                continue;
            };
            if value.is_empty() {
                empty = Some(value);
                continue;
            }
            let own = header.get(Tag::SPECIFIC_CHARACTER_SET);
            return Some(match own.unwrap_or_default() {
                own if own == self.charset || own.is_empty() => value,
                own => Cow::Owned(recode(&value, own, self.charset)),
            });
        }
        empty
    }
}

/// Gathers records into series.
pub struct CloneBuilder<'a> {
    extractor: &'a Extractor,
    policy: ExtractPolicy,
    series: Vec<CloneSeries>,
    images: usize,
}

impl<'a> CloneBuilder<'a> {
    /// For an index with these columns.
    pub fn new(extractor: &'a Extractor, policy: ExtractPolicy) -> Self {
        Self {
            extractor,
            policy,
            series: Vec::new(),
            images: 0,
        }
    }

    /// Images gathered since they were last taken.
    pub const fn images(&self) -> usize {
        self.images
    }

    /// Takes what was gathered.
    pub fn take(&mut self) -> Vec<CloneSeries> {
        self.images = 0;
        std::mem::take(&mut self.series)
    }

    /// Adds the record of one image.
    ///
    /// Errors: an identifier is missing or malformed; nothing is added.
    pub fn push(&mut self, record: &dyn HeaderSource) -> Result<(), Refused> {
        let mut rows = self.extractor.extract(record, self.policy)?;
        let image = CloneImage {
            sop_instance: std::mem::take(&mut rows.sop_instance),
            columns: rows
                .columns
                .last_mut()
                .map(std::mem::take)
                .unwrap_or_default(),
        };
        self.images += 1;
        match self.series.last_mut() {
            Some(series) if same_above(&series.rows, &rows) => series.images.push(image),
            _ => self.series.push(CloneSeries {
                rows,
                images: vec![image],
            }),
        }
        Ok(())
    }
}

/// Whether two records say the same about everything but the image.
fn same_above(a: &RowValues, b: &RowValues) -> bool {
    a.series_uid == b.series_uid
        && a.columns == b.columns
        && a.charset == b.charset
        && a.sop_class == b.sop_class
        && a.name_is_default == b.name_is_default
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyserver_proto::dataset::Dataset;
    use pyserver_proto::transfer_syntax::TransferSyntax;
    use pyserver_proto::vr::Vr;

    fn header(values: &[(Tag, &[u8])]) -> Header {
        let mut dataset = Dataset::new();
        for (tag, value) in values {
            dataset.put_bytes(*tag, pyserver_proto::dict::vr(*tag), value);
        }
        let syntax = TransferSyntax::ExplicitLittleEndian;
        let mut bytes = Vec::new();
        dataset.encode(syntax, &mut bytes);
        Header::parse(&bytes, syntax).unwrap()
    }

    #[test]
    fn the_lowest_value_counts_in_the_lowest_character_set() {
        let image = header(&[
            (Tag::SPECIFIC_CHARACTER_SET, b"ISO_IR 192"),
            (Tag::PATIENT_ID, b"P1"),
            (Tag::STUDY_DESCRIPTION, b""),
        ]);
        let patient = header(&[
            (Tag::SPECIFIC_CHARACTER_SET, b"ISO_IR 100"),
            (Tag::PATIENT_ID, b"other"),
            (Tag::PATIENT_NAME, b"M\xfcller"),
        ]);
        let layers = [&image, &patient];
        let answers = Answers::new(&layers);
        assert_eq!(answers.text(Tag::PATIENT_ID), b"P1");
        assert_eq!(answers.text(Tag::PATIENT_NAME), "Müller".as_bytes());
        assert_eq!(answers.text(Tag::SPECIFIC_CHARACTER_SET), b"ISO_IR 192");
        assert_eq!(
            answers.value(Tag::STUDY_DESCRIPTION).as_deref(),
            Some(&b""[..])
        );
        assert_eq!(answers.value(Tag::SERIES_DESCRIPTION), None);
    }

    #[test]
    fn records_of_one_series_are_gathered() {
        let columns = Columns::default();
        let extractor = Extractor::new(&columns);
        let mut builder = CloneBuilder::new(&extractor, ExtractPolicy::default());
        let record = |series: &str, sop: &str, study: &str| {
            crate::extract::tests::header(&[
                (Tag::SERIES_INSTANCE_UID, Some(series)),
                (Tag::SOP_INSTANCE_UID, Some(sop)),
                (Tag::STUDY_DESCRIPTION, Some(study)),
            ])
        };
        for (series, sop, study) in [
            ("1.1", "1.1.1", "a"),
            ("1.1", "1.1.2", "a"),
            ("1.2", "1.2.1", "a"),
            ("1.2", "1.2.2", "b"),
        ] {
            builder.push(&record(series, sop, study)).unwrap();
        }
        assert!(builder.push(&record("", "1", "a")).is_err());
        assert_eq!(builder.images(), 4);
        let counts: Vec<usize> = builder.take().iter().map(|s| s.images.len()).collect();
        assert_eq!(counts, [2, 1, 1]);
        assert_eq!(builder.images(), 0);
    }

    #[test]
    fn every_column_is_asked_for_once() {
        let tags = keys_of(&Columns::default(), Level::Image);
        assert!(tags.contains(&Tag::SOP_INSTANCE_UID) && tags.contains(&Tag::SERIES_INSTANCE_UID));
        assert!(tags.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(pyserver_proto::dict::vr(Tag::SOP_INSTANCE_UID), Vr::Ui);
    }
}
