"""Copies of stored objects that scripts have changed, for what goes out of the archive."""

from pathlib import Path

from pyserver import _native
from pyserver.policy.compression import recompress
from pyserver.policy.context import Context, Outcome, Services
from pyserver.policy.parser import Line
from pyserver.policy.problems import CommandError
from pyserver.policy.runtime import run_line


def changed_copies(
    services: Services, script: Line | None, paths: list[str], folder: Path, mode: str = ""
) -> list[str]:
    """Copies in `folder` with the script run on them, in a compression mode if one is named. Raises
    CommandError when it fails for one, so that nothing goes out."""
    copies = []
    for number, path in enumerate(paths):
        instance = _native.Instance.open(path)
        context = Context(services, instance, "", "", label="delayed script", file=Path(path))
        outcome = Outcome.NORMAL if script is None else run_line(script, context)
        if context.failures:
            raise CommandError(f"not sent, its script failed: {context.failures[0]}")
        if mode:
            recompress(context, mode, to_send=True)
        if outcome not in (Outcome.DESTROY, Outcome.REJECT):
            copies.append(str(folder / f"{number}.dcm"))
            instance.save(copies[-1])
    return copies
