"""Generated pages are current: `make docs` writes them anew."""

import pytest

from pyserver.cli.main import COMMANDS, main
from tests.unit.test_sop_list import load_script

PAGES = load_script("write_docs").pages()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_page_is_current(path) -> None:  # type: ignore[no-untyped-def]
    assert path.read_text(encoding="utf-8") == PAGES[path], "run `make docs`"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_of_every_command(command, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit) as ended:
        main([command.name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert command.examples[0] in text
    assert command.description.split(".")[0] in text
