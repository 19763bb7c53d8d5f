"""Keys, and the number of their changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "keys",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("created_s", sa.BigInteger, nullable=False),
        sa.Column("updated_s", sa.BigInteger),
        sa.Column("expires_s", sa.BigInteger),
        sa.Column("deleted_s", sa.BigInteger),
        sa.Column("is_disabled", sa.Boolean, nullable=False),
        sa.Column("allowed_models", sa.JSON, nullable=False),
        sa.Column("requests_per_minute", sa.BigInteger),
        sa.Column("tokens_per_minute", sa.BigInteger),
        sa.Column("limit_microusd", sa.BigInteger),
        sa.Column("limit_reset", sa.String),
    )
    changes = op.create_table(
        "key_changes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(changes, [{"id": 1, "revision": 0}])


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("key_changes")
    op.drop_table("keys")
