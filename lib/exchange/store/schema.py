"""The schema's version: made where there is none, brought up to date where it is older, refused where it is newer.

A change of the schema is one commit: `schema.sql`, which always is the newest version, and a migration: a file with the
statements that bring a database of the version before to it, so that nobody can tell which of the two made it.
"""

from importlib.resources import files

import psycopg
from psycopg import errors

FILES = files(__package__)
# SQL that brings a database of version n + 1 to version n + 2, by position n.
MIGRATIONS: tuple[str, ...] = tuple((FILES / f"migration_{version}.sql").read_text("utf-8") for version in (2,))


class SchemaError(Exception):
    """The database's tables are none that this program can write to; the text says what to do."""


def prepare(connection: psycopg.Connection) -> None:
    """Make the tables, or migrate them, in the caller's transaction.

    Raises SchemaError, the transaction then being lost. The tables go to the first schema of the connection's search
    path, as a rule `public`.
    """
    newest = 1 + len(MIGRATIONS)
    version = installed_version(connection)
    if version == newest:
        return
    if version == 0:
        create(connection)
    elif version > newest:
        raise SchemaError(
            f"the database has schema version {version}, this program knows up to {newest}; "
            "start the newer program that wrote it"
        )
    for migration in MIGRATIONS[version - 1 :] if version else ():
        connection.execute(migration.encode())
    connection.execute("DELETE FROM schema_version")
    connection.execute("INSERT INTO schema_version (version) VALUES (%s)", [newest])


def installed_version(connection: psycopg.Connection) -> int:
    """Return the version of the database's schema, 0 where it has none."""
    table = connection.execute("SELECT to_regclass('schema_version')").fetchone()
    if table is None or table[0] is None:
        return 0
    row = connection.execute("SELECT version FROM schema_version").fetchone()
    if row is None:
        raise SchemaError("the database's table schema_version is empty, so it can't be told what its tables are")
    return int(row[0])


def create(connection: psycopg.Connection) -> None:
    try:
        connection.execute((FILES / "schema.sql").read_bytes())
    except (errors.DuplicateTable, errors.InvalidSchemaName, errors.InsufficientPrivilege) as error:
        raise SchemaError(
            f"the tables can't be made: {error.diag.message_primary}; database.dsn must name a database of the "
            "exchange's own, whose user may create tables in it"
        ) from error
