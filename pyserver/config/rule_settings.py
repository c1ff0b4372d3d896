"""What a site configures about converters and about sending objects on."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """How converters run: see the items of the group Scripting."""

    reject_on_error: bool
    shell: bool
    folders: tuple[Path, ...]
    processes_max: int
    time_limit_s: float
    worklist_mode: int
    """0: objects stay as they come; 1: their worklist entry corrects them; 2: without one they are
    refused."""


@dataclass(frozen=True, slots=True)
class ForwardSettings:
    """How objects are sent on, and how often it is tried. Times in seconds."""

    hold_off_s: float
    retry_delay_s: float
    retries_max: int
    retry_failed: bool
    level: str
    close_delay_s: float
    collect_delay_s: float
    refresh_delay_s: float
    delayed_threads: int
    delayed_retries_max: int
    release: bool
