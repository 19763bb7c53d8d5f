"""The report of serve.py: its targets, its table and its JSON.

A target is met by the median of the rounds, but a maximum only if no round was above it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Report = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """What one figure of a row has to reach."""

    row: str
    figure: str
    limit: float
    is_least: bool = False
    is_worst: bool = False  # of all rounds, not their median

    def value(self, figure: dict[str, float]) -> float:
        """Give what is compared with the limit."""
        return figure["max"] if self.is_worst else figure["median"]

    def is_met(self, figure: dict[str, float]) -> bool:
        """Say whether a combined figure reaches the limit."""
        value = self.value(figure)
        return value >= self.limit if self.is_least else value <= self.limit


TARGETS = (
    Target("16 streaming clients", "share", 0.9, is_least=True),
    Target("time to first token", "known_added_16_ms", 5),
    Target("time to first token", "known_added_512_ms", 5),
    Target("long prompt arrives", "itl_p99_ms", 100),
    Target("long prompt arrives", "itl_max_ms", 100, is_worst=True),
    Target("cached prefix", "over_new_tokens_ms", 5),
)
LOAD_COLUMNS = (
    ("ttft_p50_ms", "ttft p50"),
    ("ttft_p90_ms", "p90"),
    ("ttft_p99_ms", "p99"),
    ("itl_p50_ms", "itl p50"),
    ("itl_p90_ms", "p90"),
    ("itl_p99_ms", "p99"),
    ("itl_max_ms", "max"),
    ("tokens_per_piece", "tok/gap"),
    ("tokens_per_s", "tok/s"),
    ("requests_per_s", "req/s"),
    ("good_requests_per_s", "good/s"),
    ("errors", "errors"),
)
LOADS = ("closed loop", "open loop")


def write(report: Report, path: Path) -> None:
    """Write the report as JSON, with the targets and whether they are met."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {**report, "targets": judge(report)}
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def judge(report: Report) -> list[dict[str, Any]]:
    """Give each target that was measured of our server, and whether it is met."""
    return [
        {
            "row": target.row,
            "figure": target.figure,
            "limit": target.limit,
            "value": target.value(row["figures"][target.figure]),
            "is_met": target.is_met(row["figures"][target.figure]),
        }
        for target in TARGETS
        for row in report["rows"]
        if row["server"] == "outrider"
        and row["name"] == target.row
        and target.figure in row["figures"]
    ]


def show(report: Report) -> None:
    """Print everything as a table."""
    read = report["read_gb_per_s"]
    print(f"\n{report['model']} on {report['machine']}, {report['threads']} threads")
    print(f"reads {read['median']:.0f} GB/s ({read['min']:.0f}-{read['max']:.0f})")
    print(f"Outrider {report['outrider']}, {report['rounds']} rounds: median (smallest-largest)")
    print("settings: " + " ".join(f"{name}={value}" for name, value in report["settings"].items()))
    marks = {(row["row"], row["figure"]): row for row in judge(report)}
    rows = report["rows"]
    for name in dict.fromkeys(row["name"] for row in rows if not row["name"].startswith(LOADS)):
        show_row(name, [row for row in rows if row["name"] == name], marks)
    show_loads([row for row in rows if row["name"].startswith(LOADS)])


def show_row(
    name: str, rows: list[dict[str, Any]], marks: dict[tuple[str, str], dict[str, Any]]
) -> None:
    """Print the figures of one row, all servers side by side."""
    print(f"\n{name:26}" + "".join(f"{row['server']:>29}" for row in rows))
    for figure in dict.fromkeys(figure for row in rows for figure in row["figures"]):
        cells = (cell(row["figures"].get(figure)) for row in rows)
        line = f"  {figure:24}" + "".join(f"{text:>29}" for text in cells)
        if mark := marks.get((name, figure)):
            verdict = "met" if mark["is_met"] else f"MISSED with {mark['value']:.2f}"
            line += f"  target {mark['limit']:g}: {verdict}"
        print(line.rstrip())


def cell(figure: dict[str, float] | None) -> str:
    """Write a figure with its spread."""
    if figure is None:
        return "-"
    return f"{figure['median']:,.2f} ({figure['min']:,.1f}-{figure['max']:,.1f})"


def show_loads(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    titles = "".join(f"{title:>9}" for _, title in LOAD_COLUMNS)
    print(f"\n{'load, times in ms':29}{'server':13}{titles}")
    for row in rows:
        figures = row["figures"]
        cells = (
            f"{figures[name]['median']:9,.1f}" if name in figures else f"{'-':>9}"
            for name, _ in LOAD_COLUMNS
        )
        print(f"{row['name']:29}{row['server']:13}{''.join(cells)}")
