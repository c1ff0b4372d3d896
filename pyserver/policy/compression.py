"""`compression CC`: the object in another compression, or as CompressionConverter0 to 9 make it."""

from pyserver.policy.context import INFO, Context, Outcome
from pyserver.policy.modes import converter_of
from pyserver.policy.problems import CommandError
from pyserver.policy.runtime import run_line


def compress(context: Context, code: str) -> Outcome:
    """`compression`: as IncomingCompression would, which then has no say any more."""
    recompress(context, code)
    context.compressed = True
    context.log(INFO, f"compression to {code}")
    return Outcome.NORMAL


def recompress(context: Context, code: str, to_send: bool = False) -> None:
    """Put the object at hand into a mode. Raises CommandError when that cannot be done."""
    services = context.services
    number = converter_of(code)
    if number is not None:
        _run_converter(context, number)
        return
    if services.codecs is None:
        raise CommandError("there are no codecs here")
    if code.startswith("n") and not (services.keeps_nki or to_send):
        # Uncompressed instead, as in Conquest.
        code = "uj" if code == "nj" else "un"
    context.instance.recompress(services.codecs, code, "", services.quality)


def _run_converter(context: Context, number: int) -> None:
    line = context.services.lines.get(f"Compression{number}")
    if line is None:
        raise CommandError(f"there is no CompressionConverter{number}")
    label, context.label = context.label, f"Compressionconverter{number}"
    failed_before = len(context.failures)
    try:
        run_line(line, context)
    finally:
        context.label = label
    if len(context.failures) > failed_before:
        raise CommandError(context.failures.pop())
