"""Settings: where values come from, which one wins, and how wrong ones are refused."""

from __future__ import annotations

from pathlib import Path
from typing import get_origin

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outrider import config
from outrider.config import EngineConfig, ServerConfig
from outrider.errors import ConfigError
from outrider.settings import ENGINE_SETTINGS, SERVER_SETTINGS, SETTINGS, STORE_SETTINGS, Setting

ROWS = {row.name: row for row in SETTINGS}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(**arguments: object) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(**{"env": {}, **arguments})  # type: ignore[arg-type]
    return caught.value.message


@pytest.mark.parametrize(
    ("struct", "rows"),
    [(EngineConfig, ENGINE_SETTINGS + STORE_SETTINGS), (ServerConfig, SERVER_SETTINGS)],
    ids=["engine", "server"],
)
def test_struct_defaults_are_those_of_the_table(
    struct: type[msgspec.Struct], rows: tuple[Setting, ...]
) -> None:
    defaults = msgspec.structs.asdict(struct())
    assert defaults == {row.name: row.default for row in rows}
    types = {
        field.name: get_origin(field.type) or field.type for field in msgspec.structs.fields(struct)
    }
    assert types == {row.name: type(row.default) for row in rows}


def test_there_are_at_most_forty_settings_with_different_names() -> None:
    assert len(ROWS) == len(SETTINGS) <= 40


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.name)
def test_every_default_is_a_value_that_its_own_row_accepts(row: Setting) -> None:
    settings = config.load({row.name: row.default}, env={})
    assert config.changed(settings) == {}


def test_nothing_given_gives_the_defaults_with_an_absolute_home() -> None:
    engine, server, home, _ = config.load(env={})
    assert home == Path("~/.cache/outrider").expanduser()
    assert engine == msgspec.structs.replace(EngineConfig(), home=str(home))
    assert server == ServerConfig()


def test_a_flag_wins_over_a_variable_over_the_file_over_the_default() -> None:
    Path("outrider.toml").write_text("port = 1\nthreads = 1\nmax_queue = 1\n")
    env = {"OUTRIDER_PORT": "2", "OUTRIDER_THREADS": "2"}
    engine, server, *_ = config.load({"port": 3, "max_num_seqs": None}, env)
    assert (server.port, engine.threads, server.max_queue) == (3, 2, 1)
    assert engine.max_num_seqs == ROWS["max_num_seqs"].default


def test_changed_lists_what_differs_from_the_defaults(tmp_path: Path) -> None:
    settings = config.load({"port": 1, "prefix_cache": False, "home": str(tmp_path)}, {})
    assert config.changed(settings) == {"prefix_cache": False, "port": 1, "home": str(tmp_path)}


def test_a_named_file_is_read_instead_of_the_usual_one(tmp_path: Path) -> None:
    Path("outrider.toml").write_text("port = 1\n")
    other = tmp_path / "other.toml"
    other.write_text('weights = "q8"\nprefix_cache = false\n')
    engine, server, *_ = config.load(env={}, file=other)
    assert (engine.weights, engine.prefix_cache, server.port) == ("q8", False, 8000)


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("ON", True), ("1", True), ("no", False), (" 0 ", False)]
)
def test_a_switch_can_be_written_in_words(text: str, value: bool) -> None:
    assert config.load(env={"OUTRIDER_PREFIX_CACHE": text}).engine.prefix_cache is value


def test_a_list_is_a_repeated_flag_a_variable_with_commas_or_a_list_of_the_file() -> None:
    Path("outrider.toml").write_text('alias = ["a=b", "c/d:e=f"]\n')
    assert config.load(env={}).server.alias == ("a=b", "c/d:e=f")
    env = {"OUTRIDER_ALIAS": "g=h, i=j"}
    assert config.load({"alias": []}, env).server.alias == ("g=h", "i=j")
    assert config.load({"alias": ["k=l"]}, env).server.alias == ("k=l",)


def test_a_relative_home_becomes_absolute(tmp_path: Path) -> None:
    settings = config.load({"home": "models"}, env={})
    assert settings.home == tmp_path / "models"
    assert settings.engine.home == str(settings.home)


