import { useEffect, useState } from "preact/hooks";

/** Where in the page the reader is. */
export type Route =
  | { page: "inbox"; chatId: number | null }
  | { page: "tickets" }
  | { page: "channels" }
  | { page: "team" }
  | { page: "keys" }
  | { page: "profile" };

export function parse(path: string): Route {
  const [first = "", second = ""] = path.split("/").filter(Boolean);
  if (first === "chats" && /^[1-9]\d{0,15}$/.test(second)) return { page: "inbox", chatId: Number(second) };
  if (first === "tickets" || first === "channels" || first === "team" || first === "keys" || first === "profile") return { page: first };
  return { page: "inbox", chatId: null };
}

export function pathOf(route: Route): string {
  if (route.page !== "inbox") return `/${route.page}`;
  return route.chatId ? `/chats/${route.chatId}` : "/";
}

const changed = "switchboard:navigated";

export function navigate(route: Route, replace = false): void {
  const path = pathOf(route);
  if (path === location.pathname) return;
  if (replace) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  window.dispatchEvent(new Event(changed));
}

export function useRoute(): Route {
  const [path, setPath] = useState(location.pathname);
  useEffect(() => {
    const update = () => setPath(location.pathname);
    window.addEventListener("popstate", update);
    window.addEventListener(changed, update);
    return () => {
      window.removeEventListener("popstate", update);
      window.removeEventListener(changed, update);
    };
  }, []);
  return parse(path);
}

/** For links: a plain click stays within the page, all others are the browser's. */
export function follow(route: Route): (event: MouseEvent) => void {
  return (event) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    navigate(route);
  };
}
