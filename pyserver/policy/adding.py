"""Converters for objects that come as files: `pyserver add` beside a running server, drop folders.

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
from pyserver.config.settings import Settings
from pyserver.policy.context import SOP_INSTANCE
from pyserver.policy.files import work_folder
from pyserver.policy.jobs import EXPORT, Job
from pyserver.policy.rules import Decision, ImportRules

_NUMBERS = itertools.count(1)


class Adding:
    """Adds files by the rules in force; a reload puts others there.

    `store` stores the object in a file (path, calling AE title), `queue` takes work.
    """

    def __init__(
        self, store: Callable[[str, str], dict[str, Any]], queue: Callable[[bytes], None]
    ) -> None:
        self._store = store
        self._queue = queue
        self.rules: ImportRules | None = None
        self.exports: list[int] = []

    def use(self, settings: Settings, rules: ImportRules | None) -> None:
        """Take other rules."""
        runs = settings.ini.value("ImportExportDragAndDrop") != "0"
        self.rules = rules if runs else None
        self.exports = list(settings.native.export_converters) if runs else []

    def add(self, path: str, calling_ae: str) -> dict[str, Any]:
        """Store the object in a file, unless a converter decides otherwise; as `add_file`."""
        rules = self.rules
        if rules is None:
            return self._stored(path, calling_ae, [])
        instance = _native.Instance.open(path)
        association = f"add {next(_NUMBERS)}"
        try:
            decision = rules.import_object(instance, calling_ae, "", association)
        finally:
            rules.association_ended(association)
        if decision is not None and decision[0] != "store":
            return _answer(decision, instance.get(SOP_INSTANCE) or "")
        jobs = decision[4] if decision is not None else []
        if not instance.changed:
            return self._stored(path, calling_ae, jobs)
        with tempfile.TemporaryDirectory(dir=work_folder(rules.home)) as folder:
            changed = Path(folder) / "changed.dcm"
            instance.save(changed)
            return self._stored(str(changed), calling_ae, jobs)

    def _stored(self, path: str, calling_ae: str, jobs: list[bytes]) -> dict[str, Any]:
        answer = self._store(path, calling_ae)
        if answer["status"] == 0:
            now, sop = int(time.time()), str(answer["sop_instance_uid"])
            exports = [Job(EXPORT, n, sop, calling_ae, "", now).encode() for n in self.exports]
            for job in [*jobs, *exports]:
                self._queue(job)
        return answer


def _answer(decision: Decision, sop_instance: str) -> dict[str, Any]:
    kind, status, why, _, _ = decision
    return {
        "status": status,
        "outcome": "refused" if kind == "refuse" else "not kept",
        "sop_instance_uid": sop_instance,
        "file": "",
        "reason": why or "a converter says so",
    }
