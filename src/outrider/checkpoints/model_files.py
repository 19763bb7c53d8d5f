"""Which files a model consists of, told from names and small JSON files alone.

A split GGUF file is found by any part's name, a Hugging Face folder by its index. An index that
points outside its folder is refused. Free of NumPy, so that it can be asked by any process.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from outrider.errors import CheckpointError

MAX_JSON_BYTES = 1 << 28
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
# Everything that may be read, apart from the shards that an index names.
JSON_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    INDEX_FILE,
)
_SPLIT_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


def source_files(path: Path) -> list[Path]:
    """Give all files of the model at `path`, without opening the large ones."""
    if path.is_dir():
        return checkpoint_files(path)
    if not path.is_file():
        raise CheckpointError(f"{path} doesn't exist; name a .gguf file or a safetensors folder")
    return split_parts(path)


def split_parts(path: Path) -> list[Path]:
    """Give the paths of all parts of a split file, by name; an ordinary file is its own part."""
    match = _SPLIT_NAME.fullmatch(path.name)
    if match is None:
        return [path]
    count, number = int(match["count"]), int(match["number"])
    if not 1 <= number <= count:
        raise CheckpointError(f"{path}: part {number} of {count} doesn't exist; rename the file")
    names = (f"{match['stem']}-{part:05}-of-{count:05}.gguf" for part in range(1, count + 1))
    parts = [path.with_name(name) for name in names]
    for part in parts:
        if not part.is_file():
            raise CheckpointError(
                f"{part} is missing; a split model needs all its {count} parts in one folder"
            )
    return parts


def weight_files(folder: Path) -> list[Path]:
    """Give the safetensors files of a folder: the single one, or those that its index names."""
    single, index = folder / WEIGHTS_FILE, folder / INDEX_FILE
    if single.is_file():
        return [single]
    if not index.is_file():
        raise CheckpointError(
            f"{folder} has neither {WEIGHTS_FILE} nor {INDEX_FILE}; Outrider reads safetensors only"
        )
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: weight_map is missing; fetch the model again")
    files = sorted({str(file) for file in weight_map.values()})
    for file in files:
        # The name alone decides: a shard is a plain file beside its index.
        if "/" in file or "\\" in file or "\0" in file or not file.endswith(".safetensors"):
            raise CheckpointError(
                f"{index}: weight_map names {file!r}; only .safetensors files in the same folder "
                "are allowed"
            )
        if not (folder / file).is_file():
            raise CheckpointError(f"{folder / file} is missing; fetch the model again")
    return [folder / file for file in files]


def checkpoint_files(folder: Path) -> list[Path]:
    """Give every file of a folder that the model depends on."""
    others = (folder / name for name in JSON_FILES)
    return [*(file for file in others if file.is_file()), *weight_files(folder)]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(f"{path} has more than {MAX_JSON_BYTES} bytes; fetch it again")
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path} can't be read ({error.strerror}); a model folder needs it, fetch it again"
        ) from error
    return parse_json_object(path, content)


def parse_json_object(path: Path, content: bytes) -> dict[str, Any]:
    """Parse a JSON object; a key that occurs twice is refused."""
    try:
        value = json.loads(content.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise CheckpointError(f"{path}: bad JSON: {reason}; fetch the model again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: bad JSON: not an object; fetch the model again")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value
