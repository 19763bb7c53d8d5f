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
    UniqueConstraint,
)

HEAD = "0007"  # the newest migration

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
    Column("io_logging", Boolean, nullable=False),
)

# One row, whose number grows with every change of a key.
key_changes = Table(
    "key_changes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("revision", BigInteger, nullable=False),
)

# A number that grows for ever; SQLite counts rows in one type only.
_Number = BigInteger().with_variant(Integer, "sqlite")

apps = Table(
    "apps",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("url", String, nullable=False, unique=True),
    Column("title", String, nullable=False),
)

# What apps say they are.
app_categories = Table(
    "app_categories",
    metadata,
    Column("app", BigInteger, ForeignKey("apps.number"), primary_key=True),
    Column("category", String, primary_key=True),
    sqlite_with_rowid=False,
)

prices = Table(
    "prices",
    metadata,
    Column("number", _Number, primary_key=True),  # the versions of a price, in order
    Column("model", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("prompt", BigInteger, nullable=False),
    Column("completion", BigInteger, nullable=False),
    Column("cached", BigInteger, nullable=False),
    Column("request", BigInteger, nullable=False),
    Column("image", BigInteger, nullable=False),
    Index("prices_by_endpoint", "model", "provider", "number"),
)

# What requests have in common that are added up together; `app` is 0 without one.
series = Table(
    "series",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("model", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("key", String, nullable=False),
    Column("app", BigInteger, nullable=False),
    Column("wire", String, nullable=False),
    Column("api_type", String, nullable=False),
    UniqueConstraint("model", "provider", "key", "app", "wire", "api_type", name="series_names"),
)

# The ledger: one row per request, never changed. No prompts and no answers.
generations = Table(
    "generations",
    metadata,
    Column("number", _Number, primary_key=True),  # order of writing
    Column("id", String, nullable=False, unique=True),
    Column("series", BigInteger, ForeignKey("series.number"), nullable=False),
    Column("price", BigInteger, ForeignKey("prices.number")),  # NULL: nobody answered
    Column("created_ms", BigInteger, nullable=False),
    Column("request_id", String, nullable=False),
    Column("upstream_id", String, nullable=False),
    Column("session", String, nullable=False),
    Column("user_agent", String, nullable=False),
    Column("attempts", JSON, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("num_images", Integer, nullable=False),
    Column("cost_microusd", BigInteger, nullable=False),
    Column("status", Integer, nullable=False),
    Column("error_code", String, nullable=False),
    Column("finish_reason", String, nullable=False),
    Column("native_reason", String, nullable=False),
    Column("first_token_ms", Integer),
    Column("duration_ms", BigInteger, nullable=False),
    Column("is_streamed", Boolean, nullable=False),
    Column("is_cancelled", Boolean, nullable=False),
    Column("is_estimated", Boolean, nullable=False),
    Index("generations_by_time", "created_ms"),
)


def _sums() -> list[Column[int]]:
    names = ("requests", "failures", "prompt_tokens", "completion_tokens", "cached_tokens")
    return [Column(name, BigInteger, nullable=False) for name in (*names, "cost_microusd")]


# What keys that ask for it have kept of their requests, in JSON; the ledger's row has the same id.
contents = Table(
    "contents",
    metadata,
    Column("id", String, primary_key=True),
    Column("key", String, nullable=False),
    Column("created_s", BigInteger, nullable=False),
    Column("prompt", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Index("contents_by_key", "key"),
    Index("contents_by_time", "created_s"),
)

# What the web page keeps for a key; `words` is what is searched, before what need not be read.
conversations = Table(
    "conversations",
    metadata,
    Column("owner", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("title", String, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("num_threads", Integer, nullable=False),
    Column("num_bytes", BigInteger, nullable=False),
    Column("words", String, nullable=False),
    Column("threads", LargeBinary, nullable=False),
    Index("conversations_by_time", "owner", "updated_ms", "id", "num_bytes"),
)

# The ledger added up, by the same transactions that write its rows.
hours = Table(
    "hours",
    metadata,
    Column("begin_s", BigInteger, primary_key=True, autoincrement=False),
    Column("series", BigInteger, ForeignKey("series.number"), primary_key=True),
    *_sums(),
    sqlite_with_rowid=False,
)

days = Table(
    "days",
    metadata,
    Column("begin_s", BigInteger, primary_key=True, autoincrement=False),
    Column("series", BigInteger, ForeignKey("series.number"), primary_key=True),
    *_sums(),
    sqlite_with_rowid=False,
)

# The same for rankings, which know no keys: their size doesn't grow with the number of keys.
model_days = Table(
    "model_days",
    metadata,
    Column("begin_s", BigInteger, primary_key=True, autoincrement=False),
    Column("model", String, primary_key=True),
    Column("context_tokens", BigInteger, primary_key=True, autoincrement=False),  # at most these
    Column("has_images", Boolean, primary_key=True),
    Column("has_tool_calls", Boolean, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

app_days = Table(
    "app_days",
    metadata,
    Column("begin_s", BigInteger, primary_key=True, autoincrement=False),
    Column("app", BigInteger, ForeignKey("apps.number"), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# What people ask for sums of: everything, one model, provider, key or app. A name is empty where
# there is none: requests without a key, an app or an answer.
facets = Table(
    "facets",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False),
    UniqueConstraint("kind", "name", name="facet_names"),
)


def _facet() -> Column[int]:
    return Column("facet", BigInteger, ForeignKey("facets.number"), primary_key=True)


def _begin() -> Column[int]:
    return Column("begin_s", BigInteger, primary_key=True, autoincrement=False)


# Facets come first in these keys: one is read over a time, whatever the others have.
facet_hours = Table("facet_hours", metadata, _facet(), _begin(), *_sums(), sqlite_with_rowid=False)

facet_days = Table("facet_days", metadata, _facet(), _begin(), *_sums(), sqlite_with_rowid=False)

# By the hour.
facet_errors = Table(
    "facet_errors",
    metadata,
    _facet(),
    _begin(),
    Column("origin", String, primary_key=True),  # whose fault it was
    Column("status", Integer, primary_key=True, autoincrement=False),
    Column("requests", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Histograms of milliseconds, a column per bucket: adding up is what a database does anyway. Those
# of everything are by the hour, others by the day: else a ledger of few requests would triple.
NUM_BUCKETS = 64
FIRST_TOKEN, DURATION = 0, 1
facet_times = Table(
    "facet_times",
    metadata,
    _facet(),
    Column("what", Integer, primary_key=True, autoincrement=False),
    _begin(),
    *(Column(f"b{number}", BigInteger, nullable=False) for number in range(NUM_BUCKETS)),
    sqlite_with_rowid=False,
)
