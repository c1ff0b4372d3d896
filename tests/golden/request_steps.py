"""Steps of case files that ask a server: queries, retrieves, server commands, listings."""

from __future__ import annotations

import csv
import io
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from pyserver.control import ControlClient
from tests.golden.scripting import EXTRA, Run
from tests.golden.verdict import Difference
from tests.support.dimse import Association, Message
from tests.support.worklist import WORKLIST_FIND

IMPLICIT = "1.2.840.10008.1.2"
STUDY_ROOT = {
    "find": "1.2.840.10008.5.1.4.1.2.2.1",
    "move": "1.2.840.10008.5.1.4.1.2.2.2",
    "get": "1.2.840.10008.5.1.4.1.2.2.3",
}
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
COUNTS = (0x1021, 0x1022, 0x1023)


class Asking:
    """The steps of one run that are no stores. `merges` remembers what was announced."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.merges: tuple[str, list[str]] = ("", [])

    def step(self, verb: str, arguments: list[Any], expected: Any) -> list[Difference]:
        """Does a step and compares its result."""
        observed = getattr(self, f"_{verb}")(*arguments)
        if verb in ("cmd", "cmd_each"):
            return []
        return [] if observed == expected else [Difference("steps.result", expected, observed)]

    def _ask(self, service: str, keys: dict[str, str], roles: list[str]) -> Association:
        model = STUDY_ROOT[service]
        contexts = [(model, [IMPLICIT]), *((role, [IMPLICIT]) for role in roles)]
        return Association(
            self.run.server.address, contexts, calling="TESTSCU", called="CONQUESTSRV1", roles=roles
        )

    def _find(self, keys: dict[str, str]) -> list[dict[str, Any]]:
        with self._ask("find", keys, []) as peer:
            status, answers, _ = peer.find(STUDY_ROOT["find"], encoded(keys))
        found = [{"status": f"0x{code:04x}", "data": plain(data)} for code, data in answers]
        return [*found, {"status": f"0x{status:04x}"}]

    def _findwl(self, keys: dict[str, str]) -> list[dict[str, Any]]:
        contexts = [(WORKLIST_FIND, [IMPLICIT])]
        address = self.run.server.address
        with Association(address, contexts, calling="TESTSCU", called="CONQUESTSRV1") as peer:
            status, answers, _ = peer.find(WORKLIST_FIND, encoded(keys))
        found = [{"status": f"0x{code:04x}", "data": listed(data)} for code, data in answers]
        return [*found, {"status": f"0x{status:04x}"}]

    def _move(self, destination: str, keys: dict[str, str]) -> list[dict[str, Any]]:
        pending: list[dict[str, Any]] = []

        def note(message: Message) -> None:
            completed, failed, warning = (message.number(tag) for tag in COUNTS)
            remaining = message.number(0x1020)
            pending.append(
                {
                    "status": "0xff00",
                    "remaining": remaining,
                    "completed": completed,
                    "failed": failed,
                    "warning": warning,
                }
            )

        with self._ask("move", keys, []) as peer:
            result = peer.move(STUDY_ROOT["move"], destination, encoded(keys), note)
        last = {
            "status": f"0x{result.status:04x}",
            "remaining": 0,
            "completed": result.completed,
            "failed": result.failed,
            "warning": result.warning,
        }
        return [*pending, last]

    def _get(self, keys: dict[str, str]) -> dict[str, Any]:
        statuses: list[str] = []
        with self._ask("get", keys, [CT, MR]) as peer:
            result = peer.get(
                STUDY_ROOT["get"], encoded(keys), lambda message: statuses.append("0xff00")
            )
        received = []
        for uid, (_, data) in result.objects.items():
            stored = ControlClient(self.run.server.home).call("locate", level="image", uid=uid)
            before, after = dcmread(stored[0]["path"], force=True), decoded(data)
            changed = {
                f"{int(element.tag):08X}": [str(before.get(element.tag).value), str(element.value)]
                for element in after
                if element.tag in before and before[element.tag].value != element.value
            }
            received.append(changed)
        # Fewer pending answers than objects are allowed; Conquest sends one for each.
        statuses = ["0xff00"] * max(len(statuses), len(received)) + [f"0x{result.status:04x}"]
        return {"statuses": statuses, "received": received}

    def _cmd(self, text: str) -> None:
        name, _, rest = text.removeprefix("--").partition(":")
        client = ControlClient(self.run.server.home)
        if name == "regen":
            client.call("regen", scope={})
        elif name in ("mergestudy", "mergeseries"):
            self.merges = (name.removeprefix("merge"), rest.split(","))
        elif name == "loadhl7":
            client.call("worklist_load", path=self.run.text(rest))
        elif name == "addrecord":
            _, columns, values = rest.split("|")
            texts = next(csv.reader([values], quotechar="'"))
            row = dict(zip(columns.split(","), texts, strict=True))
            client.call("worklist_add", values=row)
        elif name == "movedatatodevice":
            target, source = rest.split(",")
            client.call("move_device", source=source, target=target)
        # Files of a merge one by one: here the whole is merged at once, see _cmd_each.

    def _cmd_each(self, _text: str) -> None:
        level, uids = self.merges
        ControlClient(self.run.server.home).call("merge", level=level, uids=uids)

    def _ls(self, _pattern: str) -> list[str]:
        home = self.run.server.home
        found = {str(path.relative_to(home)) for path in (home / "data").glob("*")}
        # Conquest's own folders are there, this server's are not told.
        own = {name for name in found if name.startswith("data/.")} | {"data/incoming"}
        return sorted((found - own) | {"data/dbase", "data/printer_files"})

    def _db(self, query: str) -> list[list[str]]:
        column, table = query.removeprefix("select ").split(" from ")
        rows = ControlClient(self.run.server.home).call("dump", table=table)
        return [[row[column]] for row in rows]


def _private(files: list[str]) -> set[str]:
    return {name for name in files if name.startswith("data/.")}


def encoded(keys: dict[str, str]) -> bytes:
    """An identifier in implicit VR."""
    dataset = Dataset()
    for name, value in keys.items():
        setattr(dataset, name, value)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def decoded(data: bytes) -> Dataset:
    """A data set in implicit VR."""
    return dcmread(io.BytesIO(data), force=True)


def listed(data: bytes) -> dict[str, str]:
    """An answer with the lengths of its sequences."""
    return {
        f"{int(element.tag):08X}": f"SQ[{len(element.value)}]"
        if element.VR == "SQ"
        else str(element.value)
        for element in decoded(data)
    }


def plain(data: bytes) -> dict[str, str]:
    """An answer as case files write it."""
    answer = {f"{int(element.tag):08X}": str(element.value) for element in decoded(data)}
    return {tag: value for tag, value in answer.items() if tag not in EXTRA}
