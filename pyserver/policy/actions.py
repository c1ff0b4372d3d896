"""Commands that write files, run programs, call scripts and end lines, and the conditions."""

import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from pyserver.config.virtual_servers import NUMBERS
from pyserver.policy.arguments import TextToFile
from pyserver.policy.context import INFO, WARNING, Context, Outcome
from pyserver.policy.files import file_name, work_folder
from pyserver.policy.jobs import DESTROYS, FORWARD, Job
from pyserver.policy.matching import as_number, is_between, matches
from pyserver.policy.problems import CommandError
from pyserver.policy.processes import CommandLine, run_command
from pyserver.policy.template import Template

Pair = tuple[Template, Template]

# Conquest's private key: bit n asks VirtualServerForn.
VIRTUAL_SERVERS = "9999,0802"
MASK_MAX = 0xFFFF


def nop(context: Context, text: Template) -> None:
    """`nop`: a line in the log."""
    context.log(INFO, f"nop {text.render(context)}".rstrip())


def write(context: Context, arguments: TextToFile) -> None:
    """`write`: a file with this text."""
    _write(context, arguments, "wb")


def append(context: Context, arguments: TextToFile) -> None:
    """`append`: text at the end of a file."""
    _write(context, arguments, "ab")


def _write(context: Context, arguments: TextToFile, mode: str) -> None:
    path = file_name(context, arguments.file)
    data = arguments.text.render(context).encode("utf-8", "surrogateescape")
    try:
        with path.open(mode) as file:
            # One write: lines of several associations do not run into each other.
            file.write(data)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error


def copy(context: Context, arguments: Pair) -> None:
    """`copy`: a file to a file or into a folder."""
    source, target = (file_name(context, name) for name in arguments)
    try:
        shutil.copyfile(source, target / source.name if target.is_dir() else target)
    except OSError as error:
        raise CommandError(f"{source} to {target}: {error.strerror}") from error


def make_folder(context: Context, name: Template) -> None:
    """`mkdir`: a folder and those above it."""
    path = file_name(context, name)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error


def remove(context: Context, name: Template) -> None:
    """`rm`: a file goes."""
    path = file_name(context, name)
    try:
        path.unlink()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error


def system(context: Context, line: CommandLine) -> None:
    """`system`: a program runs to its end."""
    run_command(context, line)


def process_with(context: Context, line: CommandLine) -> None:
    """`process with`: a program gets the object as a file and may change it."""
    handle, name = tempfile.mkstemp(".dcm", "process-", work_folder(context.services.home))
    os.close(handle)
    path = Path(name)
    try:
        context.instance.save(path)
        code = run_command(context, line, name)
        if code != 0:
            raise CommandError(f"exit code {code}: the object stays as it was")
        context.instance.replace(path.read_bytes())
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}: the object stays as it was") from error
    finally:
        path.unlink(missing_ok=True)


def storage(context: Context, device: int) -> None:
    """`storage`: the device that the object should go to."""
    if device >= context.services.devices:
        raise CommandError(f"there is no MAG{device}")
    context.device = device


def test_mode(context: Context, text: Template) -> None:
    """`testmode`: names of files end so, for all objects that begin to arrive from now on."""
    suffix = text.render(context).strip()
    if context.services.test_mode is None:
        raise CommandError("nothing arrives here")
    context.services.test_mode(suffix)
    context.log(INFO, f"sets testmode to {suffix}")


def virtual_server(context: Context, text: Template) -> None:
    """`virtualserver`: one more virtual server that the query is for."""
    number = _number(text.render(context), len(NUMBERS) - 1)
    known = context.text(VIRTUAL_SERVERS)
    mask = int(known) if known.isdigit() else 0
    context.instance.set(VIRTUAL_SERVERS, str(mask | 1 << number))


def virtual_server_mask(context: Context, text: Template) -> None:
    """`virtualservermask`: the virtual servers that the query is for."""
    mask = _number(text.render(context), MASK_MAX)
    context.instance.set(VIRTUAL_SERVERS, str(mask))


def _number(text: str, largest: int) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and int(text) <= largest):
        raise CommandError(f"{text!r} is no number from 0 to {largest}")
    return int(text)


