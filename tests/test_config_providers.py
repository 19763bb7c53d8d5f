"""The providers of outrider.toml: what is read, how wrong values are refused, and kept secrets."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.openrouter_schemas import document
from outrider import config
from outrider.config_providers import (
    ProviderConfig,
    Quantization,
    Secret,
    check_secrets,
    read_providers,
)
from outrider.dialects.capabilities import (
    CAPABILITIES,
    DEFAULT_CAPABILITIES,
    Kind,
    supported_parameters,
)
from outrider.errors import ConfigError
from outrider.routing_types import Price

WHOLE = """
[vllm]
kind = "openai"
base_url = "http://10.0.0.5:8000/v1/"
api_key_env = "VLLM_KEY"
display_name = "Our vLLM"
collects_data = false
zero_retention = true
region = "eu"
max_concurrent = 8
requests_per_minute = 600
timeouts = { connect_s = 2, first_event_s = 30.5 }
headquarters = "NO"
datacenters = ["NO", "DE"]

[vllm.models."meta-llama/llama-4-scout"]
upstream = "scout"
price = { prompt = 0.08, completion = 0.3, cached = 0.02, request = 0.001, image = 0.000334 }
context_length = 131072
max_output = 8192
capabilities = ["temperature", "tools", "json_schema", "images"]
quantization = "fp8"
aliases = ["scout"]
tokenizer = "llama-4-scout"
"""
SECRET = "sk-do-not-tell-1234567890"


def read(text: str, **env: str) -> tuple[ProviderConfig, ...]:
    return read_providers(tomllib.loads(text), env)


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert "\n" not in caught.value.message
    return caught.value.message


def minimal(extra: str = "", model: str = "") -> str:
    return f'[a]\nkind = "openai"\nbase_url = "http://h/v1"\n{extra}\n[a.models.m]\n{model}\n'


def test_a_provider_is_read_with_all_its_facts() -> None:
    (provider,) = read(WHOLE, VLLM_KEY=SECRET)
    table = provider.table
    assert (provider.name, provider.display_name) == ("vllm", "Our vLLM")
    assert table.base_url == "http://10.0.0.5:8000/v1"
    assert (table.timeouts.connect_s, table.timeouts.first_event_s) == (2, 30.5)
    assert table.datacenters == ("NO", "DE")
    assert provider.api_key
    assert provider.api_key.reveal() == SECRET
    (model,) = provider.models
    assert (model.name, model.upstream, model.quantization) == (
        "meta-llama/llama-4-scout", "scout", "fp8",
    )  # fmt: skip
    assert model.price == Price(
        prompt=80_000, completion=300_000, cached=20_000, request=1000, image=334
    )
    assert model.capabilities == {"temperature", "tools", "json_schema", "images"}


def test_a_model_needs_nothing_but_its_name() -> None:
    (provider,) = read(minimal())
    (model,) = provider.models
    assert (model.name, model.upstream, model.price) == ("m", "m", Price())
    assert model.capabilities == DEFAULT_CAPABILITIES["openai"]
    assert provider.api_key is None
    assert provider.display_name == "a"


def test_hosted_services_have_an_address_already() -> None:
    (provider,) = read('[or]\nkind = "openrouter"\nmodels.m = {}')
    assert provider.table.base_url == "https://openrouter.ai/api/v1"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a = 1", "providers must hold tables, as in [providers.NAME]"),
        ('[a]\nbase_url = "http://h"', "providers.a: is missing the field 'kind'"),
        (
            '[a]\nkind = "vllm"\nmodels.m = {}',
            "providers.a.kind: invalid enum value 'vllm'",
        ),
        ('[A]\nkind = "openai"', "providers.A: the name of a provider"),
        ('["a/b/c"]\nkind = "openai"', 'providers."a/b/c": the name of a provider'),
        ('[a]\nkind = "local"', "providers.a.kind is 'local'; the provider named local"),
        ('[local]\nkind = "openai"', "providers.local.kind is 'openai'"),
        ('[local]\nkind = "local"\nbase_url = "http://h"', "providers.local.base_url: the local"),
        ('[a]\nkind = "openai"\nmodels.m = {}', "providers.a.base_url is missing"),
        ('[a]\nkind = "openrouter"', "providers.a has no models; add a table"),
        (minimal('api_key = "x"'), "unknown key api_key; did you mean api_key_env?"),
        (minimal("timeouts = { idle = 3 }"), "a.timeouts: unknown key idle; did you mean idle_s?"),
        (minimal("timeouts = { idle_s = 0 }"), "a.timeouts.idle_s is 0.0; it must be more than 0"),
        (minimal("timeouts = { total_s = inf }"), "a.timeouts.total_s is inf"),
        (minimal("max_concurrent = 0"), "a.max_concurrent is 0; it must be a whole number"),
        (minimal("requests_per_minute = 1.5"), "a.requests_per_minute: expected 'int | null'"),
        (minimal('headquarters = "Norway"'), "a.headquarters: 'Norway' isn't a country code"),
        (minimal('datacenters = ["us"]'), "a.datacenters: 'us' isn't a country code"),
        (minimal('region = "mars"'), "a.region: invalid enum value 'mars'"),
        (minimal(model="pric = {}"), "a.models.m: unknown key pric; did you mean price?"),
        (minimal(model="price.promt = 1"), "a.models.m.price: unknown key promt; did you mean"),
        (minimal(model='price.prompt = "1"'), "a.models.m.price.prompt: expected 'float'"),
        (minimal(model="price.prompt = -1"), "a.models.m.price.prompt is -1.0; it must be in dol"),
        (minimal(model="price.prompt = nan"), "a.models.m.price.prompt is nan"),
        (minimal(model="price.prompt = 0.0000001"), "at most 6 digits after the point"),
        (minimal(model="context_length = 0"), "a.models.m.context_length is 0"),
        (minimal(model='quantization = "q4"'), "a.models.m.quantization: invalid enum value"),
        (minimal(model='capabilities = ["tool"]'), "unknown capability 'tool'; did you mean tools"),
        (
            '[a]\nkind = "dataoorts"\nmodels.m = { capabilities = ["logprobs"] }',
            "a.models.m.capabilities: the wire of kind 'dataoorts' can't carry 'logprobs'",
        ),
        (
            minimal(model='aliases = ["x"]') + '[b]\nkind="openrouter"\nmodels.x = {}',
            "providers.a.models.m.aliases: 'x' stands for x already",
        ),
        (minimal() + '[a.models." "]', "the name of a model is printable"),
    ],
)
def test_what_is_wrong_is_refused_with_its_path_and_a_remedy(text: str, wanted: str) -> None:
    assert wanted in refusal(text)


@pytest.mark.parametrize(
    "url",
    ["", "h:8000", "ftp://h", "http://", "http://h:0/", "http://h:x/", "http://[::1/", "http://u:p@h/",
     "http://h/?a=b", "http://h/#x", "http://h/ä", "http://h/a b", "http://h/\\r\\nx"],
)  # fmt: skip
def test_an_address_that_could_lead_elsewhere_is_refused_without_being_shown(url: str) -> None:
    message = refusal(f'[a]\nkind = "openai"\nbase_url = "{url}"\nmodels.m = {{}}')
    assert message.startswith("providers.a.base_url ")
    assert "u:p" not in message


def test_two_hosts_may_have_the_same_model_under_the_same_alias() -> None:
    model = "models.m = { aliases = ['x'] }"
    assert len(read(f'[a]\nkind="openrouter"\n{model}\n[b]\nkind="openrouter"\n{model}')) == 2


@given(st.decimals(0, 1_000_000, places=6))
def test_prices_are_exact_in_millionths_of_a_dollar(dollars: object) -> None:
    (provider,) = read(minimal(model=f"price.prompt = {float(str(dollars))!r}"))
    assert provider.models[0].price.prompt == int(dollars * 1_000_000)  # type: ignore[operator]


def test_a_secret_shows_itself_to_nobody() -> None:
    (provider,) = read(WHOLE, VLLM_KEY=SECRET)
    for shown in (repr(provider), str(provider), f"{provider.api_key}", f"{provider.api_key!r}"):
        assert SECRET not in shown
    with pytest.raises(TypeError) as caught:
        msgspec.json.encode(provider)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("value", ["", "two words", "line\n", "naïve", "\x00"])
def test_a_missing_or_unusable_key_is_refused_when_it_is_needed(value: str) -> None:
    providers = read(WHOLE, VLLM_KEY=value)
    with pytest.raises(ConfigError, match=r"^providers\.vllm: .*variable VLLM_KEY") as caught:
        check_secrets(providers)
    assert not value.strip() or value not in caught.value.message


def test_the_file_of_settings_may_have_providers_and_their_variables(tmp_path: Path) -> None:
    path = tmp_path / "o.toml"
    path.write_text('port = 9\n[providers.a]\nkind = "openrouter"\napi_key_env = "OUTRIDER_A"\n'
                    "models.m = {}\n")  # fmt: skip
    loaded = config.load(env={"OUTRIDER_A": SECRET}, file=path)
    assert loaded.server.port == 9
    assert loaded.providers[0].api_key
    assert loaded.providers[0].api_key.reveal() == SECRET
    assert SECRET not in repr(loaded)


def test_an_error_in_a_provider_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "o.toml"
    path.write_text('[providers.a]\nkind = "x"\n')
    with pytest.raises(ConfigError, match=r"o\.toml: providers\.a\.kind"):
        config.load(env={}, file=path)


def test_a_misspelt_table_is_refused_with_the_right_one(tmp_path: Path) -> None:
    path = tmp_path / "o.toml"
    path.write_text('[provider.a]\nkind = "openai"\n')
    with pytest.raises(ConfigError, match="unknown key provider; did you mean providers"):
        config.load(env={}, file=path)


def test_parameters_and_quantizations_have_openrouters_names() -> None:
    schemas = document()["components"]["schemas"]
    for kind in get_args(Kind):
        assert supported_parameters(CAPABILITIES[kind]) <= set(schemas["Parameter"]["enum"])
        assert DEFAULT_CAPABILITIES[kind] <= CAPABILITIES[kind]
    assert set(get_args(Quantization)) == set(schemas["Quantization"]["enum"])


def test_capabilities_give_all_the_parameters_that_come_with_them() -> None:
    assert supported_parameters(["tools", "n", "images", "top_k"]) == {
        "max_tokens", "max_completion_tokens", "tools", "tool_choice", "parallel_tool_calls",
        "top_k",
    }  # fmt: skip


def test_secrets_are_equal_to_nothing_but_themselves() -> None:
    assert Secret("A", "x") != Secret("A", "x")


VECTORS = 'capabilities = ["embeddings"]\n'


def test_a_model_with_that_capability_makes_embeddings() -> None:
    (provider,) = read(minimal(model=VECTORS + "price = { prompt = 0.02 }"))
    assert provider.models[0].makes_embeddings
    assert not read(minimal())[0].models[0].makes_embeddings


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('capabilities = ["embeddings", "tools"]', "capabilities"),
        (VECTORS + "max_output = 5", "max_output"),
        (VECTORS + 'tokenizer = "llama"', "tokenizer"),
        (VECTORS + "price = { completion = 1 }", "price.completion"),
        (VECTORS + "price = { cached = 0 }", "price.cached"),
        (VECTORS + "price = { image = 1 }", "price.image"),
    ],
)
def test_an_embedding_model_has_nothing_that_only_text_has(text: str, field: str) -> None:
    message = refusal(minimal(model=text))
    assert message.startswith(f"providers.a.models.m.{field}: a model with the capability")


@pytest.mark.parametrize("kind", ["local", "dataoorts"])
def test_a_wire_without_embeddings_refuses_them(kind: str) -> None:
    name = "local" if kind == "local" else "a"
    text = f'[{name}]\nkind = "{kind}"\n[{name}.models.m]\n{VECTORS}'
    assert f"the wire of kind {kind!r} can't carry 'embeddings'" in refusal(text)


def test_a_name_stands_for_text_or_for_embeddings() -> None:
    text = minimal() + minimal(model=VECTORS).replace("[a", "[b")
    assert "b.models.m: another provider has a model of this name that makes text" in refusal(text)
