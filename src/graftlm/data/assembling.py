"""Tables -> a data set: columns become roles, values become texts and names, splits become complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graftlm.data.answers import locate_answers
from graftlm.data.columns import Assignment, assign_roles
from graftlm.data.dataset import Dataset, Split
from graftlm.data.label_sets import joined_label_columns
from graftlm.data.normalising import text_keys
from graftlm.data.options import DataOptions
from graftlm.data.places import counted, first_places
from graftlm.data.role_values import role_values
from graftlm.data.roles import INPUT_KINDS, Role
from graftlm.data.split_names import KNOWN_SPLIT_NAMES, split_of
from graftlm.data.splitting import Units, bind_rows, carve
from graftlm.data.strata import strata
from graftlm.data.table import Table, Tables
from graftlm.data.words import as_text
from graftlm.errors import ConfigurationError, DataError, clip, nearest


def assemble(tables: Tables, roles: Sequence[Role], options: DataOptions, seed: int) -> Dataset:
    """Give every column its role and complete the splits.

    Splits that were given stay as they are. A missing test split is carved from train (``test_share`` of the
    rows), then a missing validation split (``validation_share`` of the rest), so that a split which selects
    a checkpoint never gives the headline score. A share of 0 leaves that split out. Which rows are carved
    depends on the seed and the texts only.

    Raises:
        DataError: a column is missing or its values do not fit the role, or there are too few rows to carve.
        ConfigurationError: ``data.columns``, ``data.group_column`` or ``data.split_column`` name nothing.
    """
    tables = with_joined_labels(tables, roles, options)
    if options.tag_names and not any(role.kind in ("tags", "entities") for role in roles):
        raise ConfigurationError(
            "only a task that tags words reads names of tags",
            where="data.tag_names",
            fix="set task.name=token_classification or word_tagging, or leave data.tag_names out",
        )
    main = next(iter(tables.splits.values()))
    reserved = {name for name in (options.split_column, options.group_column) if name is not None}
    assignment = assign_roles(main, roles, options.columns, reserved, tables.known_columns)
    decisions = [
        *tables.decisions,
        *(sentence for table in tables.splits.values() for sentence in table.said),
    ]
    decisions.append(columns_sentence(main, assignment, roles, options))
    named = {"train" if name == "all" else name: table for name, table in tables.splits.items()}
    roles = [role for role in roles if role.name in assignment.columns]
    splits = {
        name: split_of_table(name, table, roles, assignment, options, decisions)
        for name, table in named.items()
    }
    groups = _groups(main, options) if options.group_column is not None else None
    if options.group_column is not None:
        _refuse_shared_groups(
            {name: _groups(table, options) for name, table in tables.splits.items()}, options
        )
    if options.split_column is not None:
        splits, groups = _split_by_column(tables, options, splits["train"], groups, decisions)
    if options.drop_empty_text:
        splits, groups = _without_empty_texts(splits, groups, roles, decisions)
    splits, groups = _with_located_answers(splits, groups, roles, decisions)
    splits = _carve_missing(splits, groups, roles, options, seed, decisions)
    return Dataset(splits, tables.origin, decisions, assignment.columns)


def with_joined_labels(tables: Tables, roles: Sequence[Role], options: DataOptions) -> Tables:
    """Return the tables with ``data.label_columns`` as one column of label lists, where they are given."""
    if not options.label_columns:
        return tables
    role = next((role for role in roles if role.kind == "label_set"), None)
    if role is None:
        raise ConfigurationError(
            "only a task with any number of labels for a row reads label columns",
            where="data.label_columns",
            fix="set task.name=multi_label_classification, or leave data.label_columns out",
        )
    splits = {
        name: joined_label_columns(table, options.label_columns, role.name)
        for name, table in tables.splits.items()
    }
    return replace(tables, splits=splits)


def columns_sentence(
    table: Table, assignment: Assignment, roles: Sequence[Role], options: DataOptions
) -> str:
    """Return which column plays which role; joined label columns go by their own names."""
    reasons = dict(zip(assignment.columns, assignment.reasons, strict=True))
    joined = next((role.name for role in roles if role.kind == "label_set"), None)
    if options.label_columns and joined is not None:
        reasons[joined] = f"{joined}: columns {', '.join(map(clip, options.label_columns))} (chosen)"
    return f"Columns of {table.source}: {'; '.join(reasons.values())}."


def split_of_table(
    name: str,
    table: Table,
    roles: Sequence[Role],
    assignment: Assignment,
    options: DataOptions,
    said: list[str],
) -> Split:
    """Return all rows of a table as one split; raise `DataError` where a column is missing or unfit.

    Sentences about what was turned or left out are added to ``said``.
    """
    for role, column in assignment.columns.items():
        if column not in table.columns:
            raise DataError(
                f"has no column {clip(column)} for the {role}, which the training data has; "
                f"its columns: {', '.join(map(clip, table.columns))}.{nearest(column, table.columns)}",
                where=table.source,
                fix="name the column as in the training data, or leave this split out",
            )
    columns: dict[str, list[object]] = {}
    for role in roles:
        if role.name in assignment.columns:
            column = assignment.columns[role.name]
            columns[role.name] = role_values(table, column, role, options, columns, said)
    return Split(name, columns, [table.place(row) for row in range(len(table))])


def _option_column(table: Table, option: str, name: str) -> list[object]:
    if name not in table.columns:
        raise ConfigurationError(
            f"{table.source} has no column {clip(name)}.{nearest(name, table.columns)} "
            f"Columns: {', '.join(map(clip, table.columns))}",
            where=option,
            fix="name one of these columns",
        )
    return table.columns[name]


def _groups(table: Table, options: DataOptions) -> list[object]:
    values = _option_column(table, "data.group_column", options.group_column or "")
    bad = [row for row, value in enumerate(values) if value in (None, "") or not isinstance(value, str | int)]
    if bad:
        raise DataError(
            f"the group column {clip(options.group_column)} names no group in {counted(len(bad), 'row')} "
            f"(expected a string or whole number); first: {_first(table, bad)}",
            where=table.source,
            fix="give every row a group; a row that stands alone gets a group of its own",
        )
    return values


def _refuse_shared_groups(groups: dict[str, list[object]], options: DataOptions) -> None:
    """A group in two splits that were given would be scored by what was learnt from itself."""
    seen: dict[str, str] = {}
    shared: dict[str, str] = {}
    for split, values in groups.items():
        for group in set(map(str, values)):
            if seen.setdefault(group, split) != split:
                shared[group] = f"{seen[group]} and {split}"
    if shared:
        group, both = min(shared.items())
        raise DataError(
            f"{counted(len(shared), 'group')} of {clip(options.group_column)} occur in more than one split, "
            f"for instance {clip(group)} in {both}",
            where="data.group_column",
            fix="move each group into one split, or leave group_column out if the groups may be shared",
        )


def _split_by_column(
    tables: Tables, options: DataOptions, everything: Split, groups: list[object] | None, decisions: list[str]
) -> tuple[dict[str, Split], list[object] | None]:
    column = options.split_column or ""
    if set(tables.splits) != {"all"}:
        raise ConfigurationError(
            f"the data already come in splits ({', '.join(tables.splits)})",
            where="data.split_column",
            fix="leave split_column out, or give one file without separate validation and test files",
        )
    rows = rows_by_split(tables.splits["all"], column)
    if "train" not in rows:
        raise DataError(
            f"the split column {clip(column)} never says train", where=tables.splits["all"].source
        )
    sizes = ", ".join(
        f"{name} {len(rows[name]):,}" for name in ("train", "validation", "test") if name in rows
    )
    decisions.append(f"Splits are those of column {clip(column)}: {sizes} rows.")
    if groups is not None:
        _refuse_shared_groups(
            {name: [groups[row] for row in members] for name, members in rows.items()}, options
        )
    splits = {
        name: everything.take(rows[name], name) for name in ("train", "validation", "test") if name in rows
    }
    return splits, None if groups is None else [groups[row] for row in rows["train"]]


def rows_by_split(table: Table, column: str) -> dict[str, list[int]]:
    """Return train, validation, test, those that a column names -> the positions of their rows.

    Raises:
        ConfigurationError: there is no such column.
        DataError: it holds something else.
    """
    values = _option_column(table, "data.split_column", column)
    names = {value: split_of(value) if isinstance(value, str) else None for value in set(map(_key, values))}
    unknown = sorted(clip(value) for value, name in names.items() if name is None)
    if unknown:
        bad = [row for row, value in enumerate(values) if names[_key(value)] is None]
        raise DataError(
            f"the split column {clip(column)} holds {', '.join(unknown[:8])} in "
            f"{counted(len(bad), 'row')}; expected {KNOWN_SPLIT_NAMES}; first: {_first(table, bad)}",
            where=table.source,
            fix="rename these values, or remove the rows",
        )
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        rows.setdefault(str(names[_key(value)]), []).append(row)
    return rows


def _first(table: Table, rows: Sequence[int]) -> str:
    return first_places([table.place(row) for row in rows[:5]], len(rows))


def _without_empty_texts(
    splits: dict[str, Split], groups: list[object] | None, roles: Sequence[Role], decisions: list[str]
) -> tuple[dict[str, Split], list[object] | None]:
    kept = dict(splits)
    for name, split in splits.items():
        texts = [split.columns[role.name] for role in roles if role.kind in INPUT_KINDS]
        rows = [
            row
            for row, values in enumerate(zip(*texts, strict=True))
            if all(as_text(value).strip() for value in values)
        ]
        dropped = len(split) - len(rows)
        if not dropped:
            continue
        empty = sorted(set(range(len(split))) - set(rows))[:5]
        places = first_places([split.row_ids[row] for row in empty], dropped)
        decisions.append(f"{name.capitalize()}: {counted(dropped, 'row')} without text left out: {places}.")
        kept[name] = split.take(rows)
        if name == "train" and groups is not None:
            groups = [groups[row] for row in rows]
    return kept, groups


def _with_located_answers(
    splits: dict[str, Split], groups: list[object] | None, roles: Sequence[Role], decisions: list[str]
) -> tuple[dict[str, Split], list[object] | None]:
    """Correct where answers begin; rows of train whose answer has no place are left out, others can still be scored."""
    answers = next((role for role in roles if role.kind == "answers"), None)
    if answers is None:
        return splits, groups
    kept = dict(splits)
    for name, split in splits.items():
        located = locate_answers(split, answers.name, "context")
        decisions.extend(located.sentences)
        kept[name] = located.split
        if located.lost and name == "train":
            rows = sorted(set(range(len(split))) - set(located.lost))
            kept[name] = located.split.take(rows)
            groups = None if groups is None else [groups[row] for row in rows]
    return kept, groups


def _key(value: object) -> object:
    # Nested values have no hash; their text is enough to list them as unknown.
    return value if isinstance(value, str | int | float | None) else str(value)


@dataclass(frozen=True)
class _Carve:
    split: str
    option: str
    share: float
    why: str


def _carve_missing(
    splits: dict[str, Split],
    groups: list[object] | None,
    roles: Sequence[Role],
    options: DataOptions,
    seed: int,
    decisions: list[str],
) -> dict[str, Split]:
    train = splits["train"]
    why = "; the validation split selects checkpoints, so it cannot also give the headline"
    has_test = "test" in splits or options.test_share > 0
    untouched = ", so that the test split selects nothing" if has_test else ""
    wanted = [
        _Carve("test", "data.test_share", options.test_share, why if "validation" in splits else ""),
        _Carve(
            "validation",
            "data.validation_share",
            options.validation_share,
            untouched,
        ),
    ]
    missing = [one for one in wanted if one.split not in splits]
    decisions.extend(f"No {one.split} split: {one.option} is 0." for one in missing if one.share == 0)
    missing = [one for one in missing if one.share > 0]
    if not missing:
        return splits
    texts = [train.columns[role.name] for role in roles if role.kind in INPUT_KINDS]
    labels = strata(train, roles)
    # A group may be the number 1 in one row and the word '1' in another: equal names are one group.
    kept = {} if groups is None else {f"groups of {clip(options.group_column)}": list(map(str, groups))}
    kept |= {
        f"rows of one {role.name}": list(map(str, train.columns[role.name])) for role in roles if role.shared
    }
    units = bind_rows(text_keys(texts, seed), *kept.values())
    taken: dict[str, list[int]] = {}
    for one in missing:
        rows, stay = carve(units, labels, one.share)
        _refuse_empty_carve(one, rows, units, train, len(set(labels)))
        taken[one.split], units = rows, stay
        before = len(rows) + len(units.all_rows())
        by = ", by label" if len(set(labels)) > 1 else ""
        bound = f", {' and '.join(kept)} kept together" if kept else ""
        decisions.append(
            f"{one.split.capitalize()}: {counted(len(rows), 'row')} of {before:,} set aside "
            f"({one.option}={one.share:g}, seed {seed}{by}{bound}){one.why}."
        )
    remaining = units.all_rows()
    carved = {name: train.take(rows, name) for name, rows in taken.items()}
    complete = {**splits, **carved, "train": train.take(remaining, "train")}
    return {name: complete[name] for name in ("train", "validation", "test") if name in complete}


def _refuse_empty_carve(
    one: _Carve, rows: Sequence[int], units: Units, train: Split, label_count: int
) -> None:
    if not rows:
        of_each = f", and each of {label_count:,} labels must keep one in train" if label_count > 1 else ""
        raise DataError(
            f"no {one.split} split can be carved from {counted(len(train), 'row')} of train: they form "
            f"{len(units.firsts):,} independent texts or groups{of_each}",
            where=train.row_ids[0] if train.row_ids else "train",
            fix=f"give more rows, or a file with data.{one.split}=FILE, or leave it out with {one.option}=0",
        )
