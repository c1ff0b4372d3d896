"""Merges studies or series: their objects get new UIDs, one of them common, and are stored anew.

The new object is stored before the old one is deleted, and an object that cannot be stored (another
patient's, say) or whose converter fails stays as it was, where Conquest loses it. Which new UIDs a
merge gives depends on what is merged, so one that was interrupted goes on with the same.
"""

from pathlib import Path
from typing import Any

from pyserver import _native
from pyserver.policy.context import INFO, SERIES, STUDY, WARNING, Context, Services, checksum
from pyserver.policy.parser import Line
from pyserver.policy.problems import CommandError
from pyserver.policy.runtime import run_line

HOOKS = {"study": "MergeStudies0", "series": "MergeSeries0"}


def merge(services: Services, level: str, uids: list[str]) -> dict[str, int]:
    """Merge studies or series that are named by their UIDs: how many objects were, and were not."""
    files = [file for uid in uids for file in services.archive.locate(level, uid)]
    return _merge(services, level, uids, files, None)


def merge_series_of(services: Services, files: list[dict[str, Any]], script: Line | None) -> None:
    """Merge the series of these objects of a study. Raises CommandError when some stay apart."""
    series = sorted({_native.Instance.open(f["path"]).get(SERIES) or "" for f in files})
    if len(series) < 2:
        return
    report = _merge(services, "series", series, files, script)
    if report["failed"]:
        raise CommandError(f"{report['failed']} of {len(files)} objects could not be merged")


def _merge(
    services: Services,
    level: str,
    uids: list[str],
    files: list[dict[str, Any]],
    script: Line | None,
) -> dict[str, int]:
    if len(set(uids)) < 2:
        raise CommandError(f"to merge takes two {level} UIDs or more")
    tag = STUDY if level == "study" else SERIES
    stage = f"merge {checksum('|'.join(sorted(set(uids)))):08x}"
    common = services.uids.changed(min(uids), stage)
    report = {"merged": 0, "failed": 0}
    for file in files:
        try:
            _merge_one(services, (level, tag, common, stage), file, script)
            report["merged"] += 1
        except (CommandError, _native.NativeError, ValueError) as error:
            report["failed"] += 1
            services.log(WARNING, f"not merged: {file['sop_instance_uid']}: {error}")
    services.log(INFO, f"merged {report['merged']} objects into {level} {common}")
    return report


def _merge_one(
    services: Services,
    target: tuple[str, str, str, str],
    file: dict[str, Any],
    script: Line | None,
) -> None:
    level, tag, common, stage = target
    instance = _native.Instance.open(file["path"])
    # The study of merged series stays what it is.
    kept = [STUDY] if level == "series" else []
    services.uids.change(instance, stage, [*kept, tag], [])
    instance.set(tag, common)
    context = Context(services, instance, "", "", file=Path(file["path"]))
    for line in (services.lines.get(HOOKS[level]), script):
        if line is not None:
            context.label = f"{HOOKS[level][:-1]}converter0"
            run_line(line, context)
    if context.failures:
        raise CommandError(context.failures[0])
    answer = services.native_archive.store(instance)
    if answer["status"] != 0:
        raise CommandError(str(answer["reason"]))
    services.archive.delete("image", str(file["sop_instance_uid"]))
