import { useSelect, useWorkspace } from "../context";
import { navigate } from "../route";
import { full, short } from "../text/time";
import { Popover, useNow } from "./basics";
import { Icon } from "./icons";

/** What concerns the reader personally. */
export function Bell() {
  const workspace = useWorkspace();
  const notifications = useSelect((s) => s.notifications);
  const now = useNow(60_000);
  const unread = notifications.filter((n) => !n.readAt).length;
  return (
    <Popover
      panelClass="bell-panel"
      trigger={(p) => (
        <button
          type="button"
          class="rail-item"
          aria-label={unread > 0 ? `Notifications, ${unread} unread` : "Notifications"}
          title="Notifications"
          aria-expanded={p["aria-expanded"]}
          onClick={() => {
            if (p["aria-expanded"]) void workspace.act(workspace.readNotifications());
            p.onClick();
          }}
        >
          <Icon name="bell" size={22} />
          {unread > 0 && <span class="badge">{unread > 9 ? "9+" : unread}</span>}
        </button>
      )}
    >
      {(close) => (
        <>
          <header>
            <h2>Notifications</h2>
            {unread > 0 && (
              <button type="button" class="link" onClick={() => void workspace.act(workspace.readNotifications())}>
                Mark all as read
              </button>
            )}
          </header>
          {notifications.length === 0 && <p class="muted bell-none">Nothing yet. When a colleague assigns you a chat, you learn it here.</p>}
          <ul>
            {notifications.map((n) => (
              <li key={n.id}>
                <button
                  type="button"
                  class={n.readAt ? "" : "bell-new"}
                  onClick={() => {
                    void workspace.act(workspace.readNotifications());
                    if (n.chatId) navigate({ page: "inbox", chatId: n.chatId });
                    close();
                  }}
                >
                  <strong>{n.title}</strong>
                  {n.body && <span>{n.body}</span>}
                  <time title={full(n.createdAt)}>{short(n.createdAt, now)}</time>
                </button>
              </li>
            ))}
          </ul>
        </>
      )}
    </Popover>
  );
}
