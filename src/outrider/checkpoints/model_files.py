"""Which files a model consists of, told from names and small JSON files alone.

A split GGUF file is found by any part's name, a Hugging Face folder by its index. An index that
points outside its folder is refused. Free of NumPy, so that it can be asked by any process.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from outrider.checkpoints.excerpt import shown
from outrider.errors import CheckpointError

MAX_JSON_BYTES = 1 << 28
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
# Everything that may be read, apart from the shards that an index names.
JSON_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "chat_template.jinja",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
    "vocab.txt",
    INDEX_FILE,
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")  # the first that is there counts
# Of a GGUF file: the first metadata key with its length, and the type of a string.
_ARCHITECTURE_KEY = b"\x14\0\0\0\0\0\0\0general.architecture\x08\0\0\0"
_ARCHITECTURE_AT = 24 + len(_ARCHITECTURE_KEY)
_SPLIT_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


def source_files(path: Path) -> list[Path]:
    """Give all files of the model at `path`, without opening the large ones."""
    if path.is_dir():
        return checkpoint_files(path)
    if not path.is_file():
        raise CheckpointError(f"{path} doesn't exist; name a .gguf file or a safetensors folder")
    parts = split_parts(path)
    mmproj = mmproj_file(parts[0])
    return parts if mmproj is None else [*parts, mmproj]


def mmproj_file(path: Path) -> Path | None:
    """Find the image tower beside a GGUF file of a Llama 4: the one mmproj file of its folder."""
    # Every writer puts the architecture first. A file that doesn't may be a Llama 4.
    if gguf_architecture(path) not in ("", "llama4"):
        return None
    found = path.parent.glob("mmproj*.gguf")
    files = sorted(file for file in found if file.is_file() and file.name != path.name)
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise CheckpointError(
            f"{path.parent} has {len(files)} mmproj files ({names}); keep the one that belongs to "
            f"{path.name} and move the others elsewhere"
        )
    return files[0] if files else None


def gguf_architecture(path: Path) -> str:
    """Read the architecture of a GGUF file if it is the first metadata value, else ""."""
    try:
        with path.open("rb") as file:
            head = file.read(_ARCHITECTURE_AT + 64)
    except OSError:
        return ""  # opening the model will say it
    if head[:4] != b"GGUF" or head[24:_ARCHITECTURE_AT] != _ARCHITECTURE_KEY:
        return ""
    length = int.from_bytes(head[_ARCHITECTURE_AT : _ARCHITECTURE_AT + 8], "little")
    name = head[_ARCHITECTURE_AT + 8 :][:length]
    return name.decode(errors="replace")


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


def has_weights(folder: Path) -> bool:
    """Say whether a folder holds weights at all; config.json alone can be inspected."""
    return any(folder.glob("*.safetensors"))


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
        is_name = file.isprintable() and "/" not in file and "\\" not in file
        if not is_name or not file.endswith(".safetensors"):
            raise CheckpointError(
                f"{index}: weight_map names {shown(file)}; only .safetensors files in the same "
                "folder are allowed"
            )
        if not (folder / file).is_file():
            raise CheckpointError(f"{folder / file} is missing; fetch the model again")
    return [folder / file for file in files]


def checkpoint_files(folder: Path) -> list[Path]:
    """Give every file of a folder that the model depends on."""
    return [*description_files(folder), *weight_files(folder)]


def description_files(folder: Path) -> list[Path]:
    """Give the small files of a folder: config, tokenizer and the like."""
    return [folder / name for name in JSON_FILES if (folder / name).is_file()]


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
