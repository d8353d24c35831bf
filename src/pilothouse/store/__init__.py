"""What the portal and the worker remember: people, sessions, proposals, jobs, findings, events.

Never a second copy of a declaration: Git is the only truth. SQLite in the data folder by default,
any other SQLAlchemy URL (PostgreSQL) for more than one replica. Exceptions of the database stop in
`database`: callers see `Unavailable` and `Conflict`.
"""

from sqlalchemy import Connection

from pilothouse.store.database import Store

__all__ = ["Connection", "Store"]
