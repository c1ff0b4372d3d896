# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""A rectangle out of an image. Copies samples, never changes a value."""

ctypedef fused sample:
    unsigned char
    unsigned short
    short
    unsigned int
    int
    float


def rectangle(const sample[:, :, :] pixels, Py_ssize_t top, Py_ssize_t left, sample[:, :, :] out):
    """Write the part of `pixels` (rows, columns, samples) that starts at (top, left) into `out`."""
    cdef Py_ssize_t rows = out.shape[0]
    cdef Py_ssize_t columns = out.shape[1]
    cdef Py_ssize_t samples = out.shape[2]
    cdef Py_ssize_t r, c, s
    if samples != pixels.shape[2]:
        raise ValueError(f"out has {samples} samples a pixel, the image {pixels.shape[2]}")
    # Differences, not sums: a huge `top` must not wrap around.
    if (
        top < 0
        or left < 0
        or top > pixels.shape[0]
        or left > pixels.shape[1]
        or rows > pixels.shape[0] - top
        or columns > pixels.shape[1] - left
    ):
        raise ValueError(
            f"{rows} x {columns} pixels at ({top}, {left}) leave the image of "
            f"{pixels.shape[0]} x {pixels.shape[1]}"
        )
    with nogil:
        for r in range(rows):
            for c in range(columns):
                for s in range(samples):
                    out[r, c, s] = pixels[top + r, left + c, s]
