"""`ExportFilterN`: a condition in SQL over the columns of dicom.sql, decided on the object itself.

It is parsed here and never reaches a database. Understood: `and`, `or`, `not`, parentheses, `=`,
`<>`, `!=`, `<`, `<=`, `>`, `>=`, `like` (`%` any text, `_` any character, case does not count),
`in (...)`, `between ... and ...`, `is [not] null`. Columns have their names in dicom.sql (whole, or
cut as in the database), with or without the table before a dot.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyserver.policy.matching import as_number, wildcards
from pyserver.policy.problems import ParseError

# Value of a column of the object at hand.
Lookup = Callable[[str], str]
Test = Callable[[Lookup], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*'|\"[^\"]*\")|(?P<number>-?\d+(?:\.\d+)?)"
    r"|(?P<word>[A-Za-z_][\w.]*)|(?P<sign><>|!=|<=|>=|[=<>(),]))"
)
_COMPARE: dict[str, Callable[[int], bool]] = {
    "=": lambda order: order == 0,
    "<>": lambda order: order != 0,
    "!=": lambda order: order != 0,
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
}
DEPTH_MAX = 50
# Names of the manual for columns that dicom.sql calls otherwise.
SYNONYMS = {"rows": "qrows", "columns": "qcolumns"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int


@dataclass(frozen=True, slots=True)
class _Operand:
    """A column (its tag) or a literal."""

    tag: str = ""
    text: str = ""

    def value(self, lookup: Lookup) -> str:
        return lookup(self.tag) if self.tag else self.text


def parse_filter(text: str, columns: Mapping[str, str]) -> Test:
    """The test that a condition stands for. `columns`: names in lower case and their tags.

    Raises ParseError with the column where something else was expected.
    """
    parser = _Parser(text, columns)
    test = parser.condition()
    if parser.token is not None:
        raise ParseError(parser.token.column, f"{parser.token.text!r} is not expected here")
    return test


class _Parser:
    def __init__(self, text: str, columns: Mapping[str, str]) -> None:
        self.columns = columns
        self.tokens = list(_tokens(text))
        self.end = len(text) + 1
        self.at = 0
        self.depth = 0

    @property
    def token(self) -> _Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def accept(self, *texts: str) -> str | None:
        token = self.token
        if token is not None and token.kind != "string" and token.text.lower() in texts:
            self.at += 1
            return token.text.lower()
        return None

    def expect(self, text: str) -> None:
        if self.accept(text) is None:
            raise ParseError(self.column(), f"{text!r} is expected")

    def column(self) -> int:
        return self.end if self.token is None else self.token.column

    def condition(self) -> Test:
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise ParseError(self.column(), "nested too deep")
        tests = [self.conjunction()]
        while self.accept("or"):
            tests.append(self.conjunction())
        self.depth -= 1
        return tests[0] if len(tests) == 1 else lambda look: any(test(look) for test in tests)

    def conjunction(self) -> Test:
        tests = [self.negation()]
        while self.accept("and"):
            tests.append(self.negation())
        return tests[0] if len(tests) == 1 else lambda look: all(test(look) for test in tests)

    def negation(self) -> Test:
        if self.accept("not"):
            self.depth += 1
            if self.depth > DEPTH_MAX:
                raise ParseError(self.column(), "nested too deep")
            test = self.negation()
            self.depth -= 1
            return lambda look: not test(look)
        if self.accept("("):
            test = self.condition()
            self.expect(")")
            return test
        return self.comparison()

    def comparison(self) -> Test:
        left = self.operand()
        if sign := self.accept(*_COMPARE):
            return _comparison(left, _COMPARE[sign], self.operand())
        if self.accept("is"):
            negated = self.accept("not") is not None
            self.expect("null")
            return lambda look: (left.value(look) == "") is not negated
        negated = self.accept("not") is not None
        test = self.predicate(left)
        return (lambda look: not test(look)) if negated else test

    def predicate(self, left: _Operand) -> Test:
        if self.accept("like"):
            pattern = self.operand()
            return lambda look: _like(left.value(look), pattern.value(look))
        if self.accept("in"):
            self.expect("(")
            choices = [self.operand()]
            while self.accept(","):
                choices.append(self.operand())
            self.expect(")")
            tests = [_comparison(left, _COMPARE["="], choice) for choice in choices]
            return lambda look: any(test(look) for test in tests)
        if self.accept("between"):
            low = _comparison(left, _COMPARE[">="], self.operand())
            self.expect("and")
            high = _comparison(left, _COMPARE["<="], self.operand())
            return lambda look: low(look) and high(look)
        raise ParseError(self.column(), "a comparison is expected")

    def operand(self) -> _Operand:
        token = self.token
        if token is None:
            raise ParseError(self.end, "a column or a value is expected")
        self.at += 1
        if token.kind == "string":
            quote = token.text[0]
            return _Operand(text=token.text[1:-1].replace(quote * 2, quote))
        if token.kind == "number":
            return _Operand(text=token.text)
        if token.kind == "word":
            name = token.text.rpartition(".")[2].lower()
            tag = self.columns.get(name) or self.columns.get(SYNONYMS.get(name, ""))
            if tag is not None:
                return _Operand(tag=tag)
            raise ParseError(token.column, f"{token.text!r} is no column of dicom.sql")
        raise ParseError(token.column, "a column or a value is expected")


def _tokens(text: str) -> list[_Token]:
    found = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            raise ParseError(start + 1, f"{text[start : start + 10]!r} is no SQL of a condition")
        kind = match.lastgroup or ""
        found.append(_Token(kind, match[kind], match.start(kind) + 1))
        at = match.end()
    return found


def _comparison(left: _Operand, holds: Callable[[int], bool], right: _Operand) -> Test:
    def test(lookup: Lookup) -> bool:
        first, second = left.value(lookup).rstrip(), right.value(lookup).rstrip()
        numbers = as_number(first), as_number(second)
        if numbers[0] is not None and numbers[1] is not None:
            return holds((numbers[0] > numbers[1]) - (numbers[0] < numbers[1]))
        return holds((first > second) - (first < second))

    return test


def _like(value: str, pattern: str) -> bool:
    return wildcards(pattern, "%", "_").fullmatch(value) is not None
