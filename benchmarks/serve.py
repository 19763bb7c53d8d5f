"""`outrider serve` measured over HTTP with streaming: what it costs, and how it bears load.

Sixteen streaming clients, time to first token, streams while a long prompt arrives, a cached prefix
and Poisson arrivals (open loop); with `--clients` also clients that wait for their answers (closed
loop). Ours is compared with the engine in this process where HTTP's own cost is asked for, and with
llama-server in every row if `--peer` names one; `make llama-server` builds it. Rounds are
interleaved; figures are medians with the smallest and the largest. Some minutes.

Guesses are off unless `--set speculation=auto` is given: answers to random words soon repeat
themselves, so most would come true, and a piece of a stream would be several tokens.
Usage: serve.py [--model NAME_OR_PATH] [--rounds N] [--set threads=2] [--peer PATH] …
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from http_stream import Server, Work
from load import Figures, closed_loop, combine, open_loop, poisson_arrivals, run, summarise
from machine_limits import MachineLimits, describe_cpu
from prompts import TextMaker
from serve_report import Report, show, write
from serve_rows import (
    Bench,
    InProcess,
    cached_prefix,
    clients_turn,
    first_token,
    newcomer,
    streaming_clients,
)
from servers import Running, llama_server, outrider_server
from versions import describe_versions

import outrider
from outrider import config
from outrider.checkpoints.store import Store
from outrider.engine.loader import load_engine
from outrider.settings import DEFAULT_MODEL
from outrider.text.prompt import PromptEncoder

PEER_SLOTS, PEER_SLOT_TOKENS = 20, 2560
LOGS = Path("build")
# A piece of a stream is then a token, gaps are between tokens, and no peer drafts either.
FIXED = {"speculation": "off"}


@dataclass(frozen=True)
class Row:
    """One kind of work on one server; `measure` is a round of it."""

    name: str
    server: str
    measure: Callable[[random.Random], Figures]


def main() -> None:
    arguments = parse()
    flags = FIXED | dict(pair.split("=", 1) for pair in arguments.settings)
    settings = config.load({"model": arguments.model, **flags})
    loaded = load_engine(settings.engine)
    if loaded.tokenizer is None:
        raise SystemExit("the model came without a tokenizer; choose one that has text")
    encoder = PromptEncoder(loaded.tokenizer, loaded.chat_format, loaded.vision)
    limits = MachineLimits(settings.engine.threads or None)
    with servers(arguments, settings, flags) as (ours, *peers):
        texts = TextMaker(encoder)
        benches = [Bench(ours, texts, InProcess(loaded.engine, encoder))]
        benches += [Bench(peer, texts) for peer in peers]
        rows = make_rows(benches, arguments)
        warm_up(benches)
        measured, bandwidth = run_rounds(rows, limits, arguments)
    report: Report = {
        "machine": describe_cpu(),
        "threads": limits.num_threads,
        "model": settings.engine.model,
        "settings": flags,
        "outrider": outrider.__version__,
        "versions": describe_versions(),
        "servers": [running.server.name for running in (ours, *peers)],
        "rounds": arguments.rounds,
        "seed": arguments.seed,
        "read_gb_per_s": combine(bandwidth)["read_gb_per_s"],
        "rows": [
            {"name": row.name, "server": row.server, "figures": combine(rounds), "rounds": rounds}
            for row, rounds in zip(rows, measured, strict=True)
        ],
    }
    write(report, arguments.out)
    show(report)
    print(f"written to {arguments.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=numbers, default=[], help="closed loop, as 1,16")
    parser.add_argument("--rates", type=floats, default=[1, 2, 4], help="open loop, requests/s")
    parser.add_argument("--seconds", type=float, default=6, help="of open loop per rate and round")
    parser.add_argument("--requests", type=int, default=2, help="of each closed loop client")
    parser.add_argument("--prompt", type=int, default=256, help="tokens of a prompt under load")
    parser.add_argument("--generate", type=int, default=64, help="tokens of an answer under load")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--peer", type=Path, help="a llama-server")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, default=Path("build/bench-serve.json"))
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def floats(text: str) -> list[float]:
    return [float(part) for part in text.split(",") if part]


@contextmanager
def servers(
    arguments: argparse.Namespace, settings: config.Configuration, flags: dict[str, str]
) -> Iterator[list[Running]]:
    """Run our server, and the peer if there is one; both idle while the other is measured."""
    words = [
        word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", value)
    ]
    with ExitStack() as stack:
        log = LOGS / "bench-serve-outrider.log"
        running = [stack.enter_context(outrider_server(arguments.model, words, log))]
        if arguments.peer:
            path = Store(settings.home).resolve(arguments.model)
            log = LOGS / "bench-serve-llama-server.log"
            peer = llama_server(arguments.peer, path, PEER_SLOTS, PEER_SLOT_TOKENS, log)
            running.append(stack.enter_context(peer))
        yield running


def make_rows(benches: list[Bench], arguments: argparse.Namespace) -> list[Row]:
    """List what is measured; rows of all servers stand side by side."""
    rows = []
    for name, measure in (
        ("16 streaming clients", streaming_clients),
        ("time to first token", first_token),
        ("long prompt arrives", newcomer),
        ("cached prefix", cached_prefix),
    ):
        for bench in benches:
            work = partial(measure, bench)
            rows.append(Row(name, bench.running.server.name, work))
    works = Works(benches[0].texts, arguments.prompt, arguments.generate)
    servers = [bench.running.server for bench in benches]
    for clients in arguments.clients:
        for server in servers:
            work = works.closed(server, clients, arguments.requests)
            rows.append(Row(f"closed loop, {clients} clients", server.name, work))
    for rate in arguments.rates:
        count = max(2, round(rate * arguments.seconds))
        for server in servers:
            work = works.poisson(server, rate, count)
            rows.append(Row(f"open loop, {rate:g} requests/s", server.name, work))
    return [row for row in rows if arguments.only in row.name]


@dataclass(frozen=True)
class Works:
    """Load of one size; each method gives the measurement of a round."""

    texts: TextMaker
    num_tokens: int
    generate: int

    def closed(
        self, server: Server, clients: int, count: int
    ) -> Callable[[random.Random], Figures]:
        """Let clients send `count` requests each, one after the other."""

        def measure(rng: random.Random) -> Figures:
            works = [self._make(count, rng) for _ in range(clients)]
            return summarise(run(closed_loop(server, works)))

        return measure

    def poisson(
        self, server: Server, rate_per_s: float, count: int
    ) -> Callable[[random.Random], Figures]:
        """Send `count` requests as they arrive."""

        def measure(rng: random.Random) -> Figures:
            arrivals = poisson_arrivals(rate_per_s, count, rng)
            return summarise(run(open_loop(server, self._make(count, rng), arrivals)))

        return measure

    def _make(self, count: int, rng: random.Random) -> list[Work]:
        return [Work(self.texts.make(self.num_tokens, rng), self.generate) for _ in range(count)]


def warm_up(benches: list[Bench]) -> None:
    """Let every server, and our engine, map its weights and grow to its size."""
    for bench in benches:
        newcomer(bench, random.Random(0))
        clients_turn(bench, random.Random(0))


def run_rounds(
    rows: list[Row], limits: MachineLimits, arguments: argparse.Namespace
) -> tuple[list[list[Figures]], list[Figures]]:
    """Measure every row once per round, all servers with the same texts."""
    measured: list[list[Figures]] = [[] for _ in rows]
    bandwidth: list[Figures] = []
    for number in range(1, arguments.rounds + 1):
        begin = time.perf_counter()
        bandwidth.append({"read_gb_per_s": limits.read_gb_per_s()})
        for row, figures in zip(rows, measured, strict=True):
            figures.append(row.measure(random.Random(f"{arguments.seed}/{number}/{row.name}")))
        took_s = time.perf_counter() - begin
        print(f"round {number} of {arguments.rounds}: {took_s:.0f} s", flush=True)
    return measured, bandwidth


if __name__ == "__main__":
    main()
