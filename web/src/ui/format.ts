// Figures as people read them.

export function count(value: number): string {
  return value.toLocaleString("en");
}

export function seconds(value: number): string {
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(value < 10 ? 2 : 1)} s`;
}

export function dollars(value: number): string {
  if (value === 0) return "free";
  return value < 0.01 ? `$${value.toPrecision(2)}` : `$${value.toFixed(2)}`;
}

/** Tokens of a text, roughly: what the server counts is shown once it has answered. */
export function estimatedTokens(text: string): number {
  return Math.ceil(text.length / 4);
}

export function ago(time: number): string {
  const days = Math.floor((Date.now() - time) / 86_400_000);
  if (days < 1) return new Date(time).toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit" });
  return days < 7 ? `${days} d ago` : new Date(time).toLocaleDateString("en", { day: "numeric", month: "short" });
}
