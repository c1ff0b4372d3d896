"""Virtual servers: other systems whose data this one shows as its own (manual, `VirtualServerFor`).

A query goes to each of them as well, and what they answer beside our own answers is ours; before a
retrieve, what only they have is moved here. One that does not answer is left out. Systems that show
each other must not ask for ever: none is asked what it asks itself, and requests count how often
they were passed on, in bits of Conquest's own key that it does not use.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pyserver import _native
from pyserver.config.settings import Settings
from pyserver.config.virtual_servers import VirtualServer, virtual_servers
from pyserver.policy.context import WARNING, Context, Services

MASK = "9999,0802"
# Bits of the mask: a server each, then how often a request was passed on; the last one by which
# Conquest tells another to answer for itself only.
ALL, HOPS_AT, HOPS_MAX, ALONE = 0x03FF, 10, 4, 0x8000
CHARSET, LEVEL = "0008,0005", "0008,0052"
UNIQUE = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}
UIDS_MAX = 64  # as Conquest: in one C-MOVE

# Calling and called AE title of a request.
Asker = tuple[str, str]
# Runs the converters of a hook; whether the object goes on.
Judge = Callable[[str, Context], bool]


class VirtualServers:
    """The virtual servers of a configuration. `asker`: calling and called AE title of a request."""

    def __init__(self, settings: Settings, services: Services, judge: Judge) -> None:
        self._settings, self._services = settings, services
        self._judge = judge
        self.servers = virtual_servers(settings.ini)

    def answers(
        self, identifier: _native.Instance, model: str, asker: Asker
    ) -> list[_native.Instance]:
        """What they answer, in the form of the identifier."""
        found = []
        for server in self._chosen(identifier, asker):
            found += self._answers_of(server, identifier, model, asker)
        return found

    def bring(self, identifier: _native.Instance, asker: Asker) -> None:
        """Move here what the identifier names and only they have."""
        level = identifier.get(LEVEL) or ""
        keys = {key: identifier.get(key) or "" for key in UNIQUE.values()}
        keys = {key: value for key, value in keys.items() if value}
        if level not in UNIQUE or not keys:
            return
        for server in self._chosen(identifier, asker):
            with self._told(server):
                self._bring_from(server, keys, _passed_on(identifier, server))

    def _chosen(self, identifier: _native.Instance, asker: Asker) -> Iterator[VirtualServer]:
        mask = _mask(identifier)
        if mask & ALONE or (mask >> HOPS_AT & 0x1F) >= HOPS_MAX:
            return
        chosen = mask & ALL or ALL
        for server in self.servers:
            if chosen >> server.number & 1 and server.ae != asker[0].strip():
                yield server

    def _answers_of(
        self,
        server: VirtualServer,
        identifier: _native.Instance,
        model: str,
        asker: Asker,
    ) -> list[_native.Instance]:
        asked = identifier.copy()
        if not self._runs("VirtualServerQuery", asked, asker, server):
            return []
        wanted = _dataset(asked)
        level = str(wanted.get("QueryRetrieveLevel", ""))
        keys = {str(e.tag).strip("()").replace(" ", ""): _text(e) for e in wanted if _is_asked(e)}
        if server.fix_kodak and len(keys.get("0010,0020", "")) == 7:
            keys["0010,0020"] = "0" + keys["0010,0020"]
        keys[MASK] = _passed_on(identifier, server)
        answers = []
        with self._told(server):
            own, peer = self._settings.ae_title, self._peer(server)
            patience = float(self._settings.native.dimse_timeout_s)
            for answer in _native.find(peer, own, model, level, keys, 0, patience):
                instance = self._instance(identifier, wanted, answer, server)
                if self._runs("VirtualServerQueryResult", instance, asker, server):
                    answers.append(instance)
        return answers

    def _instance(
        self,
        identifier: _native.Instance,
        wanted: Any,
        answer: dict[str, Any],
        server: VirtualServer,
    ) -> _native.Instance:
        """An answer as if it were ours: what was asked for, and no more."""
        made = identifier.copy()
        made.delete(MASK)
        by_tag = {_native.find_tag(name): value for name, value in answer.items()}
        texts = {
            tag: value if isinstance(value, str) else "\\".join(value)
            for tag, value in by_tag.items()
            if tag is not None
        }
        plain = all(text.isascii() for text in texts.values())
        made.delete(CHARSET) if plain else made.set(CHARSET, "ISO_IR 192")
        for element in wanted:
            tag = str(element.tag).strip("()").replace(" ", "").upper()
            if not _is_asked(element):
                continue
            text = texts.get(tag, "")
            if tag == "0010,0020" and server.fix_kodak and len(text) == 8:
                text = text.removeprefix("0")
            if element.VR == "SQ":
                made.delete(tag)
            else:
                made.set(tag, text)
        return made

    def _bring_from(self, server: VirtualServer, keys: dict[str, str], mask: str) -> None:
        own, peer = self._settings.ae_title, self._peer(server)
        for study in self._studies(peer, own, keys, mask):
            known = keys.get(UNIQUE["SERIES"], "")
            asked = {"StudyInstanceUID": study, "SeriesInstanceUID": known, MASK: mask}
            for series in _native.find(peer, own, "study", "SERIES", asked):
                one = {
                    "StudyInstanceUID": study,
                    "SeriesInstanceUID": series["SeriesInstanceUID"],
                    MASK: mask,
                }
                images = {**one, "SOPInstanceUID": keys.get(UNIQUE["IMAGE"], "")}
                found = _native.find(peer, own, "study", "IMAGE", images)
                uids = [str(image["SOPInstanceUID"]) for image in found]
                missing = [uid for uid in uids if not self._is_here(uid)]
                self._move(server, one, missing, len(missing) == len(uids))

    def _studies(
        self, peer: dict[str, Any], own: str, keys: dict[str, str], mask: str
    ) -> list[str]:
        if keys.get("StudyInstanceUID"):
            return keys["StudyInstanceUID"].split("\\")
        asked = {"PatientID": keys.get("PatientID", ""), "StudyInstanceUID": "", MASK: mask}
        if not asked["PatientID"]:
            return []
        found = _native.find(peer, own, "study", "STUDY", asked)
        return [str(study["StudyInstanceUID"]) for study in found]

    def _move(
        self, server: VirtualServer, series: dict[str, str], missing: list[str], whole: bool
    ) -> None:
        """Have images of a series sent here; all of it at once where that is what is missing."""
        own, peer = self._settings.ae_title, self._peer(server)
        if whole or (server.per_series and len(missing) > server.per_series):
            if missing:
                _native.move(peer, own, "study", "SERIES", series, own)
            return
        for start in range(0, len(missing), UIDS_MAX):
            part = missing[start : start + UIDS_MAX]
            _native.move(peer, own, "study", "IMAGE", {**series, "SOPInstanceUID": part}, own)

    def _is_here(self, uid: str) -> bool:
        located = self._services.archive.locate("image", uid)
        return any(found["path"] is not None for found in located)

    def _peer(self, server: VirtualServer) -> dict[str, Any]:
        address = self._settings.peer_map.resolve(server.ae)
        if address is None:
            raise _native.PeerUnavailable(f"{server.ae} is not in acrnema.map")
        return dict(address.as_native())

    def _runs(
        self, hook: str, instance: _native.Instance, asker: Asker, server: VirtualServer
    ) -> bool:
        context = Context(self._services, instance, *asker, station=server.ae)
        return self._judge(hook, context)

    @contextmanager
    def _told(self, server: VirtualServer) -> Iterator[None]:
        """A server that does not answer is told about, and left out."""
        try:
            yield
        except (_native.NativeError, KeyError, ValueError) as error:
            self._services.log(WARNING, f"virtual server {server.number}: {error}")


def _mask(identifier: _native.Instance) -> int:
    text = identifier.get(MASK) or "0"
    return int(text) if text.isdigit() else 0


def _passed_on(identifier: _native.Instance, server: VirtualServer) -> str:
    """The mask that goes with a request to a server."""
    if server.alone:
        return str(ALONE)
    hops = (_mask(identifier) >> HOPS_AT & 0x1F) + 1
    return str(ALL | hops << HOPS_AT)


def _dataset(instance: _native.Instance) -> Any:
    from pydicom import dcmread  # noqa: PLC0415  (only where there are virtual servers)

    return dcmread(io.BytesIO(instance.to_bytes()), force=True)


def _is_asked(element: Any) -> bool:
    """Whether an element is a key, and not about the query."""
    return not element.tag.is_private and element.keyword not in (
        "QueryRetrieveLevel",
        "SpecificCharacterSet",
    )


def _text(element: Any) -> str:
    if element.VR == "SQ" or element.value is None:
        return ""
    several = not isinstance(element.value, str) and element.VM > 1
    return "\\".join(str(v) for v in element.value) if several else str(element.value)
