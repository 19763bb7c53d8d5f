"""The effective settings: the only reader of environment and TOML.

Precedence: flag, environment, file, default. What may be set stands in `settings`. An unknown key
or a value that can't be read is a `ConfigError` that names it.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from outrider.config_providers import ProviderConfig, read_providers
from outrider.errors import ConfigError
from outrider.settings import (
    CONFIG_FILE,
    DEFAULT_HOME,
    DEFAULT_MODEL,
    ENV_PREFIX,
    SECRETS,
    SETTINGS,
    Setting,
    Value,
)

PROVIDERS = "providers"


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
    auth: str = "auto"
    embedding_model: str = "auto"
    local_first: bool = True
    functions: bool = False
    image_hosts: tuple[str, ...] = ()
    workers_ai_tool_calls: str = "nested"
    max_queue: int = 256
    max_connections: int = 1000
    max_request_bytes: int = 16 << 20
    body_timeout_s: int = 30
    data_dir: str = "auto"
    database_url: str = "none"
    keep_contents_days: int = 30
    keep_requests_days: int = 0
    max_file_bytes: int = 200 << 20
    max_files: int = 10_000
    max_batch_requests: int = 50_000
    max_batches: int = 100
    keep_results_h: int = 24
    drain_timeout_s: int = 30
    log_level: str = "info"
    tracing: str = "off"


class FileSettings(NamedTuple):
    """What a file says; without a path there is none."""

    path: Path | None
    values: dict[str, Value]
    providers: tuple[ProviderConfig, ...]


class Configuration(NamedTuple):
    """The effective settings; `home` is absolute and the same as `engine.home`."""

    engine: EngineConfig
    server: ServerConfig
    home: Path
    file: FileSettings

    @property
    def providers(self) -> tuple[ProviderConfig, ...]:
        """The providers, which are in the file alone."""
        return self.file.providers


def load(
    flags: Mapping[str, Value | list[str] | None] | None = None,
    env: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Configuration:
    """Merge flags, environment, file and defaults; a flag that is None was not given.

    `file` must exist; without one, outrider.toml in the working folder is read if it is there.
    """
    environment = os.environ if env is None else env
    values: dict[str, Value] = {row.name: row.default for row in SETTINGS}
    read = read_file(file, environment)
    values |= read.values
    secrets = {one.api_key.variable for one in read.providers if one.api_key is not None}
    values |= _from_env({name: text for name, text in environment.items() if name not in secrets})
    values |= _from_flags(flags or {})
    home = _folder("home", str(values["home"]))
    values["home"] = str(home)
    engine = {name: values[name] for name in EngineConfig.__struct_fields__}
    server = {name: values[name] for name in ServerConfig.__struct_fields__}
    return Configuration(
        msgspec.convert(engine, EngineConfig),
        msgspec.convert(server, ServerConfig),
        home,
        read,
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
    """Give the settings that differ from their defaults, in their order; secrets are hidden."""
    values = {
        **msgspec.structs.asdict(configuration.engine),
        **msgspec.structs.asdict(configuration.server),
    }
    defaults = {row.name: row.default for row in SETTINGS}
    defaults["home"] = str(Path(DEFAULT_HOME).expanduser().absolute())
    found = {name: values[name] for name in defaults if values[name] != defaults[name]}
    return found | {name: "***" for name in SECRETS & found.keys()}


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


def read_file(file: Path | None, env: Mapping[str, str] | None = None) -> FileSettings:
    """Read the settings and the providers of a file; see `load`."""
    path = file or Path(CONFIG_FILE)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if file is None:
            return FileSettings(None, {}, ())
        raise ConfigError(f"{path}: no such file; --config names a TOML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; it can't be read as settings") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    try:
        environment = os.environ if env is None else env
        providers = read_providers(table.pop(PROVIDERS, {}), environment)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}") from None
    return FileSettings(path.absolute(), _settings_of(table, path), providers)


def _settings_of(table: Mapping[str, object], path: Path) -> dict[str, Value]:
    rows = {row.name: row for row in SETTINGS}
    values = {}
    for key, value in table.items():
        if key not in rows:
            raise ConfigError(f"{path}: unknown key {key}{nearest(key, [*rows, PROVIDERS])}")
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
