// What a check of a provider has shown.

import { Dialog } from "../ui/Dialog";
import { lasting } from "./format";
import type { Checked } from "./types";

export function CheckReport({ report, onClose }: { report: Checked; onClose: () => void }) {
  const failed = Object.entries(report.failed);
  return (
    <Dialog title={`${report.provider}: ${report.model}`} onClose={onClose}>
      {report.is_answering ? <p>It answers, in {lasting(report.answer_s ?? 0)}.</p> : <p class="mistake">It doesn't answer: {report.problem}</p>}
      {report.proven.length > 0 && <p>It can: {report.proven.join(", ")}.</p>}
      {failed.length > 0 && (
        <>
          <p>It can't, though the settings say so:</p>
          <ul class="report">{failed.map(([name, why]) => <li key={name}><b>{name}</b>: {why}</li>)}</ul>
        </>
      )}
      <div class="row"><button type="button" onClick={onClose}>Close</button></div>
    </Dialog>
  );
}
