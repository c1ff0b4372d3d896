"""The command table: every command of the converter language, one row each.

Names are found by their longest prefix in any case, as in Conquest (`nopx` is `nop`); a name of
several words must end where it ends. Parsing, checking, running and docs/converters.md read the
same rows.
"""

from collections.abc import Callable
from typing import Any

from pyserver.policy import actions, compression, elements
from pyserver.policy.arguments import (
    crop_arguments,
    delete_arguments,
    device_argument,
    file_to_file,
    free_text,
    mode_argument,
    nothing,
    one_string,
    save_arguments,
    set_arguments,
    setifempty_arguments,
    text_to_file,
    two_strings,
    uid_arguments,
)
from pyserver.policy.context import Context
from pyserver.policy.delayed import (
    LEVELS,
    DelayedArguments,
    delayed_arguments,
    prefetch_arguments,
    preretrieve_arguments,
    queue_delayed,
)
from pyserver.policy.forward import forward_arguments, run_forward
from pyserver.policy.parser import Command, ParseArguments, Where
from pyserver.policy.problems import ParseError, Problem
from pyserver.policy.processes import command_line

STORED = Where.IMPORT | Where.EXPORT
OBJECT = Where.IMPORT | Where.QUERY | Where.REJECTED
IMAGE = Where.IMPORT | Where.REJECTED
IMPORT = Where.IMPORT
ANY = Where.ANY


def _image(name: str) -> Callable[..., Any]:
    """A command of `images`, which is loaded when it is first used: it brings NumPy along."""

    def run(context: Context, arguments: Any) -> None:
        from pyserver.policy import images  # noqa: PLC0415

        getattr(images, name)(context, arguments)

    return run


def _not_yet(what: str) -> ParseArguments:
    def parse(_text: str, column: int, _problems: list[Problem]) -> None:
        raise ParseError(column, f"{what} is not available yet")

    return parse


def _no_run(_context: Context, _arguments: Any) -> None:
    """Never reached: the arguments of such a command never parse."""


def _row(
    name: str,
    form: str,
    parse: ParseArguments,
    run: Callable[..., Any],
    text: str,
    where: Where = ANY,
    guards: bool = False,
    sends: bool = False,
) -> Command:
    return Command(name, form, text, parse, run, where, guards=guards, sends=sends)


def _if(name: str, form: str, parse: ParseArguments, run: Callable[..., Any], text: str) -> Command:
    return Command(name, form, text, parse, run, ANY, condition=True)


def _later(name: str, form: str, what: str, where: Where = ANY) -> Command:
    text = f"Not available yet: {what}."
    return Command(name, form, text, _not_yet(name), _no_run, where, guards=True)


_TWO = '"a", "b"'

