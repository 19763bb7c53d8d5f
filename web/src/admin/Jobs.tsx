// What is being fetched, loaded or unloaded, and what came of the last ones.

import { ProblemCard } from "../ui/ProblemCard";
import { manage } from "./access";
import { JobProgress } from "./JobProgress";
import type { JobRow } from "./types";
import { useAction } from "./useAction";

const SHOWN = 4;

export function Jobs({ jobs, onChange }: { jobs: JobRow[]; onChange: () => void }) {
  const { isBusy, problem, run } = useAction();
  if (jobs.length === 0) return null;
  const cancel = (job: JobRow) => void run(() => manage("POST", `/outrider/v1/jobs/${job.id}/cancel`)).then(onChange);
  return (
    <>
      {problem && <ProblemCard problem={problem} />}
      <ul class="jobs" aria-label="Jobs">
        {jobs.slice(0, SHOWN).map((job) => (
          <li key={job.id} class="card" data-state={job.state}>
            <JobProgress job={job} />
            {job.can_cancel && <button type="button" disabled={isBusy} aria-label={`Cancel the ${job.kind} of ${job.model}`} onClick={() => cancel(job)}>Cancel</button>}
          </li>
        ))}
      </ul>
    </>
  );
}