def test_variables_of_other_programs_are_left_alone() -> None:
    config.load(env={"HF_TOKEN": "secret", "PATH": "/bin", "OUTRIDERS": "1"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"env": {"OUTRIDER_PROT": "1"}},
            "unknown environment variable OUTRIDER_PROT; did you mean OUTRIDER_PORT?",
        ),
        ({"env": {"OUTRIDER_XYZZY": "1"}}, "unknown environment variable OUTRIDER_XYZZY"),
        (
            {"env": {"OUTRIDER_PORT": "abc"}},
            "OUTRIDER_PORT is 'abc'; it must be a whole number from 0 to 65535",
        ),
        (
            {"env": {"OUTRIDER_MAX_NUM_SEQS": "0"}},
            "OUTRIDER_MAX_NUM_SEQS is '0'; it must be a whole number from 1 to 4096",
        ),
        (
            {"flags": {"max_queue": -1}},
            "--max-queue is -1; it must be a whole number of at least 0",
        ),
        (
            {"flags": {"isa": "neon"}},
            "--isa is 'neon'; it must be one of auto, avx512, avx2, scalar",
        ),
        (
            {"env": {"OUTRIDER_PREFIX_CACHE": "maybe"}},
            "OUTRIDER_PREFIX_CACHE is 'maybe'; it must be true or false",
        ),
        (
            {"env": {"OUTRIDER_MODEL": " "}},
            "OUTRIDER_MODEL is ' '; it must be a text that is not empty",
        ),
        ({"flags": {"port": True}}, "--port is True; it must be a whole number from 0 to 65535"),
        (
            {"env": {"OUTRIDER_ALIAS": "a=b,c"}},
            "OUTRIDER_ALIAS is 'a=b,c'; it must be a list of NAME=MODEL",
        ),
        ({"flags": {"alias": ["=b"]}}, "--alias is ['=b']; it must be a list of NAME=MODEL"),
        ({"flags": {"treads": 2}}, "unknown setting treads; did you mean threads?"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_a_wrong_value_is_refused_with_its_source(
    arguments: dict[str, object], message: str
) -> None:
    assert refusal(**arguments) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prot = 1", "outrider.toml: unknown key prot; did you mean port?"),
        ('port = "1"', "outrider.toml: port is '1'; it must be a whole number from 0 to 65535"),
        ("port = true", "outrider.toml: port is True; it must be a whole number from 0 to 65535"),
        ("port = 70000", "outrider.toml: port is 70000; it must be a whole number from 0 to 65535"),
        (
            'alias = "a=b"',
            "outrider.toml: alias is 'a=b'; it must be a list of NAME=MODEL",
        ),
        ("alias = [1]", "outrider.toml: alias is [1]; it must be a list of NAME=MODEL"),
        ("[server]\nport = 1", "outrider.toml: unknown key server"),
    ],
)
def test_a_wrong_line_of_the_file_is_refused_with_its_key(content: str, message: str) -> None:
    Path("outrider.toml").write_text(content)
    assert refusal() == message


@pytest.mark.parametrize("content", [b"port = ", b"\xff"], ids=["broken", "not UTF-8"])
def test_a_file_that_is_not_toml_is_refused(content: bytes) -> None:
    Path("outrider.toml").write_bytes(content)
    assert refusal().startswith("outrider.toml: not a TOML file: ")


def test_a_named_file_must_exist_and_be_a_file(tmp_path: Path) -> None:
    assert refusal(file=Path("gone.toml")) == "gone.toml: no such file; --config names a TOML file"
    assert refusal(file=tmp_path).startswith(f"{tmp_path}: ")


@example(row=next(row for row in SETTINGS if row.name == "home"), text="~0")
@given(
    row=st.sampled_from(SETTINGS), text=st.text(max_size=8).filter(lambda text: "\0" not in text)
)
def test_any_text_is_either_read_or_refused_by_name(row: Setting, text: str) -> None:
    try:
        settings = config.load(env={row.variable: text})
    except ConfigError as error:
        assert error.message in (
            f"{row.variable} is {text!r}; it must be {row.accepted}",
            f"{row.name}: there is no user {text.split('/')[0]!r} here; write the folder out",
        )
    else:
        assert set(config.changed(settings)) <= {row.name}


def test_the_data_folder_is_the_users_own_unless_one_is_named() -> None:
    auto = ServerConfig()
    home = Path.home()
    assert config.data_folder(auto, {}) == home / ".local/share/outrider"
    assert config.data_folder(auto, {"XDG_DATA_HOME": "/srv/data"}) == Path("/srv/data/outrider")
    relative = config.data_folder(auto, {"XDG_DATA_HOME": "data"})
    assert relative == home / ".local/share/outrider"
    named = ServerConfig(data_dir="~/mine")
    assert config.data_folder(named, {"XDG_DATA_HOME": "/srv"}) == home / "mine"
