"""Runs of cases that send objects on: the receiver that a case file calls its destination."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.presentation import AllStoragePresentationContexts

from pyserver.control import ControlClient
from tests.golden.scripting import (
    PIXEL_DATA,
    Case,
    Names,
    Run,
    changes,
    is_encoded,
    read,
    same_changes,
    same_pixels,
)
from tests.golden.verdict import Difference
from tests.support.server import Server, free_port
from tests.support.waiting import Patience, comes_true

PATIENCE_S = 20.0
QUIET_S = 0.2
HELD_S = 4.0  # longest delay of delayed work in the cases
UNCOMPRESSED = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"]


class Destination:
    """A receiver that records associations and objects as the case file writes them."""

    def __init__(self, case: Case) -> None:
        self.wish: dict[str, Any] = case.data.get("destination") or {}
        self.port = free_port()
        self.associations: list[dict[str, Any]] = []
        self.received: list[dict[str, Any]] = []
        self._server: Any = None
        self._numbers: dict[Any, int] = {}

    def start(self) -> None:
        ae = AE(ae_title=self.wish.get("ae", "DEST"))
        syntaxes = self.wish.get("ts") or UNCOMPRESSED
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, syntaxes)
        ae.add_supported_context("1.2.840.10008.1.1", syntaxes)
        self._server = ae.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[
                (evt.EVT_REQUESTED, self._requested),
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_RELEASED, lambda event: self._ended("released")),
                (evt.EVT_CONN_CLOSE, lambda event: None),
            ],
        )

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()

    def _requested(self, event: Any) -> None:
        primitive = event.assoc.requestor.primitive
        proposed = [
            [str(c.abstract_syntax), [str(t) for t in c.transfer_syntax]]
            for c in primitive.presentation_context_definition_list
        ]
        self._numbers[event.assoc] = len(self._numbers) + 1
        self.associations.append({"called": str(primitive.called_ae_title), "proposed": proposed})

    def _ended(self, how: str) -> None:
        self.associations.append({"event": how})

    def _store(self, event: Any) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        requestor = event.assoc.requestor.primitive
        self.received.append(
            {
                "association": self._numbers[event.assoc],
                "calling": str(requestor.calling_ae_title),
                "called": str(requestor.called_ae_title),
                "transfer_syntax": str(event.context.transfer_syntax),
                "dataset": dataset,
            }
        )
        return int(self.wish.get("status", 0))


class ExportRun(Run):
    """One case with its destination."""

    def __init__(self, case: Case, server: Server, destination: Destination) -> None:
        super().__init__(case, server)
        self.destination = destination
        self.nowhere = free_port()

    def text(self, text: str) -> str:
        return super().text(text.replace("$DPORT", str(self.destination.port)))

    def peers(self) -> list[str]:
        port = self.destination.port
        return [
            f"CONQUESTSRV1 127.0.0.1 {self.server.port} un",
            f"DEST 127.0.0.1 {port} un",
            f"DESTJ2 127.0.0.1 {port} j2",
            f"NOWHERE 127.0.0.1 {self.nowhere} un",
        ]

    def begin(self) -> None:
        """Puts the case in force; nothing of an earlier one may still wait."""
        if not self.server.alive():
            self.configure()
            self.server.start()
        running = ControlClient(self.server.home)
        running.call("queue_drop", numbers=[])
        refused = self.prepare()
        assert not refused, refused

    def steps(self) -> list[Difference]:
        found = []
        began = time.monotonic()
        first = self.case.data["steps"][0].get("seconds", 0.0)
        for step in self.case.data["steps"]:
            verb, *arguments = step["op"]
            expected = step.get("result")
            if verb == "store":
                # Some cases are about what comes within a delay, or after it.
                pause = began + step.get("seconds", 0.0) - first - time.monotonic()
                time.sleep(max(pause, 0.0))
                titles = arguments[1] if len(arguments) > 1 else {}
                statuses = self.store(arguments[0], titles)
                if statuses != expected:
                    found.append(Difference("steps.result", expected, statuses))
            elif verb == "restart":
                self.server.restart()
            elif verb == "dest_start":
                self.destination.start()
                self.settle()
            else:
                count = len(expected) if verb == "ls" else 1
                waits = self.wait_for(lambda count=count: bool(self.waiting()) == bool(count))
                if not waits:
                    found.append(Difference("steps.result", expected, self.waiting()))
        self.settle()
        return found

    def waiting(self) -> int:
        """Records that wait: what Conquest keeps in files."""
        lanes = ControlClient(self.server.home).call("queue")
        return sum(row["waiting"] for row in lanes if row["lane"] != "dead")

    def wait_for(self, holds: Any) -> bool:
        return comes_true(holds, PATIENCE_S)

    def settle(self) -> None:
        """Waits until what was recorded has come, or nothing happens any more."""
        last, since = None, time.monotonic()
        patience = Patience(PATIENCE_S)
        while patience.lasts():
            lanes = ControlClient(self.server.home).call("queue")
            state = (
                len(self.destination.received),
                len(self.destination.associations),
                sum(row["waiting"] for row in lanes),
                sorted(str(p) for p in (self.server.home / "out").rglob("*")),
            )
            if state != last:
                last, since = state, time.monotonic()
            elif time.monotonic() - since > (HELD_S if self.waiting() else QUIET_S):
                return
            time.sleep(0.05)

    def same_pixels(self, source: Path, have: dict[str, Any]) -> bool:
        """Whether what arrived has the pixels of its original."""
        path = self.server.home / "arrived.dcm"
        have["dataset"].save_as(path, enforce_file_format=True)
        entry = {"files": (source, path), "transfer_syntax": have["transfer_syntax"]}
        return same_pixels(entry)

    def compare_destination(self) -> list[Difference]:
        recorded = self.case.data["result"].get("destination") or {}
        expected = recorded.get("received", [])
        found = []
        names = Names()
        if len(expected) != len(self.destination.received):
            have = [str(x["dataset"].SOPInstanceUID) for x in self.destination.received]
            return [Difference("result.destination", [x["sop"] for x in expected], have)]
        for want, have in zip(expected, self.destination.received, strict=True):
            for field in ("association", "calling", "called", "transfer_syntax"):
                expected_text = self.text(re.sub(r":58\d\d", ":$DPORT", str(want[field])))
                if expected_text != str(have[field]):
                    found.append(Difference("result.destination", expected_text, have[field]))
            source = self.case.inputs / want["compared_with"].split(" ")[0]
            changed = changes(read(source), have["dataset"])
            differ = same_changes(want["changed"], changed, names)
            if is_encoded(want["transfer_syntax"]) and self.same_pixels(source, have):
                differ = [entry for entry in differ if entry[0] != PIXEL_DATA]
            found += [Difference("result.destination", w, h, t) for t, w, h in differ]
        proposals = [
            [context[1] for context in entry["proposed"]]
            for entry in recorded.get("associations", [])
            if "proposed" in entry
        ]
        observed = [
            [context[1] for context in entry["proposed"]]
            for entry in self.destination.associations
            if "proposed" in entry
        ]
        if proposals != observed:
            found.append(Difference("result.destination.proposed", proposals, observed))
        return found
