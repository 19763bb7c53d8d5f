// Fetches the default model, loads it and tells the playground; each step with its progress.

import { useEffect, useState } from "preact/hooks";
import { loadModels } from "../api/models";
import type { Problem } from "../api/problems";
import { asksForKey, keyInUse, manage } from "./access";
import { JobProgress } from "./JobProgress";
import { KeyDialog } from "./KeyDialog";
import { Trouble } from "./Trouble";
import type { JobRow, OwnModels } from "./types";
import { problemIn } from "./useManaged";

const MODELS = "/outrider/v1/models";
const LOOK_MS = 400;

export function FirstModel() {
  const [job, setJob] = useState<JobRow | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [round, setRound] = useState(0);
  const key = keyInUse();
  useEffect(() => {
    const stopper = new AbortController();
    setProblem(null);
    start(setJob, stopper.signal).catch((error: unknown) => !stopper.signal.aborted && setProblem(problemIn(error)));
    return () => stopper.abort();
  }, [round, key]);
  const isStopped = problem !== null || (job !== null && (job.state === "failed" || job.state === "cancelled"));
  return (
    <>
      {job && <JobProgress job={job} />}
      <Trouble problem={problem} />
      {isStopped && <div class="row"><button type="button" onClick={() => setRound(round + 1)}>Try again</button></div>}
      {asksForKey.value && <KeyDialog />}
    </>
  );
}

/** Pull and load, unless that is done; ends where something fails. */
async function start(show: (job: JobRow) => void, signal: AbortSignal): Promise<void> {
  const { default_model: model, engine } = await manage<OwnModels>("GET", MODELS, undefined, signal);
  if (engine.state === "none") {
    if (!(await done("pull", model, show, signal))) return;
    if (!(await done("load", model, show, signal))) return;
  }
  await loadModels();
}

async function done(what: "pull" | "load", model: string, show: (job: JobRow) => void, signal: AbortSignal): Promise<boolean> {
  let job = await manage<JobRow>("POST", `${MODELS}/${what}`, { model }, signal);
  show(job);
  while (job.state === "running") {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    job = await manage<JobRow>("GET", `/outrider/v1/jobs/${job.id}`, undefined, signal);
    show(job);
  }
  return job.state === "done";
}
