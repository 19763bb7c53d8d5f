"""Packed files: what they hold, when they are made anew, and that nothing half-made is left."""

from __future__ import annotations

import os
import shutil
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.checkpoints import conversion, new_file, packed_files
from outrider.checkpoints import packed as packed_module
from outrider.checkpoints.packed import PackedModel, ensure_packed, open_source, pack, plan
from outrider.checkpoints.packed_format import map_packed
from outrider.checkpoints.packing_plan import WEIGHTS
from outrider.checkpoints.progress import no_progress
from outrider.errors import CheckpointError, StoreError
from outrider.kernels.formats import Format
from outrider.text.tokenizer import Tokenizer
from tiny_models import DEFAULT_SYSTEM, effective_tensors, random_llama, write_gguf, write_hf

# Largest error relative to the largest value of the tensor: half a step of the format.
Q8_STEP, Q4_STEP, BF16_STEP = 1 / 254, 1 / 15, 2**-8
FORMATS = {
    ("F32", "auto"): (Format.F32, Format.F32, 0),
    ("BF16", "auto"): (Format.BF16, Format.BF16, 0),
    ("Q8_0", "auto"): (Format.Q8, Format.Q8, 0),
    ("Q4_0", "auto"): (Format.Q4, Format.Q4, 0),
    ("Q4_1", "auto"): (Format.Q4_OFFSET, Format.Q4_OFFSET, 0),
    ("Q5_1", "auto"): (Format.Q8_OFFSET, Format.Q8_OFFSET, 0),
    ("Q4_1", "f32"): (Format.F32, Format.F32, 0),
    ("BF16", "f32"): (Format.F32, Format.F32, 0),
    ("F32", "bf16"): (Format.BF16, Format.BF16, BF16_STEP),
    ("BF16", "bf16"): (Format.BF16, Format.BF16, 0),
    ("Q8_0", "bf16"): (Format.BF16, Format.BF16, BF16_STEP),
    ("F32", "q8"): (Format.Q8, Format.Q8, Q8_STEP),
    ("Q5_0", "q8"): (Format.Q8, Format.Q8, 0),
    ("Q4_0", "q8"): (Format.Q8, Format.Q8, 0),
    ("Q4_1", "q8"): (Format.Q8_OFFSET, Format.Q8_OFFSET, 0),
    ("F32", "q4"): (Format.Q8, Format.Q4_OFFSET, Q4_STEP),
    ("BF16", "q4"): (Format.Q8, Format.Q4_OFFSET, Q4_STEP),
    ("Q8_0", "q4"): (Format.Q8, Format.Q4_OFFSET, Q4_STEP),
    ("Q5_1", "q4"): (Format.Q8_OFFSET, Format.Q4_OFFSET, Q4_STEP),
    ("Q4_0", "q4"): (Format.Q4, Format.Q4, 0),
    ("Q4_1", "q4"): (Format.Q4_OFFSET, Format.Q4_OFFSET, 0),
}


def packed(path: Path, weights: str = "auto") -> PackedModel:
    return PackedModel.open(ensure_packed(path, weights, path.parent / "home", no_progress))


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return write_gguf(random_llama(), tmp_path / "m.gguf", "Q4_1")


@pytest.mark.parametrize(
    ("source", "weights"), FORMATS, ids=[f"{source}-{weights}" for source, weights in FORMATS]
)
@pytest.mark.parametrize("slice_values", [1 << 20, 16 * 64], ids=["whole", "sliced"])
def test_packed_tensors_have_the_chosen_format_and_the_sources_values(
    tmp_path: Path,
    source: str,
    weights: str,
    slice_values: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conversion, "SLICE_VALUES", slice_values)
    model = random_llama(tied=False)
    expected = effective_tensors(model, source)
    result = packed(write_gguf(model, tmp_path / "m.gguf", source), weights)
    top, inner, tolerance = FORMATS[source, weights]
    assert set(result.tensors) == set(expected)
    for name, values in expected.items():
        tensor = result.tensors[name]
        assert tensor.shape == values.shape
        if values.ndim == 1:
            assert tensor.format is None
            np.testing.assert_array_equal(tensor.vector(), values)
            continue
        assert tensor.format is (top if name in ("embed_tokens", "lm_head") else inner)
        error = np.abs(tensor.values() - values).max() / np.abs(values).max()
        assert error <= tolerance


def test_folder_is_packed_with_its_rows_interleaved(tmp_path: Path) -> None:
    model = random_llama()
    folder = write_hf(model, tmp_path / "m", num_shards=2)
    path = ensure_packed(folder, "auto", tmp_path / "home", no_progress)
    assert path == folder / "model.auto.packed"
    result = PackedModel.open(path)
    for name, values in model.tensors.items():
        np.testing.assert_array_equal(result.tensors[name].values(), values)
    assert result.generation == {"temperature": 0.6}
    assert ensure_packed(folder, "auto", tmp_path / "home", no_progress) == path


