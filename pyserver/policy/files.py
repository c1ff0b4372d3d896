"""File names that converters make: relative to the home folder, and never outside their folder.

What comes from an object (`%i`, `%V...`) cannot name another folder: path separators in it become
`_`. The whole name must lie below the folder that stands before the first item in the converter
line, below the home folder, or below one of `ConverterFolders`.
"""

import os
import re
from pathlib import Path

from pyserver.policy.context import Context
from pyserver.policy.problems import CommandError
from pyserver.policy.template import Template

_SEPARATORS = re.compile(r"[/\\\0]")


WORK_FOLDER = ".pyserver-work"


def work_folder(home: Path) -> Path:
    """Where files stand that only a running command needs; emptied at the start."""
    folder = home / WORK_FOLDER
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder


def clean(value: str) -> str:
    """A value from outside as one part of a file name."""
    value = _SEPARATORS.sub("_", value)
    return "_" * len(value) if value in (".", "..") else value


def file_name(context: Context, template: Template) -> Path:
    """The file that a template names for this object.

    Raises CommandError when it is empty or outside the folders that converters may write to.
    """
    text = template.render_with(context, clean).strip()
    if not text:
        raise CommandError("the file name is empty")
    home = context.services.home
    path = Path(os.path.realpath(home / text))
    written = template.prefix.strip().rpartition("/")[0]
    allowed = [home, *context.services.folders]
    if written or template.prefix.startswith("/"):
        allowed.append(home / (written or "/"))
    if not any(path.is_relative_to(os.path.realpath(folder)) for folder in allowed):
        raise CommandError(
            f"{path} is outside the folders that converters write to: name its folder in the "
            "converter line or in ConverterFolders"
        )
    # A folder that is named stays one.
    return path
