"""`outrider inspect`: what a model is made of and the memory it needs, read from the source alone.

It packs nothing and loads no weights; sizes of packed weights are computed, not measured. A folder
that holds only config.json is enough.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outrider.cli_settings import with_settings
from outrider.config import Configuration
from outrider.settings import DEFAULT_MODEL, ENGINE_SETTINGS, STORE_SETTINGS

if TYPE_CHECKING:
    from outrider.checkpoints.packed_format import TensorEntry
    from outrider.checkpoints.source import Outline
    from outrider.model.config import ModelConfig

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
    from outrider.checkpoints.packed import open_outline, plan
    from outrider.checkpoints.store import Store

    path = Store(settings.home).resolve(model)
    source = open_outline(path)
    entries = plan(source, settings.engine.weights)
    report = {
        "path": str(path),
        "files": [{"path": str(f), "bytes": f.stat().st_size} for f in source.files()],
        **_describe(source, entries),
        "weights_bytes": _weights_bytes(source),
        "plan": _plan(settings, source, entries),
        "memory": _memory(settings, source, entries),
        "kv_table": _kv_table(settings, source.config),
        "warnings": list(source.warnings),
    }
    if tensors:
        report["tensors"] = _tensor_rows(source, entries)
    if as_json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        from outrider.cli_inspect_text import show

        show(report)


def _describe(source: Outline, entries: Sequence[TensorEntry]) -> dict[str, Any]:
    import msgspec

    names = [entry.name for entry in entries]
    stored = Counter(_format_name(source.spec(name).format) for name in names)
    packed = Counter(_format_name(entry.format) for entry in entries)
    counts = _parameters(source.config, entries)
    return {
        "config": msgspec.structs.asdict(source.config),
        "parameters": counts["total"],
        "parameter_counts": counts,
        "has_weights": hasattr(source, "tensor"),
        "source_formats": dict(stored),
        "packed_formats": dict(packed),
        "chat_format": source.chat_format,
        "default_system": source.default_system,
        "generation": source.generation,
    }


def _parameters(config: ModelConfig, entries: Sequence[TensorEntry]) -> dict[str, int]:
    """Count parameters; `active` are those of the decoder that one decoded token reads."""
    from outrider.checkpoints.packing_plan import kind_of

    kinds: Counter[str] = Counter()
    for entry in entries:
        kinds[kind_of(entry.name)] += math.prod(entry.shape)
    total, vision, routed = kinds.total(), kinds["vision"], kinds["routed experts"]
    unread = 0 if config.tie_word_embeddings else kinds["embeddings"]
    if routed:
        unread += routed // config.num_experts * (config.num_experts - config.num_experts_per_token)
    return {
        "total": total,
        "text": total - vision,
        "vision": vision,
        "routed_experts": routed,
        "active": total - vision - unread,
    }


def _weights_bytes(source: Outline) -> dict[str, int]:
    """Give the bytes of the packed weights by what `--weights` may be; auto: as planned here."""
    from outrider.checkpoints.packed import plan, source_tensors
    from outrider.checkpoints.packing_plan import WEIGHTS, planned_nbytes

    tensors = source_tensors(source)
    sizes = {name: planned_nbytes(tensors, name) for name in WEIGHTS if name != "auto"}
    return sizes | {"auto": sum(entry.nbytes for entry in plan(source, "auto"))}


def _plan(
    settings: Configuration, source: Outline, entries: Sequence[TensorEntry]
) -> dict[str, Any]:
    """Say what packing would write, by kind of tensor."""
    from outrider.checkpoints.packed import source_tensors
    from outrider.checkpoints.packing_plan import kind_of, resolve_weights
    from outrider.machine import total_memory_bytes

    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in entries:
        key = kind_of(entry.name), _format_name(entry.format)
        empty = {"kind": key[0], "format": key[1], "tensors": 0, "parameters": 0, "bytes": 0}
        row = rows.setdefault(key, empty)
        row["tensors"] += 1
        row["parameters"] += math.prod(entry.shape)
        row["bytes"] += entry.nbytes
    memory_bytes = total_memory_bytes()
    weights = settings.engine.weights
    step = resolve_weights(source_tensors(source), weights, source.config, memory_bytes)
    return {
        "weights": weights,
        "step": step,
        "memory_bytes": memory_bytes,
        "kinds": sorted(rows.values(), key=lambda row: -row["bytes"]),
    }


def _memory(
    settings: Configuration, source: Outline, entries: Sequence[TensorEntry]
) -> dict[str, Any]:
    from outrider.engine.memory import kv_bytes, plan_kv
    from outrider.errors import ConfigError
    from outrider.machine import available_memory_bytes

    weights = sum(entry.nbytes for entry in entries)
    kv = plan_kv(settings.engine, source.config, weights, None)
    available = available_memory_bytes()
    try:
        kv = plan_kv(settings.engine, source.config, weights, available)
        verdict = _too_large(settings, source) or "fits"
    except ConfigError as error:
        verdict = _too_large(settings, source) or error.message
    return {
        "packed_weights_bytes": weights,
        "kv_format": kv.dtype,
        "kv_bytes_per_token": kv_bytes(source.config, kv.dtype, 1)[1],
        "max_model_len": kv.max_model_len,
        "kv_bytes_per_full_sequence": kv_bytes(source.config, kv.dtype, kv.max_model_len)[0],
        "kv_cache_bytes": kv.total_bytes,
        "needed_bytes": weights + kv.total_bytes,
        "available_bytes": available,
        "verdict": verdict,
    }


def _too_large(settings: Configuration, source: Outline) -> str:
    """Say why packing would refuse the model; "" if it wouldn't."""
    from outrider.checkpoints.packed import source_tensors
    from outrider.checkpoints.packing_plan import check_fits, resolve_weights
    from outrider.errors import ConfigError
    from outrider.machine import total_memory_bytes

    tensors, memory_bytes = source_tensors(source), total_memory_bytes()
    step = resolve_weights(tensors, settings.engine.weights, source.config, memory_bytes)
    try:
        check_fits(source.config.name, tensors, step, memory_bytes)
    except ConfigError as error:
        return error.message
    return ""


def _kv_table(settings: Configuration, config: ModelConfig) -> list[dict[str, Any]]:
    """Give the KV cache of one sequence by its length, with and without freed chunks."""
    from outrider.engine.memory import KV_TABLE_TOKENS, kv_bytes

    chosen = "bf16" if settings.engine.kv == "auto" else settings.engine.kv
    longest = config.max_position_embeddings
    rows = []
    for num_tokens in [n for n in KV_TABLE_TOKENS if n <= longest] or [longest]:
        kept, naive = kv_bytes(config, chosen, num_tokens)
        rows.append({"tokens": num_tokens, "kv": chosen, "bytes": kept, "naive_bytes": naive})
    return rows


def _tensor_rows(source: Outline, entries: Sequence[TensorEntry]) -> list[dict[str, Any]]:
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
