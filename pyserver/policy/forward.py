"""`forward to`: sends the object at hand on, over associations that stay open for more.

An association serves one unit of ForwardAssociationLevel (a series, say) and the SOP classes that
were sent before; it ends when another unit or class comes, when it is idle, or when the peer does
not take an object.
"""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pyserver import _native
from pyserver.config.peers import parse_address
from pyserver.config.settings import Settings
from pyserver.pixels.modes import find_mode
from pyserver.pixels.syntaxes import EXPLICIT_LE, IMPLICIT_LE, UNCOMPRESSED
from pyserver.policy.compression import recompress
from pyserver.policy.context import INFO, PATIENT_ID, SERIES, SOP_INSTANCE, STUDY, Context, Outcome
from pyserver.policy.jobs import BEGUN, FORWARD, Job
from pyserver.policy.modes import Sending, converter_of, sending
from pyserver.policy.parser import Line
from pyserver.policy.problems import CommandError, ParseError, Problem, Undelivered
from pyserver.policy.runtime import run_line
from pyserver.policy.template import Template, parse_template

PORT_DEFAULT = 5678
CHANNELS = 20
SOP_CLASS = "0008,0016"
LEVELS = {
    "GLOBAL": (),
    "SOPCLASS": (SOP_CLASS,),
    "PATIENT": (PATIENT_ID,),
    "STUDY": (PATIENT_ID, STUDY),
    "SERIES": (PATIENT_ID, STUDY, SERIES),
    "IMAGE": (SOP_INSTANCE,),
}
# Classes proposed at once; one context is for verification.
CLASSES_MAX = 120

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
    if code and find_mode(code.lower()) is None and converter_of(code.lower()) is None:
        raise ParseError(column, f"{code!r} is no compression mode", "docs/compression.md has them")
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
    copy = Context(
        context.services,
        context.instance,
        context.calling_ae,
        context.called_ae,
        label=f"{context.label}.{context.part} script",
        file=context.file,
        variables=dict(context.variables),
    )
    if arguments.script is not None:
        copy.instance = context.instance.copy()
        outcome = run_line(arguments.script, copy)
        if copy.failures:
            raise CommandError(f"not sent, its script failed: {copy.failures[0]}")
        if outcome in (Outcome.DESTROY, Outcome.REJECT):
            context.log(INFO, "forward: not sent, as its script says")
            return Outcome.NORMAL
    try:
        context.services.forwards.send(context, copy, arguments)
    except Undelivered as error:
        if not context.exporting and error.unreachable:
            # It is sent from the archive later: whatever else happens, the object is kept.
            context.jobs.append(_later(context, arguments, error.begun))
            context.postponed += 1
        raise
    return Outcome.NORMAL


