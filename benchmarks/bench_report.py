"""The report of `make bench`: a table for the terminal, Markdown for the README, JSON, a picture.

Nothing is computed here but medians and extremes of rounds; what a share is stands in rounds.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from picture import Bar, Title, draw
from rounds import RowResult
from rows import MODELS

MISSING = "–"
LIMITS = {
    "read_gb_per_s": "reading, GB/s",
    "int8_gmac_per_s": "int8 products, GMAC/s",
    "bf16_gmac_per_s": "bf16 products, GMAC/s",
    "f32_gmac_per_s": "f32 products, GMAC/s",
}


@dataclass(frozen=True)
class Report:
    """Everything that a run found out."""

    command: str
    machine: dict[str, Any]
    versions: dict[str, str]
    sides: dict[str, Any]  # "ours" and "peer" as they described themselves
    num_rounds: int
    results: tuple[RowResult, ...]
    spreads: tuple[dict[str, Any], ...] = ()


def as_text(report: Report) -> str:
    """Give the table of the terminal."""
    lines = _head_lines(report)
    model = ""
    for result in report.results:
        if result.row.model != model:
            model = result.row.model
            lines += ["", MODELS[model].title, _HEAD]
        lines.append(_text_row(result))
    lines += ["", *_limit_lines(report.results), *map(_spread_line, report.spreads)]
    return "\n".join(lines)


def _head_lines(report: Report) -> list[str]:
    machine, versions, peer = report.machine, report.versions, report.sides["peer"]
    return [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}; {machine['threads']} threads each",
        f"ours: {report.sides['ours']['name']} ({versions['commit']}), "
        f"{report.sides['ours']['isa']}, {versions['compiler']}, Python {versions['python']}",
        f"peer: {peer['name']}, {peer['settings']}",
        f"      {peer['features']}",
        f"{report.num_rounds} interleaved rounds after one to warm up: medians, and the spread of "
        "rounds; share: the least time that the limits of the same round allow, over ours",
    ]


def _spread_line(spread: dict[str, Any]) -> str:
    def told(side: dict[str, float]) -> str:
        return f"{side['hit']:.1f} of {side['num_experts']:.0f} hit, busiest {side['busiest']:.0%}"

    return (
        f"experts met by {spread['rows']} rows: {told(spread['ours'])} "
        f"(llama.cpp: {told(spread['peer'])})"
    )


_HEAD = (
    f"{'work':26}{'ours':>8}{'peer':>7}{'ratio':>8}{'spread':>14}{'target':>8}"
    f"{'share':>8}{'spread':>12}{'target':>8}  limit     result"
)


def _text_row(result: RowResult) -> str:
    row, share = result.row, result.median("share")
    target = row.ratio_target(result.median("read_gb_per_s"))
    asked = MISSING if row.share is None else f"{row.share:.0%}"
    missed = result.missed()
    return (
        f"{row.name:26}{_number(result.median('ours')):>8}{_number(result.median('peer')):>7}"
        f"{result.median('ratio'):>8.2f}{_range(result.values('ratio'), '.2f'):>14}{target:>8.1f}"
        f"{share:>8.0%}{_range(result.values('share'), '.0%'):>12}{asked:>8}"
        f"  {result.bound:9} {', '.join(missed) if missed else 'met'}"
    )


def _limit_lines(results: Iterable[RowResult]) -> list[str]:
    """Say how far the limits moved over all rounds."""
    rounds = [r for result in results for r in result.rounds]
    lines = []
    for name, text in LIMITS.items():
        values = [r.limits[name] for r in rounds]
        if any(values):
            lines.append(f"{text}: {_range(values, '.0f')}")
    return lines


def as_markdown(report: Report) -> str:
    """Give the table of the README."""
    lines = [
        "| work | Outrider tok/s | llama.cpp tok/s | ratio (spread) | asked | share of the limit |",
        "|---|---|---|---|---|---|",
    ]
    for result in report.results:
        share = f"{result.median('share'):.0%} of {result.bound}"
        asked = f"{result.row.ratio_target(result.median('read_gb_per_s')):.1f}"
        lines.append(
            f"| {MODELS[result.row.model].title.split(',')[0]}: {result.row.name} "
            f"| {_number(result.median('ours'))} | {_number(result.median('peer'))} "
            f"| {result.median('ratio'):.1f} ({_range(result.values('ratio'), '.1f')}) "
            f"| {asked} | {share} |"
        )
    machine, ours = report.machine, report.sides["ours"]
    lines += [
        "",
        f"`{report.command}` on {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gb']} GB: {ours['name']} ({report.versions['commit']}, {ours['isa']}) "
        f"against {report.sides['peer']['name']}, medians of {report.num_rounds} interleaved "
        f"rounds. Limits beside them: {'; '.join(_limit_lines(report.results))}.\n",
    ]
    return "\n".join(lines)


def as_picture(report: Report) -> str:
    """Give the bars of all rows as SVG."""
    machine, peer = report.machine, report.sides["peer"]["name"]
    title = Title(
        heading="Speed as a share of what the machine allows",
        ours=report.sides["ours"]["name"],
        peer=peer,
        foot=f"{machine['cpu']}, {machine['cores']} cores; medians of {report.num_rounds} rounds; "
        "the short upright line is the target",
    )
    return draw(title, [_bar_of(result) for result in report.results])


def _bar_of(result: RowResult) -> Bar:
    share, ratio = result.median("share"), result.median("ratio")
    asked = result.row.ratio_target(result.median("read_gb_per_s")) * share / ratio
    return Bar(
        group=MODELS[result.row.model].title,
        label=result.row.name,
        ours=share,
        peer=share / ratio,
        ours_text=f"{_number(result.median('ours'))} tok/s, {ratio:.1f}×",
        peer_text=f"{_number(result.median('peer'))} tok/s",
        target=max(asked, result.row.share or 0.0),
    )


def as_json(report: Report) -> dict[str, Any]:
    """Give everything, every round included."""
    rows = []
    for result in report.results:
        row = asdict(result.row)
        figures = {
            name: {
                "median": result.median(name),
                "min": min(result.values(name)),
                "max": max(result.values(name)),
            }
            for name in ("ours", "peer", "ratio", "share", *result.rounds[0].limits)
        }
        rows.append(
            row
            | figures
            | {
                "bound": result.bound,
                "ratio_target": result.row.ratio_target(result.median("read_gb_per_s")),
                "share_target": result.row.share,
                "missed": result.missed(),
                "rounds": [asdict(r) for r in result.rounds],
            }
        )
    return {
        "command": report.command,
        "machine": report.machine,
        "versions": report.versions,
        "sides": report.sides,
        "num_rounds": report.num_rounds,
        "expert_spreads": list(report.spreads),
        "rows": rows,
    }


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _range(values: Iterable[float], form: str) -> str:
    values = list(values)
    return f"{min(values):{form}}-{max(values):{form}}"
