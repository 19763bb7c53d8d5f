// What concerns every page: the theme and the key.

import { IconButton } from "./icons";
import { open, theme } from "./state";

export function PageButtons() {
  const isDark = theme.value === "dark" || (theme.value === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  return (
    <>
      <IconButton icon={isDark ? "sun" : "moon"} label={isDark ? "Light theme" : "Dark theme"} onClick={() => (theme.value = isDark ? "light" : "dark")} />
      <IconButton icon="key" label="Enter a key" onClick={() => (open.value = "keys")} />
    </>
  );
}
