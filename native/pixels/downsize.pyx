# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Downsizing by exact area averages, for thumbnails and previews.

Every source pixel counts with the area it shares with an output pixel. All arithmetic is in
integers, so the result is the same on every machine. Never enlarges.
"""

from libc.stdint cimport uint64_t


def area(const unsigned char[:, :, :] pixels, unsigned char[:, :, :] out):
    """Write `pixels` (rows, columns, samples) averaged to the shape of `out`, rounded half up."""
    cdef Py_ssize_t rows = pixels.shape[0]
    cdef Py_ssize_t columns = pixels.shape[1]
    cdef Py_ssize_t samples = pixels.shape[2]
    cdef Py_ssize_t out_rows = out.shape[0]
    cdef Py_ssize_t out_columns = out.shape[1]
    if out.shape[2] != samples:
        raise ValueError(f"out has {out.shape[2]} samples a pixel, the image {samples}")
    if not (0 < out_rows <= rows and 0 < out_columns <= columns):
        raise ValueError(f"cannot make {out_rows} x {out_columns} of {rows} x {columns} pixels")
    if rows > 65535 or columns > 65535:
        # LIMIT: 255 * rows * columns must fit the accumulator; Rows and Columns are US.
        raise ValueError(f"{rows} x {columns} pixels are more than DICOM can hold")
    with nogil:
        _area(pixels, out, rows, columns, samples, out_rows, out_columns)


cdef void _area(
    const unsigned char[:, :, :] pixels,
    unsigned char[:, :, :] out,
    Py_ssize_t rows,
    Py_ssize_t columns,
    Py_ssize_t samples,
    Py_ssize_t out_rows,
    Py_ssize_t out_columns,
) noexcept nogil:
    # In units of 1/out_rows of a source row, source row y covers [y * out_rows, (y + 1) * out_rows)
    # and output row r covers [r * rows, (r + 1) * rows); columns likewise.
    cdef Py_ssize_t r, c, s, y, x
    cdef uint64_t total, line, area_all = <uint64_t> rows * <uint64_t> columns
    for r in range(out_rows):
        for c in range(out_columns):
            for s in range(samples):
                total = 0
                y = r * rows // out_rows
                while y * out_rows < (r + 1) * rows:
                    line = 0
                    x = c * columns // out_columns
                    while x * out_columns < (c + 1) * columns:
                        line += pixels[y, x, s] * _shared(x, c, columns, out_columns)
                        x += 1
                    total += line * _shared(y, r, rows, out_rows)
                    y += 1
                out[r, c, s] = <unsigned char> ((total + area_all // 2) // area_all)


cdef inline uint64_t _shared(
    Py_ssize_t source, Py_ssize_t target, Py_ssize_t length, Py_ssize_t out_length
) noexcept nogil:
    cdef Py_ssize_t start = source * out_length
    cdef Py_ssize_t end = start + out_length
    if start < target * length:
        start = target * length
    if end > (target + 1) * length:
        end = (target + 1) * length
    return <uint64_t> (end - start)
