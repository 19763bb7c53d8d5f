// Values as they are written in a language. Whatever a prompt holds comes out as data, never as code.

const NAME = /^[A-Za-z_$][\w$]*$/;

export function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

export function python(value: unknown, depth = 0): string {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return ascii(JSON.stringify(value));
  return nested(value, depth, "    ", (name) => ascii(JSON.stringify(name)), python);
}

export function typescript(value: unknown, depth = 0): string {
  if (typeof value !== "object" || value === null) return ascii(JSON.stringify(value));
  return nested(value, depth, "  ", (name) => (NAME.test(name) ? name : JSON.stringify(name)), typescript);
}

/** Line separators inside of strings end a line in some readers; the escape means the same. */
function ascii(text: string): string {
  return text.replace(/[\u2028\u2029\u007f-\u009f]/g, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function nested(
  value: object, depth: number, indent: string, key: (name: string) => string, write: (value: unknown, depth: number) => string,
): string {
  const [begin, end] = Array.isArray(value) ? "[]" : "{}";
  const parts = Array.isArray(value)
    ? value.map((one) => write(one, depth + 1))
    : Object.entries(value).map(([name, one]) => `${key(name)}: ${write(one, depth + 1)}`);
  if (parts.length === 0) return `${begin}${end}`;
  const inner = indent.repeat(depth + 1);
  return `${begin}\n${parts.map((part) => `${inner}${part},\n`).join("")}${indent.repeat(depth)}${end}`;
}
