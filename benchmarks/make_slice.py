"""Makes a slice of Llama 4 Scout with random weights, as safetensors or as GGUF.

    python benchmarks/make_slice.py OUT --layers 2 [--type bf16|f16|q8_0|q4_0] [--vocab 4096]
        [--tokenizer none|bytes|FILE] [--vision-layers 34]

`bf16` makes a Hugging Face folder, the others a GGUF file. Weights are drawn and written piece by
piece, so a slice may be larger than memory. They are symmetric about zero: with biased ones all
hidden states point the same way and every token meets the same expert. llama.cpp 0.3.36 aborts on
slices of fewer than four layers, which have no NoPE layer.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import gguf
import numpy as np
import slice_model
from slice_model import Shape, Slice

PIECE = 1 << 22  # values drawn at once
SHARD_BYTES = 4 << 30
BLOCK = 32  # values of a Q4_0 or Q8_0 block
BLOCK_BYTES = {"q4_0": 18, "q8_0": 34}
# Standard deviations of integers that are equally likely in -7 .. 7 and in -127 .. 127.
QUANT_STD = {"q4_0": math.sqrt((15**2 - 1) / 12), "q8_0": math.sqrt((255**2 - 1) / 12)}
GGUF_TYPES = {
    "f32": gguf.GGMLQuantizationType.F32,
    "f16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
    "q4_0": gguf.GGMLQuantizationType.Q4_0,
}


def is_gain(name: str) -> bool:
    return name.removesuffix(".weight").endswith(("norm", "layernorm_pre", "layernorm_post"))


def nbytes(shape: Shape, kind: str) -> int:
    """Give the bytes of a tensor stored as `kind`."""
    count = math.prod(shape)
    if kind in BLOCK_BYTES:
        return count // BLOCK * BLOCK_BYTES[kind]
    return count * {"f32": 4, "f16": 2, "bf16": 2}[kind]


def draw(rng: np.random.Generator, name: str, shape: Shape, kind: str) -> Iterator[bytes]:
    """Give the content of a tensor in pieces."""
    left, std = math.prod(shape), slice_model.std_of(name)
    while left:
        count = min(left, PIECE)
        left -= count
        if is_gain(name):
            yield _floats(np.ones(count, np.float32), kind)
        elif kind in BLOCK_BYTES:
            yield _blocks(rng, count // BLOCK, kind, std)
        else:
            values = rng.standard_normal(count, np.float32)
            yield _floats(values * np.float32(std), kind)


def _floats(values: np.ndarray, kind: str) -> bytes:
    if kind == "bf16":
        return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return values.astype({"f32": np.float32, "f16": np.float16}[kind]).tobytes()


def _blocks(rng: np.random.Generator, count: int, kind: str, std: float) -> bytes:
    blocks = np.empty((count, BLOCK_BYTES[kind]), np.uint8)
    scale = np.float16(std / QUANT_STD[kind])
    blocks[:, :2] = np.frombuffer(scale.tobytes(), np.uint8)
    if kind == "q8_0":
        quants = rng.integers(-127, 128, (count, 32), np.int8)
        blocks[:, 2:] = quants.view(np.uint8)
    else:  # 0 stands for -8, which has no opposite
        low, high = (rng.integers(1, 16, (count, 16), np.uint8) for _ in range(2))
        blocks[:, 2:] = low | (high << 4)
    return blocks.tobytes()


def write_folder(model: Slice, folder: Path, tokenizer: str = "none") -> None:
    """Write a Hugging Face folder in bf16: shards with an index, config, perhaps a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Shape]] = [{}]
    for name, shape in slice_model.hf_tensors(model):
        held = sum(nbytes(other, "bf16") for other in shards[-1].values())
        if held and held + nbytes(shape, "bf16") > SHARD_BYTES:
            shards.append({})
        shards[-1][name] = shape
    weight_map = {}
    for index, tensors in enumerate(shards):
        file = f"model-{index + 1:05}-of-{len(shards):05}.safetensors"
        _write_shard(folder / file, tensors, np.random.default_rng(index))
        weight_map |= dict.fromkeys(tensors, file)
    total = sum(nbytes(shape, "bf16") for tensors in shards for shape in tensors.values())
    index_json = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index_json), "utf-8")
    (folder / "config.json").write_text(json.dumps(slice_model.config_json(model)), "utf-8")
    if tokenizer == "none":
        return
    (folder / "tokenizer_config.json").write_text(slice_model.tokenizer_config_json(), "utf-8")
    if tokenizer == "bytes":
        (folder / "tokenizer.json").write_text(slice_model.tokenizer_json(model), "utf-8")
    else:
        shutil.copy(tokenizer, folder)


