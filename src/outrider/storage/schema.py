"""The tables of the database as they are now.

`migrations` gets an older database here; a test holds both to the same schema.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

HEAD = "0002"  # the newest migration

metadata = MetaData()

files = Table(
    "files",
    metadata,
    Column("number", Integer, primary_key=True),  # order of creation
    Column("id", String, nullable=False, unique=True),
    Column("owner", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("filename", String, nullable=False),
    Column("num_bytes", Integer, nullable=False),
    Column("created_s", Integer, nullable=False),
    Column("expires_s", Integer),
    Index("files_by_owner", "owner", "number"),
    Index("files_by_expiry", "expires_s"),
)

batches = Table(
    "batches",
    metadata,
    Column("number", Integer, primary_key=True),  # order of creation
    Column("id", String, nullable=False, unique=True),
    Column("owner", String, nullable=False),
    Column("wire", String, nullable=False),
    Column("endpoint", String, nullable=False),
    Column("model", String, nullable=False),
    Column("input_file_id", String, nullable=False),
    Column("status", String, nullable=False),
    Column("created_s", Integer, nullable=False),
    Column("deadline_s", Integer, nullable=False),
    Column("keep_results_s", Integer, nullable=False),
    Column("in_progress_s", Integer),
    Column("finalizing_s", Integer),
    Column("completed_s", Integer),
    Column("failed_s", Integer),
    Column("expired_s", Integer),
    Column("cancelling_s", Integer),
    Column("cancelled_s", Integer),
    Column("delete_s", Integer),
    Column("output_file_id", String),
    Column("error_file_id", String),
    Column("num_requests", Integer, nullable=False),
    Column("num_completed", Integer, nullable=False),
    Column("num_failed", Integer, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("metadata", JSON, key="metadata_"),
    Column("errors", JSON, nullable=False),
    Index("batches_by_owner", "owner", "wire", "number"),
    Index("batches_by_status", "status", "number"),
)

batch_items = Table(
    "batch_items",
    metadata,
    Column("batch", Integer, ForeignKey("batches.number", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("custom_id", String, nullable=False),
    Column("offset", Integer, nullable=False),
    Column("length", Integer, nullable=False),
    Column("is_done", Boolean, nullable=False),
    Column("is_error", Boolean, nullable=False),
    Column("num_failures", Integer, nullable=False),  # of the engine, while it ran
    Column("result", LargeBinary),  # until it stands in a file
    Index("batch_items_by_state", "batch", "is_done", "position"),
    sqlite_with_rowid=False,
)

keys = Table(
    "keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("label", String, nullable=False),
    Column("name", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("created_s", BigInteger, nullable=False),
    Column("updated_s", BigInteger),
    Column("expires_s", BigInteger),
    Column("deleted_s", BigInteger),
    Column("is_disabled", Boolean, nullable=False),
    Column("allowed_models", JSON, nullable=False),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("limit_microusd", BigInteger),
    Column("limit_reset", String),
)

# One row, whose number grows with every change of a key.
key_changes = Table(
    "key_changes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("revision", BigInteger, nullable=False),
)