COMMANDS: tuple[Command, ...] = (
    _row("nop", "nop text", free_text, actions.nop, "Write a line to the log."),
    _row("write", 'write "s" to file', text_to_file, actions.write, "Write a text file."),
    _row("append", 'append "s" to file', text_to_file, actions.append, "Add to a text file."),
    _row("copy", "copy a to b", file_to_file, actions.copy, "Copy a file.", guards=True),
    _row("mkdir", "mkdir folder", free_text, actions.make_folder, "Make a folder."),
    _row("rm", "rm file", free_text, actions.remove, "Remove a file."),
    _row("system", "system command", command_line, actions.system, "Run a program."),
    _row(
        "process with",
        "process with command",
        command_line,
        actions.process_with,
        "Have a program change the object.",
        IMAGE,
        guards=True,
    ),
    _row(
        "set",
        'set T to|if "s", set T to nil',
        set_arguments,
        elements.set_value,
        "Set an element or variable.",
        OBJECT,
        guards=True,
    ),
    _row(
        "setifempty",
        'setifempty T to|if "s"',
        setifempty_arguments,
        elements.set_if_empty,
        "Set what is empty.",
        OBJECT,
        guards=True,
    ),
    _row(
        "delete",
        "delete T",
        delete_arguments,
        elements.delete,
        "Remove an element.",
        OBJECT,
        guards=True,
    ),
    _row(
        "newuids",
        "newuids [stage S] [except a|b]",
        uid_arguments,
        elements.new_uids,
        "Change the UIDs of the object.",
        OBJECT,
        guards=True,
    ),
    _row(
        "olduids",
        "olduids [stage S] [except a|b]",
        uid_arguments,
        elements.old_uids,
        "Change UIDs back.",
        OBJECT,
        guards=True,
    ),
    _row(
        "fixkodak",
        "fixkodak",
        nothing,
        elements.fix_kodak,
        "Take a leading zero from an eight-digit patient ID.",
        OBJECT,
    ),
    _row(
        "unfixkodak",
        "unfixkodak",
        nothing,
        elements.unfix_kodak,
        "Give a seven-digit patient ID a leading zero.",
        OBJECT,
    ),
    _row(
        "scrub",
        "scrub -L|+L",
        free_text,
        elements.scrub,
        "Remove or keep elements.",
        OBJECT,
        guards=True,
    ),
    _row("crop", "crop x1,y1,x2,y2", crop_arguments, _image("crop"), "Cut the image.", IMAGE, True),
    _row("tomono", "tomono", nothing, _image("to_mono"), "Make RGB grey.", IMAGE, True),
    _row(
        "save",
        "save [bmp|gif|jpg] [options] to file",
        save_arguments,
        _image("save"),
        "Write the object or a picture of it to a file.",
        guards=True,
        sends=True,
    ),
    _row(
        "storage",
        "storage MAGn",
        device_argument,
        actions.storage,
        "Choose the storage folder.",
        IMPORT,
    ),
    _row("destroy", "destroy", nothing, actions.destroy, "Do not keep the object.", OBJECT),
    _row(
        "destroy2",
        "destroy2",
        nothing,
        actions.destroy_silently,
        "The same without a line in the log.",
        OBJECT,
    ),
    _row("reject", "reject", nothing, actions.reject, "Refuse the object.", OBJECT),
    _row("stop", "stop", nothing, actions.stop, "End the line."),
    _row("silentstop", "silentstop", nothing, actions.stop_silently, "The same, not logged."),
    _row("return", "return", nothing, actions.leave, "End the called file or the line."),
    _if("ifempty", 'ifempty "a"', one_string, actions.if_empty, "Is the text empty?"),
    _if("ifnotempty", 'ifnotempty "a"', one_string, actions.if_not_empty, "Is it not?"),
    _if("ifequal", f"ifequal {_TWO}", two_strings, actions.if_equal, "Are they the same?"),
    _if("ifnotequal", f"ifnotequal {_TWO}", two_strings, actions.if_not_equal, "Are they not?"),
    _if("ifmatch", f"ifmatch {_TWO}", two_strings, actions.if_match, "Does a match pattern b?"),
    _if("ifnotmatch", f"ifnotmatch {_TWO}", two_strings, actions.if_not_match, "Does it not?"),
    _if("ifnumequal", f"ifnumequal {_TWO}", two_strings, actions.if_num_equal, "a = b?"),
    _if("ifnumnotequal", f"ifnumnotequal {_TWO}", two_strings, actions.if_num_not_equal, "Not?"),
    _if("ifnumgreater", f"ifnumgreater {_TWO}", two_strings, actions.if_num_greater, "a > b?"),
    _if("ifnumless", f"ifnumless {_TWO}", two_strings, actions.if_num_less, "a < b?"),
    _if("between", 'between "h1", "h2"', two_strings, actions.between, "h1 <= hour < h2?"),
    _row(
        "compression",
        "compression CC[nn]",
        mode_argument,
        compression.compress,
        "Recompress the object.",
        IMAGE,
        guards=True,
    ),
    _row(
        "forward",
        "forward [compressed as CC] to AE [org AE] [dest AE] [channel N] [script commands]",
        forward_arguments,
        run_forward,
        "Send the object on.",
        guards=True,
        sends=True,
    ),
    _row("defer", "defer", nothing, actions.defer, "Run the line again later.", Where.EXPORT),
    _row(
        "prefetch",
        "prefetch",
        prefetch_arguments,
        queue_delayed,
        "Read the patient's files into memory later.",
        STORED,
    ),
    _row(
        "preretrieve",
        "preretrieve AE",
        preretrieve_arguments,
        queue_delayed,
        "Fetch the patient later.",
        STORED,
    ),
    _row("retry", "retry", nothing, actions.retry, "Store the object again.", Where.REJECTED),
    _row(
        "testmode",
        "testmode s",
        free_text,
        actions.test_mode,
        "Put a text behind the names of files from now on.",
        STORED,
    ),
    _row(
        "virtualservermask",
        "virtualservermask N",
        free_text,
        actions.virtual_server_mask,
        "Ask these virtual servers only: a number with bit n for VirtualServerForn.",
        Where.QUERY,
    ),
    _row(
        "virtualserver",
        "virtualserver N",
        free_text,
        actions.virtual_server,
        "Ask virtual server N besides those chosen already.",
        Where.QUERY,
    ),
    _later("lua", 'lua "chunk", lua:chunk', "Lua"),
)


def _delayed(operation: str, level: str, form: str, text: str) -> Command:
    parse_all = delayed_arguments(operation)

    def parse(rest: str, column: int, problems: list[Problem]) -> DelayedArguments:
        return parse_all(f" {level}{rest}", column - len(level) - 1, problems)

    name = f"{operation} {level}"
    return Command(name, f"{name}{form}", text, parse, queue_delayed, STORED, guards=True)


COMMANDS += tuple(
    _delayed(operation, level, form, f"{what} of the {level}, once it is complete.")
    for operation, form, what in (
        ("forward", " [clauses] [after N] to AE", "Send the objects"),
        ("get", " [clauses] [after N] from AE", "Fetch the objects"),
        ("delete", " [clauses] [after N]", "Delete the objects"),
        ("process", " [after N] by command", "Run a program"),
        ("submit2", " [clauses] target T command C [after N]", "Hand a zip file to a command"),
        ("submit", " [clauses] target user@host:folder [after N]", "Send a zip file by scp"),
    )
    for level in LEVELS
)

COMMANDS += (_delayed("merge", "study", " [clauses] [after N]", "Merge the series of the study."),)

_BY_PREFIX = sorted(COMMANDS, key=lambda command: -len(command.name))


def find_command(text: str) -> tuple[Command, int] | None:
    """The command that a text begins with, and where its arguments begin."""
    lowered = text.lower()
    for command in _BY_PREFIX:
        end = len(command.name)
        if lowered.startswith(command.name):
            if " " in command.name and lowered[end : end + 1].isalnum():
                continue
            return command, end
    return None
