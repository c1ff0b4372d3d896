"""Does delayed work (`delayed`): finds the objects, then forwards, fetches, deletes, ..."""

import datetime
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyserver import _native
from pyserver.config.settings import Settings
from pyserver.pixels.modes import Action, find_mode
from pyserver.pixels.syntaxes import IMPLICIT_LE
from pyserver.policy.context import INFO, Context, Services
from pyserver.policy.copies import changed_copies
from pyserver.policy.delayed import INDEXED, NO_INDEX, RANGE, SPLIT
from pyserver.policy.files import work_folder
from pyserver.policy.jobs import Job
from pyserver.policy.merging import merge_series_of
from pyserver.policy.modes import converter_of, sending
from pyserver.policy.parser import Line
from pyserver.policy.problems import CommandError, Undelivered
from pyserver.policy.submitting import submit
from pyserver.policy.template import parse_template

# Clauses that choose among all objects of the patient, whatever level was named.
_SELECTING = frozenset(("date", "now", "age", "modality", "sop", "series", "study"))
_KEYS = {
    "date": "SeriesDate",
    "modality": "Modality",
    "imagetype": "ImageType",
    "seriesdesc": "SeriesDescription",
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "sop": "SOPInstanceUID",
}
# Level of a C-MOVE by the key that it has, the lowest first.
_UNIQUE = {
    "IMAGE": "SOPInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "STUDY": "StudyInstanceUID",
}
_SERIES_KEYS = ("SeriesInstanceUID", "Modality", "SeriesDate", "SeriesDescription")
_IMAGE_KEYS = ("SOPInstanceUID", "ImageType")


def selection(work: dict[str, Any], today: datetime.date) -> dict[str, str]:
    """Query keys for the objects that the work is about."""
    clauses = work["clauses"]
    keys = {"PatientID": work["patient"]}
    if not _SELECTING & clauses.keys():
        narrowed = {"imagetype", "seriesdesc"} & clauses.keys()
        levels = (("study", "StudyInstanceUID"), ("series", "SeriesInstanceUID"))
        for name, key in levels[:1] if narrowed else levels:
            if work.get(name):
                keys[key] = work[name]
        if work.get("image") and not narrowed:
            keys["SOPInstanceUID"] = work["image"]
    for name, key in _KEYS.items():
        if clauses.get(name):
            keys[key] = clauses[name]
    for name in ("now", "age"):
        if clauses.get(name):
            keys["SeriesDate"] = _dates(clauses[name], work, name, today)
    return keys


def _dates(text: str, work: dict[str, Any], name: str, today: datetime.date) -> str:
    """`-30+1` around today or around the date of the series."""
    found = RANGE.fullmatch(text)
    centre = today
    try:
        if name == "age":
            centre = datetime.datetime.strptime(work.get("date_of", ""), "%Y%m%d").date()
        if found is None:
            raise ValueError("not -days+days")
        ends = [centre + datetime.timedelta(days=int(found[n])) for n in (1, 2)]
    except (ValueError, OverflowError) as error:
        raise CommandError(f"{name} {text}: {error}") from error
    return f"{ends[0]:%Y%m%d}-{ends[1]:%Y%m%d}"


def objects(services: Services, work: dict[str, Any]) -> list[dict[str, Any]]:
    """Files of the objects that the work is about, in the order of the index."""
    keys = selection(work, datetime.date.today())
    keys.setdefault("SOPInstanceUID", "")
    found = services.archive.find("patient", "IMAGE", keys)
    if split := SPLIT.fullmatch(work["clauses"].get("split", "")):
        found = found[int(split[1]) :: max(int(split[2]), 1)]
    files = []
    for row in found:
        files += services.archive.locate("image", str(row["SOPInstanceUID"]))
    return files


def perform(
    services: Services, settings: Settings, job: Job, parse_script: Callable[[str], Line]
) -> None:
    """Do the work of a record. Raises Undelivered when a peer is in the way, else CommandError."""
    work: dict[str, Any] = json.loads(job.text)
    operation = work["operation"]
    if operation in INDEXED and not settings.native.keeps_index:
        raise CommandError(f"{operation} {work['level']}: {NO_INDEX}")
    _fill_late(services, job, work)
    services.log(INFO, f"{operation} {work['level']} of patient {work['patient']} begins")
    if operation == "process":
        code = services.processes.run(work["words"], services.home, None, False)
        if code != 0:
            raise CommandError(f"{work['words'][0]}: exit code {code}")
    elif operation == "get":
        _get(services, settings, work)
    else:
        files = objects(services, work)
        script = parse_script(work["script"]) if "script" in work else None
        if operation == "prefetch":
            _read_ahead(files)
        elif operation == "delete":
            uids = [file["sop_instance_uid"] for file in files]
            services.archive.delete("image", uids)
        elif operation == "merge":
            merge_series_of(services, files, script)
        elif operation in ("submit", "submit2"):
            submit(services, work, files, script)
        else:
            _forward(services, settings, work, files, script)


