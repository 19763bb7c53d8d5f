// Small pictures drawn with lines, hidden from screen readers: the buttons around them have names.

const PATHS = {
  menu: "M4 6h16M4 12h16M4 18h10",
  sliders: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h10v11H9zM5 15V4h10",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  again: "M5 12a7 7 0 1 0 2.2-5.1M5 4v4h4",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9.5h.01",
  code: "M9 7l-5 5 5 5M15 7l5 5-5 5",
  columns: "M4 5h7v14H4zM13 5h7v14h-7z",
  share: "M12 15V4M8 8l4-4 4 4M5 13v7h14v-7",
  search: "M11 18a7 7 0 1 1 0-14 7 7 0 0 1 0 14zM20 20l-4-4",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  tokens: "M4 7h6M13 7h7M4 12h3M10 12h10M4 17h9M16 17h4",
  sun: "M12 16a4 4 0 1 1 0-8 4 4 0 0 1 0 8zM12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6L7 7M17 17l1.4 1.4M18.4 5.6L17 7M7 17l-1.4 1.4",
  moon: "M20 14.5A8 8 0 0 1 9.5 4 8 8 0 1 0 20 14.5z",
  down: "M12 5v14M6 13l6 6 6-6",
  check: "M5 13l4 4L19 7",
  key: "M14 10a4 4 0 1 1-4-4 4 4 0 0 1 4 4zM13 13l7 7M17 17l2-2",
  tool: "M14 7a4 4 0 0 1 5-3l-2 3 1 2 3-1a4 4 0 0 1-5 4l-7 8-3-3 8-7z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" width="18" height="18" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function IconButton(properties: {
  icon: IconName; label: string; onClick: () => void; disabled?: boolean; pressed?: boolean; class?: string;
}) {
  const { icon, label, onClick, disabled, pressed } = properties;
  return (
    <button
      type="button" class={`icon-button ${properties.class ?? ""}`} aria-label={label} title={label}
      aria-pressed={pressed} disabled={disabled} onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
}
