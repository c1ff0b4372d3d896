"""How a command reaches an archive or a peer."""

import argparse
import contextlib
from collections.abc import Iterator

from pyserver import _native
from pyserver.archive import ArchiveAccess, LocalArchive
from pyserver.cli.command import home_folder, settings_of
from pyserver.cli.output import Output
from pyserver.config.peers import Address, parse_address
from pyserver.config.settings import Settings
from pyserver.control import ControlClient, RemoteArchive
from pyserver.errors import ControlError, UsageError
from pyserver.index.choose import open_with_database
from pyserver.pixels.pool import make_pool
from pyserver.policy.context import WARNING
from pyserver.policy.offline import with_converters
from pyserver.service import make_folders
from pyserver.worklist import Worklist

CALLED_DEFAULT = "ANY-SCP"
CALLING_DEFAULT = "PYSERVER"


@contextlib.contextmanager
def open_archive(args: argparse.Namespace, out: Output) -> Iterator[ArchiveAccess]:
    """The archive of the home folder: through its server when one runs, else opened here."""
    client = ControlClient(home_folder(args))
    if client.is_running():
        yield RemoteArchive(client)
        return
    settings = settings_of(args)
    make_folders(settings)
    with out.progress("Opening") as progress:
        archive = open_with_database(settings, progress, out.complain)
    try:
        pool = make_pool(settings.codecs)
        uids = _native.UidTable(archive, settings.native.uid_prefix)
        entries = _native.Worklist(archive)
        worklist = Worklist(entries, settings.native.dicom_sql, uids.fresh)
        access = LocalArchive(archive, settings, _native.get, _native.clonedb, pool, worklist)

        def log(level: int, text: str) -> None:
            if level <= WARNING:
                out.complain(text)

        with with_converters(access, archive, settings, pool, worklist, log):
            yield access
    finally:
        archive.close()


def add_peer(parser: argparse.ArgumentParser, required: bool) -> None:
    """--peer, --called and --calling."""
    parser.add_argument(
        "--peer",
        metavar="PEER",
        required=required,
        help="AE title that acrnema.map names, or host:port, or AE@host:port",
    )
    parser.add_argument(
        "--calling",
        metavar="AE",
        help=f"our own AE title (default: MyACRNema of the home folder, else {CALLING_DEFAULT})",
    )


def calling_ae(args: argparse.Namespace, settings: Settings | None) -> str:
    """Our own AE title."""
    if args.calling:
        return str(args.calling)
    return CALLING_DEFAULT if settings is None else settings.ae_title


def resolve_peer(text: str, settings: Settings | None) -> Address:
    """Where a peer is reached."""
    ae, at, place = text.rpartition("@")
    address = parse_address(place if at else text)
    if address is not None:
        return Address(ae if at else CALLED_DEFAULT, *address)
    found = settings.peer_map.resolve(text) if settings is not None else None
    if found is None:
        where = settings.peer_map.path if settings is not None else "acrnema.map"
        raise UsageError(f"{text!r}: no line of {where} fits, and it is not host:port")
    return found


def own_address(args: argparse.Namespace) -> Address:
    """Where the server of the home folder listens; asks it, so a broken file does not matter."""
    try:
        status = ControlClient(home_folder(args)).call("status")
    except ControlError as error:
        raise UsageError(f"{error}; name another system with --peer") from error
    host = str(status["host"])
    # A server on all interfaces is reached through loopback.
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return Address(str(status["ae_title"]), reached, int(status["port"]))
