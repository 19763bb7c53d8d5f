"""`outrider bench`: speed of one model on this machine, engine only, no HTTP.

Prompts are random token ids, different in every round, and the prefix cache is off: every token
that is counted was computed.
"""

from __future__ import annotations

import random
import statistics
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outrider.cli_serve import ModelName, choose_model, prepare
from outrider.cli_settings import say, with_settings
from outrider.config import ENGINE_SETTINGS, STORE_SETTINGS, Configuration, EngineConfig
from outrider.errors import ConfigError

if TYPE_CHECKING:
    from outrider.engine.loader import LoadedModel

_ROWS = tuple(row for row in ENGINE_SETTINGS if row.name != "prefix_cache")


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

    from outrider.engine.loader import load_engine

    settings = choose_model(settings, name)
    batches = _parse_batches(batch)
    most = max(settings.engine.max_num_seqs, *batches)
    engine = msgspec.structs.replace(settings.engine, prefix_cache=False, max_num_seqs=most)
    prepare(settings._replace(engine=engine))
    loaded = load_engine(engine)
    _check_room(loaded, max(batches), prompt + generate)
    measure(loaded, 1, min(prompt, 32), 2)  # touches all weights, so that no round reads the disk
    results = []
    for num_seqs in batches:
        say(f"batch {num_seqs}: {rounds} rounds of {prompt} + {generate} tokens …")
        measured = [measure(loaded, num_seqs, prompt, generate) for _ in range(rounds)]
        results.append({"batch": num_seqs, **_medians(measured)})
    counts = {"prompt_tokens": prompt, "generated_tokens": generate, "rounds": rounds}
    report = {**_machine(engine), **counts, "results": results}
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        _show(report)


def measure(loaded: LoadedModel, num_seqs: int, prompt: int, generate: int) -> dict[str, float]:
    """Run one round with random prompts."""
    vocab_size = loaded.config.vocab_size
    prompts = [random.choices(range(vocab_size), k=prompt) for _ in range(num_seqs)]
    return run_prompts(loaded, prompts, generate)


def run_prompts(loaded: LoadedModel, prompts: list[list[int]], generate: int) -> dict[str, float]:
    """Run prompts together; the prompt phase ends when every sequence has its first token."""
    from outrider.engine.protocol import Submit
    from outrider.types import SamplingParams

    num_seqs = len(prompts)
    sampling = SamplingParams(temperature=0.0, max_tokens=generate, ignore_eos=True)
    start = time.perf_counter()
    loaded.engine.submit(Submit("bench", tuple(map(tuple, prompts)), sampling))
    waiting = set(range(num_seqs))
    num_decoded = 0
    ttft_s = prompted = 0.0
    while loaded.engine.has_work:
        for output in loaded.engine.step():
            if prompted:
                num_decoded += len(output.token_ids)
            waiting.discard(output.index)
        ttft_s = ttft_s or (time.perf_counter() - start if len(waiting) < num_seqs else 0.0)
        if not waiting and not prompted:
            prompted = time.perf_counter()
    decode_s = time.perf_counter() - prompted
    return {
        "ttft_s": ttft_s,
        "prompt_tokens_per_s": sum(map(len, prompts)) / (prompted - start),
        "decode_tokens_per_s": num_decoded / decode_s,
    }


def _machine(engine: EngineConfig) -> dict[str, str | int]:
    from outrider import kernels
    from outrider.machine import num_cores

    return {
        "model": engine.model,
        "weights": engine.weights,
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

    title = (
        f"{report['model']}, weights {report['weights']}, {report['threads']} threads, "
        f"{report['isa']}: {report['prompt_tokens']} + {report['generated_tokens']} tokens"
    )
    table = Table(box=None, pad_edge=False)
    for column in ("batch", "first token s", "prompt tok/s", "decode tok/s"):
        table.add_column(column, justify="right")
    for row in report["results"]:
        table.add_row(
            str(row["batch"]),
            f"{row['ttft_s']:.3f}",
            f"{row['prompt_tokens_per_s']:,.0f}",
            f"{row['decode_tokens_per_s']:,.0f}",
        )
    console = Console()
    console.print(title, highlight=False)
    console.print(table)
