import type { Chat, ChatStatus } from "../contract";

/** What the chat list shows. */
export interface Filter {
  status: ChatStatus | "any";
  /** A user's id, nobody, or whoever. */
  assignee: number | "none" | "any";
  channelId: number | "any";
  unread: boolean;
  tag: string;
  q: string;
}

export const everything: Filter = { status: "any", assignee: "any", channelId: "any", unread: false, tag: "", q: "" };

/** The query of GET /api/chats for a filter. */
export function filterQuery(f: Filter): Record<string, string> {
  const query: Record<string, string> = {};
  if (f.status !== "any") query.status = f.status;
  if (f.assignee !== "any") query.assigneeId = f.assignee === "none" ? "none" : String(f.assignee);
  if (f.channelId !== "any") query.channelId = String(f.channelId);
  if (f.unread) query.unread = "true";
  if (f.tag) query.tag = f.tag;
  if (f.q.trim()) query.q = f.q.trim();
  return query;
}

/** Whether a chat belongs under a filter: what the server would say of it now. */
export function matches(f: Filter, chat: Chat): boolean {
  return (
    (f.status === "any" || chat.status === f.status) &&
    (f.assignee === "any" || chat.assigneeId === (f.assignee === "none" ? null : f.assignee)) &&
    (f.channelId === "any" || chat.channelId === f.channelId) &&
    (!f.unread || chat.unreadCount > 0) &&
    (!f.tag || chat.tags.includes(f.tag)) &&
    (!f.q.trim() || found(f.q.trim().toLowerCase(), chat))
  );
}

function found(q: string, { contact }: Chat): boolean {
  const digits = q.replace(/[\s()+-]/g, "");
  return (
    contact.name.toLowerCase().includes(q) ||
    contact.username.toLowerCase().includes(q.replace(/^@/, "")) ||
    (/^\d+$/.test(digits) && contact.phone.includes(digits))
  );
}
