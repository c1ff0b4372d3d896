"""`forward to`: sends the object at hand on, over associations that stay open for more.

An association serves one SOP class and one unit of ForwardAssociationLevel (a series, say); it
ends when another one comes, when it is idle, or when the peer does not take an object.
"""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pyserver import _native
from pyserver.config.peers import parse_address
from pyserver.config.settings import Settings
from pyserver.policy.context import INFO, PATIENT_ID, SERIES, SOP_INSTANCE, STUDY, Context, Outcome
from pyserver.policy.jobs import FORWARD, Job
from pyserver.policy.parser import Line
from pyserver.policy.problems import CommandError, ParseError, Problem, Undelivered
from pyserver.policy.runtime import run_line
from pyserver.policy.template import Template, parse_template

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
UNCOMPRESSED = (IMPLICIT, EXPLICIT, "1.2.840.10008.1.2.2")
PORT_DEFAULT = 5678
CHANNELS = 20
SOP_CLASS = "0008,0016"
LEVELS = {
    "GLOBAL": (),
    "SOPCLASS": (),
    "PATIENT": (PATIENT_ID,),
    "STUDY": (PATIENT_ID, STUDY),
    "SERIES": (PATIENT_ID, STUDY, SERIES),
    "IMAGE": (SOP_INSTANCE,),
}
KNOWN_CODES = frozenset(("un", "ul", "as", "is"))

_FORM = re.compile(
    r"(?: compressed as (?P<code>\S+))? to (?P<to>\S+)(?: compressed as (?P<code2>\S+))?"
    r"(?: org (?P<org>\S+))?(?: dest (?P<dest>\S+))?(?: channel (?P<channel>\S+))?"
    r"(?: script (?P<script>.*))?\s*",
    re.DOTALL | re.IGNORECASE,
)


@dataclass(frozen=True)
class ForwardArguments:
    """Where to, under which titles, in which form, and what to do to the copy that is sent."""

    to: Template
    code: str = ""
    calling: Template | None = None
    called: Template | None = None
    channel: str = ""
    script: Line | None = None
    source: str = ""


