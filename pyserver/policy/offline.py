"""Converters for commands that open the archive themselves, because no server runs."""

import contextlib
from collections.abc import Callable, Iterator

from pyserver import _native
from pyserver.archive import LocalArchive
from pyserver.config.settings import Settings
from pyserver.policy.adding import Adding
from pyserver.policy.converters import hook_converters, import_converters
from pyserver.policy.forward import Forwards
from pyserver.policy.rules import about_regen, make_rules, make_services
from pyserver.worklist import Worklist


def _has_converters(settings: Settings) -> bool:
    native = settings.native
    return bool(
        native.export_converters
        or settings.rules.worklist_mode
        or native.has_mirrors
        or import_converters(settings.ini, settings.home)
        or hook_converters(settings.ini, settings.home)
    )


@contextlib.contextmanager
def with_converters(
    access: LocalArchive,
    archive: _native.Archive,
    settings: Settings,
    codecs: _native.CodecPool,
    worklist: Worklist,
    log: Callable[[int, str], None],
) -> Iterator[None]:
    """Have files added and rebuilt by the rules of the site. Work for export converters is queued
    for the next start of the server."""
    if not _has_converters(settings):
        yield
        return
    forwards = Forwards(settings, log)
    queue = _native.WorkQueue(archive)
    uids = _native.UidTable(archive, settings.native.uid_prefix)

    def put(payload: bytes) -> None:
        queue.edit(added=[payload])

    services = make_services(settings, archive, uids, log, forwards, put, codecs, worklist)
    rules = make_rules(settings, services)
    adding = Adding(access, lambda: None)
    adding.use(settings, rules)
    access.add_file, access.rules = adding.add, about_regen(rules)
    try:
        yield
    finally:
        forwards.stop()
