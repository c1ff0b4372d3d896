"""What `pyserver check-config` tells: every error, every item that will not do what it looks like.

Reads and looks, never writes: a folder that would be made at the start counts as fine when it
could be made.
"""

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyserver.config.findings import Findings
from pyserver.config.hl7_sources import Hl7Error, sources
from pyserver.config.ini import IniFile, IniLine
from pyserver.config.items import MAIN_SECTION, Item, State, all_items, find_item, split_number
from pyserver.config.settings import ALL_INTERFACES, Overrides, Settings, read_settings
from pyserver.policy.converters import check_converters

# dicom.sql is parsed by the native half: the index and this check must agree about it.
ParseColumns = Callable[[str], list[dict[str, Any]]]

PRIVILEGED_PORTS = 1024
SUGGESTION_CUTOFF = 0.75

# Sections of Conquest beside the main one: those of its web pages are read by those pages.
SECTIONS = frozenset(
    (
        "lua",
        "scripts",
        "anypage",
        "defaultpage",
        "markseries",
        "markstudy",
        "shoppingcart",
        "wadoservers",
        "webdefaults",
    )
)


def check_config(
    home: Path,
    config: Path | None = None,
    overrides: Overrides | None = None,
    parse_columns: ParseColumns | None = None,
) -> tuple[Settings | None, Findings]:
    """Read the configuration of a home folder and say all that is wrong or odd about it."""
    settings, findings = read_settings(home, config, overrides)
    if settings is None:
        return None, findings
    _check_lines(settings.ini, findings)
    _check_columns(settings, findings, parse_columns)
    _check_peers(settings, findings)
    _check_access(settings, findings)
    check_converters(settings.ini, settings.home, settings.native.dicom_sql, findings)
    for folder, item in folders_of(settings):
        _check_folder(folder, item, settings.home, findings)
    return settings, findings


def folders_of(settings: Settings) -> list[tuple[Path, str]]:
    """Folders that the server writes, each with the item that names it."""
    native = settings.native
    folders = [(Path(path), f"MAGDevice{n}") for n, path in enumerate(native.devices)]
    folders.append((Path(native.index_dir), "LmdbDir"))
    folders.append((settings.log_dir, "LogDir"))
    folders.extend((folder, "WatchFolder") for folder in settings.incoming_folders[1:])
    return folders


def suggest(name: str, section: str = MAIN_SECTION) -> str | None:
    """The known item that a misspelt name probably means, its number kept."""
    base, number = split_number(name)
    names = {
        known.casefold(): known + (number if item.numbered else "")
        for item in all_items()
        if item.section == section
        for known in (item.name, *item.aliases)
    }
    for word in (name.casefold(), base.casefold()):
        close = difflib.get_close_matches(word, names, n=1, cutoff=SUGGESTION_CUTOFF)
        if close:
            return names[close[0]]
    return None


def _check_lines(ini: IniFile, findings: Findings) -> None:
    for oddity in ini.oddities:
        findings.warning(
            f"`{oddity.text[:60]}` is neither a section nor `Name = value`", ini.path, oddity.line
        )
    seen: dict[tuple[str, str], IniLine] = {}
    for line in ini.lines:
        first = seen.setdefault((line.section, line.name.casefold()), line)
        if first is not line:
            findings.warning(
                f"{line.name} is set a second time, line {first.line} counts", ini.path, line.line
            )
        elif line.section == ini.main_section:
            _check_item(line, MAIN_SECTION, ini, findings)
        elif line.section == "lua":
            _check_item(line, "lua", ini, findings)
    known = {*SECTIONS, ini.main_section, ""}
    for line in ini.lines:
        if line.section not in known:
            known.add(line.section)
            text = f"section [{line.section}] is not known and not read"
            findings.note(text, ini.path, line.line)
    for line in ini.section(""):
        findings.warning(
            f"{line.name} stands before any section and is not read",
            ini.path,
            line.line,
            f"put it behind a line [{ini.main_section}]",
        )


def _check_item(line: IniLine, section: str, ini: IniFile, findings: Findings) -> None:
    item = find_item(line.name, section)
    if item is None and section == "lua":
        # [lua] also takes a Lua chunk for each converter line.
        item = find_item(line.name)
    if item is None:
        better = suggest(line.name, section)
        findings.warning(
            f"{line.name} is not an item that pyserver or Conquest knows",
            ini.path,
            line.line,
            f"did you mean {better}?" if better else "",
        )
    elif item.state is State.LATER and _is_wished(line, item):
        findings.warning(
            f"{line.name} has no effect in this version of pyserver yet", ini.path, line.line
        )


def _is_wished(line: IniLine, item: Item) -> bool:
    """Whether a line asks for something other than what happens without it."""
    if item.group == "Database":
        # Which driver is asked for is checked as a whole.
        return False
    return line.value.casefold() not in ("", item.default.casefold())


def _check_columns(
    settings: Settings, findings: Findings, parse_columns: ParseColumns | None
) -> None:
    if parse_columns is None or not settings.native.dicom_sql:
        return
    path = settings.config_dir / "dicom.sql"
    try:
        columns = parse_columns(settings.native.dicom_sql)
    except Exception as error:  # whatever the native half says is what the user needs to read
        findings.error(str(error), path)
        return
    try:
        sources(columns)
    except Hl7Error as error:
        findings.warning(str(error), path)


def _check_peers(settings: Settings, findings: Findings) -> None:
    peer_map = settings.peer_map
    for peer, earlier in peer_map.unreachable():
        findings.warning(
            f"the line of {peer.ae} is never used: line {earlier.line} ({earlier.ae}) comes first",
            peer_map.path,
            peer.line,
            "put lines with a * last",
        )


def _check_access(settings: Settings, findings: Findings) -> None:
    native, ini = settings.native, settings.ini
    open_to_all = {ALL_INTERFACES, "::"} & set(native.listen_addresses)
    if open_to_all and native.unknown_peers == "all" and not native.remote_aes:
        line = ini.find("UnknownPeers")
        findings.warning(
            "anyone on the network may query and retrieve (UnknownPeers = all)",
            ini.path,
            line.line if line else 0,
            "name the peers in acrnema.map and write UnknownPeers = store",
        )
    if 0 < native.port < PRIVILEGED_PORTS and os.geteuid() != 0:
        findings.warning(
            f"port {native.port} needs the right to use ports below {PRIVILEGED_PORTS}", ini.path
        )
    if not native.sop_classes or not native.transfer_syntaxes:
        findings.error("accepts no SOP class or no transfer syntax", settings.sop_list.path)


def _check_folder(folder: Path, item: str, home: Path, findings: Findings) -> None:
    try:
        _look_at_folder(folder, item, home, findings)
    except OSError as error:
        findings.error(f"{item}: folder {folder} cannot be looked at: {error.strerror}")


def _look_at_folder(folder: Path, item: str, home: Path, findings: Findings) -> None:
    if folder.is_dir():
        if not os.access(folder, os.W_OK | os.X_OK):
            findings.error(f"{item}: folder {folder} cannot be written")
    elif folder.exists():
        findings.error(f"{item}: {folder} is not a folder")
    elif not folder.is_relative_to(home):
        findings.error(
            f"{item}: folder {folder} does not exist",
            hint="make it, or mount its disk; only folders below the home folder are made",
        )
    else:
        _check_can_be_made(folder, item, findings)


def _check_can_be_made(folder: Path, item: str, findings: Findings) -> None:
    parent = next(p for p in folder.parents if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        findings.error(f"{item}: folder {folder} cannot be made in {parent}")
