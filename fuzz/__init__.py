"""Fuzzing: see README.md. The Python half is `fuzz.python`."""
