"""In what databases differ: a row of words for each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one database says it."""

    name: str
    placeholder: str
    """Stands for a parameter."""
    text_parameter: str
    """Stands for a parameter that is text or the bytes of a text."""
    like: str
    """Comparison with a pattern whatever the case; {0} the column, {1} the parameter."""
    binary_order: str
    """Behind a column in ORDER BY: the order of bytes."""
    joined_classes: str
    """Distinct values of {0} joined by backslashes; empty: they are asked for by themselves."""
    exact: str
    """{0} is one of {1}, letters and spaces told apart; where the database would not, {1} twice."""
    table_options: str = ""
    """Behind CREATE TABLE (...)."""
    trims_char: bool = True
    """Whether columns of type char come back without the spaces that fill them."""
    list_parameter: str = ""
    """{0} is one of a list that is one parameter, where the database has this."""


SQLITE = Dialect(
    name="SQLite",
    placeholder="?",
    text_parameter="CAST(? AS TEXT)",
    like="{0} LIKE {1} ESCAPE '!'",
    binary_order="",
    joined_classes="REPLACE(GROUP_CONCAT(DISTINCT {0}), ',', '\\')",
    exact="{0} IN ({1})",
    list_parameter="{0} IN (SELECT value FROM json_each(?))",
)

POSTGRES = Dialect(
    name="PostgreSQL",
    placeholder="%s",
    text_parameter="%s",
    like="{0} ILIKE {1} ESCAPE '!'",
    binary_order=' COLLATE "C" NULLS FIRST',
    joined_classes="STRING_AGG(DISTINCT {0}, CHR(92))",
    exact="{0} IN ({1})",
    trims_char=False,
    list_parameter="{0} = ANY(%s)",
)

MARIADB = Dialect(
    name="MariaDB",
    placeholder="%s",
    text_parameter="%s",
    like="LOWER({0}) LIKE LOWER({1}) ESCAPE '!'",
    binary_order="",
    joined_classes="GROUP_CONCAT(DISTINCT {0} SEPARATOR 0x5C)",
    exact="({0} IN ({1}) AND BINARY {0} IN ({1}))",
    table_options=" CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
)

ODBC = Dialect(
    name="ODBC",
    placeholder="?",
    text_parameter="?",
    like="LOWER({0}) LIKE LOWER({1}) ESCAPE '!'",
    binary_order="",
    joined_classes="",
    exact="{0} IN ({1})",
    trims_char=False,
)
