"""Every setting of Outrider, in one table, and the only reader of environment and TOML.

A row of `SETTINGS` gives the default, the command-line flag, the `OUTRIDER_*` variable, the key
in outrider.toml, the help text and the row in docs/settings.md. Precedence: flag, environment,
file, default. An unknown key or a value that can't be read is a `ConfigError` that names it.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from outrider.errors import ConfigError

Value = str | int | bool | tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """One setting; its type is that of its default, and an int lies in `minimum .. maximum`.

    A list is a flag that may be repeated and a variable with commas; `item` shows what is in it.
    """

    name: str
    default: Value
    help: str
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 2**53
    item: str = ""

    @property
    def default_text(self) -> str:
        """The default as people write it."""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return "none" if self.default == () else str(self.default)

    @property
    def flag(self) -> str:
        """The command-line flag, as in `--max-num-seqs`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable, as in `OUTRIDER_MAX_NUM_SEQS`."""
        return ENV_PREFIX + self.name.upper()

    @property
    def accepted(self) -> str:
        """What a value must be, in words that end an error message."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, tuple):
            return f"a list of {self.item}"
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if isinstance(self.default, int):
            if self.maximum == 2**53:
                return f"a whole number of at least {self.minimum}"
            return f"a whole number from {self.minimum} to {self.maximum}"
        return "a text that is not empty"


DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_EMBEDDING_MODEL = "all-minilm-l6-v2"
DEFAULT_HOME = "~/.cache/outrider"
ENV_PREFIX = "OUTRIDER_"
CONFIG_FILE = "outrider.toml"

ENGINE_SETTINGS = (
    Setting("model", DEFAULT_MODEL, "Model name, hf: name, .gguf file or safetensors folder"),
    Setting(
        "weights",
        "auto",
        "Format of the packed weights; auto keeps the precision of the source",
        choices=("auto", "f32", "bf16", "q8", "q4"),
    ),
    Setting(
        "kv",
        "auto",
        "Format of the KV cache; auto is f32 with f32 weights and bf16 otherwise",
        choices=("auto", "f32", "bf16", "int8"),
    ),
    Setting(
        "activations",
        "int8",
        "What activations are rounded to where they meet quantised weights; bf16 is slower",
        choices=("int8", "bf16"),
    ),
    Setting("kv_memory_mib", 0, "Memory for the KV cache in MiB; 0 chooses", maximum=1 << 30),
    Setting("max_model_len", 0, "Longest sequence in tokens; 0 is the model's own"),
    Setting("max_num_seqs", 32, "Sequences decoded together in one step", minimum=1, maximum=4096),
    Setting(
        "max_num_batched_tokens",
        512,
        "Tokens computed in one step; longer prompts are computed in pieces",
        minimum=16,
        maximum=65536,
    ),
    Setting(
        "max_step_ms",
        60,
        "Longest step in ms while others decode; prompts are cut to fit; 0 is no bound",
        maximum=3_600_000,
    ),
    Setting("threads", 0, "Compute threads; 0 is one per available core", maximum=1024),
    Setting(
        "isa",
        "auto",
        "Instruction set of the kernels; auto is the best this machine has",
        choices=("auto", "avx512", "avx2", "scalar"),
    ),
    Setting("prefix_cache", True, "Reuse computed blocks of equal prompt beginnings"),
    Setting(
        "speculation",
        "auto",
        "Compute guesses of the next tokens along where that is faster; the tokens stay the same",
        choices=("auto", "off"),
    ),
    Setting(
        "image_cache_mib",
        1024,
        "Memory for encoded images in MiB; those of one prompt must fit",
        minimum=1,
        maximum=1 << 30,
    ),
)

