"""OpenAI's files: upload, list, show, read and delete.

Loaded only once the data folder is used. A file's bytes are on the disk before its row is, and
gone after it: whoever sees a file can read it.
"""

from __future__ import annotations

import asyncio
import time
import uuid

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from outrider.batch_types import StoredFile
from outrider.config import ServerConfig
from outrider.dialects import openai_files
from outrider.server.access import caller_of
from outrider.server.replies import json_reply
from outrider.server.uploads import receive_form
from outrider.storage.files import Page, add_file, check_room, delete_file, find_file, list_files
from outrider.storage.folder import translated
from outrider.storage.opening import Storage


def new_file_id() -> str:
    """Make the id of a file; nobody can guess one."""
    return f"file-{uuid.uuid4().hex}"


class FilesApi:
    """The endpoints of files."""

    def __init__(self, storage: Storage, config: ServerConfig) -> None:
        self._storage = storage
        self._config = config

    async def upload(self, http: Request) -> Response:
        """Take a file in a form."""
        storage, config = self._storage, self._config
        await storage.run(check_room, config.max_files)
        file_id, folder = new_file_id(), storage.folder
        file = folder.create(file_id)
        try:
            with translated(folder.path):
                form = await receive_form(http.headers, http.receive, file, config)
            wanted = openai_files.read_upload(form.fields, form.filename)
            await asyncio.to_thread(folder.keep, file_id, file)
        except BaseException:
            folder.discard(file_id, file)
            raise
        now_s = int(time.time())
        stored = StoredFile(
            id=file_id,
            owner=caller_of(http.scope).owner,
            purpose=wanted.purpose,
            filename=wanted.filename,
            num_bytes=form.num_bytes,
            created_s=now_s,
            expires_s=now_s + wanted.keep_s,
        )
        try:
            await storage.run(add_file, stored, config.max_files)
        except BaseException:
            folder.remove(file_id)
            raise
        return json_reply(openai_files.encode_file(stored))

    async def list(self, http: Request) -> Response:
        """List the caller's files."""
        query = openai_files.read_list(http.query_params)
        page = Page(query.limit, query.after, query.is_ascending)
        owner = caller_of(http.scope).owner
        files, has_more = await self._storage.run(list_files, owner, page, query.purpose)
        return json_reply(openai_files.encode_files(files, has_more))

    async def show(self, http: Request) -> Response:
        """Show one file."""
        return json_reply(openai_files.encode_file(await self._find(http)))

    async def content(self, http: Request) -> Response:
        """Send a file's bytes."""
        file = await self._find(http)
        return FileResponse(
            self._storage.folder.path_of(file.id),
            media_type="application/octet-stream",
            filename=file.filename,
        )

    async def delete(self, http: Request) -> Response:
        """Delete a file."""
        file_id = http.path_params["file_id"]
        await self._storage.run(delete_file, file_id, caller_of(http.scope).owner)
        await self._storage.remove([file_id])
        return json_reply(openai_files.encode_deleted(file_id))

    async def _find(self, http: Request) -> StoredFile:
        file_id = http.path_params["file_id"]
        return await self._storage.run(find_file, file_id, caller_of(http.scope).owner, "file_id")
