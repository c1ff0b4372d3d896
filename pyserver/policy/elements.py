"""Commands that change elements of the object: set, delete, UIDs, patient IDs, scrub."""

import re

from pyserver.policy.arguments import SetArguments, UidArguments
from pyserver.policy.context import INFO, PATIENT_ID, Context
from pyserver.policy.matching import as_number
from pyserver.policy.paths import VARIABLES
from pyserver.policy.problems import CommandError
from pyserver.policy.template import Template

_FORMAT = re.compile(r"%([-+ #0]*\d*(?:\.\d+)?)([sdxXfgGeu%])")


def set_value(context: Context, arguments: SetArguments) -> None:
    """`set`: an element or a variable gets a text."""
    value = "" if arguments.value is None else arguments.value.render(context)
    if arguments.only_if_filled and not value:
        return
    if arguments.form is not None:
        value = formatted(arguments.form.render(context), value)
    _put(context, arguments.target, None if arguments.value is None else value)


def set_if_empty(context: Context, arguments: SetArguments) -> None:
    """`setifempty`: only an element or variable that is empty or absent."""
    target = arguments.target
    if target in VARIABLES:
        filled = context.variables.get(target, "")
    else:
        filled = context.instance.get(target.replace(".*", "")) or ""
    if not filled:
        set_value(context, arguments)


def _put(context: Context, target: str, value: str | None) -> None:
    if target in VARIABLES:
        context.variables[target] = value or ""
    elif value is None:
        context.instance.delete(target)
    else:
        context.instance.set(target, value)


def formatted(form: str, value: str) -> str:
    """C's printf with one argument, for the conversions of the manual: s, d, x, f, g."""

    def convert(found: re.Match[str]) -> str:
        flags, kind = found[1], found[2]
        if kind == "%":
            return "%"
        if kind == "s":
            return f"%{flags}s" % value
        if kind in "dxXu":
            number = re.match(r"\s*[-+]?\d+", value)
            return f"%{flags}{'d' if kind == 'u' else kind}" % (int(number[0]) if number else 0)
        return f"%{flags}{kind}" % (as_number(value) or 0.0)

    try:
        return _FORMAT.sub(convert, form)
    except ValueError as error:
        raise CommandError(f"format {form!r}: {error}") from error


def delete(context: Context, target: str) -> None:
    """`delete`: an element goes."""
    context.instance.delete(target)
    context.log(INFO, f"executes: delete {target}")


def new_uids(context: Context, arguments: UidArguments) -> None:
    """`newuids`: every UID of an object, study, ... gets another one, always the same."""
    stage = arguments.stage.render(context)
    uids = context.services.uids
    change = (context.instance, stage, list(arguments.tags), list(arguments.uids))
    if context.association and not context.exporting:
        context.uid_records += uids.change_with(*change)
    else:
        uids.change(*change)
    context.log(INFO, f"executes: newuids {stage}".rstrip())


def old_uids(context: Context, arguments: UidArguments) -> None:
    """`olduids`: the UIDs that the object had before `newuids`."""
    stage = arguments.stage.render(context)
    if stage.startswith("#"):
        raise CommandError(f"the UIDs of stage {stage} cannot be changed back")
    uids = context.services.uids
    uids.change_back(context.instance, stage, list(arguments.tags), list(arguments.uids))
    context.log(INFO, f"executes: olduids {stage}".rstrip())


def fix_kodak(context: Context, _arguments: None) -> None:
    """`fixkodak`: a patient ID of eight digits loses a leading zero."""
    patient = context.text(PATIENT_ID)
    if re.fullmatch(r"0\d{7}", patient):
        context.instance.set(PATIENT_ID, patient[1:])


def unfix_kodak(context: Context, _arguments: None) -> None:
    """`unfixkodak`: a patient ID of seven digits gets a leading zero."""
    patient = context.text(PATIENT_ID)
    if re.fullmatch(r"\d{7}", patient):
        context.instance.set(PATIENT_ID, f"0{patient}")


def scrub(context: Context, listed: Template) -> None:
    """`scrub`: elements of the list go, or only they stay."""
    context.instance.scrub(listed.render(context))
