"""`submit` and `submit2`: objects as one zip file, given to scp or to a site's own command."""

import re
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from pyserver.policy.context import INFO, Services
from pyserver.policy.copies import changed_copies
from pyserver.policy.files import clean, work_folder
from pyserver.policy.parser import Line
from pyserver.policy.problems import CommandError

# Never asks for anything: without a key it fails.
SCP = ["scp", "-B", "-q", "%s", "%s"]


def submit(
    services: Services, work: dict[str, Any], files: list[dict[str, Any]], script: Line | None
) -> None:
    """Zip the objects, changed by the script, and hand the file over. Raises CommandError."""
    if not files:
        return
    target = str(work["clauses"]["target"])
    words = [str(word) for word in work.get("words", SCP)]
    with tempfile.TemporaryDirectory(dir=work_folder(services.home)) as name:
        folder = Path(name)
        paths = [str(file["path"]) for file in files]
        copies = changed_copies(services, script, paths, folder)
        made = folder / f"{clean(work['patient'])}_{int(time.time())}.zip"
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for number, copy in enumerate(copies):
                archive.write(copy, f"{number:06}.dcm")
        code = services.processes.run(_filled(words, str(made), target), services.home, None, False)
    if code != 0:
        raise CommandError(f"{words[0]}: exit code {code}")
    services.log(INFO, f"{len(copies)} objects submitted to {target}")


def _filled(words: list[str], file: str, target: str) -> list[str]:
    """The first `%s` is the file, the second the target."""
    values = iter((file, target))
    return [re.sub("%s", lambda found: next(values, found[0]), word) for word in words]
