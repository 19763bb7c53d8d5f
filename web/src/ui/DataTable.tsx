// A table that is sorted by its headings and scrolls sideways where it is too wide. Draws the first
// rows only, however many there are, until more are asked for.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { type Cell, compare } from "./rows";

const FIRST_ROWS = 200;

export interface Column<Row> {
  title: string;
  /** What is sorted by, and shown unless `show` gives something else. */
  value: (row: Row) => Cell;
  show?: (row: Row) => ComponentChildren;
  kind?: "text" | "number";
}

interface Properties<Row> {
  caption: string; // read out, not shown
  columns: Column<Row>[]; // the first names the row
  rows: Row[];
  nothing?: string; // said where there are no rows
  sortedBy?: { title: string; isDescending: boolean };
}

export function DataTable<Row>({ caption, columns, rows, nothing = "Nothing yet.", sortedBy }: Properties<Row>) {
  const [order, setOrder] = useState(sortedBy ?? { title: "", isDescending: false });
  const [shown, setShown] = useState(FIRST_ROWS);
  const column = columns.find(({ title }) => title === order.title);
  const sorted = column ? [...rows].sort((a, b) => compare(column.value(a), column.value(b), order.isDescending)) : rows;
  const sortBy = ({ title, kind }: Column<Row>) =>
    setOrder({ title, isDescending: title === order.title ? !order.isDescending : kind === "number" });
  if (rows.length === 0) return <p class="nothing">{nothing}</p>;
  return (
    <div class="table" role="region" aria-label={caption} tabIndex={0}>
      <table>
        <caption class="hidden">{caption}</caption>
        <thead>
          <tr>{columns.map((one) => <Heading key={one.title} column={one} order={order} onClick={() => sortBy(one)} />)}</tr>
        </thead>
        <tbody>
          {sorted.slice(0, shown).map((row, at) => (
            <tr key={at}>{columns.map((one, place) => <DataCell key={one.title} column={one} row={row} isName={place === 0} />)}</tr>
          ))}
        </tbody>
      </table>
      {rows.length > shown && (
        <div class="table-more row">
          <span class="faint">{shown} of {rows.length.toLocaleString("en")} rows</span>
          <button type="button" onClick={() => setShown(shown + FIRST_ROWS)}>Show more</button>
        </div>
      )}
    </div>
  );
}

function Heading<Row>({ column, order, onClick }: {
  column: Column<Row>; order: { title: string; isDescending: boolean }; onClick: () => void;
}) {
  const isSorted = order.title === column.title;
  const direction = order.isDescending ? "descending" : "ascending";
  return (
    <th scope="col" data-kind={column.kind} aria-sort={isSorted ? direction : undefined}>
      <button type="button" onClick={onClick}>
        {column.title}<span class="arrow" aria-hidden="true">{isSorted ? (order.isDescending ? "↓" : "↑") : ""}</span>
      </button>
    </th>
  );
}

function DataCell<Row>({ column, row, isName }: { column: Column<Row>; row: Row; isName: boolean }) {
  const value = column.value(row);
  const content = column.show ? column.show(row) : typeof value === "number" ? value.toLocaleString("en") : value ?? "–";
  return isName ? <th scope="row" data-kind={column.kind}>{content}</th> : <td data-kind={column.kind}>{content}</td>;
}
