// How far a job is, or what came of it.

import "../styles/jobs.css";
import { bytes } from "./format";
import type { JobRow } from "./types";

const WORDS = { pull: "Pull of", load: "Load of", unload: "Unload of" };

export function JobProgress({ job }: { job: JobRow }) {
  const { state, done_bytes: done, total_bytes: total } = job;
  const label = `${WORDS[job.kind]} ${job.model}`;
  if (state !== "running") {
    return (
      <div class="job">
        <span>{label}</span>
        <span class="state" data-state={state === "done" ? "active" : "failed"}>{state}</span>
        {job.error && <p class="mistake">{job.error}</p>}
      </div>
    );
  }
  const size = total ? `${bytes(done)} of ${bytes(total)}` : done ? bytes(done) : "";
  return (
    <div class="job">
      <span>{label}</span>
      <progress aria-label={label} max={total ?? undefined} value={total ? done : undefined} />
      <span class="faint">{job.text || "Starting"}{size && `: ${size}`}</span>
    </div>
  );
}
