"""The way of a data folder from the database in it to a PostgreSQL: every row of every table, in one transaction."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, func, insert, select, text

from pilothouse.problems import Conflict, Invalid
from pilothouse.store import address, ledger
from pilothouse.store.address import Named
from pilothouse.store.database import DATABASE, Store
from pilothouse.store.schema import metadata

BATCH = 1_000
COPIED = f"{DATABASE}.copied"
"""What the database of the folder is called afterwards: nothing opens it by mistake, and nothing is lost."""


def copy(data: Path, named: Named) -> int:
    """Copy the database of the folder to the one that is named, and name that one for the folder; how many rows.

    Nothing may serve from the folder meanwhile. `Conflict` where the other one holds rows already, `Invalid` where the
    ledger does not arrive whole; then the folder stays as it was.
    """
    if address.of(data) or not (data / DATABASE).is_file():
        raise Invalid(f"{data} has no database of its own to be copied", "name the data folder with --data")
    source = Store(data)
    source.migrate()
    target = Store(address.url_of(named).render_as_string(hide_password=False))
    target.migrate()
    with source.read() as one, target.write() as other:
        count = _copy(one, other, target)
    problems, _ = ledger.verify(target, [ledger.head(source)])
    if problems:
        raise Invalid(f"the ledger did not arrive whole: {problems[0].message}", "drop the new database and try again")
    source.close()
    target.close()
    for path in sorted(data.glob(f"{DATABASE}*")):
        path.rename(data / path.name.replace(DATABASE, COPIED, 1))
    address.keep(data, named)
    return count


def _copy(one: Connection, other: Connection, target: Store) -> int:
    total = 0
    for table in metadata.sorted_tables:
        if other.execute(select(func.count()).select_from(table)).scalar_one():
            raise Conflict(f"{target.name} holds {table.name} already", "copy to a new, empty database")
        rows = one.execution_options(yield_per=BATCH).execute(select(table)).mappings()
        for part in rows.partitions(BATCH):
            other.execute(insert(table), [dict(row) for row in part])
            total += len(part)
        if table.autoincrement_column is not None:
            # PostgreSQL counts on from where its sequence stands, which rows with a number of their own do not move.
            column = table.autoincrement_column.name
            other.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', '{column}'), "  # noqa: S608  # our own names
                    f"(SELECT coalesce(max({column}), 0) + 1 FROM {table.name}), false)"
                )
            )
    return total
