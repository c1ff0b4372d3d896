//! Frames and their codestreams. What is in these is tested from Python, which has decoders.
#![allow(clippy::unwrap_used)] // Tests fail by panicking.

use std::thread;

use pyserver_jpeg::{Colour, Frame, JpegError, Precision, Process, SIDE_MAX, encode};

const START: [u8; 2] = [0xFF, 0xD8];
const END: [u8; 2] = [0xFF, 0xD9];

fn frame(samples: &[u8], rows: u32, columns: u32) -> Frame<'_> {
    Frame {
        samples,
        rows,
        columns,
        colour: Colour::Grey,
        precision: Precision::Eight,
    }
}

fn refusal(frame: Frame<'_>, quality: u8) -> JpegError {
    let both = [Process::SpectralSelection, Process::FullProgression];
    let [one, other] = both.map(|process| encode(&frame, process, quality).unwrap_err());
    assert_eq!(one, other);
    one
}

#[test]
fn what_is_no_frame_is_refused() {
    let samples = [0_u8; 24];
    for (rows, columns) in [(0, 24), (24, 0), (SIDE_MAX + 1, 1), (1, u32::MAX)] {
        let found = refusal(frame(&samples, rows, columns), 95);
        assert_eq!(found, JpegError::Size { rows, columns });
    }
    for quality in [0, 101, 255] {
        let found = refusal(frame(&samples, 4, 6), quality);
        assert_eq!(found, JpegError::Quality(quality));
    }
    let mut other = frame(&samples, 4, 6);
    other.colour = Colour::YCbCr;
    let (found, expected) = (24, 72);
    assert_eq!(refusal(other, 95), JpegError::Length { found, expected });
    other.samples = &samples[..23];
    other.colour = Colour::Grey;
    let (found, expected) = (23, 24);
    assert_eq!(refusal(other, 95), JpegError::Length { found, expected });
}

#[test]
fn twelve_bits_are_all_that_a_sample_has() {
    fn of(samples: &[u8]) -> Frame<'_> {
        Frame {
            precision: Precision::Twelve,
            ..frame(samples, 3, 4)
        }
    }
    let most = [0xFF, 0x0F].repeat(12);
    encode(&of(&most), Process::SpectralSelection, 95).unwrap();
    let beyond = [&most[..22], &[0x00, 0x10]].concat();
    let found = 0x1000;
    assert_eq!(refusal(of(&beyond), 95), JpegError::Sample { found });
}

#[test]
fn threads_do_not_disturb_each_other() {
    let samples: Vec<u8> = (0..200_u32 * 300 * 3)
        .map(|n| (n ^ (n >> 5)) as u8)
        .collect();
    let colours = Frame {
        colour: Colour::Rgb,
        ..frame(&samples, 200, 300)
    };
    let both = [Process::SpectralSelection, Process::FullProgression];
    let alone = both.map(|process| encode(&colours, process, 90).unwrap());
    assert_ne!(alone[0], alone[1]);
    for stream in &alone {
        assert!(stream.starts_with(&START) && stream.ends_with(&END));
    }
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(
                        both.map(|process| encode(&colours, process, 90).unwrap()),
                        alone
                    );
                }
            });
        }
    });
}