SERVER_SETTINGS = (
    Setting("host", "127.0.0.1", "Address to listen on"),
    Setting("port", 8000, "Port to listen on; 0 chooses a free one", maximum=65535),
    Setting(
        "alias", (), "Further names for served models, as clients send them", item="NAME=MODEL"
    ),
    Setting(
        "embedding_model",
        "auto",
        "Embedding model beside the chat model; auto is all-minilm-l6-v2 if it is pulled, or none",
    ),
    Setting("functions", False, "Run the code of Workers AI's functions, each in an isolate"),
    Setting("image_hosts", (), "Hosts that images of requests may be fetched from", item="HOST"),
    Setting(
        "workers_ai_tool_calls",
        "nested",
        "Form of tool calls on Workers AI's wire: nested with text, or flat with objects",
        choices=("nested", "flat"),
    ),
    Setting("max_queue", 256, "Requests accepted beyond those running; more get a 503"),
    Setting("max_request_bytes", 16 << 20, "Largest request body in bytes", minimum=1024),
    Setting(
        "body_timeout_s",
        30,
        "Seconds that a client may take to send its body",
        minimum=1,
        maximum=86_400,
    ),
    Setting(
        "data_dir",
        "auto",
        "Folder of files and batches; auto is outrider in $XDG_DATA_HOME or ~/.local/share",
    ),
    Setting("max_file_bytes", 200 << 20, "Largest uploaded file in bytes", minimum=1024),
    Setting("max_files", 10_000, "Files kept at the same time; more are refused", minimum=1),
    Setting("max_batch_requests", 50_000, "Requests in one batch", minimum=1, maximum=10**6),
    Setting("max_batches", 100, "Batches that haven't ended; more are refused", minimum=1),
    Setting(
        "keep_results_h",
        24,
        "Hours that results of a batch are kept, unless it asks for another time",
        minimum=1,
        maximum=8760,
    ),
    Setting("drain_timeout_s", 30, "Seconds that running requests get at SIGTERM", maximum=86_400),
    Setting(
        "log_level",
        "info",
        "Least important log lines shown",
        choices=("debug", "info", "warning", "error"),
    ),
)

STORE_SETTINGS = (Setting("home", DEFAULT_HOME, "Folder of pulled models and packed weights"),)

SETTINGS = ENGINE_SETTINGS + SERVER_SETTINGS + STORE_SETTINGS


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one engine process; field meanings are in `ENGINE_SETTINGS`."""

    model: str = DEFAULT_MODEL
    weights: str = "auto"
    kv: str = "auto"
    activations: str = "int8"
    kv_memory_mib: int = 0
    max_model_len: int = 0
    max_num_seqs: int = 32
    max_num_batched_tokens: int = 512
    max_step_ms: int = 60
    threads: int = 0
    isa: str = "auto"
    prefix_cache: bool = True
    speculation: str = "auto"
    image_cache_mib: int = 1024
    home: str = DEFAULT_HOME


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the HTTP process; field meanings are in `SERVER_SETTINGS`."""

    host: str = "127.0.0.1"
    port: int = 8000
    alias: tuple[str, ...] = ()
    embedding_model: str = "auto"
    functions: bool = False
    image_hosts: tuple[str, ...] = ()
    workers_ai_tool_calls: str = "nested"
    max_queue: int = 256
    max_request_bytes: int = 16 << 20
    body_timeout_s: int = 30
    data_dir: str = "auto"
    max_file_bytes: int = 200 << 20
    max_files: int = 10_000
    max_batch_requests: int = 50_000
    max_batches: int = 100
    keep_results_h: int = 24
    drain_timeout_s: int = 30
    log_level: str = "info"


class Configuration(NamedTuple):
    """The effective settings; `home` is absolute and the same as `engine.home`."""

    engine: EngineConfig
    server: ServerConfig
    home: Path


