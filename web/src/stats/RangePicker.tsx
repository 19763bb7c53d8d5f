// Which time is shown and what it is grouped by. Every choice is an address, so it can be shared
// and gone back from.

import { useState } from "preact/hooks";
import { navigate } from "../shell/router";
import { GROUPS, isSpan, queryOf, RANGES, type RangeName, type Shown } from "./address";
import type { GroupName } from "./answers";

export function RangePicker({ shown }: { shown: Shown }) {
  const [isOpen, setOpen] = useState(false);
  const isCustom = isOpen || shown.range === "custom";
  const show = (change: Partial<Shown>) => {
    setOpen(false);
    navigate(`/stats?${queryOf({ ...shown, ...change })}`);
  };
  return (
    <div class="range row">
      <div class="segments" role="group" aria-label="Range">
        {(Object.keys(RANGES) as RangeName[]).map((range) => (
          <button key={range} type="button" aria-pressed={!isCustom && shown.range === range} onClick={() => show({ range })}>{RANGES[range]}</button>
        ))}
        <button type="button" aria-pressed={isCustom} onClick={() => setOpen(true)}>Custom</button>
      </div>
      {isCustom && <Days key={shown.start + shown.end} shown={shown} show={show} />}
      <label class="row">
        Group by
        <select value={shown.groupBy} onChange={(event) => show({ groupBy: event.currentTarget.value as GroupName })}>
          {(Object.keys(GROUPS) as GroupName[]).map((group) => <option key={group} value={group}>{GROUPS[group]}</option>)}
        </select>
      </label>
    </div>
  );
}

function Days({ shown, show }: { shown: Shown; show: (change: Partial<Shown>) => void }) {
  const [start, setStart] = useState(shown.start);
  const [end, setEnd] = useState(shown.end);
  const isWrong = start !== "" && end !== "" && !isSpan(start, end);
  const submit = (event: Event) => {
    event.preventDefault();
    if (isSpan(start, end)) show({ range: "custom", start, end });
  };
  return (
    <form class="row" onSubmit={submit}>
      <label class="row">From <input type="date" required value={start} onInput={(event) => setStart(event.currentTarget.value)} /></label>
      <label class="row">to <input type="date" required value={end} aria-invalid={isWrong} onInput={(event) => setEnd(event.currentTarget.value)} /></label>
      <button type="submit" disabled={!isSpan(start, end)}>Show</button>
      {isWrong && <p class="mistake" role="alert">A range is 1 to 366 days, the first one first.</p>}
    </form>
  );
}
