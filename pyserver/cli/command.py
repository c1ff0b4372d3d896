"""What a command is, and the options that several share."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyserver.config.peers import AE_LENGTH_MAX
from pyserver.config.settings import INI_NAME, Overrides, Settings, load_settings
from pyserver.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from pyserver.cli.output import Output

HOME_VARIABLE = "PYSERVER_HOME"
HOME_DEFAULT = Path("dicomserver")

# Exit codes: done; something was refused or differs; the command could not be carried out.
DONE, PARTLY, FAILED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the command table: help, options and function read the same row."""

    name: str
    summary: str
    description: str
    examples: tuple[str, ...]
    configure: Callable[[argparse.ArgumentParser], None]
    run: "Callable[[argparse.Namespace, Output], int]"


def add_home(parser: argparse.ArgumentParser) -> None:
    """--home and --config."""
    parser.add_argument(
        "--home",
        type=Path,
        metavar="DIR",
        help="folder of the server: configuration, data, index and logs "
        f"(default: ${HOME_VARIABLE}, else this folder if it has a {INI_NAME}, "
        f"else ./{HOME_DEFAULT})",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="PATH",
        help=f"another {INI_NAME}, or the folder that has it (default: the home folder)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def port_number(text: str) -> int:
    """A TCP port for argparse; 0 lets the system choose."""
    if text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")


def positive_number(text: str) -> int:
    """A number of 1 or more for argparse."""
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")


def ae_title(text: str) -> str:
    """An AE title for argparse."""
    if text.strip() and len(text) <= AE_LENGTH_MAX and text.isascii() and "\\" not in text:
        return text
    raise argparse.ArgumentTypeError(
        f"{text!r} is not an AE title: 1 to {AE_LENGTH_MAX} ASCII characters, no backslash"
    )


def home_folder(args: argparse.Namespace) -> Path:
    """The home folder that the options, the environment or the place of the call choose."""
    if args.home is not None:
        return Path(args.home)
    if variable := os.environ.get(HOME_VARIABLE):
        return Path(variable)
    return Path() if Path(INI_NAME).is_file() else HOME_DEFAULT


def settings_of(args: argparse.Namespace) -> Settings:
    """The configuration of an existing home folder."""
    home = home_folder(args)
    settings = optional_settings(args)
    if settings is None:
        raise ConfigError(
            "is not the home folder of a server",
            file=home,
            hint="`pyserver serve` makes one, --home DIR names another",
        )
    return settings


def optional_settings(args: argparse.Namespace) -> Settings | None:
    """The same, or None where there is no configuration."""
    home = home_folder(args)
    config: Path | None = args.config
    if config is None and not (home / INI_NAME).is_file():
        return None
    return load_settings(home, config, Overrides())


def own_name() -> str:
    """How the user can call this command again, in another terminal too."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{Path(sys.executable).name} -m pyserver"
    # The folder of an environment that nobody activated is on the path of this call at most.
    hidden = called.parent == Path(sys.prefix, "bin") and "VIRTUAL_ENV" not in os.environ
    found = shutil.which(called.name)
    if not hidden and found is not None and Path(found).resolve() == called.resolve():
        return called.name
    try:
        return str(called.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(called)


def parse_keys(words: list[str]) -> dict[str, str | list[str]]:
    """`PatientName=A*` and plain `Modality` as query keys."""
    keys: dict[str, str | list[str]] = {}
    for word in words:
        name, _, value = word.partition("=")
        if not name.strip():
            raise UsageError(f"{word!r} is not a key: write Name=value or Name")
        keys[name.strip()] = value
    return keys
