// A path that may be broken after each slash, and nowhere else.

export function Path({ path }: { path: string }) {
  return <>{path.split(/(?<=\/)/).map((part, at) => <span key={at}>{part}<wbr /></span>)}</>;
}
