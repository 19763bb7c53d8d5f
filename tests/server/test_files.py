"""Files over real sockets: uploads that go to the disk, pages of lists, and what goes wrong."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from outrider.errors import StorageError
from outrider.storage.folder import DataFolder
from server.scripted import PATIENCE_S, Running, ScriptedProvider, serving, wait_until
from server.test_connections import read_until

FILES = "/v1/files"
MAX_BYTES = 3 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files") / "data"


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    settings = {"max_file_bytes": MAX_BYTES, "max_files": 8, "body_timeout_s": 1}
    with serving(ScriptedProvider(), data_dir=str(folder), **settings) as it:
        yield it


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    """A client with a key of its own, whose files are gone afterwards."""
    key = os.urandom(4).hex()
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=PATIENCE_S
    ) as it:
        yield it
        for file in it.files.list():
            it.files.delete(file.id)


def form(*parts: tuple[str, bytes], boundary: str = "x") -> bytes:
    body = b""
    for head, value in parts:
        disposition = f"content-disposition: form-data; {head}"
        body += f"--{boundary}\r\n{disposition}\r\n\r\n".encode() + value + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


FILE = 'name="file"; filename="a.jsonl"'
PURPOSE = ('name="purpose"', b"batch")


def upload(server: Running, body: bytes, kind: str = "multipart/form-data; boundary=x") -> Any:
    return server.ask("POST", FILES, body, content_type=kind)


def on_disk(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "files").iterdir())


def test_a_file_is_uploaded_listed_read_and_deleted(client: openai.OpenAI, folder: Path) -> None:
    content = os.urandom(2_500_000)
    file = client.files.create(file=("räum.jsonl", content), purpose="batch")
    assert (file.bytes, file.filename, file.purpose) == (len(content), "räum.jsonl", "batch")
    assert (file.status, file.expires_at) == ("processed", file.created_at + 30 * 86_400)
    assert (folder / "files" / file.id).stat().st_mode & 0o777 == 0o600
    assert client.files.retrieve(file.id) == file
    assert list(client.files.list()) == [file]
    assert client.files.content(file.id).content == content
    assert client.files.delete(file.id).deleted
    assert on_disk(folder) == []
    for ask in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match="No such File object"):
            ask(file.id)


def test_an_expiry_is_kept(client: openai.OpenAI) -> None:
    expiry: Any = {"anchor": "created_at", "seconds": 7200}
    file = client.files.create(file=("a", b"x"), purpose="batch", expires_after=expiry)
    assert file.expires_at == file.created_at + 7200


def test_lists_have_pages(client: openai.OpenAI) -> None:
    ids = [client.files.create(file=(str(n), b"x"), purpose="batch").id for n in range(5)]
    assert [file.id for file in client.files.list(limit=2)] == ids[::-1]
    assert [file.id for file in client.files.list(limit=2, order="asc")] == ids
    page = client.files.list(limit=2, after=ids[3])
    assert ([file.id for file in page.data], page.has_more) == ([ids[2], ids[1]], True)
    assert client.files.list(purpose="batch_output").data == []
    with pytest.raises(openai.NotFoundError):
        client.files.list(after="file-unknown")


def test_files_of_other_keys_are_not_there(client: openai.OpenAI, server: Running) -> None:
    file = client.files.create(file=("a", b"x"), purpose="batch")
    other = client.with_options(api_key="somebody else")
    assert list(other.files.list()) == []
    for ask in (other.files.retrieve, other.files.content, other.files.delete):
        with pytest.raises(openai.NotFoundError):
            ask(file.id)
    assert server.ask("GET", f"{FILES}/{file.id}").status == 404  # no key at all
    assert list(client.files.list()) == [file]


def test_an_empty_file_and_one_byte_pieces_are_read(server: Running) -> None:
    body = form((FILE, b""), PURPOSE)
    head = (
        f"POST {FILES} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
        "content-type: multipart/form-data; boundary=x\r\nconnection: close\r\n\r\n"
    )
    with server.connect(head.encode()) as connection:
        for byte in body:
            connection.sendall(b"1\r\n%c\r\n" % byte)
        connection.sendall(b"0\r\n\r\n")
        reply = b""
        while data := connection.recv(65536):
            reply += data
    assert b'"bytes":0' in reply
    (file,) = server.ask("GET", FILES).json()["data"]
    assert server.ask("DELETE", f"{FILES}/{file['id']}").status == 200


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (form(PURPOSE), "file is missing"),
        (form((FILE, b"x")), "purpose is missing"),
        (form((FILE, b"x"), ('name="purpose"', b"fine-tune")), "fine-tune aren't supported"),
        (form((FILE, b"x"), ('name="purpose"', b"y" * 2000)), "longer than 1,024 bytes"),
        (form((FILE, b"x"), (FILE, b"y"), PURPOSE), "'file' twice"),
        (form((FILE, b"x"), PURPOSE, PURPOSE), "'purpose' twice"),
        (form((FILE, b"x"), PURPOSE, ('name="z"', b"")), "argument supplied: z"),
        (form(*[(f'name="{n}"', b"") for n in range(20)]), "more than 16 parts"),
        (form((FILE, b"x"), PURPOSE)[:-6], "ends early"),
        (form(('name="\xff"'.encode("latin-1").decode("latin-1"), b"x")), "argument supplied"),
        (b"no form", "form can't be read"),
        (b"--x\r\n" + b"a" * 5000 + b": b\r\n\r\n", "form can't be read"),
        (b"", "ends early"),
    ],
)
def test_a_bad_form_is_refused_and_leaves_nothing(
    server: Running, folder: Path, body: bytes, text: str
) -> None:
    reply = upload(server, body)
    assert reply.status == 400
    assert text in reply.json()["error"]["message"]
    assert on_disk(folder) == []


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data", f"multipart/form-data; boundary={'x' * 71}"]
)
def test_a_body_that_is_no_form_is_refused(server: Running, kind: str) -> None:
    reply = upload(server, form((FILE, b"x"), PURPOSE), kind)
    assert (reply.status, reply.json()["error"]["param"]) == (400, "content-type")


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_file_over_the_limit_is_refused_and_leaves_nothing(
    server: Running, folder: Path, is_chunked: bool
) -> None:
    def pieces() -> Iterator[bytes]:
        yield f"--x\r\ncontent-disposition: form-data; {FILE}\r\n\r\n".encode()
        for _ in range(MAX_BYTES // 65_536 + 3):
            yield bytes(65_536)
        yield b"\r\n--x--\r\n"

    body: Any = pieces() if is_chunked else b"".join(pieces())
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
    kind = b"content-type: multipart/form-data; boundary=x\r\n"
    size = b"transfer-encoding: chunked" if is_chunked else b"content-length: %d" % len(body)
    with connection:
        connection.sendall(b"POST /v1/files HTTP/1.1\r\nhost: x\r\n" + kind + size + b"\r\n\r\n")
        for piece in pieces() if is_chunked else [body]:
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece)
        reply = read_until(connection, b"payload_too_large")
    assert reply.startswith(b"HTTP/1.1 413")
    assert b"--max-file-bytes" in reply
    wait_until(lambda: on_disk(folder) == [])


def test_a_file_at_the_limit_is_taken(client: openai.OpenAI) -> None:
    assert client.files.create(file=("a", bytes(MAX_BYTES)), purpose="batch").bytes == MAX_BYTES


def test_more_files_than_allowed_are_refused(client: openai.OpenAI) -> None:
    for number in range(8):
        client.files.create(file=(str(number), b"x"), purpose="batch")
    with pytest.raises(openai.BadRequestError, match="--max-files"):
        client.files.create(file=("9", b"x"), purpose="batch")


def test_a_client_that_leaves_or_waits_too_long_leaves_nothing(
    server: Running, folder: Path
) -> None:
    head = (
        f"POST {FILES} HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n"
        "content-type: multipart/form-data; boundary=x\r\n\r\n"
    ).encode()
    begun = head + form((FILE, b"x" * 1000))[:-8]
    gone = server.connect(begun)
    wait_until(lambda: len(on_disk(folder)) == 1)
    gone.close()
    wait_until(lambda: on_disk(folder) == [])
    with server.connect(begun) as slow:
        assert read_until(slow, b"request_timeout").startswith(b"HTTP/1.1 408")
    assert on_disk(folder) == []


def test_a_folder_that_cannot_be_used_is_named_and_chats_go_on(tmp_path: Path) -> None:
    (tmp_path / "outrider").write_text("in the way")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path))
        with serving(ScriptedProvider()) as server:
            reply = upload(server, form((FILE, b"x"), PURPOSE))
            assert (reply.status, reply.json()["error"]["code"]) == (503, "storage_unavailable")
            assert str(tmp_path) in reply.json()["error"]["message"]
            assert "--data-dir" in reply.json()["error"]["message"]
            body = {"model": "fake-model", "messages": [{"role": "user", "content": "x"}]}
            assert server.ask("POST", "/v1/chat/completions", body).status == 200
            (tmp_path / "outrider").unlink()
            assert upload(server, form((FILE, b"x"), PURPOSE)).status == 200


def test_a_second_server_is_refused_the_folder_of_the_first(server: Running, folder: Path) -> None:
    assert server.ask("GET", FILES).status == 200
    with pytest.raises(StorageError, match="in use by another Outrider"):
        DataFolder(folder)


def test_nothing_is_made_or_loaded_before_it_is_needed(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path))
        with serving(ScriptedProvider()) as server:
            assert server.ask("GET", "/v1/models").status == 200
            assert list(tmp_path.iterdir()) == []
            assert server.ask("GET", FILES).json()["data"] == []
            assert (tmp_path / "outrider").stat().st_mode & 0o777 == 0o700
