"""Work that takes time: it runs by itself, says how far it is, and can be cancelled.

Nothing of it is kept on disk: a server that ends takes its jobs along, and a pull that is asked for
again goes on where it was. The last of those that have ended are remembered.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine

from outrider.dialects.administration import iso_time
from outrider.dialects.model_administration import JobKind, JobRow, JobState
from outrider.errors import InvalidRequest, NotFound, OutriderError
from outrider.server.store_process import Said

logger = logging.getLogger(__name__)

MAX_ENDED = 20


class Job:
    """One work; `show` takes what it says of itself."""

    def __init__(self, kind: JobKind, model: str) -> None:
        self.id = f"job_{uuid.uuid4().hex[:16]}"
        self.kind: JobKind = kind
        self.model = model
        self.state: JobState = "running"
        self.text = ""
        self.can_cancel = True
        self.task: asyncio.Task[None] | None = None
        self._done = self._total = 0
        self._error: str | None = None
        self._created_s = time.time()
        self._ended_s: float | None = None

    def show(self, said: Said) -> None:
        """Say how far it is."""
        if said.text:
            self.text, self._done, self._total = said.text, said.done, said.total

    def end(self, state: JobState, error: str | None = None) -> None:
        """Note how it ended."""
        self.state, self._error, self._ended_s = state, error, time.time()
        self.can_cancel = False

    @property
    def row(self) -> JobRow:
        """The job as it is shown."""
        return JobRow(
            id=self.id,
            kind=self.kind,
            model=self.model,
            state=self.state,
            text=self.text,
            done_bytes=self._done,
            total_bytes=self._total or None,
            error=self._error,
            can_cancel=self.can_cancel,
            created_at=iso_time(self._created_s),
            ended_at=None if self._ended_s is None else iso_time(self._ended_s),
        )


class Jobs:
    """All jobs of a server."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}  # oldest first

    def start(
        self, kind: JobKind, model: str, work: Callable[[Job], Coroutine[None, None, None]]
    ) -> Job:
        """Begin a work."""
        job = Job(kind, model)
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._run(job, work(job)))
        ended = [one.id for one in self._jobs.values() if one.state != "running"]
        for job_id in ended[:-MAX_ENDED]:
            del self._jobs[job_id]
        return job

    def running(self, *kinds: JobKind) -> list[Job]:
        """Give the jobs of some kinds that run."""
        jobs = self._jobs.values()
        return [job for job in jobs if job.state == "running" and job.kind in kinds]

    def list(self) -> list[JobRow]:
        """Show all jobs, newest first."""
        return [job.row for job in reversed(self._jobs.values())]

    def find(self, job_id: str) -> Job:
        """Give a job; raises `NotFound`."""
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFound("there is no such job; it may have been forgotten", "job_id")
        return job

    async def cancel(self, job_id: str) -> Job:
        """End a job and wait for it; one that has ended stays as it is."""
        job = self.find(job_id)
        if job.state == "running":
            if not job.can_cancel:
                raise InvalidRequest(f"{job.model} is being unloaded; wait for it", "job_id")
            await self._end(job)
        return job

    async def close(self) -> None:
        """End all jobs."""
        for job in list(self._jobs.values()):
            await self._end(job)

    async def _end(self, job: Job) -> None:
        if job.task is not None and not job.task.done():
            job.task.cancel()
            await asyncio.wait({job.task})

    async def _run(self, job: Job, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except OutriderError as error:
            logger.error("the %s of %s failed: %s", job.kind, job.model, error.message)
            job.end("failed", error.message)
        except asyncio.CancelledError:
            job.end("cancelled")
        except BaseException:
            job.end("failed", "the server failed; its log says why")
            raise
        else:
            logger.info("the %s of %s is done", job.kind, job.model)
            job.end("done")
