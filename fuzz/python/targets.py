"""What is fuzzed in Python: one function for each kind of configuration file.

A target takes any bytes and fails by raising anything but ConfigError. Whatever parses must also
hold the promises of its type; the unit tests run every file of the corpora through its target.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from pyserver.config.check import check_config
from pyserver.config.ini import IniFile, parse_ini, read_text, split_lines
from pyserver.config.items import MAIN_SECTION
from pyserver.config.peers import AE_LENGTH_MAX, PORT_MAX, parse_address, parse_peers
from pyserver.config.sop_list import UID_LENGTH_MAX, parse_sop_list
from pyserver.errors import ConfigError
from pyserver.policy.parser import Where
from pyserver.policy.scripts import Finder

Target = Callable[[bytes], None]

CORPORA = Path(__file__).parent / "corpus"
# Between the files of one input of `config`.
SEPARATOR = b"\x1e"

_PATH = Path("any")


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def ini(data: bytes) -> None:
    """dicom.ini: nothing is an error, lines become items or oddities with their place."""
    text = _text(data)
    parsed = parse_ini(text, _PATH)
    lines = len(split_lines(text))
    places = [line.line for line in parsed.lines] + [oddity.line for oddity in parsed.oddities]
    assert all(1 <= place <= lines for place in places)
    for line in parsed.lines:
        assert line.name and line.name == line.name.strip()
        assert line.value == line.value.strip()
        # The usual name of the main section stands for the main section, whatever that is called.
        if line.section != MAIN_SECTION or parsed.main_section == MAIN_SECTION:
            assert parsed.find(line.name, line.section) is not None
    _writes_back(parsed)


def _writes_back(parsed: IniFile) -> None:
    """Items written out again, section by section, are read as the same items."""
    text = "".join(f"[{x.section}]\n{x.name} = {x.value}\n" for x in parsed.lines)
    if "\\\n" in text or any(x.name.startswith("[") for x in parsed.lines):
        return  # Such lines would be joined, or taken for sections.
    again = parse_ini(text, _PATH)
    items = [(x.section, x.name, x.value) for x in parsed.lines]
    assert [(x.section, x.name, x.value) for x in again.lines] == items


def peers(data: bytes) -> None:
    """acrnema.map: what parses can be looked up, and an address is always one."""
    text = _text(data)
    parse_address(text)
    parsed = parse_peers(text, _PATH)
    dead = {id(peer) for peer, _ in parsed.unreachable()}
    for peer in parsed.peers:
        assert len(peer.ae) <= AE_LENGTH_MAX
        assert isinstance(peer.is_remote, bool)
        for suffix in ("", "7", "x"):
            title = peer.ae.removesuffix("*") + (suffix if peer.ae.endswith("*") else "")
            address = parsed.resolve(title)
            assert address is None or 0 < address.port <= PORT_MAX
        if id(peer) not in dead and not peer.ae.endswith("*"):
            assert parsed.resolve(peer.ae) is not None


def sop_list(data: bytes) -> None:
    """dgatesop.lst: what parses names UIDs, each once."""
    parsed = parse_sop_list(_text(data), _PATH)
    for uids in (parsed.sop_classes, parsed.transfer_syntaxes):
        assert len(set(uids)) == len(uids)
        assert all(0 < len(uid) <= UID_LENGTH_MAX and uid.isascii() for uid in uids)


def config(data: bytes) -> None:
    """A whole home folder: whatever its files hold, the check says so and does not fail."""
    names = ("dicom.ini", "acrnema.map", "dgatesop.lst", "dicom.sql")
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        home = Path(folder)
        for name, content in zip(names, data.split(SEPARATOR), strict=False):
            (home / name).write_bytes(content)
        settings, findings = check_config(home)
        for finding in findings.items:
            assert str(finding)
        if settings is not None:
            assert settings.to_native()["home"]
        read_text(home / "dicom.ini")


def _memory() -> Path | None:
    """A folder in memory, where there is one: a disk would be all that is measured."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else None


def converter(data: bytes) -> None:
    """A converter line: parsed for every context; faults have places within the line."""
    text = _text(data).partition("\n")[0]
    if "python:" in text.lower():
        return  # It would be imported.
    for where in (Where.IMPORT, Where.EXPORT, Where.QUERY):
        line = Finder(Path("/nonexistent"), {"S": "nop; call S"}, where).line(text)
        for problem in line.problems:
            assert 1 <= problem.column <= len(text) + 1 and problem.text
        for number, step in enumerate(line.steps, start=1):
            assert not step.command.condition or number <= step.skip_to <= len(line.steps)


TARGETS: dict[str, Target] = {
    "ini": ini,
    "peers": peers,
    "sop_list": sop_list,
    "config": config,
    "converter": converter,
}


def run(target: Target, data: bytes) -> None:
    """One input; a refusal that names its reason is no finding."""
    try:
        target(data)
    except ConfigError as error:
        assert str(error)
