//! The digest behind `newuids stage #NAME`: the same UID, stage and prefix give the same new UID on any
//! server, without a table (golden case file uid_remap.json, `md5`).
//!
//! It is MD5 as the Conquest server computes it, whose first four steps run in the order 1, 2, 3, 0. No
//! library has that, and data that sites have changed already depend on it.

use std::fmt::Write;

/// Characters of the prefix that take part in the new UID.
const PREFIX_MAX: usize = 25;
/// Pairs of digest bytes are appended up to this length.
const LENGTH_MAX: usize = 58;

/// Amounts of rotation, four a round.
const SHIFTS: [[u32; 4]; 4] = [
    [7, 12, 17, 22],
    [5, 9, 14, 20],
    [4, 11, 16, 23],
    [6, 10, 15, 21],
];

/// What a UID becomes in a stage whose name begins with `#`.
pub fn digest_uid(prefix: &str, old: &str, stage: &str) -> String {
    let root = format!("{prefix}.7");
    // Conquest takes the text as bytes, one a character.
    let text: Vec<u8> = format!("{root}{old}{stage}")
        .chars()
        .map(|c| u8::try_from(c).unwrap_or(b'?'))
        .collect();
    let digest = conquest_md5(&text);
    let mut uid: String = root.chars().take(PREFIX_MAX).collect();
    if !uid.ends_with('.') {
        uid.push('.');
    }
    let start = uid.len();
    for pair in digest.chunks_exact(2) {
        if uid.len() > LENGTH_MAX {
            break;
        }
        if let [high, low] = *pair {
            let number = u32::from(high) * 256 + u32::from(low);
            // Writing to a string cannot fail.
            let _ = write!(uid, "{number:05}");
        }
    }
    // A component may not begin with a zero (PS3.5 section 9.1).
    if uid.as_bytes().get(start) == Some(&b'0') {
        uid.replace_range(start..=start, "1");
    }
    uid
}

/// MD5 with Conquest's order of the first four steps.
pub fn conquest_md5(text: &[u8]) -> [u8; 16] {
    let mut message = text.to_vec();
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend((text.len() as u64 * 8).to_le_bytes());
    let mut state = [0x6745_2301_u32, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476];
    for block in message.chunks_exact(64) {
        let mut words = [0_u32; 16];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = bytes.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b));
        }
        let mut next = state;
        for step in [1, 2, 3, 0].into_iter().chain(4..64) {
            apply_step(&mut next, &words, step);
        }
        for (total, new) in state.iter_mut().zip(next) {
            *total = total.wrapping_add(new);
        }
    }
    let mut digest = [0; 16];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

/// One of the 64 steps of RFC 1321; the register it changes goes round with its number.
#[allow(
    clippy::indexing_slicing,
    reason = "every index is a remainder of the length"
)]
fn apply_step(state: &mut [u32; 4], words: &[u32; 16], step: usize) {
    let round = step / 16;
    let register = |n: usize| state[(n + 64 - step) % 4];
    let (a, b, c, d) = (register(0), register(1), register(2), register(3));
    let (mixed, word) = match round {
        0 => ((b & c) | (!b & d), step),
        1 => ((b & d) | (c & !d), 5 * step + 1),
        2 => (b ^ c ^ d, 3 * step + 5),
        _ => (c ^ (b | !d), 7 * step),
    };
    let constant = ((step as f64 + 1.0).sin().abs() * 4_294_967_296.0) as u32;
    let sum = a
        .wrapping_add(mixed)
        .wrapping_add(words[word % 16])
        .wrapping_add(constant);
    state[(64 - step) % 4] = b.wrapping_add(sum.rotate_left(SHIFTS[round % 4][step % 4]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: [u8; 16]) -> String {
        format!("{:032x}", u128::from_be_bytes(bytes))
    }

    #[test]
    fn the_digest_is_conquests() {
        assert_eq!(hex(conquest_md5(b"")), "ee7ee7f6775a4a345175ce996256f6ee");
        assert_eq!(
            hex(conquest_md5(b"abc")),
            "377bee1e512b24c6ff4cdc2e5c7940f9"
        );
        assert_eq!(
            hex(conquest_md5(b"The quick brown fox")),
            "0b59806ae081c007294b8f42f73d8478"
        );
    }

    #[test]
    fn stages() {
        for (uid, stage, new) in [
            (
                "1.2.3.1.1.1",
                "#TRIAL",
                "99999.99999.7.2282312511277452655760299005106182917027",
            ),
            (
                "1.2.3",
                "#",
                "99999.99999.7.3259633330001272372262230164034679161327",
            ),
            (
                "1.2.3",
                "#\u{e9}",
                "99999.99999.7.1249551036474740315056217240064243157430",
            ),
        ] {
            assert_eq!(digest_uid("99999.99999", uid, stage), new);
        }
        assert!(
            digest_uid(
                "1.2.3",
                "1.2.840.113619.2.55.3.604688119.868.1248862271.783",
                "#"
            )
            .starts_with("1.2.3.7.1101328750")
        );
    }

    #[test]
    fn new_uids_are_uids() {
        for n in 0..500 {
            let uid = digest_uid("1.2.826.0.1.3680043.2.135.1066", &format!("1.{n}"), "#s");
            assert!(uid.len() <= 64, "{uid}");
            assert!(pyserver_proto::uid::is_valid_uid(uid.as_bytes()), "{uid}");
        }
    }
}
