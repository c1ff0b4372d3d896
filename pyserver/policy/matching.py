"""Wildcards of filters and of `ifmatch`, and the comparisons of the `if` commands."""

import re
from functools import lru_cache

_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")


@lru_cache(maxsize=1024)
def wildcards(pattern: str, many: str = "*", one: str = "?") -> re.Pattern[str]:
    """For whole values: `many` is any text, `one` any character; case does not count."""
    parts = {many: ".*", one: "."}
    text = "".join(parts.get(letter, re.escape(letter)) for letter in pattern)
    return re.compile(text, re.IGNORECASE | re.DOTALL)


def matches(value: str, pattern: str) -> bool:
    """`*` is any text, `?` any character; case and trailing blanks do not count."""
    return wildcards(pattern).fullmatch(value.rstrip()) is not None


def as_number(text: str) -> float | None:
    """A decimal number, or None for what is none."""
    return float(text) if _NUMBER.fullmatch(text) else None


def is_between(hour: int, first: int, end: int) -> bool:
    """Whether an hour lies in `first` <= hour < `end`; from 22 to 6 goes over midnight."""
    if end < first:
        return not end <= hour < first
    return first <= hour < end