def _write_shard(path: Path, tensors: dict[str, Shape], rng: np.random.Generator) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in tensors.items():
        end = offset + nbytes(shape, "bf16")
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors.items():
            file.writelines(draw(rng, name, shape, "bf16"))


def write_gguf(model: Slice, path: Path, kind: str, tokenizer: str = "none") -> None:
    """Write a GGUF file with matrices of type `kind`; routers and norms are F32, as always."""
    writer = gguf.GGUFWriter(path, "llama4")
    for key, value in slice_model.gguf_metadata(model).items():
        kinds = {str: gguf.GGUFValueType.STRING, float: gguf.GGUFValueType.FLOAT32}
        writer.add_key_value(key, value, kinds.get(type(value), gguf.GGUFValueType.UINT32))
    writer.add_file_type({"f16": 1, "q4_0": 2, "q8_0": 7}[kind])
    _add_tokenizer(writer, model, tokenizer)
    tensors = {}
    for name, shape in slice_model.text_tensors(model):
        own = "f32" if len(shape) == 1 or name.endswith(".router") else kind
        tensors[name] = (shape, own)
        row = (shape[-1] // BLOCK * BLOCK_BYTES[own],) if own in BLOCK_BYTES else shape[-1:]
        dtype = np.dtype({"f32": np.float32, "f16": np.float16}.get(own, np.uint8))
        writer.add_tensor_info(
            slice_model.gguf_name(name), (*shape[:-1], *row), dtype, nbytes(shape, own),
            raw_dtype=GGUF_TYPES[own],
        )  # fmt: skip
    divisors = rope_divisors(model)
    writer.add_tensor_info("rope_freqs.weight", divisors.shape, divisors.dtype, divisors.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    rng = np.random.default_rng(0)
    with path.open("ab") as file:
        for name, (shape, own) in tensors.items():
            _pad(file)
            file.writelines(draw(rng, name, shape, own))
        _pad(file)
        file.write(divisors.tobytes())
        _pad(file)


def _pad(file: BinaryIO) -> None:
    file.write(b"\0" * (-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))


def rope_divisors(model: Slice) -> np.ndarray:
    """Give Scout's corrected scaling as divisors: 1 for wavelengths below 8192, else 16."""
    d = model.head_dim
    wavelengths = 2 * np.pi * 500000.0 ** (np.arange(0, d, 2) / d)
    is_long = wavelengths > slice_model.ORIGINAL_CONTEXT
    return np.where(is_long, slice_model.FACTOR, 1.0).astype(np.float32)


def _add_tokenizer(writer: gguf.GGUFWriter, model: Slice, tokenizer: str) -> None:
    if tokenizer == "none":
        writer.add_tokenizer_model("no_vocab")
        return
    tokens = slice_model.vocabulary(model)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama4")
    writer.add_token_list(tokens)
    special = {model.token_id(token) for token in slice_model.SPECIAL_OFFSETS}
    writer.add_token_types([3 if i in special else 1 for i in range(len(tokens))])
    writer.add_token_merges([" ".join(pair) for pair in slice_model.MERGES])
    writer.add_bos_token_id(model.token_id("<|begin_of_text|>"))
    writer.add_eos_token_id(model.token_id("<|eot|>"))
    writer.add_pad_token_id(model.token_id("<|finetune_right_pad|>"))
    writer.add_chat_template(slice_model.CHAT_TEMPLATE)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder (bf16) or file to write")
    parser.add_argument("--layers", type=int, required=True)
    parser.add_argument("--type", choices=["bf16", "f16", "q8_0", "q4_0"], default="bf16")
    parser.add_argument("--vocab", type=int, default=202048, help="at least 512")
    parser.add_argument("--tokenizer", default="none", help="none, bytes, or a file to copy (bf16)")
    parser.add_argument("--vision-layers", type=int, default=0, help="only with bf16")
    a = parser.parse_args()
    if a.layers < 1 or a.vocab < slice_model.MIN_VOCAB_SIZE:
        parser.error("a slice has at least 1 layer and 512 tokens")
    if a.type != "bf16" and (a.vision_layers or a.tokenizer not in ("none", "bytes")):
        parser.error("a GGUF slice has no image tower and the tokenizer none or bytes")
    model = Slice(num_layers=a.layers, vocab_size=a.vocab, num_vision_layers=a.vision_layers)
    if a.type == "bf16":
        write_folder(model, a.out, a.tokenizer)
    else:
        write_gguf(model, a.out, a.type, a.tokenizer)
    files = [a.out] if a.out.is_file() else list(a.out.iterdir())
    print(f"{a.out}: {sum(file.stat().st_size for file in files) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
