"""`outrider inspect`: what a model is made of and the memory it needs, read from the source alone.

It packs nothing and loads no weights; sizes of packed weights are computed, not measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outrider.cli_settings import as_bytes, with_settings
from outrider.config import DEFAULT_MODEL, ENGINE_SETTINGS, STORE_SETTINGS, Configuration

if TYPE_CHECKING:
    from outrider.checkpoints.packed_format import TensorEntry
    from outrider.checkpoints.source import Source

_ROWS = tuple(
    row
    for row in ENGINE_SETTINGS
    if row.name in ("weights", "kv", "kv_memory_mib", "max_model_len", "max_num_seqs")
)


@with_settings(*_ROWS, *STORE_SETTINGS)
def inspect(
    settings: Configuration,
    model: Annotated[
        str, typer.Argument(help="Model name, hf: name, .gguf file or safetensors folder.")
    ] = DEFAULT_MODEL,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a model's sizes, formats and chat format, and the memory it needs."""
    from outrider.checkpoints.packed import open_source, plan
    from outrider.checkpoints.store import Store

    path = Store(settings.home).resolve(model)
    source = open_source(path)
    entries = plan(source, settings.engine.weights)
    report = {
        "path": str(path),
        "files": [{"path": str(f), "bytes": f.stat().st_size} for f in source.files()],
        **_describe(source, entries),
        "memory": _memory(settings, source, entries),
    }
    if tensors:
        report["tensors"] = _tensor_rows(source, entries)
    if as_json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        _show(report)


def _describe(source: Source, entries: Sequence[TensorEntry]) -> dict[str, Any]:
    import msgspec

    names = [entry.name for entry in entries]
    stored = Counter(_format_name(source.spec(name).format) for name in names)
    packed = Counter(_format_name(entry.format) for entry in entries)
    shapes = [source.spec(name).shape for name in names]
    return {
        "config": msgspec.structs.asdict(source.config),
        "parameters": sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes),
        "source_formats": dict(stored),
        "packed_formats": dict(packed),
        "chat_format": source.chat_format,
        "default_system": source.default_system,
        "generation": source.generation,
    }


def _memory(
    settings: Configuration, source: Source, entries: Sequence[TensorEntry]
) -> dict[str, Any]:
    from outrider.engine.memory import plan_kv
    from outrider.errors import ConfigError
    from outrider.machine import available_memory_bytes
    from outrider.model.config import BLOCK_SIZE

    weights = sum(entry.nbytes for entry in entries)
    kv = plan_kv(settings.engine, source.config, weights, None)
    available = available_memory_bytes()
    try:
        kv = plan_kv(settings.engine, source.config, weights, available)
        verdict = "fits"
    except ConfigError as error:
        verdict = error.message
    per_token = kv.block_bytes // BLOCK_SIZE
    return {
        "packed_weights_bytes": weights,
        "kv_format": kv.dtype,
        "kv_bytes_per_token": per_token,
        "max_model_len": kv.max_model_len,
        "kv_bytes_per_full_sequence": per_token * kv.max_model_len,
        "kv_cache_bytes": kv.total_bytes,
        "needed_bytes": weights + kv.total_bytes,
        "available_bytes": available,
        "verdict": verdict,
    }


def _tensor_rows(source: Source, entries: Sequence[TensorEntry]) -> list[dict[str, Any]]:
    return [
        {
            "name": entry.name,
            "shape": list(entry.shape),
            "source": _format_name(source.spec(entry.name).format),
            "packed": _format_name(entry.format),
            "packed_bytes": entry.nbytes,
        }
        for entry in entries
    ]


def _format_name(fmt: Any) -> str:  # noqa: ANN401 - formats.Format loads NumPy
    return "vector" if fmt is None else fmt.name.lower()


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in {**_model_lines(report), **_memory_lines(report["memory"])}.items():
        table.add_row(name, Text(value))
    console = Console()
    console.print(table)
    if "tensors" in report:
        console.print(_tensor_table(report["tensors"]))


def _model_lines(report: dict[str, Any]) -> dict[str, str]:
    config = report["config"]
    sizes = {
        "layers": "num_layers",
        "hidden": "hidden_size",
        "heads": "num_heads",
        "KV heads": "num_kv_heads",
        "FFN": "intermediate_size",
        "vocabulary": "vocab_size",
    }
    return {
        "model": f"{config['name']} ({report['parameters'] / 1e6:,.0f} M parameters)",
        "path": report["path"],
        "files": ", ".join(as_bytes(file["bytes"]) for file in report["files"]),
        "sizes": " · ".join(f"{config[name]:,} {label}" for label, name in sizes.items()),
        "context": f"{config['max_position_embeddings']:,} tokens",
        "chat format": report["chat_format"],
        "stored as": _counts(report["source_formats"]),
        "packed as": _counts(report["packed_formats"]),
    }


def _memory_lines(memory: dict[str, Any]) -> dict[str, str]:
    available = memory["available_bytes"]
    return {
        "weights": as_bytes(memory["packed_weights_bytes"]),
        "KV cache": f"{as_bytes(memory['kv_cache_bytes'])} as {memory['kv_format']}; "
        f"{as_bytes(memory['kv_bytes_per_token'])} per token, "
        f"{as_bytes(memory['kv_bytes_per_full_sequence'])} for one sequence of "
        f"{memory['max_model_len']:,}",
        "memory": f"{as_bytes(memory['needed_bytes'])} needed, "
        f"{'unknown' if available is None else as_bytes(available)} available: "
        f"{memory['verdict']}",
    }


def _tensor_table(rows: list[dict[str, Any]]) -> Any:  # noqa: ANN401 - a table of rich
    from rich.table import Table

    table = Table("tensor", "shape", "stored", "packed", "bytes", box=None, pad_edge=False)
    for row in rows:
        shape = " x ".join(str(size) for size in row["shape"])
        table.add_row(row["name"], shape, row["source"], row["packed"], f"{row['packed_bytes']:,}")
    return table


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.items())
