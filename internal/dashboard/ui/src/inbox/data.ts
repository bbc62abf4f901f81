// What the page knows of the organization, and how events change it. Everything here is pure: the same snapshot and the
// same events give the same data, and events applied on an old snapshot give what a fresh snapshot would hold.

import type { Channel, Chat, LoggedEvents, Media, Message, MessageStatus, Meta, Ticket } from "../contract";
import { everything, matches, type Filter } from "./filter";

/** The loaded end of a conversation, oldest first: from some message on, without a hole, up to the newest. */
export interface Timeline {
  messages: readonly Message[];
  hasOlder: boolean;
}

/** The chat list under the present filter, newest activity first, as far as it was scrolled. */
export interface ChatList {
  filter: Filter;
  ids: readonly number[];
  nextCursor: string | null;
  loaded: boolean;
}

export interface Data {
  chats: ReadonlyMap<number, Chat>;
  list: ChatList;
  timelines: ReadonlyMap<number, Timeline>;
  /** Conversations that hold messages no event told of: they must be read anew. */
  stale: ReadonlySet<number>;
  channels: ReadonlyMap<number, Channel>;
  tickets: ReadonlyMap<number, Ticket>;
}

export const empty: Data = {
  chats: new Map(),
  list: { filter: everything, ids: [], nextCursor: null, loaded: false },
  timelines: new Map(),
  stale: new Set(),
  channels: new Map(),
  tickets: new Map(),
};

export type LoggedEvent = { [Name in keyof LoggedEvents]: { name: Name; data: LoggedEvents[Name] } }[keyof LoggedEvents];

/** Where the page stands in the organization's event log; epoch "" before it knows. */
export interface Position {
  seq: number;
  epoch: string;
}

/** What to do with an event that arrives at a position. A gap or another epoch means that something was missed. */
export function judge(at: Position, meta: Meta): "apply" | "duplicate" | "missed" {
  if (meta.epoch !== at.epoch) return "missed";
  if (meta.seq <= at.seq) return "duplicate";
  return meta.seq === at.seq + 1 ? "apply" : "missed";
}

/** The data after an event. */
export function apply(data: Data, event: LoggedEvent): Data {
  switch (event.name) {
    case "chat:new":
    case "chat:updated":
      return withChat(data, event.data);
    case "chat:deleted":
      return withoutChat(data, event.data.chatId);
    case "message:new":
      return withMessage(data, event.data, true);
    case "message:updated":
      return withMessage(data, event.data, false);
    case "message:status":
      return withStatus(data, event.data);
    case "messages:read":
      return withRead(data, event.data);
    case "messages:imported":
      return { ...data, stale: new Set([...data.stale, ...event.data.chatIds.filter((id) => data.timelines.has(id))]) };
    case "channel:status": {
      const known = data.channels.get(event.data.channelId);
      return known ? { ...data, channels: put(data.channels, known.id, { ...known, status: event.data }) } : data;
    }
    case "channel:deleted":
      return { ...data, channels: drop(data.channels, event.data.channelId) }; // its chats stay readable
    case "ticket:new":
    case "ticket:updated":
      return { ...data, tickets: put(data.tickets, event.data.id, event.data) };
  }
}

// --- chats

/** When a chat last had a message: what lists are ordered by. */
export function activity(chat: Chat): string {
  return chat.lastMessage?.createdAt ?? chat.createdAt;
}

export function withChat(data: Data, chat: Chat): Data {
  const before = data.chats.get(chat.id);
  return { ...data, chats: put(data.chats, chat.id, keepPicture(before, chat)), list: place(data, chat, before) };
}

// As with files of messages, events carry no link to a picture.
function keepPicture(before: Chat | undefined, now: Chat): Chat {
  const old = before?.contact;
  if (now.contact.avatarUrl || !old?.avatarUrl || old.avatarMediaId !== now.contact.avatarMediaId) return now;
  return { ...now, contact: { ...now.contact, avatarUrl: old.avatarUrl } };
}

function place({ list, chats }: Data, chat: Chat, before: Chat | undefined): ChatList {
  if (!list.loaded) return list;
  const present = list.ids.includes(chat.id);
  if (!matches(list.filter, chat)) {
    // A search is the server's: it may have found by what this page cannot see.
    const foundElsewhere = present && matches({ ...list.filter, q: "" }, chat);
    return foundElsewhere || !present ? list : { ...list, ids: list.ids.filter((id) => id !== chat.id) };
  }
  if (present && before && activity(before) === activity(chat)) return list;
  const others = list.ids.filter((id) => id !== chat.id);
  const older = others.findIndex((id) => {
    const other = chats.get(id);
    return !other || activity(other) < activity(chat) || (activity(other) === activity(chat) && id < chat.id);
  });
  if (older < 0 && list.nextCursor !== null) return { ...list, ids: others }; // it is on a page not yet loaded
  const at = older < 0 ? others.length : older;
  return { ...list, ids: [...others.slice(0, at), chat.id, ...others.slice(at)] };
}

