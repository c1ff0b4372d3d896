//! Pixel data for Python: NKI, finding and replacing elements, uncompressed conversion. Bytes to bytes.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use pyserver_jpeg::{Colour, Frame, Precision, Process};
use pyserver_proto::convert::DatasetConverter;
use pyserver_proto::element::Elements;
use pyserver_proto::nki::{self, Mode};
use pyserver_proto::pixel_data::{self, Edit};
use pyserver_proto::rle::{self, FrameLayout};
use pyserver_proto::scan::ScanLimits;
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::{Encoding, TransferSyntax};
use pyserver_proto::uid::Uid;
use pyserver_proto::vr::Vr;

use crate::errors;

fn pixel_error(error: impl std::fmt::Display) -> PyErr {
    errors::PixelDataError::new_err(error.to_string())
}

/// Compress pixel data by NKI mode 1 to 4.
#[pyfunction]
pub fn nki_encode<'py>(py: Python<'py>, mode: u32, pixels: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let mode = Mode::from_number(mode)
        .ok_or_else(|| pixel_error(format!("NKI mode {mode} cannot be written")))?;
    let stream = py.detach(|| nki::encode(mode, pixels));
    Ok(PyBytes::new(py, &stream.map_err(pixel_error)?))
}

/// Decompress an NKI stream of at most `bytes_max` bytes of pixel data.
#[pyfunction]
pub fn nki_decode<'py>(
    py: Python<'py>,
    stream: &[u8],
    bytes_max: u64,
) -> PyResult<Bound<'py, PyBytes>> {
    let pixels = py.detach(|| nki::decode(stream, bytes_max));
    Ok(PyBytes::new(py, &pixels.map_err(pixel_error)?))
}

/// The RLE codestream of a frame of native samples; by plane or by pixel.
#[pyfunction]
pub fn rle_encode<'py>(
    py: Python<'py>,
    frame: &[u8],
    rows: usize,
    columns: usize,
    samples: usize,
    sample_bytes: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let layout = FrameLayout {
        rows,
        columns,
        samples,
        sample_bytes,
        by_plane: false,
    };
    let mut stream = Vec::with_capacity(frame.len());
    if !py.detach(|| rle::encode(frame, layout, &mut stream)) {
        let found = frame.len();
        return Err(pixel_error(format!(
            "{found} bytes are no frame of {layout:?} for RLE"
        )));
    }
    Ok(PyBytes::new(py, &stream))
}

/// The progressive JPEG codestream of a frame of native samples by pixel.
#[pyfunction]
pub fn progressive_jpeg_encode<'py>(
    py: Python<'py>,
    frame: &[u8],
    size: (u32, u32),
    photometric: &str,
    sample_bytes: usize,
    full: bool,
    quality: u8,
) -> PyResult<Bound<'py, PyBytes>> {
    let colour = match photometric {
        "RGB" => Colour::Rgb,
        "YBR_FULL" => Colour::YCbCr,
        "MONOCHROME2" => Colour::Grey,
        _ => return Err(pixel_error(format!("JPEG of {photometric} samples"))),
    };
    let precision = match sample_bytes {
        1 => Precision::Eight,
        2 => Precision::Twelve,
        _ => {
            return Err(pixel_error(format!(
                "JPEG of samples of {sample_bytes} bytes"
            )));
        }
    };
    let process = if full {
        Process::FullProgression
    } else {
        Process::SpectralSelection
    };
    let (rows, columns) = size;
    let frame = Frame {
        samples: frame,
        rows,
        columns,
        colour,
        precision,
    };
    let stream = py.detach(|| pyserver_jpeg::encode(&frame, process, quality));
    Ok(PyBytes::new(py, &stream.map_err(pixel_error)?))
}

type Span = (usize, usize);
type Found = (u32, &'static str, Span, Span, Option<Vec<Span>>);

/// Where the pixel data of an explicit little endian data set is.
#[pyfunction]
pub fn find_pixel_data(dataset: &[u8]) -> PyResult<Option<Found>> {
    let span = |range: std::ops::Range<usize>| (range.start, range.end);
    let found = pixel_data::find(dataset).map_err(pixel_error)?;
    Ok(found.map(|found| {
        let items = found
            .items
            .map(|items| items.into_iter().map(span).collect());
        let Tag(tag) = found.tag;
        (
            tag,
            found.vr.as_str(),
            span(found.element),
            span(found.value),
            items,
        )
    }))
}

/// Values of top-level elements of an explicit little endian data set.
#[pyfunction]
pub fn read_elements<'py>(
    py: Python<'py>,
    elements: &[u8],
    tags: Vec<u32>,
) -> PyResult<Bound<'py, PyDict>> {
    let found = PyDict::new(py);
    for element in Elements::new(elements, Encoding::EXPLICIT_LE) {
        let element = element.map_err(pixel_error)?;
        let Tag(tag) = element.head.tag;
        if tags.contains(&tag) {
            found.set_item(tag, PyBytes::new(py, element.value))?;
        }
    }
    Ok(found)
}

/// An explicit little endian data set with elements set, or removed where the value is None.
#[pyfunction]
pub fn edit_elements<'py>(
    py: Python<'py>,
    elements: &[u8],
    edits: Vec<(u32, String, Option<Vec<u8>>)>,
) -> PyResult<Bound<'py, PyBytes>> {
    let edit = |(tag, vr, value): (u32, String, Option<Vec<u8>>)| {
        let letters = vr.as_bytes().first_chunk::<2>().copied();
        let vr = letters
            .and_then(Vr::from_bytes)
            .ok_or_else(|| pixel_error(format!("{vr:?} is no VR")))?;
        Ok((Tag(tag), vr, value))
    };
    let edits = edits
        .into_iter()
        .map(edit)
        .collect::<PyResult<Vec<Edit>>>()?;
    let edited = pixel_data::edit(elements, &edits).map_err(pixel_error)?;
    Ok(PyBytes::new(py, &edited))
}

/// A data set in another uncompressed transfer syntax.
#[pyfunction]
pub fn convert_dataset<'py>(
    py: Python<'py>,
    dataset: &[u8],
    from_syntax: &str,
    to_syntax: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    let syntax = |text: &str| {
        let uid = text.parse::<Uid>().map_err(pixel_error)?;
        Ok::<_, PyErr>(TransferSyntax::from_uid(&uid))
    };
    let (from, to) = (syntax(from_syntax)?, syntax(to_syntax)?);
    let converted = py.detach(|| {
        let mut converter = DatasetConverter::new(from, to, ScanLimits::default())?;
        let mut out = Vec::with_capacity(dataset.len() + dataset.len() / 64);
        converter.push(dataset, &mut out)?;
        converter.finish()?;
        Ok::<_, pyserver_proto::convert::ConvertError>(out)
    });
    Ok(PyBytes::new(py, &converted.map_err(pixel_error)?))
}
