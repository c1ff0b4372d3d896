# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Planar Configuration (0028,0006): colour by plane to colour by pixel, and back.

Copies samples, never changes a value. Pure functions on memoryviews; no GIL in the loops.
"""

ctypedef fused sample:
    unsigned char
    unsigned short


def interleave(const sample[:, :, :] planes, sample[:, :, :] out):
    """Write `planes` (samples, rows, columns) into `out` (rows, columns, samples)."""
    cdef Py_ssize_t samples = planes.shape[0]
    cdef Py_ssize_t rows = planes.shape[1]
    cdef Py_ssize_t columns = planes.shape[2]
    cdef Py_ssize_t r, c, s
    if out.shape[0] != rows or out.shape[1] != columns or out.shape[2] != samples:
        raise ValueError(
            f"out is {out.shape[0]} x {out.shape[1]} x {out.shape[2]}, "
            f"not {rows} x {columns} x {samples}"
        )
    with nogil:
        for r in range(rows):
            for c in range(columns):
                for s in range(samples):
                    out[r, c, s] = planes[s, r, c]


def separate(const sample[:, :, :] pixels, sample[:, :, :] out):
    """Write `pixels` (rows, columns, samples) into `out` (samples, rows, columns)."""
    cdef Py_ssize_t rows = pixels.shape[0]
    cdef Py_ssize_t columns = pixels.shape[1]
    cdef Py_ssize_t samples = pixels.shape[2]
    cdef Py_ssize_t r, c, s
    if out.shape[0] != samples or out.shape[1] != rows or out.shape[2] != columns:
        raise ValueError(
            f"out is {out.shape[0]} x {out.shape[1]} x {out.shape[2]}, "
            f"not {samples} x {rows} x {columns}"
        )
    with nogil:
        for s in range(samples):
            for r in range(rows):
                for c in range(columns):
                    out[s, r, c] = pixels[r, c, s]
