# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""PALETTE COLOR to 8-bit RGB (PS3.3 C.7.6.3.1.5 and .6).

Indexes below the first mapped value take the first entry, those beyond the table the last one,
as the standard says, so no index can read outside a table.
"""

ctypedef fused index:
    const unsigned char
    const signed char
    const unsigned short
    const short


def expand(
    index[:, :] pixels,
    const unsigned short[:] red,
    const unsigned short[:] green,
    const unsigned short[:] blue,
    int first_mapped,
    int entry_bits,
    unsigned char[:, :, :] out,
):
    """Write the colours of `pixels` into `out` (rows, columns, 3); entries have 8 or 16 bits."""
    cdef Py_ssize_t rows = pixels.shape[0]
    cdef Py_ssize_t columns = pixels.shape[1]
    cdef Py_ssize_t entries = red.shape[0]
    cdef Py_ssize_t r, c, entry
    cdef int shift = entry_bits - 8
    if entry_bits not in (8, 16):
        raise ValueError(f"palette entries have 8 or 16 bits, not {entry_bits}")
    if entries == 0 or green.shape[0] != entries or blue.shape[0] != entries:
        raise ValueError(
            f"palettes have {entries}, {green.shape[0]} and {blue.shape[0]} entries"
        )
    if out.shape[0] != rows or out.shape[1] != columns or out.shape[2] != 3:
        raise ValueError(
            f"out is {out.shape[0]} x {out.shape[1]} x {out.shape[2]}, not {rows} x {columns} x 3"
        )
    with nogil:
        for r in range(rows):
            for c in range(columns):
                entry = <Py_ssize_t> pixels[r, c] - first_mapped
                if entry < 0:
                    entry = 0
                elif entry >= entries:
                    entry = entries - 1
                out[r, c, 0] = <unsigned char> (red[entry] >> shift)
                out[r, c, 1] = <unsigned char> (green[entry] >> shift)
                out[r, c, 2] = <unsigned char> (blue[entry] >> shift)
