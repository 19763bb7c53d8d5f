// How the page writes figures: short on axes, and with a unit.

import { seconds } from "../ui/format";

const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export function short(value: number): string {
  return COMPACT.format(value);
}

export function money(value: number): string {
  if (value === 0) return "$0";
  if (value >= 1000) return `$${COMPACT.format(value)}`;
  return value < 0.01 ? `$${value.toPrecision(2)}` : `$${value.toFixed(2)}`;
}

export function time(value: number): string {
  return seconds(value / 1000);
}

export function percent(value: number): string {
  return `${(value * 100).toFixed(value > 0 && value < 0.1 ? 1 : 0)} %`;
}

/** Give a share in words; nothing of nothing is no share. */
export function shareOf(part: number, whole: number): string {
  return whole === 0 ? "–" : percent(part / whole);
}