def test_rows_that_are_no_multiple_of_32_are_quantised(tmp_path: Path) -> None:
    model = random_llama(hidden_size=72, intermediate_size=40, heads=(3, 1, 24))
    for weights in ("q8", "q4"):
        result = packed(write_hf(model, tmp_path / weights), weights)
        for name, values in model.tensors.items():
            error = np.abs(result.tensors[name].values() - values).max() / np.abs(values).max()
            assert error <= Q4_STEP


def test_everything_a_start_needs_is_in_the_file(model_file: Path) -> None:
    source = open_source(model_file)
    result = packed(model_file)
    assert result.config == source.config
    assert result.tokenizer_json == source.tokenizer_json()
    assert (result.chat_format, result.default_system) == ("chatml", DEFAULT_SYSTEM)
    assert (result.weights, result.generation) == ("auto", {})
    assert result.nbytes == sum(t.data.size for t in result.tensors.values()) + padding(result)


def padding(model: PackedModel) -> int:
    entries = plan(open_source(model.path.with_name("m.gguf")), model.weights)
    return entries[-1].offset + entries[-1].nbytes - sum(entry.nbytes for entry in entries)


def test_data_is_aligned_and_read_only(tmp_path: Path) -> None:
    model = random_llama(hidden_size=256, intermediate_size=512, heads=(4, 4, 64))
    result = packed(write_gguf(model, tmp_path / "m.gguf"))
    for tensor in result.tensors.values():
        address = tensor.data.__array_interface__["data"][0]
        assert address % (4096 if tensor.data.size >= 65536 else 64) == 0
        assert not tensor.data.flags.writeable


