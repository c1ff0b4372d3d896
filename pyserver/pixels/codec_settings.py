"""What a site allows its codec processes; loads nothing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CodecSettings:
    """Limits of the codec processes."""

    processes: int = 0
    """0: as many as there are cores."""
    timeout_s: float = 60.0
    object_mb: int = 512
    """Largest object that is changed; larger ones stay as they are."""
    lossy_new_uid: bool = False
    """Whether an object that a mode loses something of gets a UID of its own."""
    held_mb: int = 1024
    """Memory for objects that arrive and wait for a codec, all together."""
