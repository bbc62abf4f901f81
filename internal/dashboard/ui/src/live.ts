// The socket. It hands on every event of the organization's log once and in order: it tells the server where it stands on
// each connection, passes over what it has seen, and begins anew when something is missing.

import { io, type Socket } from "socket.io-client";

import type { Ack, LoggedEvents, Meta, Notification, Typing } from "./contract";
import { judge, type LoggedEvent, type Position } from "./inbox/data";

export type Connection = "connecting" | "connected" | "reconnecting" | "offline";

const logged: (keyof LoggedEvents)[] = [
  "chat:new",
  "chat:updated",
  "chat:deleted",
  "message:new",
  "message:updated",
  "message:status",
  "messages:read",
  "messages:imported",
  "channel:status",
  "channel:deleted",
  "ticket:new",
  "ticket:updated",
];

export interface Listener {
  /** Where the page stands; read on every connection. */
  position(): Position;
  event(event: LoggedEvent, seq: number): void;
  /** The log does not lead from where the page stands to now: refetch. head is unknown (null) when the page noticed. */
  reset(to: Position | null, delayMs: number): void;
  connection(state: Connection): void;
  notification(n: Notification): void;
  typing(t: Typing, on: boolean): void;
  qr(channelId: number): void;
  /** An access token; refused is the one that the server did not take. */
  token(refused?: string): Promise<string>;
}

export class Live {
  private readonly socket: Socket;
  private readonly rooms = new Set<number>();
  private used: string | undefined;
  private refused: string | undefined;
  private failures = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private closed = false;

  constructor(private readonly listener: Listener) {
    this.socket = io({
      autoConnect: false,
      transports: ["websocket", "polling"],
      tryAllTransports: true,
      reconnectionDelay: 500,
      reconnectionDelayMax: 8000,
      randomizationFactor: 0.5,
      auth: (give) => void this.authenticate(give),
    });
    this.socket.on("connect", () => this.connected());
    this.socket.on("disconnect", (why) => this.disconnected(why));
    this.socket.on("connect_error", () => this.refusedConnection());
    for (const name of logged) {
      this.socket.on(name, (data: unknown, meta?: Meta) => this.receive({ name, data } as LoggedEvent, meta));
    }
    this.socket.on("sync:reset", (to: { head?: number; epoch?: string; delayMs?: number }) => {
      const known = typeof to?.head === "number" && to.epoch;
      listener.reset(known ? { seq: to.head!, epoch: to.epoch! } : null, to?.delayMs ?? 0);
    });
    this.socket.on("user:notification", (n: Notification) => listener.notification(n));
    this.socket.on("typing:start", (t: Typing) => listener.typing(t, true));
    this.socket.on("typing:stop", (t: Typing) => listener.typing(t, false));
    this.socket.on("channel:qr", (q: { channelId: number }) => listener.qr(q.channelId));
    window.addEventListener("online", this.hurry);
    window.addEventListener("offline", this.lost);
    document.addEventListener("visibilitychange", this.hurry);
  }

  connect(): void {
    this.listener.connection(navigator.onLine ? "connecting" : "offline");
    this.socket.connect();
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    window.removeEventListener("online", this.hurry);
    window.removeEventListener("offline", this.lost);
    document.removeEventListener("visibilitychange", this.hurry);
    this.socket.disconnect();
  }

  /** Joins or leaves a chat's room, where the typing of others is heard. Rooms are joined again on every connection. */
  watch(chatId: number, on: boolean): void {
    if (on) this.rooms.add(chatId);
    else this.rooms.delete(chatId);
    if (this.socket.connected) this.socket.emit(on ? "subscribe:chat" : "unsubscribe:chat", { chatId }, (_: Ack) => undefined);
  }

  /** Tells the others that this user types. What cannot be told now is not worth telling later. */
  type(chatId: number, on: boolean): void {
    if (this.socket.connected) this.socket.volatile.emit(on ? "typing:start" : "typing:stop", { chatId });
  }

  private async authenticate(give: (auth: Record<string, unknown>) => void): Promise<void> {
    try {
      this.used = await this.listener.token(this.refused);
      this.refused = undefined;
    } catch {
      // Signed out, or the server cannot be reached: the connection is refused, and tried again later.
      this.used = undefined;
    }
    const { seq, epoch } = this.listener.position();
    give({ token: this.used, ...(epoch ? { lastSeq: seq, epoch } : {}) });
  }

  private connected(): void {
    this.failures = 0;
    this.listener.connection("connected");
    for (const chatId of this.rooms) this.watch(chatId, true);
  }

  private disconnected(why: Socket.DisconnectReason): void {
    if (this.closed) return;
    this.listener.connection(navigator.onLine ? "reconnecting" : "offline");
    // The server ends a socket with its token: the client does not come back by itself then.
    if (why === "io server disconnect") this.again(0);
  }

  private refusedConnection(): void {
    if (this.closed) return;
    this.listener.connection(navigator.onLine ? "reconnecting" : "offline");
    if (this.socket.active) return; // the network's fault: the client tries again by itself
    this.refused = this.used;
    this.again(Math.min(500 * 2 ** this.failures++, 15_000) * (0.75 + Math.random() / 2));
  }

  private again(delay: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.socket.connect(), delay);
  }

  private receive(event: LoggedEvent, meta: Meta | undefined): void {
    if (!meta) return;
    switch (judge(this.listener.position(), meta)) {
      case "apply":
        return this.listener.event(event, meta.seq);
      case "duplicate":
        return;
      case "missed":
        // Should not be. A new connection makes the server tell what lies between, or that it cannot.
        this.socket.disconnect();
        this.again(250);
    }
  }

  private readonly hurry = (): void => {
    if (this.closed || this.socket.connected || document.hidden || !navigator.onLine) return;
    this.listener.connection("reconnecting");
    this.socket.disconnect();
    this.again(0);
  };

  private readonly lost = (): void => this.listener.connection("offline");
}