def destroy(context: Context, _arguments: None) -> Outcome:
    """`destroy`: the object is not kept and the sender hears success.

    Unless a command before it failed: what was to be saved or sent first would be lost. When all
    that failed is forwards that are done later, the object goes when they are done.
    """
    if context.failures and len(context.failures) == context.postponed:
        context.jobs = [_destroying(job) for job in context.jobs]
        context.log(WARNING, "destroy: the object is kept until it is sent")
        return Outcome.RETURN
    if context.failures:
        context.log(WARNING, f"destroy: the object is kept, for {context.failures[0]}")
        return Outcome.RETURN
    context.log(INFO, "destroy")
    return Outcome.DESTROY


def _destroying(payload: bytes) -> bytes:
    job = Job.decode(payload)
    if job is None or job.kind != FORWARD:
        return payload
    return replace(job, converter=job.converter | DESTROYS).encode()


def destroy_silently(context: Context, arguments: None) -> Outcome:
    """`destroy2`: the same without a line in the log."""
    return Outcome.DESTROY if not context.failures else destroy(context, arguments)


def reject(context: Context, _arguments: None) -> Outcome:
    """`reject`: the object is refused."""
    context.log(INFO, "reject")
    return Outcome.REJECT


def defer(_context: Context, _arguments: None) -> Outcome:
    """`defer`: the whole line is run again later."""
    return Outcome.DEFER


def retry(_context: Context, _arguments: None) -> Outcome:
    """`retry`: a refused object is stored once more, as it now is."""
    return Outcome.RETRY


def stop(context: Context, _arguments: None) -> Outcome:
    """`stop`: the line ends here."""
    context.log(INFO, "stop")
    return Outcome.STOP


def stop_silently(_context: Context, _arguments: None) -> Outcome:
    """`silentstop`: the same without a line in the log."""
    return Outcome.STOP


def leave(_context: Context, _arguments: None) -> Outcome:
    """`return`: a called file, or the line, ends here."""
    return Outcome.RETURN


def if_empty(context: Context, text: Template) -> bool:
    """`ifempty`."""
    return text.render(context) == ""


def if_not_empty(context: Context, text: Template) -> bool:
    """`ifnotempty`."""
    return text.render(context) != ""


def if_equal(context: Context, pair: Pair) -> bool:
    """`ifequal`: case counts."""
    return pair[0].render(context) == pair[1].render(context)


def if_not_equal(context: Context, pair: Pair) -> bool:
    """`ifnotequal`."""
    return not if_equal(context, pair)


def if_match(context: Context, pair: Pair) -> bool:
    """`ifmatch`: `*` and `?` stand for text; case does not count."""
    return matches(pair[0].render(context), pair[1].render(context))


def if_not_match(context: Context, pair: Pair) -> bool:
    """`ifnotmatch`."""
    return not if_match(context, pair)


def _numbers(context: Context, pair: Pair) -> tuple[float, float] | None:
    first, second = as_number(pair[0].render(context)), as_number(pair[1].render(context))
    return None if first is None or second is None else (first, second)


def if_num_equal(context: Context, pair: Pair) -> bool:
    """`ifnumequal`: false when one is no number."""
    numbers = _numbers(context, pair)
    return numbers is not None and numbers[0] == numbers[1]


def if_num_not_equal(context: Context, pair: Pair) -> bool:
    """`ifnumnotequal`: true when one is no number."""
    return not if_num_equal(context, pair)


def if_num_greater(context: Context, pair: Pair) -> bool:
    """`ifnumgreater`."""
    numbers = _numbers(context, pair)
    return numbers is not None and numbers[0] > numbers[1]


def if_num_less(context: Context, pair: Pair) -> bool:
    """`ifnumless`."""
    numbers = _numbers(context, pair)
    return numbers is not None and numbers[0] < numbers[1]


def between(context: Context, pair: Pair) -> bool:
    """`between "9", "17"`: from 9:00 to 16:59; from 22 to 6 goes over midnight."""
    numbers = _numbers(context, pair)
    if numbers is None:
        raise CommandError("between needs two hours")
    return is_between(time.localtime().tm_hour, int(numbers[0]), int(numbers[1]))
