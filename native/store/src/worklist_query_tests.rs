use super::*;
use pyserver_proto::query::{InformationModel, QueryOptions};

const STEP: Tag = Tag::SCHEDULED_PROCEDURE_STEP_SEQUENCE;
const START_DATE: Tag = Tag::SCHEDULED_PROCEDURE_STEP_START_DATE;
const START_TIME: Tag = Tag::SCHEDULED_PROCEDURE_STEP_START_TIME;
const PROTOCOL_CODES: Tag = Tag::new(0x0040, 0x0008);

fn entry() -> Entry {
    let mut entry = Entry::default();
    for (tag, text) in [
        (Tag::ACCESSION_NUMBER, "A1"),
        (Tag::PATIENT_NAME, "M\u{fc}ller^Jan"),
        (Tag::MODALITY, "CT"),
        (START_DATE, "20251128"),
        (START_TIME, "1030"),
    ] {
        entry.put(tag, text);
    }
    entry
}

fn dataset(values: &[(Tag, &str)], step: Option<&[(Tag, &str)]>) -> Dataset {
    let mut keys = Dataset::new();
    for (tag, text) in values {
        keys.put_text(*tag, text);
    }
    if let Some(step) = step {
        let items = (!step.is_empty()).then(|| dataset(step, None));
        keys.put_items(STEP, items.into_iter().collect());
    }
    keys
}

fn bind_with(keys: &Dataset, charset: &str) -> WorklistQuery {
    let options = QueryOptions::default();
    let query = Query::parse(InformationModel::ModalityWorklist, keys, &options).unwrap();
    WorklistQuery::bind(&query, &Columns::default(), charset)
}

fn matches(values: &[(Tag, &str)], step: Option<&[(Tag, &str)]>) -> bool {
    bind_with(&dataset(values, step), "ISO_IR 100").matches(&entry())
}

#[test]
fn keys_match_inside_and_outside_the_sequence() {
    assert!(matches(&[(Tag::PATIENT_NAME, "m*")], None));
    assert!(!matches(&[(Tag::PATIENT_NAME, "x*")], None));
    assert!(
        !matches(&[(Tag::PATIENT_ID, "1")], None),
        "NULL is no value"
    );
    assert!(matches(&[], Some(&[(Tag::MODALITY, "CT")])));
    assert!(matches(&[], Some(&[(Tag::MODALITY, "MR\\CT")])));
    assert!(!matches(&[], Some(&[(Tag::MODALITY, "MR")])));
    assert!(matches(&[], Some(&[(START_DATE, "20251101-")])));
    assert!(!matches(&[], Some(&[(START_DATE, "-20251127")])));
    // Keys without a column ask for nothing.
    assert!(matches(&[(Tag::new(0x0008, 0x1070), "q")], None));
}

#[test]
fn date_and_time_are_one_range() {
    let between = |dates, times| matches(&[], Some(&[(START_DATE, dates), (START_TIME, times)]));
    assert!(between("20251127-20251129", "1400-0900"));
    assert!(!between("20251128-20251129", "1400-0900"));
    assert!(between("20251128", "1000-1100"));
    assert!(!between("20251128", "1100-1200"));
}

#[test]
fn answers_mimic_the_identifier() {
    let step: &[(Tag, &str)] = &[(Tag::MODALITY, ""), (Tag::new(0x0040, 0x0001), "")];
    let mut keys = dataset(
        &[(Tag::PATIENT_NAME, ""), (Tag::new(0x0010, 0x4000), "")],
        Some(step),
    );
    let mut inner = keys.items(STEP)[0].clone();
    inner.put_items(
        PROTOCOL_CODES,
        vec![dataset(&[(Tag::new(0x0008, 0x0100), "")], None)],
    );
    keys.put_items(STEP, vec![inner]);
    let answer = bind_with(&keys, "ISO_IR 100").answer(&entry());
    let tags: Vec<Tag> = answer.iter().map(|element| element.tag).collect();
    assert_eq!(tags, [Tag::SPECIFIC_CHARACTER_SET, Tag::PATIENT_NAME, STEP]);
    assert_eq!(answer.bytes(Tag::PATIENT_NAME), Some(&b"M\xfcller^Jan"[..]));
    let [item] = answer.items(STEP) else {
        panic!("one item")
    };
    assert_eq!(item.text(Tag::MODALITY), Some("CT"));
    assert_eq!(item.text(Tag::new(0x0040, 0x0001)), Some(""));
    assert_eq!(
        item.get(PROTOCOL_CODES).map(|codes| codes.items().len()),
        Some(0)
    );
}

#[test]
fn an_empty_sequence_asks_for_all_of_its_columns() {
    let answer = bind_with(&dataset(&[], Some(&[])), "").answer(&entry());
    let [item] = answer.items(STEP) else {
        panic!("one item")
    };
    assert_eq!(item.len(), 12);
    assert_eq!(item.text(START_TIME), Some("1030"));
    assert!(item.get(Tag::ACCESSION_NUMBER).is_none());
}

#[test]
fn the_character_set_can_say_the_text() {
    let named = |charset: &str, keys: &[(Tag, &str)]| {
        let answer = bind_with(&dataset(keys, None), charset).answer(&entry());
        let name = answer.text(Tag::SPECIFIC_CHARACTER_SET).map(str::to_owned);
        (name, answer.bytes(Tag::PATIENT_NAME).map(<[u8]>::to_vec))
    };
    let utf8 = "M\u{fc}ller^Jan".as_bytes().to_vec();
    let name = [(Tag::PATIENT_NAME, "")];
    assert_eq!(
        named("ISO_IR 144", &name),
        (Some("ISO_IR 192".into()), Some(utf8.clone()))
    );
    assert_eq!(named("", &name), (Some("ISO_IR 192".into()), Some(utf8)));
    assert_eq!(named("", &[(Tag::ACCESSION_NUMBER, "")]), (None, None));
    let latin = named("", &[(Tag::SPECIFIC_CHARACTER_SET, "ISO_IR 100"), name[0]]);
    assert_eq!(
        latin,
        (Some("ISO_IR 100".into()), Some(b"M\xfcller^Jan".to_vec()))
    );
}

#[test]
fn databases_are_told_what_to_leave_out() {
    let step: &[(Tag, &str)] = &[(START_DATE, "20251101-20251130"), (Tag::MODALITY, "CT")];
    let keys = dataset(&[(Tag::PATIENT_NAME, "M*")], Some(step));
    let conditions = bind_with(&keys, "").conditions();
    assert_eq!(
        conditions,
        [
            (Tag::PATIENT_NAME, Condition::Like("*M*".into())),
            (Tag::MODALITY, Condition::AnyOf(vec!["CT".into()])),
            (START_DATE, Condition::AtLeast("20251101".into())),
            (START_DATE, Condition::AtMost("20251130".into())),
        ]
    );
}
