"""Why pixel data could not be decoded, encoded or changed."""

from pyserver.errors import PyserverError


class PixelError(PyserverError):
    """One object's pixels cannot be worked on; the object itself stays as it is."""


class TooLargeError(PixelError):
    """The object claims more than the limits allow; nothing was allocated."""
