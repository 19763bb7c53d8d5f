// Draws a chart with uPlot, in the colours of the page's theme. Many points are thinned to what the
// width can show, so drawing a hundred thousand takes about as long as drawing a thousand.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { ChartProperties } from "./Chart";
import { lonely, placesToDraw, stacked } from "./rows";

export interface Plot {
  close: () => void;
}

/** Draw into an element; `onPoint` hears which place of the series the pointer is over. */
export function draw(element: HTMLElement, properties: ChartProperties, onPoint: (at: number | null) => void): Plot {
  const start = performance.now();
  const { times, series, kind = "lines", height = 200 } = properties;
  const width = () => Math.max(120, element.clientWidth);
  const heights = kind === "bars" ? stacked(series.map(({ values }) => values)) : series.map(({ values }) => values);
  const places = placesToDraw(heights, times.length, Math.max(200, width()));
  const pick = (values: (number | null)[]) => places.map((at) => values[at] ?? null);
  // The tallest of a stack is drawn first, so that the others stand before it.
  const order = kind === "bars" ? heights.map((_, at) => at).reverse() : heights.map((_, at) => at);
  const data = [pick(times), ...order.map((at) => pick(heights[at]!))] as uPlot.AlignedData;
  // Bars thinner than a few pixels are an area to the eye, and much faster drawn as one.
  const hasBars = kind === "bars" && times.length <= width() / 4;
  const options = optionsOf(properties, { width: width(), height, order, hasBars }, (at) => onPoint(at === null ? null : places[at]!));
  element.textContent = "";
  // For the test of how long a chart takes.
  options.hooks!.ready = [() => performance.measure("outrider.chart", { start })];
  const plot = new uPlot(options, data, element);
  const observer = new ResizeObserver(() => plot.setSize({ width: width(), height }));
  observer.observe(element);
  return {
    close: () => {
      observer.disconnect();
      plot.destroy();
    },
  };
}

interface Size {
  width: number;
  height: number;
  order: number[]; // of the series, the first at the back
  hasBars: boolean;
}

function optionsOf(properties: ChartProperties, size: Size, onPoint: (at: number | null) => void): uPlot.Options {
  const { kind = "lines", range, show = String } = properties;
  const { hasBars } = size;
  const color = colors();
  const axis = { stroke: color("--faint"), font: `12px ${color("--sans")}`, grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
  const bars = uPlot.paths.bars!({ size: [0.7, 40], radius: 0.1 });
  return {
    width: size.width,
    height: size.height,
    tzDate: (time) => uPlot.tzDate(new Date(time * 1000), "UTC"), // days of the ledger are UTC
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { show: kind === "lines" } },
    scales: { x: { range: hasBars ? aroundBars : undefined }, y: { range: (_, min, max) => spread(min, max, range) } },
    axes: [{ ...axis, space: 70, values: (_, times, __, ___, step) => times.map((time) => timeLabel(time, step)) }, { ...axis, size: 62, values: (_, values) => values.map((value) => show(value)) }],
    series: [{}, ...size.order.map((at): uPlot.Series => {
      const stroke = color(`--chart-${at + 1}`);
      const filter = (plot: uPlot, index: number, areShown: boolean) => (areShown ? null : lonely(Array.from(plot.data[index] ?? [])));
      if (kind === "lines") return { stroke, width: 1.5, points: { size: 5, filter } };
      return { stroke, fill: stroke, width: 0, points: { show: false }, ...(hasBars ? { paths: bars } : {}) };
    })],
    hooks: { setCursor: [(plot) => onPoint(plot.cursor.idx ?? null)] },
  };
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** A time on the axis: as exact as the steps are, and the day where one begins. */
function timeLabel(time: number, step: number): string {
  const date = new Date(time * 1000);
  const day = `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
  if (step >= 28 * 86_400) return `${MONTHS[date.getUTCMonth()]} ${date.getUTCFullYear()}`;
  if (step >= 86_400 || time % 86_400 === 0) return day;
  return date.toISOString().slice(11, step < 60 ? 19 : 16);
}

/** Leave room for half a bar at both ends. */
function aroundBars(plot: uPlot, min: number, max: number): [number, number] {
  const times = plot.data[0];
  const step = times.length > 1 ? (max - min) / (times.length - 1) : 86_400;
  return [min - step / 2, max + step / 2];
}

function spread(min: number, max: number, atLeast: [number, number] | undefined): [number, number] {
  const [low, high] = atLeast ?? [0, 0];
  const bottom = Math.min(low, min ?? low);
  const top = Math.max(high, max ?? high);
  return [bottom, top > bottom ? (atLeast && top === high ? top : top * 1.05) : bottom + 1];
}

function colors(): (name: string) => string {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(name).trim();
}
