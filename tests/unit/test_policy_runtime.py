"""Converter lines on real objects: what commands do, and what a failure keeps from happening."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyserver import _native
from pyserver.config.defaults import write_defaults
from pyserver.config.settings import load_settings
from pyserver.policy.context import Context, Outcome, Services
from pyserver.policy.converters import import_converters
from pyserver.policy.forward import Forwards
from pyserver.policy.parser import Where
from pyserver.policy.processes import Processes
from pyserver.policy.rules import Rules
from pyserver.policy.runtime import run_line
from pyserver.policy.scripts import Finder
from tests.conftest import GOLDEN
from tests.unit.test_settings import change

CT = GOLDEN / "scripting" / "inputs" / "ct1.dcm"
US = GOLDEN / "scripting" / "inputs" / "us_rgb.dcm"


class Rig:
    """A home folder with an archive, and what was logged."""

    def __init__(self, home: Path, **services: object) -> None:
        write_defaults(home)
        self.home = home
        self.lines: list[str] = []
        settings = load_settings(home)
        self.archive = _native.Archive(settings.to_native())
        arguments: dict[str, object] = {
            "home": home,
            "archive": self.archive,
            "native_archive": self.archive,
            "uids": _native.UidTable(self.archive, "99999.99999"),
            "log": lambda level, text: self.lines.append(text),
            "processes": Processes(2, 30),
            "devices": 1,
            "forwards": Forwards(settings, lambda level, text: None),
        }
        self.services = Services(**(arguments | services))  # type: ignore[arg-type]

    def run(self, line: str, source: Path = CT, **scripts: str) -> tuple[Outcome, Context]:
        context = Context(self.services, _native.Instance.open(source), "SCU", "SCP", "Test0")
        finder = Finder(self.home, scripts, Where.IMPORT)
        return run_line(finder.line(line), context), context


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "home")
    yield rig
    rig.archive.close()


def test_values_from_outside_choose_no_folder(rig: Rig) -> None:
    outside = rig.home.parent / "outside"
    outside.mkdir()
    for name in ("../../outside/x", "/etc/x", "..", "a/../../b", "x\0y"):
        _, context = rig.run(f'set 0010,0020 to "{name}"; mkdir sub; save to sub/%V0010,0020.dcm')
        assert not context.failures, context.failures
    assert list(outside.iterdir()) == []
    assert all(path.suffix == ".dcm" for path in (rig.home / "sub").iterdir())
    assert len(list((rig.home / "sub").iterdir())) == 5


def test_a_variable_may_name_allowed_folders_only(tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    allowed.mkdir(), other.mkdir()
    rig = Rig(tmp_path / "home", folders=(allowed,))
    for folder, count in ((allowed, 1), (other, 0)):
        _, context = rig.run(f'set x to "{folder}"; save to %x/a.dcm')
        assert len(list(folder.iterdir())) == count
        assert bool(context.failures) is (count == 0)
    _, context = rig.run(f"save to {other}/%o.dcm")
    assert not context.failures and len(list(other.iterdir())) == 1
    rig.archive.close()


def test_a_link_leads_nowhere_else(rig: Rig) -> None:
    outside = rig.home.parent / "outside"
    outside.mkdir()
    (rig.home / "link").symlink_to(outside)
    _, context = rig.run('set x to "link"; save to %x/a.dcm')
    assert "outside the folders" in context.failures[0]


@pytest.mark.parametrize(
    "failing",
    [
        "save to no/such/folder.dcm",
        "bogus",
        'set 0010,0010/0008,0100 to "x"',
        'lua "print(1)"',
        "crop 0,0,99,99",
        "process with false",
        "python:os.getcwd",
    ],
)
def test_after_a_failure_nothing_is_given_or_thrown_away(rig: Rig, failing: str) -> None:
    outcome, context = rig.run(f"{failing}; save to later.dcm; destroy")
    assert outcome is Outcome.RETURN and context.failures
    assert not (rig.home / "later.dcm").exists()
    assert any("the object is kept" in line for line in rig.lines)


def test_programs_get_values_as_words_whatever_they_hold(rig: Rig) -> None:
    script = rig.home / "tell.py"
    script.write_text("import sys; print(sys.argv[1:])")
    evil = "a b;$(id) `id` 'q' > out2.txt"
    line = f'set 0010,4000 to "{evil}"; system {sys.executable} tell.py "%V0010,4000" %i > out.txt'
    rig.run(line)
    assert (rig.home / "out.txt").read_text() == f"{[evil, 'P001']}\n"
    assert not (rig.home / "out2.txt").exists()


def test_a_shell_gets_values_as_parameters(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home", shell=True)
    evil = "$(echo run) `echo run` \\ $HOME 'x'"
    rig.run(f'set 0010,4000 to "{evil}"; system echo "%V0010,4000"-%i \'%i\' | cat > out.txt')
    assert (rig.home / "out.txt").read_text() == f"{evil}-P001 P001\n"
    rig.archive.close()


def test_a_shell_is_not_used_unasked(rig: Rig) -> None:
    rig.run("system echo a | cat > out.txt")
    assert any("ShellCommands = 1" in line for line in rig.lines)


def test_a_program_that_does_not_end_is_killed(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home", processes=Processes(1, 0.2))
    rig.run("system sleep 600")
    assert any("was killed" in line for line in rig.lines)
    rig.archive.close()


def test_process_with_that_spoils_the_file_changes_nothing(rig: Rig) -> None:
    for command in ("rm", "truncate -s 10", "false"):
        _, context = rig.run(f"process with {command}")
        assert context.failures
        assert context.instance.get("0010,0010") == "Doe^John"
    assert not list((rig.home / ".pyserver-work").iterdir())


def test_python_functions(rig: Rig) -> None:
    (rig.home / "site_rules_for_test.py").write_text(
        "def hook(instance, calling, called):\n"
        "    instance.set('0010,0010', f'{calling}^{called}')\n"
        "    return 'reject' if instance.get('0008,0060') == 'US' else None\n"
        "def wrong(instance, calling, called):\n    return 'perhaps'\n"
    )
    sys.path.append(str(rig.home))
    try:
        outcome, context = rig.run("python:site_rules_for_test.hook")
        assert outcome is Outcome.NORMAL
        assert context.instance.get("0010,0010") == "SCU^SCP"
        assert rig.run("python:site_rules_for_test.hook", US)[0] is Outcome.REJECT
        assert "perhaps" in rig.run("python:site_rules_for_test.wrong")[1].failures[0]
    finally:
        sys.path.remove(str(rig.home))


def test_uids_survive_a_restart(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home")
    _, first = rig.run("newuids stage A; newuids stage #B")
    rig.archive.close()
    rig = Rig(tmp_path / "home")
    _, second = rig.run("newuids stage A; newuids stage #B")
    for tag in ("0008,0018", "0020,000d", "0008,1110.1/0008,1155"):
        assert first.instance.get(tag) == second.instance.get(tag)
    assert first.instance.get("0008,0016") == "1.2.840.10008.5.1.4.1.1.2"
    _, back = rig.run("newuids; olduids")
    assert back.instance.get("0008,0018") == "1.2.3.1.1.1"
    assert len({rig.services.uids.fresh() for _ in range(100)}) == 100
    rig.archive.close()


def test_tomono_and_pictures(rig: Rig) -> None:
    _, context = rig.run("tomono; save jpg size 8 gamma 0.5 to a.jpg; save gif to a.gif", US)
    assert not context.failures
    assert context.instance.get("0028,0004") == "MONOCHROME2"
    assert context.instance.get("0028,0002") == "1"
    assert (rig.home / "a.jpg").stat().st_size and (rig.home / "a.gif").stat().st_size


def test_rules_refuse_when_asked_to(rig: Rig) -> None:
    change(rig.home, 'ImportConverter3 = set 0010,0010/0008,0100 to "x"')
    for choice, expected in (("continue", None), ("reject", "refuse")):
        change(rig.home, f"OnConverterError = {choice}")
        settings = load_settings(rig.home)
        converters = import_converters(settings.ini, rig.home)
        rules = Rules(converters, {}, rig.services, settings)
        decision = rules.import_object(_native.Instance.open(CT), "SCU", "SCP", "a1")
        assert (decision and decision[0]) == expected


def test_variables_live_as_long_as_the_association(rig: Rig) -> None:
    change(rig.home, 'ImportConverter0 = set x to "%x+%V0020,0013"; append "%x%n" to out.txt')
    settings = load_settings(rig.home)
    rules = Rules(import_converters(settings.ini, rig.home), {}, rig.services, settings)
    for association in ("a1", "a1", "a2"):
        rules.import_object(_native.Instance.open(CT), "SCU", "SCP", association)
    rules.association_ended("a1")
    rules.import_object(_native.Instance.open(CT), "SCU", "SCP", "a1")
    assert (rig.home / "out.txt").read_text() == "+7\n+7+7\n+7\n+7\n"


def test_a_query_chooses_virtual_servers(rig: Rig) -> None:
    def mask(line: str) -> str | None:
        context = Context(rig.services, _native.Instance.open(CT), "SCU", "SCP", "Query0")
        run_line(Finder(rig.home, {}, Where.QUERY).line(line), context)
        return context.instance.get("9999,0802")

    assert mask("virtualservermask 3; virtualserver 2") == "7"
    assert mask("virtualserver 0; virtualserver 9") == "513"
    assert mask("virtualserver 10; virtualservermask many") is None
    assert sum("is no number from 0 to" in line for line in rig.lines) == 2


def test_names_of_files_get_a_text(tmp_path: Path) -> None:
    suffixes: list[str] = []
    rig = Rig(tmp_path / "home", test_mode=suffixes.append)
    _, context = rig.run("testmode .%m")
    assert (suffixes, context.failures) == ([".CT"], [])
    rig.archive.set_file_suffix(".x_1")
    for bad in ("/../x", "a b", "x" * 33):
        with pytest.raises(_native.ConfigError, match="nothing to put behind a file name"):
            rig.archive.set_file_suffix(bad)
    assert str(context.instance.predicted_path(rig.archive, "A", "B")).endswith(".dcm.x_1")
    rig.archive.close()
