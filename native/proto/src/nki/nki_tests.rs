#![allow(clippy::unwrap_used)] // tests

use proptest::prelude::*;

use super::*;

const MODES: [Mode; 4] = [Mode::N1, Mode::N2, Mode::N3, Mode::N4];

/// The encoding as its description says it, a code at a time.
fn obvious(mode: Mode, words: &[i16]) -> Vec<u8> {
    let nibbles = mode.has_nibbles();
    let mut codes: Vec<Vec<u8>> = vec![words[0].to_le_bytes().to_vec()];
    let mut small: Vec<u8> = Vec::new();
    let mut at = 1;
    let flush = |codes: &mut Vec<Vec<u8>>, small: &mut Vec<u8>, pack: bool| {
        let even = small.len() / 2 * 2;
        if pack && small.len() >= 6 {
            codes.extend(small[..small.len() - even].iter().map(|code| vec![*code]));
            let packed = small[small.len() - even..].chunks(2);
            let mut run = vec![0xC0, even as u8];
            run.extend(packed.map(|pair| pair[0] << 4 | pair[1] & 0xF));
            codes.push(run);
        } else {
            codes.extend(small.iter().map(|code| vec![*code]));
        }
        small.clear();
    };
    while at < words.len() {
        let d = i32::from(words[at]) - i32::from(words[at - 1]);
        let mut run = 0;
        while run < 255 && at + run < words.len() - 1 && words[at + run] == words[at - 1] {
            run += 1;
        }
        let least = if nibbles { 5 } else { 2 };
        if run >= least {
            flush(&mut codes, &mut small, true);
            codes.push(vec![0x80, run as u8]);
            at += run;
            continue;
        }
        at += 1;
        if nibbles && (-8..8).contains(&d) {
            small.push(d as u8);
            if small.len() == 254 {
                flush(&mut codes, &mut small, true);
            }
            continue;
        }
        flush(&mut codes, &mut small, true);
        let reach = if nibbles { -63 } else { -64 };
        codes.push(if (reach..64).contains(&d) {
            vec![d as u8]
        } else if (-0x3F00..=0x3EFF).contains(&d) {
            vec![(d >> 8) as u8 ^ 0x40, d as u8]
        } else {
            let [high, low] = words[at - 1].to_be_bytes();
            vec![0x7F, high, low]
        });
    }
    flush(&mut codes, &mut small, false);
    let mut payload = codes.concat();
    if payload.len() % 2 != 0 {
        payload.push(0);
    }
    payload
}

fn bytes_of(words: &[i16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Walks of small steps, large steps and equal words, as images have them.
fn images() -> impl Strategy<Value = Vec<i16>> {
    let stretch = (0..5_u8, 1..300_usize, any::<u64>());
    proptest::collection::vec(stretch, 1..6).prop_map(|stretches| {
        let mut words = Vec::new();
        let mut word = 0_i16;
        for (kind, length, mut seed) in stretches {
            for _ in 0..length {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let random = (seed >> 20) as i16;
                let step = match kind {
                    0 => 0,
                    1 => random % 9,
                    2 => random % 70,
                    3 => random,
                    _ => i16::from(random % 4 == 0),
                };
                word = word.wrapping_add(step);
                words.push(word);
            }
        }
        words
    })
}

proptest! {
    #[test]
    fn every_image_comes_back_and_is_encoded_as_described(words in images()) {
        let pixels = bytes_of(&words);
        for mode in MODES {
            let stream = encode(mode, &pixels).unwrap();
            let header = if mode.has_checksum() { LONG_HEADER } else { SHORT_HEADER };
            prop_assert_eq!(&stream[header..], &obvious(mode, &words)[..]);
            prop_assert_eq!(decode(&stream, pixels.len() as u64).unwrap(), &pixels[..]);
        }
    }

    #[test]
    fn a_damaged_stream_gives_an_error_or_the_announced_length(
        words in images(), mode in 0..4_usize, at in any::<prop::sample::Index>(), byte: u8
    ) {
        let mut stream = encode(MODES[mode], &bytes_of(&words)).unwrap();
        let at = at.index(stream.len());
        stream[at] = byte;
        if let Ok(pixels) = decode(&stream, 1 << 20) {
            let claimed = u32::from_le_bytes(*stream.first_chunk().unwrap());
            prop_assert_eq!(pixels.len(), claimed as usize * 2);
        }
    }
}

#[test]
fn a_single_word_is_its_own_stream() {
    for mode in MODES {
        let stream = encode(mode, &[0x34, 0x12]).unwrap();
        assert_eq!(&stream[stream.len() - 2..], [0x34, 0x12]);
        assert_eq!(decode(&stream, 2).unwrap(), [0x34, 0x12]);
    }
}

#[test]
fn what_cannot_be_encoded_is_refused() {
    assert_eq!(encode(Mode::N1, &[1, 2, 3]), Err(NkiError::OddLength(3)));
    assert_eq!(encode(Mode::N1, &[]), Err(NkiError::WordCount(0)));
}

#[test]
fn faults_are_told_apart() {
    let stream = |mode: u8, words: u8, payload: &[u8]| {
        let mut stream = vec![words, 0, 0, 0, mode, 0, 0, 0];
        stream.extend_from_slice(payload);
        stream
    };
    let truncated = |word, words| NkiError::Truncated { word, words };
    let cases = [
        (stream(1, 4, &[1, 0, 5]), truncated(2, 4)),
        (stream(1, 2, &[1, 0, 0x7F, 1]), truncated(1, 2)),
        (stream(1, 0, &[1, 0]), truncated(0, 0)),
        (
            stream(1, 4, &[1, 0, 0x80, 9]),
            NkiError::RunTooLong {
                word: 1,
                words: 4,
                run: 9,
            },
        ),
        (
            stream(1, 4, &[1, 0, 0x80, 0]),
            NkiError::Run { word: 1, run: 0 },
        ),
        (
            stream(3, 9, &[1, 0, 0xC0, 3, 0, 0]),
            NkiError::Run { word: 1, run: 3 },
        ),
        (stream(3, 9, &[1, 0, 0xC0, 6, 0, 0]), truncated(1, 9)),
        (stream(6, 1, &[1, 0]), NkiError::UnknownMode(6)),
        (stream(4, 1, &[1, 0]), NkiError::Header(10)),
        (
            stream(1, 200, &[1, 0]),
            NkiError::TooLarge {
                bytes: 400,
                limit: 399,
            },
        ),
    ];
    for (bytes, error) in cases {
        assert_eq!(decode(&bytes, 399), Err(error), "{bytes:?}");
    }
    let mut summed = encode(Mode::N2, &[1, 0, 2, 0]).unwrap();
    summed[12] ^= 1;
    assert!(matches!(decode(&summed, 4), Err(NkiError::Checksum { .. })));
}

#[test]
fn a_stream_that_claims_more_than_it_can_hold_takes_no_memory() {
    let mut stream = u32::MAX.to_le_bytes().to_vec();
    stream.extend([1, 0, 0, 0, 1, 0, 0x80, 0xFF]);
    let words = u32::MAX as usize;
    let expected = NkiError::Truncated { word: 0, words };
    assert_eq!(decode(&stream, u64::MAX), Err(expected));
}
