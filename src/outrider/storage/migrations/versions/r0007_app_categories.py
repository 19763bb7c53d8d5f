"""What apps say they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "app_categories",
        sa.Column("app", sa.BigInteger, sa.ForeignKey("apps.number"), primary_key=True),
        sa.Column("category", sa.String, primary_key=True),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("app_categories")
