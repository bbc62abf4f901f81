// Everything behind the page of one signed-in user: the data, the socket that keeps it true, and what can be done.

import { Api, ApiError, reason } from "./api";
import type { Channel, ChannelStatus, Chat, EventPage, Media, Message, Notification, Organization, Page, SendRequest, SignedInUser, Ticket, Typing, User } from "./contract";
import * as data from "./inbox/data";
import { everything, filterQuery, type Filter } from "./inbox/filter";
import { Journal } from "./inbox/journal";
import { Sender, type Outbox } from "./inbox/outbox";
import { Live, type Connection } from "./live";
import type { SessionKeeper } from "./session";
import { Store } from "./store";

export interface Toast {
  id: number;
  text: string;
  bad: boolean;
}

export interface State extends Outbox {
  data: data.Data;
  position: data.Position;
  connection: Connection;
  /** Set while the first load could not be done. */
  trouble: string;
  ready: boolean;
  organization: Organization | null;
  users: ReadonlyMap<number, User>;
  notifications: readonly Notification[];
  /** Who types where; a customer's key is "contact". */
  typing: ReadonlyMap<number, ReadonlySet<string>>;
  listBusy: boolean;
  listTrouble: string;
  toasts: readonly Toast[];
  /** Channels whose QR code changed, with a counter. */
  qr: ReadonlyMap<number, number>;
}

const initial: State = {
  data: data.empty,
  position: { seq: 0, epoch: "" },
  connection: "connecting",
  trouble: "",
  ready: false,
  organization: null,
  users: new Map(),
  notifications: [],
  typing: new Map(),
  listBusy: false,
  listTrouble: "",
  toasts: [],
  qr: new Map(),
  pending: new Map(),
};

const pageSize = 50;
/** How long a "types…" stays without a word, in milliseconds. */
const typingLife = 8000;
/** How long the link to a picture is good, with some to spare, and how soon it is not asked for again; in milliseconds. */
const linkLife = 3_000_000;
const freshFor = 60_000;
/** How many conversations are kept in memory. */
const timelinesKept = 20;

export class Workspace {
  readonly store = new Store<State>(initial);
  readonly api: Api;
  readonly outbox: Sender<State>;
  private readonly live: Live;
  private readonly journal = new Journal();
  private readonly recent: number[] = [];
  private readonly refreshing = new Set<number>();
  private readonly pictures = new Map<number, { asked: number; url: Promise<string> }>();
  private readonly typingTimers = new Map<string, ReturnType<typeof setTimeout>>();
  private listLoad: AbortController | null = null;
  private toasts = 0;
  private stopped = false;

  constructor(
    readonly session: SessionKeeper,
    readonly me: SignedInUser,
  ) {
    this.api = new Api(session);
    this.outbox = new Sender<State>(
      this.store,
      {
        upload: (file) => this.upload(file),
        send: (body) => this.accept("/api/messages/send", body),
        transient: (error) => !(error instanceof ApiError) || error.transient,
        reason,
      },
      sessionStorage,
    );
    this.live = new Live({
      position: () => this.store.get().position,
      token: (refused) => (refused ? session.renewed(refused) : session.token()),
      event: (event, seq) => this.event(event, seq),
      reset: (to, delayMs) => void this.reset(to, delayMs),
      connection: (connection) => {
        this.store.patch({ connection });
        if (connection === "connected") this.outbox.hurry();
      },
      notification: (n) => this.notified(n),
      typing: (t, on) => this.typing(t, on),
      qr: (id) => this.store.set((s) => ({ ...s, qr: new Map(s.qr).set(id, (s.qr.get(id) ?? 0) + 1) })),
    });
  }

  async start(): Promise<void> {
    for (let attempt = 0; !this.stopped; attempt++) {
      try {
        await this.load(await this.head());
        break;
      } catch (error) {
        this.store.patch({ trouble: reason(error) });
        await new Promise((done) => setTimeout(done, Math.min(1000 * 2 ** attempt, 10_000)));
      }
    }
    if (this.stopped) return;
    this.store.patch({ trouble: "", ready: true });
    this.outbox.resume(this.me.id);
  }

  stop(): void {
    this.stopped = true;
    this.live.close();
    this.outbox.stop();
    for (const timer of this.typingTimers.values()) clearTimeout(timer);
  }

  // --- snapshots and events

  private async head(): Promise<data.Position> {
    const page = await this.api.get<EventPage>("/api/events", { after: 0, limit: 1 });
    return { seq: page.head, epoch: page.epoch };
  }