def forward_arguments(
    text: str,
    column: int,
    problems: list[Problem],
    parse_script: Callable[[str], Line] | None = None,
) -> ForwardArguments:
    """`[compressed as CC] to AE [org AE] [dest AE] [channel N|*] [script commands]`."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ParseError(
            column, "expected: to AE [org AE] [dest AE] [channel N|*] [script ...], in this order"
        )

    def part(name: str) -> Template | None:
        value = found[name]
        return None if not value else parse_template(value, column + found.start(name), problems)

    code = found["code"] or found["code2"] or ""
    if code and code.lower() not in KNOWN_CODES:
        problems.append(
            Problem(column, f"compression {code} is not available yet", "sent as it is stored")
        )
    channel = found["channel"] or ""
    if channel not in ("", "*") and not (channel.isdigit() and int(channel) < CHANNELS):
        raise ParseError(column + found.start("channel"), "a channel is 0 to 19 or *")
    script = None
    if found["script"] is not None:
        script = _script(found["script"], column + found.start("script"), problems, parse_script)
    to = part("to")
    assert to is not None
    return ForwardArguments(to, code.lower(), part("org"), part("dest"), channel, script, text)


def _script(
    text: str,
    column: int,
    problems: list[Problem],
    parse_script: Callable[[str], Line] | None,
) -> Line:
    body = text.strip()
    if len(body) > 1 and body[0] == body[-1] == '"':
        body = body[1:-1].replace('""', '"')
    if parse_script is None:
        raise ParseError(column, "a script cannot stand here")
    line = parse_script(body)
    problems.extend(Problem(column, f"in the script, {problem}") for problem in line.problems)
    return line


def run_forward(context: Context, arguments: ForwardArguments) -> Outcome:
    """`forward to`: send the object, or a copy that the script has changed."""
    instance = context.instance
    if arguments.script is not None:
        instance = instance.copy()
        copy = Context(
            context.services,
            instance,
            context.calling_ae,
            context.called_ae,
            label=f"{context.label}.{context.part} script",
            file=context.file,
            variables=dict(context.variables),
        )
        outcome = run_line(arguments.script, copy)
        if copy.failures:
            raise CommandError(f"not sent, its script failed: {copy.failures[0]}")
        if outcome in (Outcome.DESTROY, Outcome.REJECT):
            context.log(INFO, "forward: not sent, as its script says")
            return Outcome.NORMAL
    try:
        context.services.forwards.send(context, instance, arguments)
    except Undelivered as error:
        if not context.exporting and error.unreachable:
            # It is sent from the archive later: whatever else happens, the object is kept.
            context.jobs.append(_later(context, arguments))
        raise
    return Outcome.NORMAL


def _later(context: Context, arguments: ForwardArguments) -> bytes:
    job = Job(
        FORWARD,
        0,
        context.text(SOP_INSTANCE),
        context.calling_ae,
        context.called_ae,
        int(time.time()),
        f"forward{arguments.source}",
    )
    return job.encode()


@dataclass
class _Open:
    """One association and what it is for."""

    forwarder: _native.Forwarder
    lock: threading.Lock = field(default_factory=threading.Lock)
    unit: tuple[str, ...] = ()
    used: float = 0.0
    users: set[str] = field(default_factory=set)


class Forwards:
    """The associations that rules keep open. For several threads at once."""

    def __init__(self, settings: Settings, log: Callable[[int, str], None]) -> None:
        self.settings = settings
        self._log = log
        self._open: dict[tuple[Any, ...], _Open] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._closer = threading.Thread(target=self._close_idle, name="forward", daemon=True)

    def start(self) -> None:
        """Begin to end idle associations."""
        self._closer.start()

    def stop(self) -> None:
        """End all associations."""
        self._ended.set()
        if self._closer.is_alive():
            self._closer.join()
        with self._lock:
            entries = list(self._open.values())
            self._open.clear()
        for entry in entries:
            with entry.lock:
                entry.forwarder.close(self.settings.forward.release)

    def send(
        self, context: Context, instance: _native.Instance, arguments: ForwardArguments
    ) -> None:
        """Send one object. Raises Undelivered."""
        to = arguments.to.render(context)
        calling = _text(arguments.calling, context) or self.settings.ae_title
        called = _text(arguments.called, context) or to
        peer, code = self.peer(to, called)
        code = arguments.code or code
        stored = instance.transfer_syntax
        syntaxes = syntaxes_for(code, stored)
        channel = self._channel(context, arguments)
        key = (context.label, channel, peer["host"], peer["port"], called, calling, code)
        entry = self._entry(key, peer, calling)
        with entry.lock:
            status, comment = self._send_on(entry, instance, syntaxes)
            entry.used = time.monotonic()
            entry.users.add(context.association)
        if status != 0 and (status & 0xF000) != 0xB000:
            text = f"{to} answered {status:04x} {comment}".rstrip()
            raise Undelivered(text, unreachable=False)
        context.log(INFO, f"forward to {to}: {context.text(SOP_INSTANCE)}")

    def peer(self, to: str, called: str) -> tuple[dict[str, Any], str]:
        """Address and compression of an AE title, or of `host:port`."""
        peer_map = self.settings.peer_map
        if (address := peer_map.resolve(to)) is not None:
            code = peer_map.compression(to)
            return {**address.as_native(), "ae": called}, code
        host, port = parse_address(to) or (to, PORT_DEFAULT)
        return {"ae": called[:16], "host": host, "port": port}, "un"

    def _channel(self, context: Context, arguments: ForwardArguments) -> str:
        if arguments.channel == "*":
            return f"*{threading.get_ident() % CHANNELS}"
        return arguments.channel or f"part {context.part}"

    def _entry(self, key: tuple[Any, ...], peer: dict[str, Any], calling: str) -> _Open:
        with self._lock:
            entry = self._open.get(key)
            if entry is None:
                native = self.settings.native
                forwarder = _native.Forwarder(
                    peer, calling, float(native.connect_timeout_s), float(native.dimse_timeout_s)
                )
                entry = self._open[key] = _Open(forwarder)
            return entry

    def _send_on(
        self, entry: _Open, instance: _native.Instance, syntaxes: list[str]
    ) -> tuple[int, str]:
        sop_class = instance.get(SOP_CLASS) or ""
        level = LEVELS[self.settings.forward.level]
        unit = (sop_class, *(instance.get(tag) or "" for tag in level))
        reused = entry.forwarder.is_open and entry.unit == unit
        try:
            if not reused:
                self._connect(entry, sop_class, syntaxes, unit)
            try:
                return entry.forwarder.send(instance, syntaxes)
            except _native.PeerUnavailable as error:
                if not reused:
                    raise
                # The peer may have ended an idle association; the object may be there already.
                self._log(INFO, f"forward: sent again on a new association ({error})")
                self._connect(entry, sop_class, syntaxes, unit)
                return entry.forwarder.send(instance, syntaxes)
        except _native.PeerUnavailable as error:
            raise Undelivered(str(error), unreachable=True) from error
        except _native.PeerError as error:
            entry.forwarder.close(self.settings.forward.release)
            raise Undelivered(str(error), unreachable=False) from error

    def _connect(
        self, entry: _Open, sop_class: str, syntaxes: list[str], unit: tuple[str, ...]
    ) -> None:
        entry.forwarder.close(self.settings.forward.release)
        entry.forwarder.connect(sop_class, syntaxes)
        entry.unit = unit

    def association_ended(self, association: str) -> None:
        """End what only this incoming association used."""
        with self._lock:
            entries = [entry for entry in self._open.values() if association in entry.users]
        for entry in entries:
            with entry.lock:
                entry.users.discard(association)
                if not entry.users:
                    entry.forwarder.close(self.settings.forward.release)

    def _close_idle(self) -> None:
        while not self._ended.wait(0.5):
            delay = self.settings.forward.close_delay_s
            with self._lock:
                entries = list(self._open.values())
            for entry in entries:
                if time.monotonic() - entry.used < delay or not entry.forwarder.is_open:
                    continue
                if entry.lock.acquire(blocking=False):
                    try:
                        entry.forwarder.close(self.settings.forward.release)
                    finally:
                        entry.lock.release()


def _text(template: Template | None, context: Context) -> str:
    return "" if template is None else template.render(context)


def syntaxes_for(code: str, stored: str) -> list[str]:
    """Transfer syntaxes to propose for an object, first wish first. What is stored compressed goes
    out as it is; `un` and `ul` ask for one uncompressed form."""
    if stored not in UNCOMPRESSED:
        return [stored]
    if code in ("", "un"):
        return [IMPLICIT]
    if code == "ul":
        return [EXPLICIT, IMPLICIT]
    return list(dict.fromkeys((stored, EXPLICIT, IMPLICIT)))
