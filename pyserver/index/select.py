"""The SELECT behind a query. Text from outside goes into parameters only."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from pyserver.index.dialect import Dialect
from pyserver.index.driver import Condition, Place, Query
from pyserver.index.tables import IMAGE, PATIENT, SERIES, STUDY, Schema

# Longer lists are one parameter where the database has that.
LIST_MAX = 200

SOP_CLASS_UID = "0008,0016"

Parameter = str | list[str]


@dataclass
class Select:
    """One SELECT while it is put together."""

    schema: Schema
    dialect: Dialect
    level: int
    wanted: list[str] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    joined: int = 0
    """The highest level that is joined."""

    def column(self, place: Place) -> str:
        """A column; the key of the level above what is joined stands in the link as well."""
        level, number = place
        table = self.schema.table(level)
        if level < self.joined and number == 0:
            below = self.schema.tables[level + 1]
            return f"{below.name}.{below.link}"
        return f"{table.name}.{table.columns[number].name}"

    def join_for(self, places: Sequence[Place]) -> None:
        """Join as far up as the columns need; a key alone is in the link of the level below."""
        self.joined = self.level
        for level, number in places:
            needed = level + 1 if number == 0 and level < self.level else level
            self.joined = min(self.joined, needed)

    def value(self, place: Place) -> str:
        """A column as it is wanted back."""
        level, number = place
        column = self.column(place)
        is_date = self.schema.table(level).columns[number].is_date
        return f"RTRIM({column})" if is_date and not self.dialect.trims_char else column

    def narrow(self, condition: Condition) -> None:
        """Add one condition."""
        place, kind, values = condition
        column = self.column(place)
        mark = self.dialect.placeholder
        if kind == "any" and len(values) > LIST_MAX and self.dialect.list_parameter:
            self.where.append(self.dialect.list_parameter.format(column))
            as_json = "json_each" in self.dialect.list_parameter
            self.parameters.append(json.dumps(list(values)) if as_json else list(values))
        elif kind == "any":
            self.where.append(f"{column} IN ({', '.join([mark] * len(values))})")
            self.parameters.extend(values)
        elif kind == "like":
            self.where.append(self.dialect.like.format(column, mark))
            self.parameters.append(like_pattern(values[0]))
        else:
            self.where.append(f"{column} {'>=' if kind == 'least' else '<='} {mark}")
            self.parameters.append(values[0])

    def text(self, sort: Place | None) -> str:
        """The statement."""
        tables = self.schema.tables
        own = self.schema.table(self.level)
        sources = own.name
        for level in range(self.level - 1, self.joined - 1, -1):
            above, below = tables[level], tables[level + 1]
            # A study may be without patient (AllowEmptyPatientID).
            how = "LEFT JOIN" if level == PATIENT else "JOIN"
            link = f"{above.name}.{above.key} = {below.name}.{below.link}"
            sources += f" {how} {above.name} ON {link}"
        text = f"SELECT {', '.join(self.wanted)} FROM {sources}"
        if self.where:
            text += f" WHERE {' AND '.join(self.where)}"
        if sort is not None:
            key = f"{own.name}.{own.key}"
            text += f" ORDER BY {self.column(sort)}{self.dialect.binary_order}, {key}"
        return text

    def count(self, below: int) -> str:
        """Rows of a lower level below the row."""
        return self._below(below, "COUNT(*)")

    def classes(self) -> str:
        """SOP classes of a study."""
        image = self.schema.tables[IMAGE]
        names = [column.name for column in image.columns if column.tag == SOP_CLASS_UID]
        if not names or not self.dialect.joined_classes:
            return "NULL"
        column = f"{image.name}.{names[0]}"
        return self._below(IMAGE, self.dialect.joined_classes.format(column))

    def _below(self, below: int, what: str) -> str:
        tables = self.schema.tables
        sources = tables[below].name
        for level in range(below - 1, self.level, -1):
            above, under = tables[level], tables[level + 1]
            sources += f" JOIN {above.name} ON {above.name}.{above.key} = {under.name}.{under.link}"
        first, own = tables[self.level + 1], tables[self.level]
        link = f"{first.name}.{first.link} = {own.name}.{own.key}"
        return f"(SELECT {what} FROM {sources} WHERE {link})"


def build_select(schema: Schema, dialect: Dialect, query: Query) -> tuple[str, list[Parameter]]:
    """Statement and parameters for `Driver.find`."""
    select = Select(schema, dialect, query.level)
    sort = query.sort
    places = [*query.columns, *(place for place, _, _ in query.conditions)]
    select.join_for([*places, sort] if sort is not None else places)
    select.wanted += [select.value(place) for place in query.columns]
    select.wanted += [select.count(below) for below in query.counts]
    if query.sop_classes:
        select.wanted.append(select.classes() if query.level == STUDY else "NULL")
    if query.file:
        image = schema.tables[IMAGE].name
        select.wanted += [f"{image}.ObjectFile", f"{image}.DeviceName"]
    for condition in query.conditions:
        select.narrow(condition)
    if query.file and query.level == IMAGE and sort is None:
        # Images of one series together: what they share is encoded once.
        sort = (SERIES, 0)
    return select.text(sort), select.parameters


def like_pattern(text: str) -> str:
    """A pattern of LIKE from text with `*` for any characters; `!` escapes."""
    escaped = text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return escaped.replace("*", "%")
