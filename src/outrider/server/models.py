"""The endpoints of models on this machine: pull, delete, load and unload while the server runs.

There is one engine with one model. What takes time is a job; running requests of a model that is
unloaded have the time that they have when the server stops, and then get their wire's error.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from outrider.config import ServerConfig
from outrider.dialects import model_administration as wire
from outrider.errors import ConfigError, InvalidRequest
from outrider.machine import available_memory_bytes, private_bytes
from outrider.server.body import read_body
from outrider.server.jobs import Job, Jobs
from outrider.server.own_endpoints import own_route
from outrider.server.store_process import Said, Work, run_work
from outrider.settings import DEFAULT_MODEL

if TYPE_CHECKING:
    from outrider.server.hosting import Hosting
    from outrider.server.model_store import ModelOnDisk, ModelStore

MAX_PULLS = 2  # at a time


class ModelsApi:
    """Manages the models of a server; a server that was built without hosting has none."""

    def __init__(self, hosting: Hosting | None, config: ServerConfig) -> None:
        self._hosting = hosting
        self._config = config
        self.jobs = Jobs()

    def routes(self) -> list[Route]:
        """Give the routes."""
        models, jobs = "/outrider/v1/models", "/outrider/v1/jobs"
        return [
            own_route("GET", models, self.list),
            own_route("POST", models + "/pull", self.pull, 202),
            own_route("POST", models + "/load", self.load, 202),
            own_route("POST", models + "/unload", self.unload, 202),
            own_route("POST", models + "/delete", self.delete),
            own_route("GET", jobs, self.list_jobs),
            own_route("GET", jobs + "/{job_id}", self.show_job),
            own_route("POST", jobs + "/{job_id}/cancel", self.cancel_job),
        ]

    async def list(self, http: Request) -> wire.OwnModels:
        """Show the models, the engine and the jobs."""
        del http
        hosting, store = self._opened()
        found = await asyncio.to_thread(store.models)
        rows = [self._row(hosting, one) for one in found]
        loaded = hosting.loaded
        startable = dict.fromkeys(name for name in (loaded, hosting.started_with) if name)
        rows[:0] = [
            _other(name, is_loaded=name == loaded)
            for name in startable
            if name not in {row.name for row in rows}
        ]
        return wire.OwnModels(
            data=rows,
            engine=self._engine(hosting),
            jobs=self.jobs.list(),
            default_model=DEFAULT_MODEL,
            free_disk_bytes=await asyncio.to_thread(store.free_bytes),
            free_memory_bytes=available_memory_bytes(),
        )

    async def pull(self, http: Request) -> wire.JobRow:
        """Begin to fetch a model; one that is being fetched already is that same job."""
        hosting, store = self._opened()
        name = wire.read_model(await self._body(http)).model
        store.check_name(name)
        pulls = self.jobs.running("pull")
        for job in pulls:
            if job.model == name:
                return job.row
        if len(pulls) >= MAX_PULLS:
            raise InvalidRequest(f"{MAX_PULLS} models are being pulled; wait for one or cancel it")
        engine = msgspec.structs.replace(hosting.settings.engine, model=name)

        async def work(job: Job) -> None:
            await run_work(Work("pull", engine), job.show)

        return self.jobs.start("pull", name, work).row

    async def load(self, http: Request) -> wire.JobRow:
        """Begin to load a model."""
        hosting, store = self._opened()
        choice = wire.read_load(await self._body(http))
        name = choice.model
        if (
            name != hosting.started_with
            and (await asyncio.to_thread(store.find, name)).is_embedding
        ):
            raise InvalidRequest(
                f"{name} makes embeddings; it is loaded beside a chat model, by the setting "
                "embedding_model",
                "model",
            )
        self._check_idle()
        if hosting.loaded == name and hosting.engine is not None and hosting.engine.is_ready:
            raise InvalidRequest(f"{name} is loaded already", "model")
        if hosting.loaded and not choice.replace:
            raise InvalidRequest(
                f"{hosting.loaded} is loaded and there is one engine; unload it, or send "
                '"replace": true',
                "replace",
            )
        return self.jobs.start("load", name, lambda job: self._load(hosting, job)).row

    async def unload(self, http: Request) -> wire.JobRow:
        """Begin to unload the model that is loaded."""
        del http
        hosting, _ = self._opened()
        self._check_idle()
        if not hosting.loaded:
            raise InvalidRequest("no model is loaded")
        return self.jobs.start("unload", hosting.loaded, lambda job: self._unload(hosting, job)).row

    async def delete(self, http: Request) -> wire.ModelDeleted:
        """Delete a pulled model that nothing uses."""
        hosting, store = self._opened()
        name = wire.read_model(await self._body(http)).model
        await asyncio.to_thread(store.find, name)
        if name == hosting.loaded or hosting.embeddings.has(name):
            raise InvalidRequest(f"{name} is loaded; unload it first", "model")
        if any(job.model == name for job in self.jobs.running("pull", "load", "unload")):
            raise InvalidRequest(f"{name} is being worked on; wait for it or cancel that", "model")
        try:
            await asyncio.to_thread(store.remove, name)
        except ConfigError as error:
            raise InvalidRequest(error.message, "model") from error
        return wire.ModelDeleted(name)

    async def list_jobs(self, http: Request) -> wire.JobList:
        """Show what runs and what has ended lately."""
        del http
        return wire.JobList(self.jobs.list())

    async def show_job(self, http: Request) -> wire.JobRow:
        """Show one job."""
        return self.jobs.find(http.path_params["job_id"]).row

    async def cancel_job(self, http: Request) -> wire.JobRow:
        """End a job; what a pull has fetched stays for the next time."""
        return (await self.jobs.cancel(http.path_params["job_id"])).row

    async def _load(self, hosting: Hosting, job: Job) -> None:
        engine = msgspec.structs.replace(hosting.settings.engine, model=job.model)
        running = hosting.engine
        spare_bytes = private_bytes(running.pid) if running is not None and running.pid else 0
        packed_path = await run_work(Work("prepare", engine, spare_bytes), job.show)
        if hosting.loaded:
            await self._unload(hosting, job)
        job.can_cancel = True
        job.show(Said(f"Loading {job.model}"))
        await hosting.load(job.model, packed_path)

    async def _unload(self, hosting: Hosting, job: Job) -> None:
        job.can_cancel = False
        job.show(Said(f"Waiting for the requests of {hosting.loaded}"))
        await hosting.unload(self._config.drain_timeout_s)

    def _opened(self) -> tuple[Hosting, ModelStore]:
        if self._hosting is None:
            raise InvalidRequest("this server was built for models of others; none can be loaded")
        from outrider.server.model_store import ModelStore

        return self._hosting, ModelStore(self._hosting.settings.home)

    def _check_idle(self) -> None:
        for job in self.jobs.running("load", "unload"):
            raise InvalidRequest(f"{job.model} is being {job.kind}ed; wait for it, or cancel that")

    async def _body(self, http: Request) -> bytes:
        return await read_body(http.headers, http.receive, self._config)

    def _row(self, hosting: Hosting, one: ModelOnDisk) -> wire.ModelRow:
        is_served = one.name == hosting.loaded or hosting.embeddings.has(one.name)
        return wire.ModelRow(
            name=one.name,
            kind="embedding" if one.is_embedding else "chat",
            is_pulled=one.is_here,
            is_loaded=one.is_here and is_served,
            format=one.form or None,
            size_bytes=one.num_bytes,
            packed_bytes=one.packed_bytes,
            licence=one.licence,
        )

    def _engine(self, hosting: Hosting) -> wire.EngineRow:
        engine = hosting.engine
        jobs = self.jobs.running("load", "unload")
        if any(not job.can_cancel for job in jobs):
            state: wire.EngineState = "unloading"
        elif engine is None:
            state = "loading" if jobs else "none"
        elif engine.is_ready:
            state = "ready"
        else:
            state = "restarting" if engine.max_model_len else "loading"
        if engine is None:
            return wire.EngineRow(state=state)
        return wire.EngineRow(
            state=state,
            model=hosting.loaded,
            served_as=engine.name,
            context_length=engine.max_model_len or None,
            running=engine.num_running,
            waiting=engine.num_waiting,
            restarts=engine.restarts,
        )


def _other(name: str, *, is_loaded: bool) -> wire.ModelRow:
    """Show a model that isn't in the store: the server was started with its path."""
    return wire.ModelRow(
        name=name,
        kind="chat",
        is_pulled=False,
        is_loaded=is_loaded,
        format=Path(name).suffix.removeprefix(".").upper() or None,
        size_bytes=None,
        packed_bytes=0,
        licence=None,
    )
