export type Theme = "auto" | "light" | "dark";

const key = "switchboard.theme";

export function theme(): Theme {
  const kept = localStorage.getItem(key);
  return kept === "light" || kept === "dark" ? kept : "auto";
}

export function setTheme(next: Theme): void {
  if (next === "auto") localStorage.removeItem(key);
  else localStorage.setItem(key, next);
  applyTheme();
}

export function applyTheme(): void {
  const now = theme();
  if (now === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = now;
}
