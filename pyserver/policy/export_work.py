"""What one queued record asks for, and how it went: a converter line, a forward, a mirror copy."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pyserver import _native
from pyserver.config.settings import Settings
from pyserver.policy.context import WARNING, Context, Outcome, Services
from pyserver.policy.converters import Converter, export_converters, import_finder
from pyserver.policy.delayed_work import perform
from pyserver.policy.jobs import EXPORT, FORWARD, MIRROR, Job
from pyserver.policy.parser import Line
from pyserver.policy.problems import Undelivered
from pyserver.policy.runtime import run_line

# A file stands under its name soon after its record does.
PLACING_TRIES = 40
PLACING_PAUSE_S = 0.05
FORWARD_LANE, MIRROR_LANE = -1, -2


@dataclass(frozen=True, slots=True)
class Result:
    """`done`, `retry`, `defer` or `dead`. `begun`: the object may have arrived all the same."""

    kind: str
    reason: str = ""
    begun: bool = False


DONE = Result("done")


def lane_of(job: Job) -> int:
    """The lane of a record that is not delayed."""
    return {EXPORT: job.converter, MIRROR: MIRROR_LANE}.get(job.kind, FORWARD_LANE)


def lane_name(number: int) -> str:
    """What a lane is called."""
    names = {FORWARD_LANE: "import forwards", MIRROR_LANE: "mirror"}
    return names.get(number, f"ExportConverter{number}")


class Work:
    """Does records with the settings in force; a reload makes another one."""

    def __init__(
        self, settings: Settings, services: Services, is_ended: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._services = services
        self._is_ended = is_ended
        converters = export_converters(settings.ini, settings.home, settings.native.dicom_sql)
        self._converters: dict[int, Converter] = {c.number: c for c in converters}

    def do(self, job: Job) -> Result:
        """Do a record that is not delayed."""
        opened = self._open(job)
        if opened is None:
            text = f"queued work for {job.sop_instance}: the object is gone"
            self._services.log(WARNING, text)
            return DONE
        path, device, instance = opened
        if job.kind == MIRROR:
            return self._mirror(path, device)
        name = lane_name(lane_of(job))
        context = Context(
            self._services,
            instance,
            job.calling_ae,
            job.called_ae,
            label=name,
            file=path,
            exporting=True,
        )
        if job.kind == FORWARD:
            finder = import_finder(self._settings.ini, self._settings.home)
            result = self._run_line(finder.line(job.text), context)
            if result is DONE and job.destroys:
                self._remove(job, path)
            return result
        converter = self._converters.get(job.converter)
        if converter is None:
            return Result("dead", f"{name} is not configured any more")
        return self._run_line(converter.line, context) if converter.applies(context) else DONE

    def perform(self, job: Job) -> Result:
        """Do a record of delayed work."""
        try:
            parse_script = import_finder(self._settings.ini, self._settings.home).line
            perform(self._services, self._settings, job, parse_script)
        except Undelivered as error:
            again = error.unreachable or self._settings.forward.retry_failed
            return Result("retry" if again else "dead", str(error), error.begun)
        except Exception as error:  # a fault here must not end the thread
            return Result("dead", f"{type(error).__name__}: {error}")
        return DONE

    def _open(self, job: Job) -> tuple[Path, str, _native.Instance] | None:
        """The stored object and its device. Its file may still be on the way to its place."""
        archive = self._services.archive
        for tries_left in reversed(range(PLACING_TRIES)):
            if job.file:
                path, device = Path(job.file), ""
                if not path.exists():
                    return None
            else:
                located = archive.locate("image", job.sop_instance)
                if not located:
                    return None
                path, device = Path(located[0]["path"]), str(located[0]["device"])
            try:
                return path, device, _native.Instance.open(path)
            except _native.StoreError:
                if not tries_left or self._is_ended():
                    raise
                time.sleep(PLACING_PAUSE_S)
        return None

    def _run_line(self, line: Line, context: Context) -> Result:
        try:
            outcome = run_line(line, context)
        except Undelivered as error:
            again = error.unreachable or self._settings.forward.retry_failed
            return Result("retry" if again else "dead", str(error), error.begun)
        if outcome is Outcome.DEFER:
            return Result("defer")
        return Result("dead", context.failures[0]) if context.failures else DONE

    def _mirror(self, path: Path, device: str) -> Result:
        """Copy a file to the mirror of its device, whole or not at all."""
        number, folder = self._device_of(path, device)
        mirror = self._settings.mirrors.get(number)
        if mirror is None or folder is None:
            return DONE
        target = mirror / path.relative_to(folder)
        beside = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, beside)
            with beside.open("rb+") as file:
                # The record goes when this is done, so the copy must be there.
                os.fdatasync(file.fileno())
            beside.rename(target)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            return Result("retry", f"mirror copy {target}: {error.strerror}")
        return DONE

    def _device_of(self, path: Path, device: str) -> tuple[int, Path | None]:
        for number, text in enumerate(self._settings.native.devices):
            folder = Path(text)
            if path.is_relative_to(folder) and device in ("", f"MAG{number}"):
                return number, folder
        return -1, None

    def _remove(self, job: Job, path: Path) -> None:
        """`destroy` stood behind a forward that could not be done then; now it was."""
        if job.file:
            path.unlink(missing_ok=True)
        else:
            self._services.archive.delete("image", job.sop_instance)
