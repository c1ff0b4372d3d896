"""`python -m fuzz.python TARGET [options of libFuzzer] [folders]`: one target under Atheris."""

import sys

import atheris

with atheris.instrument_imports(include=["pyserver.config"]):
    from fuzz.python.targets import TARGETS, run


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m fuzz.python {{{','.join(TARGETS)}}} [options] [folders]")
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, lambda data: run(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
