"""`outrider serve` measured over HTTP with streaming: what it costs, and how it bears load.

Against the engine in this process: throughput of 16 clients and time to first token. By itself, and
against llama-server if `--peer` names one: streams while a long prompt arrives, a cached prefix,
clients that wait for their answers (closed loop) and Poisson arrivals that don't (open loop).
All of it in interleaved rounds, after one that doesn't count; figures are medians of the rounds
with their smallest and largest. `make llama-server` builds the peer.
Usage: serve.py [--model NAME_OR_PATH] [--rounds N] [--set threads=2] [--peer PATH] …
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from http_stream import Server, Work
from load import Figures, closed_loop, combine, open_loop, poisson_arrivals, run, summarise
from machine_limits import MachineLimits, describe_cpu
from prompts import TextMaker
from serve_report import Report, show, write
from serve_rows import Bench, InProcess, added_ttft, cached_prefix, newcomer, streaming_clients
from servers import Running, llama_server, outrider_server

import outrider
from outrider import config
from outrider.checkpoints.store import Store
from outrider.engine.loader import load_engine
from outrider.text.prompt import PromptEncoder

PEER_SLOTS, PEER_SLOT_TOKENS = 20, 2560
LOGS = Path("build")


@dataclass(frozen=True)
class Row:
    """One kind of work on one server; `measure` is a round of it."""

    name: str
    server: str
    measure: Callable[[random.Random], Figures]


def main() -> None:
    arguments = parse()
    flags = dict(pair.split("=", 1) for pair in arguments.settings)
    settings = config.load({"model": arguments.model, **flags})
    loaded = load_engine(settings.engine)
    if loaded.tokenizer is None:
        raise SystemExit("the model came without a tokenizer; choose one that has text")
    encoder = PromptEncoder(loaded.tokenizer, loaded.chat_format, loaded.vision)
    limits = MachineLimits(settings.engine.threads or None)
    with servers(arguments, settings) as (ours, *peers):
        bench = Bench(ours, InProcess(loaded.engine, encoder), TextMaker(encoder))
        rows = make_rows(bench, [ours, *peers], arguments)
        measured, bandwidth = run_rounds(rows, limits, arguments)
    report: Report = {
        "machine": describe_cpu(),
        "threads": limits.num_threads,
        "model": settings.engine.model,
        "settings": flags,
        "outrider": outrider.__version__,
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
    parser.add_argument("--model", default=config.DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=numbers, default=[1, 4, 16], help="closed loop, as 1,16")
    parser.add_argument("--rates", type=floats, default=[1, 4], help="open loop, requests/s")
    parser.add_argument("--seconds", type=float, default=8, help="of open loop per rate and round")
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
    arguments: argparse.Namespace, settings: config.Configuration
) -> Iterator[list[Running]]:
    """Run our server, and the peer if there is one; both idle while the other is measured."""
    flags = [
        word
        for name, value in (pair.split("=", 1) for pair in arguments.settings)
        for word in (f"--{name.replace('_', '-')}", value)
    ]
    with ExitStack() as stack:
        log = LOGS / "bench-serve-outrider.log"
        running = [stack.enter_context(outrider_server(arguments.model, flags, log))]
        if arguments.peer:
            path = Store(settings.home).resolve(arguments.model)
            log = LOGS / "bench-serve-llama-server.log"
            peer = llama_server(arguments.peer, path, PEER_SLOTS, PEER_SLOT_TOKENS, log)
            running.append(stack.enter_context(peer))
        yield running


def make_rows(bench: Bench, running: list[Running], arguments: argparse.Namespace) -> list[Row]:
    """List what is measured; rows that all servers have stand side by side."""
    rows = [
        Row("16 streaming clients", "outrider", lambda rng: streaming_clients(bench, rng)),
        Row("time to first token", "outrider", lambda rng: added_ttft(bench, rng)),
    ]
    works = Works(bench.texts, arguments.prompt, arguments.generate)
    for each in running:
        name, server = each.server.name, each.server
        rows += [
            Row("long prompt arrives", name, lambda rng, s=server: newcomer(bench, s, rng)),
            Row("cached prefix", name, lambda rng, s=server: cached_prefix(bench, s, rng)),
        ]
        for clients in arguments.clients:
            measure = works.closed(server, clients, arguments.requests)
            rows.append(Row(f"closed loop, {clients} clients", name, measure))
        for rate in arguments.rates:
            count = max(2, round(rate * arguments.seconds))
            measure = works.poisson(server, rate, count)
            rows.append(Row(f"open loop, {rate:g} requests/s", name, measure))
    order = list(dict.fromkeys(row.name for row in rows))
    rows.sort(key=lambda row: order.index(row.name))
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


def run_rounds(
    rows: list[Row], limits: MachineLimits, arguments: argparse.Namespace
) -> tuple[list[list[Figures]], list[Figures]]:
    """Measure every row once per round, all servers with the same texts; the first is dropped."""
    measured: list[list[Figures]] = [[] for _ in rows]
    bandwidth: list[Figures] = []
    for number in range(arguments.rounds + 1):
        begin = time.perf_counter()
        bandwidth.append({"read_gb_per_s": limits.read_gb_per_s()})
        for row, figures in zip(rows, measured, strict=True):
            figures.append(row.measure(random.Random(f"{arguments.seed}/{number}/{row.name}")))
        what = f"round {number} of {arguments.rounds}" if number else "warm-up"
        print(f"{what}: {time.perf_counter() - begin:.0f} s", flush=True)
    return [figures[1:] for figures in measured], bandwidth[1:]


if __name__ == "__main__":
    main()
