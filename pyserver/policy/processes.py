"""Programs that converters run: without a shell, a few at a time, not for ever.

A command line is split into words where it is written; each % item is part of one word, whatever
it holds. `>` and `>>` at the end name a file. With `ShellCommands = 1` the line goes to /bin/sh,
and items reach it as positional parameters, so that their text is never read as shell.
"""

import os
import shlex
import signal
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from pyserver.policy.context import INFO, WARNING, Context
from pyserver.policy.files import file_name
from pyserver.policy.problems import CommandError, ParseError, Problem
from pyserver.policy.template import Item, Template, parse_template

SHELL_SIGNS = ("|", "&", "<", "`", "$(")


class Processes:
    """At most `limit` programs at once, each for at most `seconds` (0: without end)."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._slots = threading.BoundedSemaphore(limit)
        self._seconds = seconds

    def run(self, words: list[str], home: Path, output: Path | None, append: bool) -> int:
        """Run a program to its end; its exit code. Raises CommandError when it cannot be run."""
        with self._slots:
            try:
                if output is None:
                    return self._wait(words, home, subprocess.DEVNULL)
                with output.open("ab" if append else "wb") as file:
                    return self._wait(words, home, file.fileno())
            except OSError as error:
                raise CommandError(f"{words[0]}: {error.strerror}") from error

    def _wait(self, words: list[str], home: Path, output: int) -> int:
        process = subprocess.Popen(
            words,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if value},
        )
        try:
            return process.wait(self._seconds or None)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            text = f"{words[0]} did not end within {self._seconds:g} s and was killed"
            raise CommandError(text) from error


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Words of a program's command line, a file for its output, and the line as one text."""

    words: tuple[Template, ...]
    output: Template | None
    append: bool
    whole: Template

    @property
    def needs_shell(self) -> bool:
        """Whether the text uses what only a shell does."""
        text = "".join(p if isinstance(p, str) else "%" for p in self.whole.parts)
        bare = "".join(part for n, part in enumerate(text.split('"')) if n % 2 == 0)
        return any(sign in bare for sign in SHELL_SIGNS)


def command_line(text: str, column: int, problems: list[Problem]) -> CommandLine:
    """Split a command line. Raises ParseError when a quote is not closed or nothing is there."""
    lexer = shlex.shlex(text.strip(), posix=True, punctuation_chars=">")
    lexer.whitespace_split = True
    lexer.commenters = ""
    lexer.escape = ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise ParseError(column, f"the command line: {error}") from error
    output, append = None, False
    if len(words) > 2 and words[-2] in (">", ">>"):
        append = words[-2] == ">>"
        output = parse_template(words[-1], column, problems)
        words = words[:-2]
    if not words:
        raise ParseError(column, "a program is expected")
    return CommandLine(
        tuple(parse_template(word, column, []) for word in words),
        output,
        append,
        parse_template(text.strip(), column, problems),
    )


def run_command(context: Context, line: CommandLine, *more: str) -> int:
    """Run a command line, with more words at its end; the exit code, which is also logged."""
    services = context.services
    if services.shell:
        words, output = ["/bin/sh", "-c", *_shell_form(context, line.whole, more)], None
    elif line.needs_shell:
        raise CommandError("this command line needs a shell: set ShellCommands = 1")
    else:
        words = [word.render(context) for word in line.words] + list(more)
        output = None if line.output is None else file_name(context, line.output)
    code = services.processes.run(words, services.home, output, line.append)
    context.log(INFO if code == 0 else WARNING, f"{line.words[0].prefix}: exit code {code}")
    return int(code)


def _shell_form(context: Context, line: Template, more: tuple[str, ...]) -> list[str]:
    """The script with `${n}` for each item, `sh` as its name, and the items' values."""
    script, values, quote = "", [], ""
    for part in line.parts:
        if isinstance(part, str):
            script += part
            quote = _open_quote(part, quote)
            continue
        values.append(_value(context, part))
        parameter = f"${{{len(values)}}}"
        script += {"": f'"{parameter}"', '"': parameter, "'": f"'\"{parameter}\"'"}[quote]
    for word in more:
        values.append(word)
        script += f' "${{{len(values)}}}"'
    return [script, "sh", *values]


def _value(context: Context, item: Item) -> str:
    return item.value(context).replace("\0", "")


def _open_quote(text: str, quote: str) -> str:
    """The quote that is open behind a text."""
    at = 0
    while at < len(text):
        letter = text[at]
        if letter == "\\" and quote != "'":
            at += 2
            continue
        if letter == quote:
            quote = ""
        elif not quote and letter in "\"'":
            quote = letter
        at += 1
    return quote
