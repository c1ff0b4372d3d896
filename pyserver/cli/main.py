"""The command table, and the one place where errors become exit codes."""

import argparse
import os
import sys
from collections.abc import Sequence

from pyserver import __version__, _native
from pyserver.cli import (
    admin,
    archive,
    clone,
    image,
    merge,
    network,
    queue,
    recompress,
    serve,
    worklist,
)
from pyserver.cli.command import FAILED, Command
from pyserver.cli.output import Output
from pyserver.errors import PyserverError

# 128 + SIGINT and 128 + SIGPIPE, as shells have it.
INTERRUPTED, BROKEN_PIPE = 130, 141

GROUPS: dict[str, tuple[Command, ...]] = {
    "server": serve.COMMANDS + admin.COMMANDS + queue.COMMANDS,
    "archive": archive.COMMANDS + merge.COMMANDS + worklist.COMMANDS,
    "network": network.COMMANDS + clone.COMMANDS,
    "pictures": image.COMMANDS + recompress.COMMANDS,
}

COMMANDS: tuple[Command, ...] = tuple(command for rows in GROUPS.values() for command in rows)


def make_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(
        prog="pyserver",
        description="A DICOM server: receives, keeps, finds and sends medical images.",
        epilog="`pyserver COMMAND --help` tells more about a command. "
        "Begin with `pyserver serve`, then `pyserver add FOLDER` and `pyserver find`.",
    )
    parser.add_argument("--version", action="version", version=f"pyserver {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        examples = "\n".join(f"  {example}" for example in command.examples)
        sub = commands.add_parser(
            command.name,
            help=command.summary,
            description=command.description,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.configure(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 done, 1 in part, 2 not."""
    args = make_parser().parse_args(arguments)
    out = Output(as_json=getattr(args, "json", False))
    try:
        code: int = args.run(args, out)
        sys.stdout.flush()
    except (PyserverError, _native.NativeError) as error:
        out.complain(f"pyserver {args.command}: {error}")
        return FAILED
    except KeyboardInterrupt:
        out.complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        out.complain(f"pyserver {args.command}: {error}")
        return FAILED
    return code
