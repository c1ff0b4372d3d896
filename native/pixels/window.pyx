# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Window/level: stored values to 8-bit grey (PS3.3 C.11.1.1.2 and C.11.2.1.2).

Decides how a grey value looks, nothing else: which window an object asks for is the caller's
business. Pure functions on memoryviews; the loop holds no GIL and allocates nothing.
"""

from libc.math cimport exp, floor

ctypedef fused stored:
    const unsigned char
    const signed char
    const unsigned short
    const short
    const unsigned int
    const int
    const float
    const double

# The VOI LUT functions of PS3.3 C.11.2.1.2 and .3.
LINEAR = 0
LINEAR_EXACT = 1
SIGMOID = 2


cdef inline unsigned char _grey(double value, double center, double width, int function) noexcept nogil:
    cdef double level
    if function == 0:
        if width <= 1.0:
            level = 0.0 if value <= center - 0.5 else 1.0
        else:
            level = (value - (center - 0.5)) / (width - 1.0) + 0.5
    elif function == 1:
        level = (value - center) / width + 0.5
    else:
        level = 1.0 / (1.0 + exp(-4.0 * (value - center) / width))
    if not level > 0.0:  # NaN lands here too.
        return 0
    if level >= 1.0:
        return 255
    return <unsigned char> floor(level * 255.0 + 0.5)


def to_8bit(
    stored[:, :] pixels,
    unsigned char[:, :] out,
    double slope,
    double intercept,
    double center,
    double width,
    int function=0,
    bint invert=False,
):
    """Write `pixels`, rescaled and windowed, into `out` of the same shape; `invert` for MONOCHROME1."""
    cdef Py_ssize_t rows = pixels.shape[0]
    cdef Py_ssize_t columns = pixels.shape[1]
    cdef Py_ssize_t r, c
    cdef unsigned char flip = 255 if invert else 0
    if out.shape[0] != rows or out.shape[1] != columns:
        raise ValueError(
            f"out is {out.shape[0]} x {out.shape[1]}, pixels are {rows} x {columns}"
        )
    if function not in (0, 1, 2):
        raise ValueError(f"unknown VOI LUT function {function}")
    if not width > 0.0 or (function == 0 and width < 1.0):
        raise ValueError(f"window width {width} is too small")
    with nogil:
        for r in range(rows):
            for c in range(columns):
                out[r, c] = flip ^ _grey(
                    <double> pixels[r, c] * slope + intercept, center, width, function
                )


def value_range(stored[:, :] pixels):
    """Smallest and largest stored value, for objects that name no window."""
    cdef Py_ssize_t rows = pixels.shape[0]
    cdef Py_ssize_t columns = pixels.shape[1]
    cdef Py_ssize_t r, c
    cdef double low, high, value
    if rows == 0 or columns == 0:
        raise ValueError("an image without pixels has no range")
    low = high = <double> pixels[0, 0]
    with nogil:
        for r in range(rows):
            for c in range(columns):
                value = <double> pixels[r, c]
                if value < low:
                    low = value
                elif value > high:
                    high = value
    return low, high
