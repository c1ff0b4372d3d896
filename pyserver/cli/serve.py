"""`pyserver serve`: make a home folder when there is none, then run the server in it."""

import argparse
import os
import sys
from typing import Any

from pyserver import __version__
from pyserver.cli.command import (
    DONE,
    HOME_DEFAULT,
    PARTLY,
    Command,
    add_home,
    ae_title,
    home_folder,
    own_name,
    port_number,
)
from pyserver.cli.output import Output
from pyserver.config.defaults import write_defaults
from pyserver.config.settings import Overrides, config_file
from pyserver.service import WARNING, Service

# What open associations get to end when the index is closed: they can only be refused.
RESTART_DRAIN_S = 2.0


def _configure(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    parser.add_argument("--port", type=port_number, metavar="N", help="port to listen on")
    parser.add_argument("--aet", type=ae_title, metavar="NAME", help="AE title of this server")
    parser.add_argument("--quiet", action="store_true", help="log into files only")


def _run(args: argparse.Namespace, out: Output) -> int:
    home = home_folder(args)
    home.mkdir(parents=True, exist_ok=True)
    folder = config_file(home, args.config).parent
    for path in write_defaults(folder, args.aet, args.port):
        out.say(f"written: {path}")
    overrides = Overrides(port=args.port, aet=args.aet)
    with out.progress("Opening the archive") as progress:
        service = Service(home, args.config, overrides, progress, verbose=not args.quiet)
    again = False
    try:
        service.start()
        for text in recovery_lines(service.recovery):
            service.log(WARNING, text)
        _greet(service, args, out)
        again = service.run()
    finally:
        drained = service.stop(RESTART_DRAIN_S if again else None)
    if again:
        # Nothing may have the old map of the index any more when it is opened again: of a new
        # program in this process that is certain.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    return DONE if drained else PARTLY


def _greet(service: Service, args: argparse.Namespace, out: Output) -> None:
    host, port = service.address
    ae = service.settings.ae_title
    reached = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    name = own_name()
    found_anyway = args.home is None or args.home == HOME_DEFAULT
    at_home = "" if found_anyway else f" --home {args.home}"
    out.say(f"pyserver {__version__}: {ae} listens on {host}:{port}, home {service.settings.home}")
    out.say(f"Try it in another terminal:  {name} add{at_home} FOLDER   (or files, or zip files)")
    out.say(f"From another program:        storescu -aec {ae} {reached} {port} FILE")
    out.say("Stop it with Ctrl-C.")


RECOVERED = {
    "rewritten": "files written from the journal",
    "renamed": "files given their final name",
    "entered": "files entered into the index",
    "revoked": "stores taken back that had not been acknowledged",
    "partial": "partial files removed",
    "temporary": "temporary files removed",
}


def recovery_lines(recovery: dict[str, Any]) -> list[str]:
    """What opening the archive repaired, a line each; nothing after a clean end."""
    lines = [
        f"repaired: {recovery[name]} {what}" for name, what in RECOVERED.items() if recovery[name]
    ]
    return lines + [f"could not be repaired: {problem}" for problem in recovery["problems"]]


COMMANDS = (
    Command(
        name="serve",
        summary="start the DICOM server",
        description="Start the server. Its home folder holds configuration, data, index and logs "
        "and is made, with commented defaults, when it does not exist. SIGTERM or Ctrl-C lets "
        "associations end and stops; SIGHUP reads the configuration again.",
        examples=("pyserver serve", "pyserver serve --home /srv/dicom --port 104 --aet ARCHIVE"),
        configure=_configure,
        run=_run,
    ),
)
