"""Moves objects from one storage folder to another, through MoveDeviceConverter0 and
ArchiveCompression."""

from pathlib import Path

from pyserver import _native
from pyserver.pixels.modes import Action, find_mode
from pyserver.policy.compression import recompress
from pyserver.policy.context import INFO, SOP_INSTANCE, WARNING, Context, Services
from pyserver.policy.problems import CommandError
from pyserver.policy.runtime import run_line


def move_device(services: Services, source: str, target: str) -> dict[str, int]:
    """Move all objects of a device: how many were, and were not. Each is stored anew on the other
    device, so it is at one place or the other at any time."""
    numbers = [_number(services, name) for name in (source, target)]
    if numbers[0] == numbers[1]:
        raise CommandError("the two devices are the same")
    report = {"moved": 0, "failed": 0}
    rows = services.archive.dump_table("DICOMImages")
    for uid in [str(row["SOPInstanc"]) for row in rows if row["DeviceName"] == source.upper()]:
        try:
            _move_one(services, uid, numbers[1])
            report["moved"] += 1
        except (CommandError, _native.NativeError, ValueError) as error:
            report["failed"] += 1
            services.log(WARNING, f"not moved: {uid}: {error}")
    services.log(INFO, f"moved {report['moved']} objects from {source} to {target}")
    return report


def _number(services: Services, name: str) -> int:
    text = name.upper().removeprefix("MAG")
    if not text.isdigit() or int(text) >= services.devices:
        raise CommandError(f"there is no device {name}")
    return int(text)


def _move_one(services: Services, uid: str, device: int) -> None:
    located = services.archive.locate("image", uid)
    if not located:
        return
    path = Path(located[0]["path"])
    instance = _native.Instance.open(path)
    context = Context(services, instance, "", "", label="MoveDeviceconverter0", file=path)
    line = services.lines.get("MoveDevice0")
    if line is not None:
        run_line(line, context)
    if context.failures:
        raise CommandError(context.failures[0])
    instance = _as_archived(context, uid)
    answer = services.native_archive.store(instance, device=device)
    if answer["status"] != 0:
        raise CommandError(str(answer["reason"]))


def _as_archived(context: Context, uid: str) -> _native.Instance:
    """The object in the mode of archived ones; as it is, and a warning, where that cannot be."""
    services, kept = context.services, context.instance
    mode = find_mode(services.archive_mode)
    if mode is not None and mode.action is Action.KEEP:
        return kept
    context.instance = kept.copy()
    try:
        recompress(context, services.archive_mode)
    except (CommandError, _native.NativeError) as error:
        services.log(WARNING, f"{uid} is archived as it is: {error}")
        return kept
    if context.text(SOP_INSTANCE) != kept.get(SOP_INSTANCE):
        # LossyNewUID: a move does not make another object.
        services.log(WARNING, f"{uid} is archived as it is: a lossy mode would change its UID")
        return kept
    return context.instance
