"""pyserver: a DICOM server. Mechanism is native (`pyserver._native`), policy is Python."""

from importlib.metadata import version

__version__ = version("pyserver")
