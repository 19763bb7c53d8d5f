"""The report of gateway.py: its targets, its table and its JSON.

A target is met by the median of the rounds; a figure that wasn't measured has no verdict.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from serve_report import Target, cell

Report = dict[str, Any]

# Of our server; `row` is what people read.
TARGETS = (
    Target("added latency, one at a time, p50 ms", "added_p50_ms", 0.6),
    Target("added latency, one at a time, p99 ms", "added_p99_ms", 2.0),
    Target("added p50 over the floor's", "added_over_floor", 2.5),
    Target("added p50 over LiteLLM's", "added_over_litellm", 0.1),
    Target("requests/s, 64 clients", "busy_requests_per_s", 2500, is_least=True),
    Target("latency, 64 clients, p99 ms", "busy_p99_ms", 60),
    Target("us per streamed chunk", "us_per_chunk", 25),
    Target("idle memory, MB", "idle_rss_mb", 90),
    Target("memory per 100,000 requests, MB", "rss_slope_mb", 1),
    Target("start to the first 200, s", "start_s", 1),
)
OTHERS = (
    ("latency, one at a time, p50 ms", "alone_p50_ms"),
    ("latency, one at a time, p99 ms", "alone_p99_ms"),
    ("latency, 64 clients, p50 ms", "busy_p50_ms"),
)


def judge(report: Report) -> list[dict[str, Any]]:
    """Give each target that was measured, and whether it is met."""
    figures = report["servers"]["outrider"]
    return [
        {
            "row": target.row,
            "figure": target.figure,
            "limit": target.limit,
            "value": target.value(figures[target.figure]),
            "is_met": target.is_met(figures[target.figure]),
        }
        for target in TARGETS
        if target.figure in figures
    ]


def write(report: Report, path: Path) -> None:
    """Write the report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {**report, "targets": judge(report)}
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def show(report: Report) -> None:
    """Print the table, all servers side by side."""
    marks = {mark["figure"]: mark for mark in judge(report)}
    servers = report["servers"]
    print(f"\n{report['machine']}; Outrider {report['outrider']}")
    print(f"{report['rounds']} rounds, {report['took_s']:.0f} s: median (smallest-largest)")
    print(f"\n{'':38}" + "".join(f"{name:>24}" for name in servers))
    rows = [*OTHERS, *((target.row, target.figure) for target in TARGETS)]
    for title, figure in rows:
        line = f"{title:38}"
        line += "".join(f"{cell(figures.get(figure)):>24}" for figures in servers.values())
        if mark := marks.get(figure):
            verdict = "met" if mark["is_met"] else "MISSED"
            line += f"  target {mark['limit']:g}: {verdict}"
        print(line.rstrip())
