// One of a few names, as buttons beside each other.

export function Choice<Name extends string>({ label, names, chosen, choose }: {
  label: string; names: Record<Name, string>; chosen: Name; choose: (name: Name) => void;
}) {
  return (
    <div class="segments" role="group" aria-label={label}>
      {(Object.entries(names) as [Name, string][]).map(([name, shown]) => (
        <button key={name} type="button" aria-pressed={name === chosen} onClick={() => choose(name)}>{shown}</button>
      ))}
    </div>
  );
}
