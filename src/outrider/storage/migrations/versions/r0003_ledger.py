"""The ledger: its rows, the prices and names they refer to, and their sums by hour and day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_TABLES = ("app_days", "model_days", "days", "hours", "generations", "series", "prices", "apps")


def upgrade() -> None:
    """Make the tables."""
    _create_names()
    _create_generations()
    _create_sums()


def downgrade() -> None:
    """Drop the tables."""
    for name in _TABLES:
        op.drop_table(name)


def _number() -> sa.Column[int]:
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String, nullable=False) for name in names]


def _counts(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def _flags(*names: str) -> list[sa.Column[bool]]:
    return [sa.Column(name, sa.Boolean, nullable=False) for name in names]


def _create_names() -> None:
    op.create_table(
        "apps",
        _number(),
        sa.Column("url", sa.String, nullable=False, unique=True),
        sa.Column("title", sa.String, nullable=False),
    )
    op.create_table(
        "prices",
        _number(),
        *_texts("model", "provider"),
        *_counts("since_ms", "prompt", "completion", "cached", "request", "image"),
    )
    op.create_index("prices_by_endpoint", "prices", ["model", "provider", "number"])
    names = ("model", "provider", "key", "app", "wire", "api_type")
    op.create_table(
        "series",
        _number(),
        *_texts("model", "provider", "key"),
        *_counts("app"),
        *_texts("wire", "api_type"),
        sa.UniqueConstraint(*names, name="series_names"),
    )


def _create_generations() -> None:
    op.create_table(
        "generations",
        _number(),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("series", sa.BigInteger, sa.ForeignKey("series.number"), nullable=False),
        sa.Column("price", sa.BigInteger, sa.ForeignKey("prices.number")),
        *_counts("created_ms"),
        *_texts("request_id", "upstream_id", "session", "user_agent"),
        sa.Column("attempts", sa.JSON, nullable=False),
        *_counts("prompt_tokens", "completion_tokens", "cached_tokens"),
        sa.Column("num_images", sa.Integer, nullable=False),
        *_counts("cost_microusd"),
        sa.Column("status", sa.Integer, nullable=False),
        *_texts("error_code", "finish_reason", "native_reason"),
        sa.Column("first_token_ms", sa.Integer),
        *_counts("duration_ms"),
        *_flags("is_streamed", "is_cancelled", "is_estimated"),
    )
    op.create_index("generations_by_time", "generations", ["created_ms"])


def _create_sums() -> None:
    counts = ("prompt_tokens", "completion_tokens", "cached_tokens", "cost_microusd")
    for name in ("hours", "days"):
        op.create_table(
            name,
            _begin(),
            sa.Column("series", sa.BigInteger, sa.ForeignKey("series.number"), primary_key=True),
            *_counts("requests", "failures", *counts),
            sqlite_with_rowid=False,
        )
    op.create_table(
        "model_days",
        _begin(),
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("context_tokens", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("has_images", sa.Boolean, primary_key=True),
        sa.Column("has_tool_calls", sa.Boolean, primary_key=True),
        *_counts("requests", "tokens"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "app_days",
        _begin(),
        sa.Column("app", sa.BigInteger, sa.ForeignKey("apps.number"), primary_key=True),
        *_counts("requests", "tokens"),
        sqlite_with_rowid=False,
    )


def _begin() -> sa.Column[int]:
    return sa.Column("begin_s", sa.BigInteger, primary_key=True, autoincrement=False)
