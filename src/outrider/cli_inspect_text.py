"""The report of `outrider inspect` as text for people; the numbers come from `cli_inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from outrider.cli_settings import as_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping


def show(report: dict[str, Any]) -> None:
    """Print a report."""
    console = Console()
    table = Table(show_header=False, box=None, pad_edge=False)
    lines = {**_model_lines(report), **_layer_lines(report["config"]), **_weight_lines(report)}
    for name, value in {**lines, **_memory_lines(report["memory"])}.items():
        table.add_row(name, Text(value))
    console.print(table)
    console.print(_plan_table(report["plan"]))
    console.print(_kv_table(report["kv_table"]))
    for warning in report["warnings"]:
        console.print(Text(f"warning: {warning}"))
    if "tensors" in report:
        console.print(_tensor_table(report["tensors"]))


def _model_lines(report: dict[str, Any]) -> dict[str, str]:
    config, counts = report["config"], report["parameter_counts"]
    total = counts["total"]
    parts = [f"{_parameters(counts['text'], total)} text"]
    if counts["vision"]:
        parts.append(f"{_parameters(counts['vision'], total)} vision")
    if counts["routed_experts"]:
        parts.append(f"{_parameters(counts['active'], total)} active per token")
    files = ", ".join(as_bytes(file["bytes"]) for file in report["files"])
    return {
        "model": f"{config['name']} ({_parameters(total, total)} parameters)",
        "parameters": " · ".join(parts),
        "path": report["path"],
        "files": files if report["has_weights"] else f"{files} (no weights; sizes assume bf16)",
        "context": f"{config['max_position_embeddings']:,} tokens",
        "chat format": report["chat_format"],
        "stored as": _counts(report["source_formats"]),
        "packed as": _counts(report["packed_formats"]),
    }


def _layer_lines(config: dict[str, Any]) -> dict[str, str]:
    sizes = {
        "layers": "num_layers",
        "hidden": "hidden_size",
        "heads": "num_heads",
        "KV heads": "num_kv_heads",
        "per head": "head_dim",
        "vocabulary": "vocab_size",
    }
    lines = {"sizes": " · ".join(f"{config[name]:,} {label}" for label, name in sizes.items())}
    num_layers, moe = config["num_layers"], len(config["moe_layers"])
    if moe:
        lines["experts"] = (
            f"{config['num_experts']:,} in {moe} layers, {config['num_experts_per_token']} per "
            f"token and a shared one, {config['expert_intermediate_size']:,} wide"
        )
    if num_layers > moe:
        lines["dense FFN"] = f"{num_layers - moe} layers, {config['intermediate_size']:,} wide"
    chunked, nope = len(config["chunked_layers"]), len(config["nope_layers"])
    if chunked or nope:
        chunks = f"{chunked} layers in chunks of {config['attention_chunk_size']:,}, "
        lines["attention"] = (
            f"{chunks if chunked else ''}{num_layers - chunked} layers over everything, "
            f"{nope} without RoPE"
        )
    vision = config["vision"]
    if vision is not None:
        lines["vision"] = _vision_line(vision)
    return lines


def _vision_line(vision: Any) -> str:  # noqa: ANN401 - a VisionConfig
    return (
        f"{vision.num_layers} layers · {vision.hidden_size:,} hidden · tiles of "
        f"{vision.image_size} pixels, patches of {vision.patch_size}, {vision.tokens_per_tile} "
        f"tokens each · up to {vision.max_tiles} tiles and a global one"
    )


def _weight_lines(report: dict[str, Any]) -> dict[str, str]:
    sizes = (f"{name} {as_bytes(size)}" for name, size in report["weights_bytes"].items())
    return {"--weights": " · ".join(sizes)}


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


def _plan_table(plan: dict[str, Any]) -> Table:
    step = "" if plan["step"] == plan["weights"] else f" ({plan['step']})"
    title = f"plan for --weights {plan['weights']}{step}"
    table = Table(title, "format", "tensors", "parameters", "size", box=None, pad_edge=False)
    total = sum(row["parameters"] for row in plan["kinds"])
    for row in plan["kinds"]:
        parameters = _parameters(row["parameters"], total)
        numbers = (f"{row['tensors']:,}", parameters, as_bytes(row["bytes"]))
        table.add_row(row["kind"], row["format"], *numbers)
    return table


def _kv_table(rows: list[dict[str, Any]]) -> Table:
    title = f"KV cache of one sequence ({rows[0]['kv']})"
    table = Table(title, "size", "if nothing were freed", box=None, pad_edge=False)
    for row in rows:
        tokens = f"{row['tokens']:,} tokens"
        table.add_row(tokens, as_bytes(row["bytes"]), as_bytes(row["naive_bytes"]))
    return table


def _tensor_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("tensor", "shape", "stored", "packed", "bytes", box=None, pad_edge=False)
    for row in rows:
        shape = " x ".join(str(size) for size in row["shape"])
        table.add_row(row["name"], shape, row["source"], row["packed"], f"{row['packed_bytes']:,}")
    return table


def _counts(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.items())


def _parameters(count: int, total: int) -> str:
    """Write a count in the unit that suits the total."""
    if total >= 1e9 and count >= 5e6:
        return f"{count / 1e9:,.2f} B"
    return f"{count / 1e6:,.1f} M"
