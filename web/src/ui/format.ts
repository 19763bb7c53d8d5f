// Figures as people read them.

/** Whole numbers in groups of three. By hand: a browser's first use of its tables takes 20 ms. */
export function count(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
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

/** A large number in short: 1.2 K, 109 B. */
export function short(value: number): string {
  return new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: value < 1e12 ? 1 : 0 }).format(value);
}

/** The price of a million tokens, from that of one as the catalogue has it. */
export function perMillion(price: string): string {
  const value = Number(price) * 1_000_000;
  return value === 0 ? "free" : `$${value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 4 })}`;
}

export function percent(share: number): string {
  return share === 1 ? "100 %" : `${(100 * share).toFixed(share > 0.995 ? 2 : 1)} %`;
}
