"""Converters for objects that come as files: `pyserver add`, drop folders.

As for what arrives by C-STORE, import converters run before the object is stored and export
converters have it in their queues afterwards (`ImportExportDragAndDrop`, on unless it is 0). The
file itself is read, never changed.
"""

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyserver import _native
from pyserver.archive import LocalArchive
from pyserver.config.settings import Settings
from pyserver.policy.context import SOP_INSTANCE
from pyserver.policy.files import work_folder
from pyserver.policy.jobs import EXPORT, MIRROR, Job
from pyserver.policy.rules import Decision, Rules

_NUMBERS = itertools.count(1)


class Adding:
    """Adds files by the rules in force; a reload puts others there. `wake` tells that work was
    queued."""

    def __init__(self, access: LocalArchive, wake: Callable[[], None]) -> None:
        self._access = access
        self._wake = wake
        self.rules: Rules | None = None
        self._kinds: list[tuple[str, int]] = []

    def use(self, settings: Settings, rules: Rules | None) -> None:
        """Take other rules."""
        runs = settings.ini.value("ImportExportDragAndDrop") != "0"
        self.rules = rules if runs else None
        exports = settings.native.export_converters if runs else []
        self._kinds = [(EXPORT, number) for number in exports]
        if settings.native.has_mirrors:
            self._kinds.append((MIRROR, 0))

    def add(self, path: str, calling_ae: str) -> dict[str, Any]:
        """Store the object in a file, unless a converter decides otherwise; as `add_file`."""
        rules = self.rules
        if rules is None or not {"Import", "RejectedImage"} & set(rules.hooks):
            sop = _native.Instance.open(path).get(SOP_INSTANCE) if self._kinds else ""
            jobs = self._jobs(sop, calling_ae)
            return self._woken(self._access.store_file(path, calling_ae, jobs))
        instance = _native.Instance.open(path)
        association = f"add {next(_NUMBERS)}"
        try:
            decision = rules.import_object(instance, calling_ae, "", association)
            if decision is not None and decision[0] != "store":
                return _answer(decision, instance.get(SOP_INSTANCE) or "")
            answer = self._store(instance, path, calling_ae, decision)
            if answer["status"] and "RejectedImage" in rules.hooks:
                ruling, _ = rules.rule("RejectedImage", instance, calling_ae, "", association, "")
                if ruling == "retry":
                    answer = self._store(instance, path, calling_ae, decision)
        finally:
            rules.association_ended(association)
        return self._woken(answer)

    def _store(
        self, instance: _native.Instance, path: str, calling_ae: str, decision: Decision | None
    ) -> dict[str, Any]:
        *_, device, as_it_is, queued = decision or ("store", 0, "", None, False, [])
        sop = instance.get(SOP_INSTANCE)
        jobs = [*queued, *self._jobs(sop, calling_ae)]
        if device is not None or as_it_is:
            return self._access.store(instance, calling_ae, device, jobs)
        if not instance.changed:
            return self._access.store_file(path, calling_ae, jobs)
        with tempfile.TemporaryDirectory(dir=work_folder(self._access.settings.home)) as folder:
            changed = str(Path(folder) / "changed.dcm")
            instance.save(changed)
            return self._access.store_file(changed, calling_ae, jobs)

    def _jobs(self, sop: str | None, calling_ae: str) -> list[bytes]:
        """Work for the converters after the store, and for the mirror."""
        now = int(time.time())
        return [
            Job(kind, number, sop or "", calling_ae, "", now).encode()
            for kind, number in self._kinds
        ]

    def _woken(self, answer: dict[str, Any]) -> dict[str, Any]:
        if answer["status"] == 0:
            self._wake()
        return answer


def _answer(decision: Decision, sop_instance: str) -> dict[str, Any]:
    kind, status, why, *_ = decision
    return {
        "status": status,
        "outcome": "refused" if kind == "refuse" else "not kept",
        "sop_instance_uid": sop_instance,
        "file": "",
        "reason": why or "a converter says so",
    }