  // The socket is asked for what follows the head before the snapshot is taken: nothing falls in between.
  private async load(position: data.Position): Promise<void> {
    this.journal.clear();
    this.store.patch({ position });
    this.live.connect();
    await Promise.all([this.loadChannels(), this.loadChats(this.store.get().data.list.filter), this.loadPeople(), this.loadNotifications()]);
  }

  private event(event: data.LoggedEvent, seq: number): void {
    this.journal.add(seq, event);
    const known = this.store.get().data.channels;
    this.store.set((s) => ({ ...s, data: data.apply(s.data, event), position: { ...s.position, seq } }));
    if (event.name === "channel:status" && outdated(known.get(event.data.channelId), event.data)) void this.loadChannels().catch(() => undefined);
    if (event.name === "messages:imported") this.refresh();
    if (event.name === "message:new" && !event.data.fromMe) this.typing({ chatId: event.data.chatId, contactId: -1 }, false);
  }

  private async reset(to: data.Position | null, delayMs: number): Promise<void> {
    // Events from here on follow the new head; the journal keeps them for the snapshot that comes.
    this.journal.clear();
    if (to) this.store.patch({ position: to });
    await new Promise((done) => setTimeout(done, delayMs));
    try {
      if (!to) this.store.patch({ position: await this.head() });
      const { timelines, list } = this.store.get().data;
      this.store.set((s) => ({ ...s, data: { ...s.data, chats: new Map(), tickets: new Map() } }));
      await Promise.all([
        this.loadChannels(),
        this.loadChats(list.filter),
        ...[...timelines.keys()].map((id) => this.loadMessages(id)),
        this.loadPeople(),
        this.loadNotifications(),
      ]);
    } catch (error) {
      this.toast(reason(error), true);
      if (!this.stopped) setTimeout(() => void this.reset(null, 0), 5000);
    }
  }

