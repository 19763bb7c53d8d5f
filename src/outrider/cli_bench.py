"""`outrider bench`: speed of one model on this machine, engine only, no HTTP and no peer.

Prompts are random token ids, different in every round: every prompt's token that is counted was
computed, and only decoding finds them in the prefix cache. Beside each speed stands its share of
what the machine allows.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outrider.cli_bench_rounds import Rounds, measure
from outrider.cli_serve import ModelName, choose_model, prepare
from outrider.cli_settings import say, with_settings
from outrider.config import Configuration, EngineConfig
from outrider.errors import ConfigError
from outrider.settings import ENGINE_SETTINGS, STORE_SETTINGS

if TYPE_CHECKING:
    from outrider.engine.loader import LoadedModel

# Guesses depend on the text, and random tokens are none.
_FIXED = {"prefix_cache": True, "speculation": "off"}
_ROWS = tuple(row for row in ENGINE_SETTINGS if row.name not in _FIXED)


@with_settings(*_ROWS, *STORE_SETTINGS)
def bench(
    settings: Configuration,
    name: ModelName = None,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of each prompt.")] = 512,
    generate: Annotated[int, typer.Option(min=2, help="Tokens generated per sequence.")] = 128,
    batch: Annotated[str, typer.Option(help="Sequences at once, as in 1,16.")] = "1,16",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure prompt and decode speed, in tokens per second over all sequences of a batch."""
    import msgspec

    from outrider.engine.cost import ModelCost
    from outrider.engine.loader import load_engine, make_context
    from outrider.engine.memory import plan_kv
    from outrider.kernels.limits import MachineLimits

    settings = choose_model(settings, name)
    batches = _parse_batches(batch)
    most = max(settings.engine.max_num_seqs, *batches)
    engine = msgspec.structs.replace(settings.engine, **_FIXED, max_num_seqs=most)
    _, header = prepare(settings._replace(engine=engine))
    loaded = load_engine(engine)
    _check_room(loaded, max(batches), prompt + generate)
    cost = ModelCost.of(header, plan_kv(engine, header.config, 0, None).dtype)
    rounds_of = Rounds(loaded, cost, MachineLimits(make_context(engine)))
    measure(loaded, 1, min(prompt, 32), 2)  # touches all weights, so that no round reads the disk
    results = []
    for num_seqs in batches:
        say(f"batch {num_seqs}: {rounds} rounds of {prompt} + {generate} tokens …")
        measured = [rounds_of.run(num_seqs, prompt, generate) for _ in range(rounds)]
        results.append({"batch": num_seqs, **_medians(measured)})
    counts = {"prompt_tokens": prompt, "generated_tokens": generate, "rounds": rounds}
    report = {**_machine(engine), **counts, "results": results}
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        _show(report)


def _machine(engine: EngineConfig) -> dict[str, str | int | float]:
    import outrider
    from outrider import kernels
    from outrider.machine import describe_cpu, num_cores, total_memory_bytes

    return {
        "version": outrider.__version__,
        "compiler": kernels.compiler(),
        "cpu": describe_cpu(),
        "cores": num_cores(),
        "memory_gb": round((total_memory_bytes() or 0) / 1e9, 1),
        "model": engine.model,
        "weights": engine.weights,
        "activations": engine.activations,
        "threads": engine.threads or num_cores(),
        "isa": kernels.supported_isas()[0] if engine.isa == "auto" else engine.isa,
    }


def _medians(measured: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(row[key] for row in measured) for key in measured[0]}


def _parse_batches(text: str) -> list[int]:
    sizes = [int(part) if part.strip().isdigit() else 0 for part in text.split(",")]
    if not all(1 <= size <= 128 for size in sizes):
        raise ConfigError(f"--batch is {text!r}; it must be numbers from 1 to 128, as in 1,16")
    return sizes


def _check_room(loaded: LoadedModel, num_seqs: int, num_tokens: int) -> None:
    if num_tokens > loaded.engine.max_model_len:
        raise ConfigError(
            f"--prompt and --generate are {num_tokens:,} tokens together but max_model_len is "
            f"{loaded.engine.max_model_len:,}; lower one of them"
        )
    num_fitting = loaded.engine.num_sequences(num_tokens)
    if num_seqs > num_fitting:
        raise ConfigError(
            f"the KV cache has room for {num_fitting} sequences of {num_tokens:,} tokens, not for "
            f"{num_seqs}; raise --kv-memory-mib or lower --batch"
        )


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("batch", "first token s", "prompt tok/s", "share", "decode tok/s", "share"):
        table.add_column(column, justify="right")
    for row in report["results"]:
        table.add_row(
            str(row["batch"]),
            f"{row['ttft_s']:.3f}",
            f"{row['prompt_tokens_per_s']:,.0f}",
            _percent(row, "prompt"),
            f"{row['decode_tokens_per_s']:,.0f}",
            _percent(row, "decode"),
        )
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"Outrider {report['version']} ({report['compiler']}) on {report['cpu']}, "
        f"{report['cores']} cores, {report['memory_gb']} GB\n"
        f"{report['model']}, weights {report['weights']}, {report['threads']} threads, "
        f"{report['isa']}: {report['prompt_tokens']} + {report['generated_tokens']} tokens, "
        f"median of {report['rounds']} rounds"
    )
    console.print(table)
    console.print(_limits_line(report["results"]))


def _percent(row: dict[str, float], phase: str) -> str:
    return f"{row[f'{phase}_share']:.0%}" if row[f"{phase}_share"] else "unknown"


def _limits_line(results: list[dict[str, float]]) -> str:
    """Say what the shares are of, by the first batch's limits."""
    row = results[0]
    kinds = [(kind, row[f"{kind}_gmac_per_s"]) for kind in ("int8", "bf16", "f32")]
    products = ", ".join(f"{kind} {rate:,.0f}" for kind, rate in kinds if rate)
    return (
        f"share of the machine's limits in the same rounds: reading {row['read_gb_per_s']:.0f} GB/s"
        + (f"; products, billions per second: {products}" if products else "")
    )
