// What the server sends and takes: the product contract's JSON, type by type.

export type Role = "admin" | "operator";
export type Network = "whatsapp" | "telegram";
export type ChannelKind = "whatsapp" | "waba" | "telegram";
export type ChatStatus = "open" | "pending" | "resolved";
export type Priority = "low" | "normal" | "high" | "urgent";
export type TicketStatus = "open" | "pending" | "resolved" | "closed";

/** RFC 3339, UTC, milliseconds. */
export type Time = string;

export interface SignedInUser {
  id: number;
  organizationId: number;
  name: string;
  email: string;
  role: Role;
}

export interface Session {
  accessToken: string;
  refreshToken: string;
  /** Seconds until the access token ends. */
  expiresIn: number;
  user: SignedInUser;
}

export interface User extends SignedInUser {
  active: boolean;
  createdAt: Time;
  updatedAt: Time;
}

export interface Organization {
  id: number;
  name: string;
  createdAt: Time;
}

export interface ApiKey {
  id: number;
  name: string;
  role: Role;
  prefix: string;
  userId: number;
  lastUsedAt: Time | null;
  createdAt: Time;
}

export type ChannelState =
  | "disconnected"
  | "connecting"
  | "qr"
  | "pairing"
  | "connected"
  | "logged_out"
  | "banned"
  | "conflict"
  | "error";

export interface ChannelStatus {
  channelId: number;
  state: ChannelState;
  code?: string;
  reason: string;
  since: Time;
  worker: string;
}

export interface Channel {
  id: number;
  kind: ChannelKind;
  name: string;
  config: Record<string, string>;
  enabled: boolean;
  status: ChannelStatus;
  createdAt: Time;
  updatedAt: Time;
}

export interface Contact {
  id: number;
  name: string;
  phone: string;
  username: string;
  /** Signed and expiring; empty in events. */
  avatarUrl: string;
  /** The picture's file; null: there is no picture. */
  avatarMediaId: number | null;
}

export interface LastMessage {
  id: number;
  content: string;
  type: MessageType;
  fromMe: boolean;
  createdAt: Time;
}

export interface Chat {
  id: number;
  channelId: number;
  channel: Network;
  kind: "direct" | "group";
  contact: Contact;
  status: ChatStatus;
  assigneeId: number | null;
  unreadCount: number;
  lastMessage: LastMessage | null;
  tags: string[];
  ticketId: number | null;
  /** Null: no window. In the past: only templates. The epoch: the customer has never written. */
  windowExpiresAt: Time | null;
  createdAt: Time;
  updatedAt: Time;
}

export type MessageType =
  | "text"
  | "image"
  | "video"
  | "audio"
  | "voice"
  | "document"
  | "sticker"
  | "location"
  | "contact"
  | "template"
  | "system"
  | "unsupported";

export type MessageStatus = "received" | "queued" | "sending" | "unknown" | "sent" | "failed" | "delivered" | "read";

export interface Media {
  id: number;
  mime: string;
  /** Bytes; 0 while not known. */
  size: number;
  filename: string;
  width: number;
  height: number;
  durationMs: number;
  state: "pending" | "ready" | "failed";
  /** Signed and expiring; empty in events. */
  url: string;
  error?: string;
}

export interface Location {
  latitude: number;
  longitude: number;
  name?: string;
  address?: string;
}

export interface Template {
  name: string;
  language: string;
  parameters?: string[];
}

export interface ReplyTo {
  /** 0 when the quoted message is not one of ours. */
  id: number;
  content: string;
  type: MessageType;
  senderName: string;
}

export interface Reaction {
  emoji: string;
  fromMe: boolean;
  senderName: string;
}

export interface SendError {
  code: string;
  message: string;
}

export interface Message {
  id: number;
  chatId: number;
  channelId: number;
  channel: Network;
  type: MessageType;
  content: string;
  media: Media | null;
  location: Location | null;
  template?: Template | null;
  replyTo: ReplyTo | null;
  reactions: Reaction[];
  fromMe: boolean;
  senderUserId: number | null;
  senderName: string;
  status: MessageStatus;
  error: SendError | null;
  externalId: string;
  clientMessageId: string;
  editedAt: Time | null;
  revokedAt: Time | null;
  providerTime: Time;
  createdAt: Time;
}

export interface SendRequest {
  chatId: number;
  content: string;
  type?: MessageType;
  mediaId?: number;
  location?: Location;
  replyToId?: number;
  template?: Template;
  clientMessageId: string;
}

export interface Note {
  id: number;
  chatId: number | null;
  ticketId: number | null;
  userId: number;
  content: string;
  createdAt: Time;
}

export interface Ticket {
  id: number;
  number: number;
  chatId: number;
  subject: string;
  priority: Priority;
  status: TicketStatus;
  assigneeId: number | null;
  createdBy: number | null;
  createdAt: Time;
  updatedAt: Time;
}

export interface Notification {
  id: number;
  kind: string;
  title: string;
  body: string;
  chatId?: number | null;
  readAt: Time | null;
  createdAt: Time;
}

export interface Page<T> {
  items: T[];
  nextCursor: string | null;
}

/** RFC 9457, with a stable code. */
export interface Problem {
  title: string;
  status: number;
  detail: string;
  code: string;
  errors?: { field: string; message: string }[];
}

/** Where an event stands in the organization's log. */
export interface Meta {
  seq: number;
  epoch: string;
  at: Time;
}

export interface EventPage {
  events: { seq: number; event: string; data: unknown; at: Time }[];
  head: number;
  epoch: string;
  resync: boolean;
}

/** The events of the log and their data. */
export interface LoggedEvents {
  "chat:new": Chat;
  "chat:updated": Chat;
  "chat:deleted": { chatId: number };
  "message:new": Message;
  "message:updated": Message;
  "message:status": { messageId: number; chatId: number; status: MessageStatus; error?: SendError };
  /** readByUserId 0: on the organization's own phone. */
  "messages:read": { chatId: number; readByUserId: number; upToMessageId: number };
  "messages:imported": { channelId: number; chatIds: number[] };
  "channel:status": ChannelStatus;
  "channel:deleted": { channelId: number };
  "ticket:new": Ticket;
  "ticket:updated": Ticket;
}

export interface Typing {
  chatId: number;
  userId?: number;
  contactId?: number;
}

export type Ack = { ok: true } | { ok: false; error: { code: string; message: string } };
