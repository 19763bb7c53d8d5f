"""The picture of `make bench`: well-formed SVG whose bars are as long as their shares."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def picture() -> ModuleType:
    return importlib.import_module("picture")


def draw(picture: ModuleType, *bars: Any) -> ElementTree.Element:
    title = picture.Title("Speed & limits", "ours <1>", "peer", "two cores")
    return ElementTree.fromstring(picture.draw(title, bars))


def widths(root: ElementTree.Element, colour: str) -> list[float]:
    """Give the widths of the bars of a colour, without the square of the legend."""
    found = [rect for rect in root.iter(f"{SVG}rect") if rect.get("fill") == colour]
    return [float(rect.get("width", 0)) for rect in found if rect.get("width") != "11.0"]


def test_bars_are_as_long_as_their_shares(picture: ModuleType) -> None:
    bars = [
        picture.Bar("a", "one", 0.8, 0.4, "80 tok/s", "40 tok/s"),
        picture.Bar("b", "two", 0.2, 0.1, "20 tok/s", "10 tok/s"),
    ]
    root = draw(picture, *bars)
    (track, _) = widths(root, picture.TRACK)
    assert widths(root, picture.OURS) == [pytest.approx(0.8 * track), pytest.approx(0.2 * track)]
    assert widths(root, picture.PEER) == [pytest.approx(0.4 * track), pytest.approx(0.1 * track)]


def test_a_bar_beyond_the_limit_stays_inside(picture: ModuleType) -> None:
    root = draw(picture, picture.Bar("a", "one", 1.25, 0.5, "", ""))
    (ours,), (track,) = widths(root, picture.OURS), widths(root, picture.TRACK)
    assert ours == pytest.approx(picture.WIDTH - picture.LEFT - picture.RIGHT)
    assert track == pytest.approx(ours / 1.25)


def test_texts_are_escaped_and_groups_named_once(picture: ModuleType) -> None:
    bars = [picture.Bar("Q4 & more", name, 0.5, 0.5, "5 tok/s", "5 tok/s") for name in "xy"]
    root = draw(picture, *bars)
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert texts.count("Q4 & more") == 1
    assert {"Speed & limits", "ours <1>", "peer", "two cores", "x", "y"} <= set(texts)


def test_a_target_is_an_upright_line(picture: ModuleType) -> None:
    root = draw(picture, picture.Bar("a", "one", 0.5, 0.5, "", "", target=0.75))
    (track,) = widths(root, picture.TRACK)
    lines = [line for line in root.iter(f"{SVG}line") if line.get("stroke") == picture.TARGET]
    (line,) = lines
    assert line.get("x1") == line.get("x2")
    assert float(line.get("x1", 0)) == pytest.approx(picture.LEFT + 0.75 * track)