def load(
    flags: Mapping[str, Value | list[str] | None] | None = None,
    env: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Configuration:
    """Merge flags, environment, file and defaults; a flag that is None was not given.

    `file` must exist; without one, outrider.toml in the working folder is read if it is there.
    """
    values: dict[str, Value] = {row.name: row.default for row in SETTINGS}
    values |= _from_file(file)
    values |= _from_env(os.environ if env is None else env)
    values |= _from_flags(flags or {})
    home = _folder("home", str(values["home"]))
    values["home"] = str(home)
    engine = {name: values[name] for name in EngineConfig.__struct_fields__}
    server = {name: values[name] for name in ServerConfig.__struct_fields__}
    return Configuration(
        msgspec.convert(engine, EngineConfig), msgspec.convert(server, ServerConfig), home
    )


def data_folder(config: ServerConfig, env: Mapping[str, str] | None = None) -> Path:
    """Give the folder that `data_dir` means; a relative XDG_DATA_HOME counts as absent."""
    if config.data_dir != "auto":
        return _folder("data_dir", config.data_dir)
    base = Path((os.environ if env is None else env).get("XDG_DATA_HOME", ""))
    if not base.is_absolute():
        base = Path("~/.local/share").expanduser()
    return base / "outrider"


def _folder(name: str, text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:  # of ~NAME
        user = text.split("/")[0]
        raise ConfigError(f"{name}: there is no user {user!r} here; write the folder out") from None


def changed(configuration: Configuration) -> dict[str, Value]:
    """Give the settings that differ from their defaults, in the order of the table."""
    values = {
        **msgspec.structs.asdict(configuration.engine),
        **msgspec.structs.asdict(configuration.server),
    }
    defaults = {row.name: row.default for row in SETTINGS}
    defaults["home"] = str(Path(DEFAULT_HOME).expanduser().absolute())
    return {name: values[name] for name in defaults if values[name] != defaults[name]}


def _from_flags(flags: Mapping[str, Value | list[str] | None]) -> dict[str, Value]:
    rows = {row.name: row for row in SETTINGS}
    values = {}
    for name, value in flags.items():
        if name not in rows:
            raise ConfigError(f"unknown setting {name}{nearest(name, rows)}")
        if value is not None and value != []:  # a flag that may be repeated and wasn't given
            values[name] = _read(rows[name], value, rows[name].flag)
    return values


def _from_env(env: Mapping[str, str]) -> dict[str, Value]:
    rows = {row.variable: row for row in SETTINGS}
    names = [row.name.upper() for row in SETTINGS]
    values = {}
    for variable, text in env.items():
        if not variable.startswith(ENV_PREFIX):
            continue
        if variable not in rows:
            raise ConfigError(
                f"unknown environment variable {variable}"
                f"{nearest(variable.removeprefix(ENV_PREFIX), names, ENV_PREFIX)}"
            )
        values[rows[variable].name] = _read(rows[variable], text, variable)
    return values


def _from_file(file: Path | None) -> dict[str, Value]:
    path = file or Path(CONFIG_FILE)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if file is None:
            return {}
        raise ConfigError(f"{path}: no such file; --config names a TOML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; it can't be read as settings") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    rows = {row.name: row for row in SETTINGS}
    values = {}
    for key, value in table.items():
        if key not in rows:
            raise ConfigError(f"{path}: unknown key {key}{nearest(key, rows)}")
        # In TOML a number is a number: port = "8000" is as wrong as isa = 2.
        kind = type(rows[key].default)
        if type(value) is not (list if kind is tuple else kind):
            raise _refusal(rows[key], value, f"{path}: {key}")
        values[key] = _read(rows[key], value, f"{path}: {key}")
    return values


_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}


def _read(row: Setting, value: object, source: str) -> Value:
    """Turn a value, typed or text, into the type of the row; `source` names it in errors."""
    result = _convert(row, value)
    if result is None:
        raise _refusal(row, value, source)
    return result


def _convert(row: Setting, value: object) -> Value | None:
    if isinstance(row.default, tuple):
        return _convert_list(row, value)
    if isinstance(row.default, bool):
        return value if isinstance(value, bool) else _WORDS.get(str(value).strip().lower())
    if isinstance(row.default, int):
        if isinstance(value, bool) or not isinstance(value, int | str):
            return None
        try:
            number = int(value)
        except ValueError:
            return None
        return number if row.minimum <= number <= row.maximum else None
    if not isinstance(value, str | Path) or not str(value).strip():
        return None
    return str(value) if not row.choices or value in row.choices else None


def _convert_list(row: Setting, value: object) -> tuple[str, ...] | None:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        return None
    pairs = [item.partition("=") for item in items]
    is_good = all(
        name.strip() and (model.strip() or "=" not in row.item) for name, _, model in pairs
    )
    return tuple(item.strip() for item in items) if is_good else None


def _refusal(row: Setting, value: object, source: str) -> ConfigError:
    return ConfigError(f"{source} is {value!r}; it must be {row.accepted}")


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Give "; did you mean …?" for the known name most like `name`, or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {prefix}{matches[0]}?" if matches else ""
