"""Keys that have prompts and answers kept, and what is kept for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the key's choice, off for those that are there, and make the table."""
    is_off = sa.Column("io_logging", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("keys", is_off)
    op.create_table(
        "contents",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("created_s", sa.BigInteger, nullable=False),
        sa.Column("prompt", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
    )
    op.create_index("contents_by_key", "contents", ["key"])
    op.create_index("contents_by_time", "contents", ["created_s"])


def downgrade() -> None:
    """Drop the table and the choice."""
    op.drop_table("contents")
    op.drop_column("keys", "io_logging")
