"""Commands about the server itself: status, reload, check-config."""

import argparse
from typing import Any

from pyserver import _native
from pyserver.cli.access import open_archive
from pyserver.cli.command import (
    DONE,
    FAILED,
    PARTLY,
    Command,
    add_home,
    add_json,
    home_folder,
    settings_of,
)
from pyserver.cli.output import Output, human_bytes, human_duration
from pyserver.config.check import check_config
from pyserver.config.findings import Severity
from pyserver.control import ControlClient
from pyserver.status import disk_space


def _configure_status(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    add_json(parser)


def _run_status(args: argparse.Namespace, out: Output) -> int:
    client = ControlClient(home_folder(args))
    if client.is_running():
        status: dict[str, Any] = client.call("status")
        out.result(status, lambda: _print_running(status, out))
        return DONE
    settings = settings_of(args)
    with open_archive(args, out) as archive:
        counts = archive.counts()
    at_rest = {"running": False, "archive": counts, "disks": disk_space(settings)}

    def text() -> None:
        out.say("no server runs here")
        _print_archive(at_rest, out)

    out.result(at_rest, text)
    return PARTLY


def _print_running(status: dict[str, Any], out: Output) -> None:
    counters, rates = status["counters"], status["rates_per_s"]
    out.say(
        f"{status['ae_title']} listens on {status['host']}:{status['port']}, version "
        f"{status['version']}, up {human_duration(status['uptime_s'])}, {status['durability']}"
    )
    _print_archive(status, out)
    out.say(
        f"stores: {rates.get('stores', 0):.1f}/s, {human_bytes(rates.get('bytes_stored', 0))}/s; "
        f"sent: {rates.get('objects_sent', 0):.1f}/s, "
        f"{human_bytes(rates.get('bytes_sent', 0))}/s; finds: {rates.get('finds', 0):.1f}/s "
        "(last minute)"
    )
    numbers = {
        name: value
        for name, value in counters.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    out.table(("counter", "value"), sorted(numbers.items()))
    _print_phases(counters.get("phases", {}), out)
    for device in counters.get("devices", []):
        if device["read_only"]:
            out.complain(f"MAG{device['number']} is read-only: {device['read_only']}")
    if counters.get("index_read_only"):
        out.complain("the index is read-only after a failed commit; restart the server")


def _print_phases(phases: dict[str, dict[str, int]], out: Output) -> None:
    """Where the time of a store goes, on average."""
    parts = [
        f"{name} {phase['ns'] / phase['count'] / 1000:.0f} us"
        for name, phase in phases.items()
        if phase["count"]
    ]
    if parts:
        out.say("mean time of a store: " + ", ".join(parts))


def _print_archive(status: dict[str, Any], out: Output) -> None:
    counts = dict(status["archive"])
    size = counts.pop("bytes", None)
    parts = [f"{n} {name}" for name, n in counts.items()]
    if size is not None:
        parts.append(human_bytes(size))
    out.say("archive: " + ", ".join(parts))
    for disk in status["disks"]:
        if "error" in disk:
            out.say(f"{disk['name']}: {disk['path']}: {disk['error']}")
        else:
            free, total = human_bytes(disk["free_bytes"]), human_bytes(disk["total_bytes"])
            out.say(f"{disk['name']}: {disk['path']}, {free} of {total} free")


def _configure_reload(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    add_json(parser)


def _run_reload(args: argparse.Namespace, out: Output) -> int:
    answer: dict[str, Any] = ControlClient(home_folder(args)).call("reload")

    def text() -> None:
        for warning in answer["warnings"]:
            out.complain(f"warning: {warning}")
        if answer["reloaded"]:
            out.say("configuration reloaded")
        else:
            out.complain(f"the old configuration stays: {answer['reason']}")

    out.result(answer, text)
    return DONE if answer["reloaded"] else FAILED


def _configure_check(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    add_json(parser)


def _run_check(args: argparse.Namespace, out: Output) -> int:
    _, findings = check_config(home_folder(args), args.config, parse_columns=_native.parse_columns)
    errors = len(findings.of(Severity.ERROR))
    warnings = len(findings.of(Severity.WARNING))

    def text() -> None:
        for finding in findings.items:
            out.say(str(finding))
        out.say(f"{errors} errors, {warnings} warnings")

    out.result([finding.as_json() for finding in findings.items], text)
    if errors:
        return FAILED
    return PARTLY if warnings else DONE


COMMANDS = (
    Command(
        name="status",
        summary="show what the server does",
        description="Show associations, rates, counters, what is archived and the room on the "
        "disks. Exit code 1 when no server runs.",
        examples=("pyserver status", "pyserver status --json"),
        configure=_configure_status,
        run=_run_status,
    ),
    Command(
        name="reload",
        summary="let the server read its configuration again",
        description="Take over changes of the configuration files without dropping an "
        "association. A broken file changes nothing, and the reason is told.",
        examples=("pyserver reload",),
        configure=_configure_reload,
        run=_run_reload,
    ),
    Command(
        name="check-config",
        summary="look for mistakes in the configuration",
        description="Read the configuration and name unknown or misspelt items (with a "
        "suggestion), values that cannot be, peers that are never reached and folders that "
        "cannot be written. Exit code 0: fine, 1: warnings, 2: the server would not start.",
        examples=("pyserver check-config", "pyserver check-config --config /etc/dicom.ini"),
        configure=_configure_check,
        run=_run_check,
    ),
)
