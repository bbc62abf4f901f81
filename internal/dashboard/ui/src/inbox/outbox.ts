// What this page has sent and the server has not yet taken. Each message has its id from the first attempt on, so that any
// number of attempts makes one message. Order within a chat is kept: one waits for the one before it.

import type { Media, Message, SendRequest } from "../contract";
import type { Store } from "../store";

export interface Pending {
  request: SendRequest;
  createdAt: string;
  state: "uploading" | "sending" | "waiting" | "failed";
  reason: string;
  /** To upload first. */
  file?: File;
  /** For display: what the message answers. */
  replyTo?: Message;
}

export interface Outbox {
  pending: ReadonlyMap<number, readonly Pending[]>;
}

export interface Carrier {
  upload(file: File): Promise<Media>;
  send(request: SendRequest): Promise<Message>;
  transient(error: unknown): boolean;
  reason(error: unknown): string;
}

const storageKey = "switchboard.outbox";

export class Sender<S extends Outbox> {
  private readonly draining = new Set<number>();
  private readonly attempts = new Map<number, number>();
  private stopped = false;

  constructor(
    private readonly store: Store<S>,
    private readonly carrier: Carrier,
    private readonly storage: Storage,
  ) {}

  /** Goes on with what a reload interrupted. Files cannot be kept over it. */
  resume(userId: number): void {
    try {
      const kept = JSON.parse(this.storage.getItem(storageKey) ?? "null") as { userId: number; items: Pending[] } | null;
      if (kept?.userId === userId) for (const item of kept.items) this.add(item);
    } catch {
      this.storage.removeItem(storageKey);
    }
    this.store.subscribe(() => this.keep(userId));
  }

  stop(): void {
    this.stopped = true;
  }

  add(item: Pending): void {
    const { chatId } = item.request;
    this.change(chatId, (items) => [...items, item]);
    void this.drain(chatId);
  }

  again(item: Pending): void {
    const { chatId, clientMessageId } = item.request;
    this.update(chatId, clientMessageId, { state: item.file ? "uploading" : "sending", reason: "" });
    void this.drain(chatId);
  }

  discard(item: Pending): void {
    this.remove(item.request.chatId, item.request.clientMessageId);
  }

  /** The network is back: do not wait any longer. */
  hurry(): void {
    for (const chatId of this.store.get().pending.keys()) {
      this.attempts.delete(chatId);
      void this.drain(chatId);
    }
  }

  private next(chatId: number): Pending | undefined {
    return this.store.get().pending.get(chatId)?.find((p) => p.state !== "failed");
  }

  private async drain(chatId: number): Promise<void> {
    if (this.draining.has(chatId)) return;
    this.draining.add(chatId);
    try {
      for (let item = this.next(chatId); item && !this.stopped; item = this.next(chatId)) {
        if (!(await this.attempt(item))) return;
      }
    } finally {
      this.draining.delete(chatId);
    }
  }

  private async attempt(item: Pending): Promise<boolean> {
    const { chatId, clientMessageId } = item.request;
    try {
      if (item.file && item.request.mediaId === undefined) {
        const { id } = await this.carrier.upload(item.file);
        item = { ...item, request: { ...item.request, mediaId: id } };
        this.update(chatId, clientMessageId, { request: item.request, state: "sending" });
      }
      await this.carrier.send(item.request);
      this.attempts.delete(chatId);
      this.remove(chatId, clientMessageId);
      return true;
    } catch (error) {
      if (!this.carrier.transient(error)) {
        this.update(chatId, clientMessageId, { state: "failed", reason: this.carrier.reason(error) });
        return true; // the ones behind it may do better
      }
      this.update(chatId, clientMessageId, { state: "waiting", reason: this.carrier.reason(error) });
      const attempt = (this.attempts.get(chatId) ?? 0) + 1;
      this.attempts.set(chatId, attempt);
      setTimeout(() => void this.drain(chatId), Math.min(1000 * 2 ** attempt, 30_000));
      return false;
    }
  }

  private update(chatId: number, id: string, part: Partial<Pending>): void {
    this.change(chatId, (items) => items.map((p) => (p.request.clientMessageId === id ? { ...p, ...part } : p)));
  }

  private remove(chatId: number, id: string): void {
    this.change(chatId, (items) => items.filter((p) => p.request.clientMessageId !== id));
  }

  private change(chatId: number, fn: (items: readonly Pending[]) => readonly Pending[]): void {
    this.store.set((s) => {
      const pending = new Map(s.pending);
      const items = fn(pending.get(chatId) ?? []);
      if (items.length > 0) pending.set(chatId, items);
      else pending.delete(chatId);
      return { ...s, pending };
    });
  }

  private keep(userId: number): void {
    const items = [...this.store.get().pending.values()].flat().filter((p) => !p.file || p.request.mediaId !== undefined);
    const plain = items.map(({ file: _, ...item }) => item);
    if (plain.length > 0) this.storage.setItem(storageKey, JSON.stringify({ userId, items: plain }));
    else this.storage.removeItem(storageKey);
  }
}
