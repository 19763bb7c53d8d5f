"""Files, batches and their items.

A migration is never changed once it was released: it says what a database is like, not what the
program wants now.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    _create_files()
    _create_batches()
    op.create_table(
        "batch_items",
        sa.Column(
            "batch",
            sa.Integer,
            sa.ForeignKey("batches.number", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("custom_id", sa.String, nullable=False),
        sa.Column("offset", sa.Integer, nullable=False),
        sa.Column("length", sa.Integer, nullable=False),
        sa.Column("is_done", sa.Boolean, nullable=False),
        sa.Column("is_error", sa.Boolean, nullable=False),
        sa.Column("num_failures", sa.Integer, nullable=False),
        sa.Column("result", sa.LargeBinary),
        sqlite_with_rowid=False,
    )
    op.create_index("batch_items_by_state", "batch_items", ["batch", "is_done", "position"])


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("batch_items")
    op.drop_table("batches")
    op.drop_table("files")


def _create_files() -> None:
    op.create_table(
        "files",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("purpose", sa.String, nullable=False),
        sa.Column("filename", sa.String, nullable=False),
        sa.Column("num_bytes", sa.Integer, nullable=False),
        sa.Column("created_s", sa.Integer, nullable=False),
        sa.Column("expires_s", sa.Integer),
    )
    op.create_index("files_by_owner", "files", ["owner", "number"])
    op.create_index("files_by_expiry", "files", ["expires_s"])


def _create_batches() -> None:
    texts = ("owner", "wire", "endpoint", "model", "input_file_id", "status")
    statuses = ("in_progress", "finalizing", "completed", "failed", "expired")
    times = (*statuses, "cancelling", "cancelled", "delete")
    tokens = ("prompt_tokens", "completion_tokens", "cached_tokens")
    counts = ("num_requests", "num_completed", "num_failed", *tokens)
    op.create_table(
        "batches",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        *(sa.Column(name, sa.String, nullable=False) for name in texts),
        sa.Column("created_s", sa.Integer, nullable=False),
        sa.Column("deadline_s", sa.Integer, nullable=False),
        sa.Column("keep_results_s", sa.Integer, nullable=False),
        *(sa.Column(f"{name}_s", sa.Integer) for name in times),
        sa.Column("output_file_id", sa.String),
        sa.Column("error_file_id", sa.String),
        *(sa.Column(name, sa.Integer, nullable=False) for name in counts),
        sa.Column("metadata", sa.JSON),
        sa.Column("errors", sa.JSON, nullable=False),
    )
    op.create_index("batches_by_owner", "batches", ["owner", "wire", "number"])
    op.create_index("batches_by_status", "batches", ["status", "number"])
