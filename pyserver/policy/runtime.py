"""Runs a parsed line on one object."""

from pyserver import _native
from pyserver.policy.context import ERROR, Context, Outcome
from pyserver.policy.parser import Command, Line
from pyserver.policy.problems import CommandError, Undelivered

# Commands that show the object to nobody; a script is looked at command by command.
QUIET = frozenset(
    (
        *("set", "setifempty", "delete", "newuids", "olduids", "fixkodak", "unfixkodak", "scrub"),
        *("crop", "tomono", "compression", "storage", "destroy", "destroy2", "reject", "retry"),
        *("nop", "stop", "silentstop", "return", "script", "call"),
    )
)


def run_line(line: Line, context: Context) -> Outcome:
    """Run every command in turn. One that fails is logged and the line goes on; a condition that
    fails counts as false."""
    steps = line.steps
    at = 0
    while at < len(steps):
        step = steps[at]
        at += 1
        context.part = step.part
        command = step.command
        try:
            if not command.condition:
                _before(command, context)
            result = command.run(context, step.arguments)
        except (CommandError, ValueError, OSError, _native.NativeError) as error:
            if isinstance(error, Undelivered) and context.exporting:
                raise
            text = f"{step.text[:200]}: {error}"
            context.log(ERROR, f"error: {text}")
            if command.guards:
                context.failures.append(text)
            result = False if command.condition else None
        if command.condition:
            if not result:
                at = step.skip_to
        elif result is not None and result is not Outcome.NORMAL:
            outcome: Outcome = result
            return outcome
    return Outcome.NORMAL


def _before(command: Command, context: Context) -> None:
    """What must be so before a command that is no condition runs."""
    # A forward that is done later has not spoilt the object for what comes after it.
    if command.sends and len(context.failures) > context.postponed:
        raise CommandError(f"not done, for {context.failures[0]}")
    if command.name not in QUIET:
        context.commit_uids()