def _later(context: Context, arguments: ForwardArguments, begun: bool) -> bytes:
    job = Job(
        FORWARD,
        BEGUN if begun else 0,
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
    # SOP classes sent so far, as long as the peer is remembered, and those of this association.
    known: list[str] = field(default_factory=list)
    proposed: frozenset[str] = frozenset()
    # Whether the peer takes uncompressed forms only, or chose one where it had a choice.
    plain: bool = False
    strict: bool = False
    used: float = 0.0
    users: set[str] = field(default_factory=set)

    def forget(self) -> None:
        """Begin anew with a peer that was not called for long: it may have learned."""
        self.known.clear()
        self.plain = self.strict = False


@dataclass(frozen=True)
class _Parcel:
    """An object, the form it goes in, and where to."""

    instance: _native.Instance
    how: Sending
    to: str


# What every receiver takes.
PLAIN = Sending((IMPLICIT_LE, EXPLICIT_LE), needs_codec=True)


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

    def send(self, context: Context, copy: Context, arguments: ForwardArguments) -> None:
        """Send the object of `copy`, which is that of `context` or a changed one. Raises
        Undelivered."""
        to = arguments.to.render(context)
        calling = _text(arguments.calling, context) or self.settings.ae_title
        called = _text(arguments.called, context) or to
        peer, code = self.peer(to, called)
        code = arguments.code or code
        instance = self._in_form(context, copy, code)
        how = sending(code, instance.transfer_syntax, bool(arguments.code))
        channel = self._channel(context, arguments)
        key = (context.label, channel, peer["host"], peer["port"], called, calling, code)
        entry = self._entry(key, peer, calling)
        with entry.lock:
            status, comment = self._send_on(context, entry, _Parcel(instance, how, to))
            entry.used = time.monotonic()
            entry.users.add(context.association)
        if status != 0 and (status & 0xF000) != 0xB000:
            text = f"{to} answered {status:04x} {comment}".rstrip()
            raise Undelivered(text, unreachable=False)
        context.log(INFO, f"forward to {to}: {context.text(SOP_INSTANCE)}")

    def _in_form(self, context: Context, copy: Context, code: str) -> _native.Instance:
        """The object that goes out, reduced, in NKI or run through a CompressionConverter if the
        mode says so. The one that is stored never changes."""
        stored = copy.instance.transfer_syntax
        name = sending(code, stored).changed_by or (code if converter_of(code) is not None else "")
        if name:
            if copy.instance is context.instance:
                copy.instance = context.instance.copy()
            recompress(copy, name, to_send=True)
        return copy.instance

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

    def _send_on(self, context: Context, entry: _Open, parcel: _Parcel) -> tuple[int, str]:
        """Send on the open association, or on a new one."""
        forward = self.settings.forward
        if time.monotonic() - entry.used > forward.refresh_delay_s:
            entry.forget()
        sop_class = parcel.instance.get(SOP_CLASS) or ""
        unit = tuple(parcel.instance.get(tag) or "" for tag in LEVELS[forward.level])
        if entry.plain:
            parcel = replace(parcel, how=PLAIN)
        begun = False
        is_open = entry.forwarder.is_open and entry.unit == unit and sop_class in entry.proposed
        try:
            if not is_open:
                self._connect(entry, sop_class, parcel, unit)
            begun = True
            try:
                return self._deliver(context, entry, parcel)
            except _native.PeerUnavailable as error:
                if not is_open:
                    raise
                # The peer may have ended an idle association; the object may be there already.
                self._repeated(context, parcel, f"the association broke: {error}")
                self._connect(entry, sop_class, parcel, unit)
                return self._deliver(context, entry, parcel)
            except _native.PeerError:
                if entry.plain or parcel.how == PLAIN:
                    raise
                # Not in this form: every receiver takes an uncompressed one.
                entry.plain = True
                parcel = replace(parcel, how=PLAIN)
                self._connect(entry, sop_class, parcel, unit)
                return self._deliver(context, entry, parcel)
        except _native.PeerUnavailable as error:
            raise Undelivered(str(error), unreachable=True, begun=begun) from error
        except _native.PeerError as error:
            entry.forwarder.close(forward.release)
            raise Undelivered(str(error), unreachable=False) from error

    def _deliver(self, context: Context, entry: _Open, parcel: _Parcel) -> tuple[int, str]:
        how = parcel.how
        codecs = context.services.codecs if how.needs_codec else None
        quality = how.quality or context.services.quality
        return entry.forwarder.send(parcel.instance, list(how.syntaxes), codecs, quality)

    def _connect(
        self, entry: _Open, sop_class: str, parcel: _Parcel, unit: tuple[str, ...]
    ) -> None:
        entry.forwarder.close(self.settings.forward.release)
        if self.settings.forward.level == "SOPCLASS":
            entry.known = [sop_class]
        elif sop_class not in entry.known:
            entry.known = [*entry.known[1 - CLASSES_MAX :], sop_class]
        entry.unit, entry.proposed = unit, frozenset(entry.known)
        wanted = [s for s in parcel.how.syntaxes if s not in UNCOMPRESSED]
        syntaxes = wanted if entry.strict and wanted else list(parcel.how.syntaxes)
        entry.forwarder.connect(entry.known, syntaxes)
        accepted = entry.forwarder.accepted(sop_class, syntaxes)
        if wanted and not entry.strict and accepted in UNCOMPRESSED:
            # Within one context an acceptor chooses as it likes: it is asked without a choice.
            entry.strict = True
            self._connect(entry, sop_class, parcel, unit)

    def _repeated(self, context: Context, parcel: _Parcel, why: str) -> None:
        if context.services.repeated is not None:
            sop_instance = parcel.instance.get(SOP_INSTANCE) or ""
            context.services.repeated(sop_instance, parcel.to, why)

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