def _fill_late(services: Services, job: Job, work: dict[str, Any]) -> None:
    """Values that were in objects which had not come when the work was queued."""
    late: dict[str, str] = work.pop("late", {})
    if late:
        located = services.archive.locate("image", job.sop_instance)
        if not located:
            raise CommandError(f"{job.sop_instance}, which says what is meant, is gone")
        instance = _native.Instance.open(located[0]["path"])
        context = Context(services, instance, job.calling_ae, job.called_ae)
        for name, text in late.items():
            work["clauses"][name] = parse_template(text, 1, []).render(context)
    for name in ("study", "series", "sop"):
        # Without a value it would stand for everything of the patient.
        if name in work["clauses"] and not work["clauses"][name]:
            raise CommandError(f"there is no value for {name}")


def _forward(
    services: Services,
    settings: Settings,
    work: dict[str, Any],
    files: list[dict[str, Any]],
    script: Line | None,
) -> None:
    """C-STORE of all files over one association."""
    target = work["clauses"]["to"]
    peer, code = services.forwards.peer(target, target)
    code = work["clauses"].get("compressed") or code
    how = sending(code, IMPLICIT_LE, True)
    form = how.reduced_by or (code if converter_of(code) is not None else "")
    paths = [str(file["path"]) for file in files]
    if not paths:
        return
    with tempfile.TemporaryDirectory(dir=work_folder(services.home)) as folder:
        if script is not None or form:
            paths = changed_copies(services, script, paths, Path(folder), form)
        mode = find_mode(code)
        encodes = mode is not None and mode.action is Action.ENCODE
        syntaxes = list(how.syntaxes) if encodes else []
        _send(services, settings, {**peer, "syntaxes": syntaxes}, target, paths, how.quality)


def _send(
    services: Services,
    settings: Settings,
    peer: Mapping[str, Any],
    target: str,
    paths: list[str],
    quality: int,
) -> None:
    try:
        report = _native.send(
            peer,
            settings.ae_title,
            paths,
            codecs=services.codecs,
            quality=quality or services.quality,
        )
    except _native.PeerUnavailable as error:
        raise Undelivered(f"{target}: {error}", unreachable=True) from error
    except _native.PeerError as error:
        raise Undelivered(f"{target}: {error}", unreachable=False) from error
    if report["failed"]:
        first = report["failures"][0]["reason"]
        text = f"{target}: {report['failed']} of {len(paths)} objects were not taken: {first}"
        # Of a peer that was lost on the way more may be had later; of one that refuses nothing.
        raise Undelivered(text, unreachable=report["lost"], begun=report["sent"] > 0)
    services.log(INFO, f"{report['sent']} objects sent to {target}")


def _read_ahead(files: list[dict[str, Any]]) -> None:
    """Ask the kernel for the files, so that they are in memory when someone wants them."""
    for file in files:
        handle = os.open(file["path"], os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(handle)


def _get(services: Services, settings: Settings, work: dict[str, Any]) -> None:
    """C-MOVE from the peer to this server."""
    source = work["clauses"]["from"]
    address = settings.peer_map.resolve(source)
    if address is None:
        raise CommandError(f"{source} is not in acrnema.map")
    peer, own = address.as_native(), settings.ae_title
    try:
        for level, keys in _wanted(peer, own, selection(work, datetime.date.today())):
            model = "patient" if level == "PATIENT" else "study"
            answer = _native.move(peer, own, model, level, keys, own)
            if answer["status"] != 0:
                text = f"{source} answered {answer['status']:04x} {answer['comment']}".rstrip()
                raise Undelivered(text, unreachable=False)
    except _native.PeerUnavailable as error:
        raise Undelivered(f"{source}: {error}", unreachable=True) from error
    except _native.PeerError as error:
        raise Undelivered(f"{source}: {error}", unreachable=False) from error


def _wanted(
    peer: Mapping[str, str | int], own: str, keys: dict[str, str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Level and keys of the retrieves that bring what is wanted. A C-MOVE knows unique keys only:
    the peer is asked first what other keys stand for."""
    if not keys.keys() - _UNIQUE.values() - {"PatientID"}:
        yield next((level for level, key in _UNIQUE.items() if keys.get(key)), "PATIENT"), keys
        return
    of_study = {"PatientID": keys["PatientID"], "StudyInstanceUID": keys.get(_UNIQUE["STUDY"], "")}
    of_series = {name: keys[name] for name in _SERIES_KEYS if name in keys}
    of_image = {name: keys[name] for name in _IMAGE_KEYS if name in keys}
    for study in _native.find(peer, own, "study", "STUDY", of_study):
        found = {"PatientID": keys["PatientID"], "StudyInstanceUID": _uid(study, "Study")}
        asked = {**found, "SeriesInstanceUID": "", **of_series}
        for series in _native.find(peer, own, "study", "SERIES", asked):
            one = {**found, "SeriesInstanceUID": _uid(series, "Series")}
            if not of_image:
                yield "SERIES", one
                continue
            asked_image = {**one, "SOPInstanceUID": "", **of_image}
            for image in _native.find(peer, own, "study", "IMAGE", asked_image):
                yield "IMAGE", {**one, "SOPInstanceUID": _uid(image, "SOP")}


def _uid(answer: Mapping[str, Any], what: str) -> str:
    return str(answer.get(f"{what}InstanceUID", ""))
