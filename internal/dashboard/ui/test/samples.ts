import type { Channel, Chat, Message, Ticket } from "../src/contract";

export const at = (minute: number): string => new Date(Date.UTC(2026, 0, 5, 10, minute)).toISOString();

export function chat(id: number, part: Partial<Chat> = {}): Chat {
  return {
    id, channelId: 1, channel: "whatsapp", kind: "direct", contact: { id: id + 100, name: `Customer ${id}`, phone: `4915100${id}`, username: "", avatarUrl: "", avatarMediaId: null },
    status: "open", assigneeId: null, unreadCount: 0, lastMessage: null, tags: [], ticketId: null, windowExpiresAt: null, createdAt: at(0), updatedAt: at(0), ...part,
  };
}

export function message(id: number, chatId: number, part: Partial<Message> = {}): Message {
  return {
    id, chatId, channelId: 1, channel: "whatsapp", type: "text", content: `message ${id}`, media: null, location: null, replyTo: null, reactions: [], fromMe: false,
    senderUserId: null, senderName: "Customer", status: "received", error: null, externalId: `x${id}`, clientMessageId: "", editedAt: null, revokedAt: null,
    providerTime: at(id), createdAt: at(id), ...part,
  };
}

export function channel(id: number): Channel {
  return {
    id, kind: "waba", name: `Channel ${id}`, config: {}, enabled: true, createdAt: at(0), updatedAt: at(0),
    status: { channelId: id, state: "connected", reason: "", since: at(0), worker: "w1" },
  };
}

export function ticket(id: number, chatId: number): Ticket {
  return { id, number: id, chatId, subject: "A case", priority: "normal", status: "open", assigneeId: null, createdBy: 1, createdAt: at(0), updatedAt: at(0) };
}
