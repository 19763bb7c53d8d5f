"""Tests of the catalogue: names, aliases and refusals."""

from __future__ import annotations

import pytest

from gateway.fake_client import FakeClient, make_provider, short_answers
from outrider.errors import ConfigError, ModelNotFound
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


def test_an_alias_never_hides_a_models_own_name() -> None:
    first, second = entry("one", "two"), entry("two")
    assert Catalogue([first, second]).find("two") is second


def test_a_catalogue_takes_over_what_another_has_and_found_entries_stay() -> None:
    before, after = entry("one"), entry("two")
    catalogue = Catalogue([before])
    found = catalogue.find("one")
    catalogue.adopt(Catalogue([after], ["one=two"]))
    assert catalogue.find("one") is catalogue.find("two") is after
    assert catalogue.entries == (after,)
    assert found.provider is before.provider


def test_a_provider_alone_is_this_servers_engine() -> None:
    (endpoint,) = entry("one").endpoints
    assert (endpoint.key, endpoint.host.is_local) == (("local", "one"), True)


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


def test_aliases_stand_for_served_models_by_any_of_their_names() -> None:
    first, second = entry("one", "stem"), entry("two")
    aliases = ("@cf/meta/x=stem", " spaced = two ", "a=two", "two=two")
    catalogue = Catalogue([first, second], aliases)
    assert catalogue.find("@cf/meta/x") is first
    assert catalogue.find("spaced") is second
    assert catalogue.find("a") is second


def test_an_alias_is_seen_in_no_answer() -> None:
    catalogue = Catalogue([entry("one")], ["gpt=one"])
    assert catalogue.find("gpt").name == "one"
    assert [each.name for each in catalogue.entries] == ["one"]


@pytest.mark.parametrize(
    ("alias", "message"),
    [
        ("gpt=three", "alias gpt=three: no model three is served; served: one, two, stem"),
        ("two=one", "alias two=one: two is a served model itself; choose another"),
    ],
)
def test_an_alias_that_leads_nowhere_or_hides_a_model_is_refused(alias: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Catalogue([entry("one", "stem"), entry("two")], [alias])
    assert caught.value.message == message


def test_the_first_of_several_names_that_is_served_counts() -> None:
    first, second = entry("one"), entry("two")
    catalogue = Catalogue([first, second])
    assert catalogue.find("gpt-5", "two", "one") is second
    assert catalogue.find() is first
    with pytest.raises(ModelNotFound):
        Catalogue([]).find()


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-4-Scout-17B-16E-Instruct",
        "Llama-4-Scout-17B-16E-Instruct-Q4_0",
        "Llama-4-Scout-17B-16E-Instruct-UD-Q2_K_XL-00001-of-00002",
        "Llama 4 Scout 17B 16E Instruct",
        "unsloth/Llama-4-Scout-17B-16E-Instruct-GGUF",
        "RedHatAI/Llama-4-Scout-17B-16E-Instruct-quantized.w4a16",
    ],
)
def test_scout_answers_to_the_ids_of_all_services(name: str) -> None:
    catalogue = Catalogue([entry(name)])
    for known in (
        "@cf/meta/llama-4-scout-17b-16e-instruct",
        "meta/llama-4-scout-17b-16e-instruct",
        "meta-llama/llama-4-scout",
        "meta-llama/Llama-4-Scout-17B-16E",
    ):
        assert catalogue.find(known).name == name


@pytest.mark.parametrize(
    "name",
    ["Llama-4-Scout-17B-16E", "Llama-4-Scout-17B-16E-Instruct-mine", "smollm2-135m-instruct"],
)
def test_other_models_and_fine_tunes_answer_to_no_ids_of_services(name: str) -> None:
    with pytest.raises(ModelNotFound):
        Catalogue([entry(name)]).find("meta-llama/llama-4-scout")


def test_an_operators_alias_wins_over_a_known_id() -> None:
    scout, other = entry("Llama-4-Scout-17B-16E-Instruct"), entry("other")
    catalogue = Catalogue([scout, other], ["meta-llama/llama-4-scout=other"])
    assert catalogue.find("meta-llama/llama-4-scout") is other