def test_second_start_only_maps_the_file(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = packed(model_file)

    def refuse(*_: object) -> None:
        raise AssertionError("the packed file is current")

    monkeypatch.setattr(packed_module, "pack", refuse)
    monkeypatch.setattr(packed_module, "open_source", refuse)
    monkeypatch.setattr(packed_files, "hashed", refuse)
    assert packed(model_file).path == first.path == model_file.with_name("m.gguf.auto.packed")


def test_touched_source_is_checked_once_by_its_hash(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = packed(model_file)
    inode = before.path.stat().st_ino
    os.utime(model_file, ns=(1, 1))
    texts: set[str] = set()
    home = model_file.parent / "home"
    ensure_packed(model_file, "auto", home, lambda *step: texts.add(step[2]))
    assert texts == {"Checking m.gguf"}
    texts.clear()
    ensure_packed(model_file, "auto", home, lambda *step: texts.add(step[2]))
    assert texts == set()
    assert before.path.stat().st_ino == inode


@pytest.mark.parametrize("keep_times", [False, True])
def test_source_with_other_content_is_packed_anew(model_file: Path, keep_times: bool) -> None:
    old = packed(model_file).tensors["norm"].vector().copy()
    status = model_file.stat()
    other = write_gguf(random_llama(seed=1), model_file.with_name("other.gguf"), "Q4_1")
    assert other.stat().st_size == status.st_size
    if keep_times:
        model_file.write_bytes(other.read_bytes())
        os.utime(model_file, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        other.replace(model_file)
    new = packed(model_file).tensors["norm"].vector()
    assert not np.array_equal(old, new)
    np.testing.assert_array_equal(new, random_llama(seed=1).tensors["norm"])


def test_new_file_in_a_folder_is_noticed(tmp_path: Path) -> None:
    folder = write_hf(random_llama(), tmp_path / "m")
    (folder / "generation_config.json").unlink()
    assert packed(folder).generation == {}
    (folder / "generation_config.json").write_text('{"temperature": 0.3}')
    assert packed(folder).generation == {"temperature": 0.3}


def test_weights_settings_have_files_of_their_own(model_file: Path) -> None:
    names = {packed(model_file, weights).path.name for weights in WEIGHTS}
    assert names == {f"m.gguf.{weights}.packed" for weights in WEIGHTS}
    with pytest.raises(CheckpointError, match=r"weights is 'q3'; choose one of auto, f32"):
        packed(model_file, "q3")


def test_renamed_packed_file_of_another_setting_is_not_used(model_file: Path) -> None:
    shutil.copy(packed(model_file, "f32").path, model_file.with_name("m.gguf.q8.packed"))
    assert packed(model_file, "q8").tensors["embed_tokens"].format is Format.Q8_OFFSET


def test_any_part_of_a_split_model_finds_one_packed_file(tmp_path: Path) -> None:
    write_gguf(random_llama(), tmp_path / "m.gguf", split_tensors=8)
    parts = sorted(tmp_path.glob("m-*.gguf"))
    found = {ensure_packed(part, "auto", tmp_path, no_progress) for part in parts}
    assert found == {tmp_path / f"{parts[0].name}.auto.packed"}


def test_home_is_used_where_the_models_folder_cannot_be_written(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setattr(packed_module.os, "access", lambda path, mode: False)
    path = ensure_packed(model_file, "auto", home, no_progress)
    assert path.is_relative_to(home / "packed")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["home", "m.gguf"]
    monkeypatch.undo()
    assert ensure_packed(model_file, "auto", home, no_progress) == path


def test_progress_grows_to_the_total(model_file: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    ensure_packed(model_file, "auto", model_file.parent, lambda *step: steps.append(step))
    done = [step[0] for step in steps]
    assert done == sorted(done)
    assert {step[1:] for step in steps} == {(steps[-1][0], "Packing m.gguf")}


@pytest.mark.parametrize("error", [KeyboardInterrupt, CheckpointError("x")])
def test_interrupted_packing_leaves_nothing(
    model_file: Path, error: BaseException | type[BaseException]
) -> None:
    steps = 0

    def interrupt(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 10:
            raise error

    with pytest.raises((KeyboardInterrupt, CheckpointError)):
        ensure_packed(model_file, "auto", model_file.parent, interrupt)
    assert list(model_file.parent.iterdir()) == [model_file]


def test_full_disk_is_said_before_anything_is_written(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(model_file.parent)._replace(free=1000)
    monkeypatch.setattr(new_file.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match=r"packing m.gguf needs 0.1 MB in .* but 0.0 MB are free"):
        packed(model_file)
    assert list(model_file.parent.iterdir()) == [model_file]


def test_bad_scale_leaves_nothing_behind(tmp_path: Path) -> None:
    model = random_llama()
    model.tensors["layers.1.down_proj"][0, 0] = np.nan
    path = write_gguf(model, tmp_path / "m.gguf")
    with pytest.raises(CheckpointError, match=r"blk.1.ffn_down.weight has a NaN"):
        packed(path)
    assert list(tmp_path.iterdir()) == [path]


def test_source_that_changes_meanwhile_is_refused(model_file: Path) -> None:
    def touch(*_: object) -> None:
        os.utime(model_file, ns=(1, 1))

    source = open_source(model_file)
    with pytest.raises(CheckpointError, match=r"changed while it was being packed"):
        pack(source, "auto", model_file.with_name("x.packed"), touch)
    assert list(model_file.parent.iterdir()) == [model_file]


def test_two_packings_at_once_both_succeed(model_file: Path) -> None:
    results: list[PackedModel] = []
    threads = [
        threading.Thread(target=lambda: results.append(packed(model_file))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for result in results:
        np.testing.assert_array_equal(
            result.tensors["norm"].vector(), random_llama().tensors["norm"]
        )
    assert len(list(model_file.parent.iterdir())) == 2


def test_missing_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"x.gguf doesn't exist; name a .gguf file"):
        ensure_packed(tmp_path / "x.gguf", "auto", tmp_path, no_progress)


@pytest.mark.parametrize("kind", ["folder", "gguf"])
def test_nothing_is_left_of_a_model_whose_tokenizer_is_bad(tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        path = named = write_hf(random_llama(), tmp_path / "model")
        named = path / "tokenizer.json"
        named.write_text('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["b c"]}}')
    else:
        path = named = write_gguf(random_llama(), tmp_path / "m.gguf")

    def refuse(text: str) -> None:
        if kind == "folder":
            Tokenizer(text)
        raise CheckpointError("the tokenizer can't be read: no")

    before = set(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError) as caught:
        ensure_packed(path, "auto", tmp_path / "home", no_progress, refuse)
    assert caught.value.message.startswith(f"{named}: the tokenizer can't be read: ")
    assert caught.value.message.endswith("; fetch the model again")
    assert set(tmp_path.rglob("*")) == before


def test_damaged_packed_file_is_packed_anew(model_file: Path) -> None:
    path = packed(model_file).path
    good = path.read_bytes()
    for content in (b"", good[:40], good[:5000], good[:-1], good + b"x", b"X" + good[1:]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            PackedModel.open(path)
        packed(model_file)
        assert path.read_bytes()[200:] == good[200:]  # the stamps differ


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 8000), patch=st.binary(min_size=1, max_size=9))
def test_changed_header_is_always_noticed(model_file: Path, place: int, patch: bytes) -> None:
    path = model_file.with_name("m.gguf.auto.packed")
    if not path.exists():
        packed(model_file)
    good = path.read_bytes()
    header_nbytes = struct.unpack_from("<Q", good, 24)[0]
    content = bytearray(good)
    content[place : place + len(patch)] = patch
    damaged = model_file.with_name("damaged")
    damaged.write_bytes(content)
    stamps = range(40, 40 + 4 + 24)
    touched = {at for at in range(len(good)) if content[at] != good[at]}
    in_header = any(at < 40 + 28 + header_nbytes and at not in stamps for at in touched)
    if in_header:
        with pytest.raises(CheckpointError):
            PackedModel.open(damaged)
    else:
        in_stamps = any(at in stamps for at in touched)
        assert (map_packed(damaged).stamps == []) is in_stamps


@pytest.mark.real_model
def test_default_model_opens_fast(model_path: Path, tmp_path: Path) -> None:
    source = tmp_path / "m.gguf"
    source.symlink_to(model_path)
    path = ensure_packed(source, "auto", tmp_path, no_progress)
    durations = []
    for _ in range(5):
        begin = time.perf_counter()
        result = PackedModel.open(path)
        durations.append(time.perf_counter() - begin)
    assert min(durations) < 0.05
    assert result.nbytes < 1.01 * model_path.stat().st_size
