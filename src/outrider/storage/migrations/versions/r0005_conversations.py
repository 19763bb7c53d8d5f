"""Conversations that the web page keeps for a key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "conversations",
        sa.Column("owner", sa.String, primary_key=True),
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("title", sa.String, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("num_threads", sa.Integer, nullable=False),
        sa.Column("num_bytes", sa.BigInteger, nullable=False),
        sa.Column("words", sa.String, nullable=False),
        sa.Column("threads", sa.LargeBinary, nullable=False),
    )
    columns = ["owner", "updated_ms", "id", "num_bytes"]
    op.create_index("conversations_by_time", "conversations", columns)


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("conversations")