function withoutChat(data: Data, id: number): Data {
  return {
    ...data,
    chats: drop(data.chats, id),
    timelines: drop(data.timelines, id),
    stale: without(data.stale, id),
    list: { ...data.list, ids: data.list.ids.filter((other) => other !== id) },
  };
}

function withRead(data: Data, read: LoggedEvents["messages:read"]): Data {
  const chat = data.chats.get(read.chatId);
  if (!chat?.unreadCount || (chat.lastMessage && chat.lastMessage.id > read.upToMessageId)) return data;
  return withChat(data, { ...chat, unreadCount: 0 });
}

/** A page of GET /api/chats: the first replaces the list, later ones continue it. */
export function withChatPage(data: Data, filter: Filter, items: Chat[], nextCursor: string | null, first: boolean): Data {
  const chats = new Map(data.chats);
  for (const chat of items) chats.set(chat.id, chat);
  const before = first ? [] : data.list.ids;
  const ids = [...new Set([...before, ...items.map((chat) => chat.id)])];
  return { ...data, chats, list: { filter, ids, nextCursor, loaded: true } };
}

// --- messages

/** Lists are ordered by the provider's time, then by id. */
export function byTime(a: Message, b: Message): number {
  return a.providerTime === b.providerTime ? a.id - b.id : a.providerTime < b.providerTime ? -1 : 1;
}

const ranks: MessageStatus[] = ["queued", "sending", "unknown", "sent", "failed", "delivered", "read"];

/** Puts a message where it belongs; one that is not new only replaces itself. */
export function withMessage(data: Data, message: Message, isNew: boolean): Data {
  const timeline = data.timelines.get(message.chatId);
  if (!timeline) return data;
  const { messages, hasOlder } = timeline;
  const known = messages.findIndex((m) => m.id === message.id);
  if (known < 0 && !isNew) return data;
  const kept = keepLink(messages[known], message);
  const others = known < 0 ? messages : messages.filter((m) => m.id !== message.id);
  let at = others.length;
  while (at > 0 && byTime(others[at - 1]!, kept) > 0) at--;
  if (at === 0 && hasOlder && others.length > 0) return data; // it is on a page not yet loaded
  const next = [...others.slice(0, at), kept, ...others.slice(at)];
  return { ...data, timelines: put(data.timelines, message.chatId, { messages: next, hasOlder }) };
}

// Events carry no links to files, since a log outlives them: the one that a route gave stays.
function keepLink(before: Message | undefined, now: Message): Message {
  const old: Media | null | undefined = before?.media;
  if (!now.media || now.media.url || !old?.url || old.id !== now.media.id) return now;
  return { ...now, media: { ...now.media, url: old.url } };
}

function withStatus(data: Data, change: LoggedEvents["message:status"]): Data {
  const timeline = data.timelines.get(change.chatId);
  const known = timeline?.messages.find((m) => m.id === change.messageId);
  if (!timeline || !known || ranks.indexOf(change.status) <= ranks.indexOf(known.status)) return data;
  const message = { ...known, status: change.status, error: change.error ?? null };
  const messages = timeline.messages.map((m) => (m === known ? message : m));
  return { ...data, timelines: put(data.timelines, change.chatId, { ...timeline, messages }) };
}

/** A page of GET /api/messages: the newest, or one before what is loaded. */
export function withMessagePage(data: Data, chatId: number, items: Message[], hasOlder: boolean, newest: boolean): Data {
  const loaded = newest ? [] : (data.timelines.get(chatId)?.messages ?? []);
  const byId = new Map([...items, ...loaded].map((m) => [m.id, m]));
  const messages = [...byId.values()].sort(byTime);
  return { ...data, timelines: put(data.timelines, chatId, { messages, hasOlder }), stale: newest ? without(data.stale, chatId) : data.stale };
}

// --- maps

function put<V>(map: ReadonlyMap<number, V>, id: number, value: V): ReadonlyMap<number, V> {
  return new Map(map).set(id, value);
}

function drop<V>(map: ReadonlyMap<number, V>, id: number): ReadonlyMap<number, V> {
  const next = new Map(map);
  next.delete(id);
  return next;
}

function without(set: ReadonlySet<number>, id: number): ReadonlySet<number> {
  if (!set.has(id)) return set;
  const next = new Set(set);
  next.delete(id);
  return next;
}
