"""What Alembic runs to migrate: it gets the connection of whoever migrates, and no other.

All steps of a migration are one transaction, so one that is interrupted leaves no trace.
"""

from __future__ import annotations

from alembic import context

from outrider.storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
