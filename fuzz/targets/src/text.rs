//! Text: character sets, and matching one key against one value.

use pyserver_proto::charset::CharacterSet;
use pyserver_proto::query::{MatchRules, Matcher};
use pyserver_proto::vr::Vr;

use crate::input::Input;

const VRS: [Vr; 12] = [
    Vr::Pn,
    Vr::Lo,
    Vr::Sh,
    Vr::Ut,
    Vr::Cs,
    Vr::Ui,
    Vr::Da,
    Vr::Tm,
    Vr::Dt,
    Vr::Is,
    Vr::Ds,
    Vr::Us,
];

/// VR, a line with the character set, bytes: whatever can be written completely must be read as the same
/// text, in this character set and in UTF-8.
pub fn charset(data: &[u8]) {
    let mut input = Input::new(data);
    let vr = input.choose(&VRS).unwrap_or(Vr::Lo);
    let charset = CharacterSet::parse(input.line());
    assert_eq!(CharacterSet::parse(charset.name()), charset);
    let bytes = input.rest();
    let text = charset.decode(bytes, vr);
    assert!(
        text.len() <= 3 * bytes.len() + 3,
        "text grows without bound"
    );
    let encoded = charset.encode(&text, vr);
    if encoded.complete {
        let again = charset.decode(&encoded.bytes, vr);
        assert_eq!(again, text, "{:02x?} is not read back", encoded.bytes);
    }
    let utf8 = CharacterSet::utf8();
    if let Some(moved) = charset.transcode(bytes, vr, &utf8)
        && vr.uses_charset()
    {
        assert_eq!(utf8.decode(&moved, vr), text);
    }
}

/// VR, rules, a line with the character set, a line with the key, the stored value: an exact key matches
/// itself, and wildcards agree with a table of all prefixes.
pub fn matcher(data: &[u8]) {
    let mut input = Input::new(data);
    let vr = input.choose(&VRS).unwrap_or(Vr::Lo);
    let choices = input.byte();
    let charset = CharacterSet::parse(input.line());
    let key = charset.decode(input.line(), vr);
    let stored = input.rest();
    let rules = MatchRules {
        charset: &charset,
        vr,
        ignore_case: choices & 1 != 0,
        multi_valued: choices & 2 != 0,
    };
    let matcher = Matcher::parse(vr, &key);
    let matches = matcher.matches(stored, &rules);
    let text = charset.decode(stored, vr);
    if matcher.is_universal() {
        assert!(matches);
    }
    if let Matcher::Wildcard(pattern) = &matcher {
        assert!(pattern.text.starts_with(pattern.literal_prefix()));
        if vr != Vr::Pn {
            let slow = glob(&pattern.text, &text);
            assert_eq!(pattern.matches(&text, false), slow, "{pattern:?} {text:?}");
            assert!(!slow || pattern.matches(&text, true));
        }
    }
    if let Matcher::Single(single) = &matcher {
        assert!(single.matches(&single.text, rules.ignore_case));
        assert!(matcher.matches_text(&single.text, &rules));
    }
}

/// Wildcard matching by the book: `reach[i]` says whether the pattern so far fits the first `i` characters.
fn glob(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    for wanted in pattern.chars() {
        let mut next = vec![false; text.len() + 1];
        let mut any = false;
        for (i, slot) in next.iter_mut().enumerate() {
            any |= reach[i];
            *slot = match wanted {
                '*' => any,
                _ => i > 0 && reach[i - 1] && (wanted == '?' || wanted == text[i - 1]),
            };
        }
        reach = next;
    }
    reach.last().copied().unwrap_or_default()
}