  /** Merges what a route answers, brought up to the events that came while it was under way. */
  private async snapshot<T>(load: () => Promise<T>, merge: (now: data.Data, answer: T) => data.Data): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      const { seq, epoch } = this.store.get().position;
      const answer = await load();
      const now = this.store.get();
      const merged = now.position.epoch === epoch || !epoch ? this.journal.replay(merge(now.data, answer), seq) : null;
      if (merged) {
        this.store.patch({ data: merged });
        this.refresh();
        return answer;
      }
      if (attempt === 3) throw new ApiError(503, "unavailable", "There is too much going on to load this. Try again.");
    }
  }

  /** Reads the conversations anew that hold messages no event told of. What fails is tried at the next occasion. */
  private refresh(): void {
    for (const id of this.store.get().data.stale) {
      if (this.refreshing.has(id)) continue;
      this.refreshing.add(id);
      void this.loadMessages(id)
        .catch(() => undefined)
        .finally(() => this.refreshing.delete(id));
    }
  }

  // --- lists

  loadChannels(): Promise<unknown> {
    return this.snapshot(
      () => this.api.all<Channel>("/api/channels"),
      (now, items) => ({ ...now, channels: new Map(items.map((c) => [c.id, c])) }),
    );
  }

  async loadPeople(): Promise<void> {
    const [users, organization] = await Promise.all([this.api.all<User>("/api/users"), this.api.get<Organization>("/api/organization")]);
    this.store.patch({ users: new Map(users.map((u) => [u.id, u])), organization });
  }

  async loadNotifications(): Promise<void> {
    const page = await this.api.get<Page<Notification>>("/api/notifications", { limit: 30 });
    this.store.patch({ notifications: page.items });
  }

  async showChats(filter: Filter): Promise<void> {
    try {
      await this.loadChats(filter);
    } catch (error) {
      const text = reason(error);
      if (text) this.store.patch({ listTrouble: text, listBusy: false });
    }
  }

  private async loadChats(filter: Filter): Promise<void> {
    this.listLoad?.abort();
    const load = (this.listLoad = new AbortController());
    this.store.set((s) => ({ ...s, listBusy: true, listTrouble: "", data: { ...s.data, list: { ...s.data.list, filter } } }));
    await this.snapshot(
      () => this.api.get<Page<Chat>>("/api/chats", { ...filterQuery(filter), limit: pageSize }, load.signal),
      (now, page) => (load.signal.aborted ? now : data.withChatPage(now, filter, page.items, page.nextCursor, true)),
    );
    if (this.listLoad === load) this.store.patch({ listBusy: false });
  }

  async moreChats(): Promise<void> {
    const { list } = this.store.get().data;
    const load = this.listLoad;
    if (this.store.get().listBusy || !list.nextCursor || !load) return;
    this.store.patch({ listBusy: true, listTrouble: "" });
    try {
      await this.snapshot(
        () => this.api.get<Page<Chat>>("/api/chats", { ...filterQuery(list.filter), limit: pageSize, cursor: list.nextCursor! }, load.signal),
        (now, page) => (this.listLoad === load ? data.withChatPage(now, list.filter, page.items, page.nextCursor, false) : now),
      );
    } catch (error) {
      this.store.patch({ listTrouble: reason(error) });
    } finally {
      if (this.listLoad === load) this.store.patch({ listBusy: false });
    }
  }

  clearFilter(): void {
    void this.showChats(everything);
  }

  // --- one chat

  /** Loads a chat and its newest messages, unless they are there and kept true by events. */
  async openChat(id: number): Promise<void> {
    this.recent.unshift(...this.recent.splice(0).filter((other) => other !== id).slice(0, timelinesKept));
    this.recent.unshift(id);
    const forget = this.recent.splice(timelinesKept);
    if (forget.length > 0) {
      this.store.set((s) => {
        const timelines = new Map(s.data.timelines);
        for (const other of forget) timelines.delete(other);
        const stale = new Set([...s.data.stale].filter((other) => timelines.has(other)));
        return { ...s, data: { ...s.data, timelines, stale } };
      });
    }
    const { chats, timelines } = this.store.get().data;
    await Promise.all([
      chats.has(id) ? undefined : this.loadChat(id),
      timelines.has(id) ? undefined : this.loadMessages(id),
    ]);
  }

  loadChat(id: number): Promise<Chat> {
    return this.snapshot(() => this.api.get<Chat>(`/api/chats/${id}`), data.withChat);
  }

  private async loadMessages(chatId: number): Promise<void> {
    await this.snapshot(
      () => this.api.get<Page<Message>>("/api/messages", { chatId, limit: pageSize }),
      (now, page) => data.withMessagePage(now, chatId, page.items, page.nextCursor !== null, true),
    );
  }

  async olderMessages(chatId: number): Promise<void> {
    const oldest = this.store.get().data.timelines.get(chatId)?.messages[0];
    if (!oldest) return;
    await this.snapshot(
      () => this.api.get<Page<Message>>("/api/messages", { chatId, before: oldest.id, limit: pageSize }),
      (now, page) => data.withMessagePage(now, chatId, page.items, page.nextCursor !== null, false),
    );
  }

  /** A call that answers with a chat. */
  changeChat(id: number, change: { status?: string; assigneeId?: number | null; tags?: string[] }): Promise<Chat> {
    return this.snapshot(() => this.api.patch<Chat>(`/api/chats/${id}`, change), data.withChat);
  }

  async startChat(body: { channelId: number; phone?: string; username?: string }): Promise<Chat> {
    return this.snapshot(() => this.api.post<Chat>("/api/chats", body), data.withChat);
  }

  async deleteChat(id: number): Promise<void> {
    await this.api.delete(`/api/chats/${id}`);
  }

  async markRead(chat: Chat): Promise<void> {
    await this.api.post(`/api/chats/${chat.id}/read`, {}).catch(() => undefined); // the next look tries again
  }

  watch(chatId: number, on: boolean): void {
    this.live.watch(chatId, on);
  }

  type(chatId: number, on: boolean): void {
    this.live.type(chatId, on);
  }

  // --- messages

  /** A call that answers with a message. */
  accept(path: string, body: SendRequest | object, method: "POST" | "PATCH" | "DELETE" = "POST"): Promise<Message> {
    const call = { POST: () => this.api.post<Message>(path, body), PATCH: () => this.api.patch<Message>(path, body), DELETE: () => this.api.delete<Message>(path) };
    return this.snapshot(call[method], (now, message) => (message ? data.withMessage(now, message, true) : now));
  }

  /** Does something with a message; what goes wrong is said. */
  async act(work: Promise<unknown>): Promise<boolean> {
    try {
      await work;
      return true;
    } catch (error) {
      this.toast(reason(error), true);
      return false;
    }
  }

  upload(file: File): Promise<Media> {
    const form = new FormData();
    form.append("file", file, file.name);
    return this.api.post<Media>("/api/media", form);
  }

  /** A fresh link to a file: the signed ones end, and events carry none. */
  async mediaLink(media: Media): Promise<string> {
    const answer = await this.api.get<Media | Blob>(`/api/media/${media.id}`);
    return answer instanceof Blob ? URL.createObjectURL(answer) : answer.url;
  }

  /** A link to a contact's picture that works for a while yet; fresh: another one than before. */
  pictureLink(mediaId: number, fresh = false): Promise<string> {
    const known = this.pictures.get(mediaId);
    if (known && Date.now() - known.asked < (fresh ? freshFor : linkLife)) return known.url;
    const url = this.api.get<Media>(`/api/media/${mediaId}`).then((media) => media.url);
    url.catch(() => this.pictures.delete(mediaId));
    this.pictures.set(mediaId, { asked: Date.now(), url });
    return url;
  }

  // --- tickets

  async loadTickets(query: Record<string, string>): Promise<Page<Ticket>> {
    return this.snapshot(() => this.api.get<Page<Ticket>>("/api/tickets", { ...query, limit: pageSize }), withTickets);
  }

  loadTicket(id: number): Promise<Ticket> {
    return this.saveTicket(() => this.api.get<Ticket>(`/api/tickets/${id}`));
  }

  saveTicket(call: () => Promise<Ticket>): Promise<Ticket> {
    return this.snapshot(call, (now, ticket) => ({ ...now, tickets: new Map(now.tickets).set(ticket.id, ticket) }));
  }

  // --- channels

  saveChannel(call: () => Promise<Channel>): Promise<Channel> {
    return this.snapshot(call, (now, channel) => (channel?.id ? { ...now, channels: new Map(now.channels).set(channel.id, channel) } : now));
  }

  // --- what concerns this user

  private notified(n: Notification): void {
    const now = { ...n, readAt: n.readAt ?? null, createdAt: n.createdAt ?? new Date().toISOString() };
    this.store.set((s) => ({ ...s, notifications: [now, ...s.notifications.filter((o) => o.id !== n.id)].slice(0, 100) }));
    this.toast([n.title, n.body].filter(Boolean).join(" · "));
  }

  async readNotifications(): Promise<void> {
    const ids = this.store.get().notifications.filter((n) => !n.readAt).map((n) => n.id);
    if (ids.length === 0) return;
    const readAt = new Date().toISOString();
    await this.api.post("/api/notifications/read", { ids });
    this.store.set((s) => ({ ...s, notifications: s.notifications.map((n) => (ids.includes(n.id) ? { ...n, readAt } : n)) }));
  }

  private typing(t: Typing, on: boolean): void {
    if (t.userId === this.me.id) return;
    const who = t.userId ? String(t.userId) : "contact";
    const key = `${t.chatId}/${who}`;
    clearTimeout(this.typingTimers.get(key));
    this.typingTimers.delete(key);
    if (on) this.typingTimers.set(key, setTimeout(() => this.typing(t, false), typingLife));
    this.store.set((s) => {
      if ((s.typing.get(t.chatId)?.has(who) ?? false) === on) return s;
      const people = new Set(s.typing.get(t.chatId));
      if (on) people.add(who);
      else people.delete(who);
      return { ...s, typing: new Map(s.typing).set(t.chatId, people) };
    });
  }

  toast(text: string, bad = false): void {
    if (!text) return;
    const id = ++this.toasts;
    this.store.set((s) => ({ ...s, toasts: [...s.toasts.slice(-3), { id, text, bad }] }));
    setTimeout(() => this.dismiss(id), bad ? 9000 : 5000);
  }

  dismiss(id: number): void {
    this.store.set((s) => ({ ...s, toasts: s.toasts.filter((t) => t.id !== id) }));
  }

  async signOut(): Promise<void> {
    await this.api.post("/api/auth/logout").catch(() => undefined); // forgotten here in any case
    this.session.end("left");
  }
}

// The event tells how a channel is, and neither that there is a new one nor which phone was linked.
function outdated(channel: Channel | undefined, { state }: ChannelStatus): boolean {
  return !channel || (channel.kind === "whatsapp" && state === "connected" && !channel.config.phone);
}

function withTickets(now: data.Data, page: Page<Ticket>): data.Data {
  const tickets = new Map(now.tickets);
  for (const ticket of page.items) tickets.set(ticket.id, ticket);
  return { ...now, tickets };
}
