"""Tests of the catalogue: names, aliases and refusals."""

from __future__ import annotations

import pytest

from gateway.fake_client import FakeClient, make_provider, short_answers
from outrider.errors import ModelNotFound
from outrider.gateway.catalogue import Catalogue, Entry


def entry(name: str, *aliases: str) -> Entry:
    provider = make_provider(FakeClient(short_answers))
    provider.name = name
    return Entry(provider, aliases)


def test_a_model_answers_to_its_name_and_its_aliases() -> None:
    first, second = entry("one", "hf:maker/one", "one-stem"), entry("two")
    catalogue = Catalogue([first, second])
    for name in ("one", "hf:maker/one", "one-stem"):
        assert catalogue.find(name) is first
    assert catalogue.find("two") is second
    assert [each.name for each in catalogue.entries] == ["one", "two"]


def test_the_first_model_keeps_a_name_that_another_claims_too() -> None:
    first, second = entry("one", "shared"), entry("two", "shared", "one")
    catalogue = Catalogue([first, second])
    assert catalogue.find("shared") is first
    assert catalogue.find("one") is first


def test_an_unknown_name_is_refused_with_the_served_ones() -> None:
    catalogue = Catalogue([entry("one", "alias"), entry("two")])
    with pytest.raises(ModelNotFound, match="served: one, two") as caught:
        catalogue.find("gpt-5")
    assert caught.value.param == "model"
    assert "gpt-5" in caught.value.message


def test_the_error_for_a_huge_unknown_name_stays_short() -> None:
    with pytest.raises(ModelNotFound) as caught:
        Catalogue([entry("one")]).find("x" * 1_000_000)
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("name", ["", "ONE", "one ", "../one"])
def test_names_are_matched_exactly(name: str) -> None:
    with pytest.raises(ModelNotFound):
        Catalogue([entry("one")]).find(name)
