import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { Channel, Chat, Message, Ticket } from "../src/contract";
import { activity, apply, byTime, empty, judge, withChatPage, withMessage, withMessagePage, type Data, type LoggedEvent } from "../src/inbox/data";
import { everything, matches, type Filter } from "../src/inbox/filter";
import { Journal } from "../src/inbox/journal";
import { at, channel, chat, message, ticket } from "./samples";

// A server's truth: what it holds, and the events that its changes make. Snapshots are read from it, as routes would.
class Truth {
  chats = new Map<number, Chat>();
  messages = new Map<number, Message>();
  channels = new Map<number, Channel>();
  tickets = new Map<number, Ticket>();
  log: LoggedEvent[] = [];

  emit(event: LoggedEvent): void {
    this.log.push(structuredClone(event));
  }

  newChat(c: Chat): void {
    this.chats.set(c.id, c);
    this.emit({ name: "chat:new", data: c });
  }

  change(id: number, part: Partial<Chat>): void {
    const next = { ...this.chats.get(id)!, ...part };
    this.chats.set(id, next);
    this.emit({ name: "chat:updated", data: next });
  }

  receive(m: Message): void {
    this.messages.set(m.id, m);
    this.emit({ name: "message:new", data: m });
    const { unreadCount } = this.chats.get(m.chatId)!;
    this.change(m.chatId, {
      unreadCount: m.fromMe ? 0 : unreadCount + 1,
      lastMessage: { id: m.id, content: m.content, type: m.type, fromMe: m.fromMe, createdAt: m.createdAt },
    });
  }

  update(id: number, part: Partial<Message>): void {
    const next = { ...this.messages.get(id)!, ...part };
    this.messages.set(id, next);
    this.emit({ name: "message:updated", data: next });
  }

  status(id: number, status: Message["status"], error?: Message["error"]): void {
    const m = this.messages.get(id)!;
    this.messages.set(id, { ...m, status, error: error ?? null });
    this.emit({ name: "message:status", data: { messageId: id, chatId: m.chatId, status, ...(error ? { error } : {}) } });
  }

  read(id: number): void {
    this.emit({ name: "messages:read", data: { chatId: id, readByUserId: 1, upToMessageId: this.chats.get(id)!.lastMessage!.id } });
    this.change(id, { unreadCount: 0 });
  }

  deleteChat(id: number): void {
    this.chats.delete(id);
    for (const m of this.messages.values()) if (m.chatId === id) this.messages.delete(m.id);
    this.emit({ name: "chat:deleted", data: { chatId: id } });
  }

  // As the server does it: chats, and one event for all their messages.
  import(chatIds: number[], first: number): void {
    for (const chatId of chatIds) {
      const m = message(first++, chatId, { fromMe: true, status: "read" });
      this.messages.set(m.id, m);
      if (!this.chats.has(chatId)) this.newChat(chat(chatId, { createdAt: at(1) }));
      const { lastMessage } = this.chats.get(chatId)!;
      if (!lastMessage || lastMessage.id < m.id) this.change(chatId, { lastMessage: { id: m.id, content: m.content, type: m.type, fromMe: true, createdAt: m.providerTime } });
    }
    this.emit({ name: "messages:imported", data: { channelId: 1, chatIds } });
  }

  // What the page does about conversations that are stale.
  refetch(data: Data): Data {
    return [...data.stale].reduce((now, id) => {
      const items = [...this.messages.values()].filter((m) => m.chatId === id).sort(byTime);
      return structuredClone(withMessagePage(now, id, items, false, true));
    }, data);
  }

  snapshot(filter: Filter = everything, open: number[] = [1, 2]): Data {
    const listed = [...this.chats.values()].filter((c) => matches(filter, c)).sort((a, b) => (activity(a) < activity(b) || (activity(a) === activity(b) && a.id < b.id) ? 1 : -1));
    let data = withChatPage({ ...empty, channels: new Map(this.channels), tickets: new Map(this.tickets) }, filter, listed, null, true);
    for (const id of open) {
      if (!this.chats.has(id)) continue;
      const items = [...this.messages.values()].filter((m) => m.chatId === id).sort(byTime);
      data = withMessagePage(data, id, items, false, true);
    }
    return structuredClone(data);
  }
}

// One change for every event of the log, by name.
const changes: Record<LoggedEvent["name"], (t: Truth) => void> = {
  "chat:new": (t) => t.newChat(chat(9, { createdAt: at(50) })),
  "chat:updated": (t) => t.change(2, { status: "resolved", tags: ["vip"], assigneeId: 7 }),
  "chat:deleted": (t) => t.deleteChat(2),
  "message:new": (t) => t.receive(message(30, 1)),
  "message:updated": (t) => t.update(11, { content: "edited", editedAt: at(40), reactions: [{ emoji: "👍", fromMe: false, senderName: "C" }] }),
  "message:status": (t) => (t.status(12, "sent"), t.status(12, "failed", { code: "x", message: "No." })),
  "messages:read": (t) => t.read(1),
  "messages:imported": (t) => t.import([1, 8], 20),
  "channel:status": (t) => {
    const status = { channelId: 1, state: "error" as const, reason: "Down.", since: at(41), worker: "" };
    t.channels.set(1, { ...t.channels.get(1)!, status });
    t.emit({ name: "channel:status", data: status });
  },
  "channel:deleted": (t) => {
    t.channels.delete(2);
    t.emit({ name: "channel:deleted", data: { channelId: 2 } });
  },
  "ticket:new": (t) => (t.tickets.set(2, ticket(2, 1)), t.emit({ name: "ticket:new", data: ticket(2, 1) })),
  "ticket:updated": (t) => {
    const next = { ...ticket(1, 1), status: "closed" as const };
    t.tickets.set(1, next);
    t.emit({ name: "ticket:updated", data: next });
  },
};

function beginning(): Truth {
  const t = new Truth();
  for (const c of [channel(1), channel(2)]) t.channels.set(c.id, c);
  for (const c of [chat(1), chat(2), chat(3, { channelId: 2 }), chat(4)]) t.newChat(c);
  t.tickets.set(1, ticket(1, 1));
  t.receive(message(10, 1));
  t.receive(message(11, 2));
  t.receive(message(12, 1, { fromMe: true, status: "queued", clientMessageId: "c" }));
  t.receive(message(13, 3));
  t.receive(message(14, 1));
  return t;
}

function same(a: Data, b: Data): void {
  const plain = (d: Data) => ({
    list: { ids: d.list.ids, filter: d.list.filter },
    chats: [...d.chats].sort(([x], [y]) => x - y),
    timelines: [...d.timelines].sort(([x], [y]) => x - y),
    channels: [...d.channels],
    tickets: [...d.tickets].sort(([x], [y]) => x - y),
  });
  assert.deepEqual(plain(a), plain(b));
}

describe("an old snapshot and the events since are a fresh snapshot", () => {
  for (const [name, make] of Object.entries(changes)) {
    it(name, () => {
      const truth = beginning();
      const old = truth.snapshot();
      const from = truth.log.length;
      make(truth);
      assert.ok(truth.log.slice(from).some((e) => e.name === name), "the change makes this event");
      same(truth.refetch(truth.log.slice(from).reduce(apply, old)), truth.snapshot());
    });
  }

  it("all of them, in any order, whatever the filter and wherever the snapshot was taken", () => {
    const filters: Filter[] = [everything, { ...everything, status: "open" }, { ...everything, unread: true }, { ...everything, assignee: "none" }, { ...everything, tag: "vip" }, { ...everything, channelId: 1 }];
    const names = Object.keys(changes) as LoggedEvent["name"][];
    for (let round = 0; round < 60; round++) {
      const order = names.map((name, i) => [Math.imul(i + 1, 2654435761 + round * 40503) >>> 0, name] as const).sort(([a], [b]) => a - b).map(([, name]) => name);
      const filter = filters[round % filters.length]!;
      const truth = beginning();
      const snapshots = [[truth.log.length, truth.snapshot(filter)] as const];
      for (const name of order) {
        if (name === "chat:updated" && !truth.chats.has(2)) continue;
        if (name === "message:updated" && !truth.messages.has(11)) continue;
        changes[name](truth);
        snapshots.push([truth.log.length, truth.snapshot(filter)]);
      }
      const fresh = truth.snapshot(filter);
      for (const [from, old] of snapshots) {
        const now = truth.refetch(truth.log.slice(from).reduce(apply, old));
        // Chats that a filter hides are known to one and not to the other: what is shown must be the same.
        const shown = (d: Data) => ({ ...d, chats: new Map(d.list.ids.map((id) => [id, d.chats.get(id)!])) });
        same(shown(now), shown(fresh));
      }
    }
  });
});

describe("judge", () => {
  const here = { seq: 7, epoch: "a" };
  it("takes the next event, passes over what was seen, and sees gaps and new logs", () => {
    assert.equal(judge(here, { seq: 8, epoch: "a", at: "" }), "apply");
    assert.equal(judge(here, { seq: 7, epoch: "a", at: "" }), "duplicate");
    assert.equal(judge(here, { seq: 1, epoch: "a", at: "" }), "duplicate");
    assert.equal(judge(here, { seq: 9, epoch: "a", at: "" }), "missed");
    assert.equal(judge(here, { seq: 8, epoch: "b", at: "" }), "missed");
  });
});

describe("the journal", () => {
  it("brings a snapshot that was asked for before the last events up to them, whenever it was taken", () => {
    const truth = beginning();
    const journal = new Journal();
    const asked = truth.log.length;
    const taken = [truth.snapshot()];
    for (const name of ["message:new", "message:status", "chat:updated", "messages:read", "message:updated"] as const) {
      changes[name](truth);
      taken.push(truth.snapshot());
    }
    truth.log.forEach((event, i) => journal.add(i + 1, event));
    for (const snapshot of taken) same(journal.replay(snapshot, asked)!, truth.snapshot());
  });

  it("says when it does not reach back", () => {
    const journal = new Journal(3);
    for (let seq = 1; seq <= 7; seq++) journal.add(seq, { name: "chat:deleted", data: { chatId: seq } });
    assert.equal(journal.replay(empty, 2), null);
    assert.notEqual(journal.replay(empty, 5), null);
    journal.clear();
    assert.equal(journal.replay(empty, 0), empty);
  });
});

describe("messages", () => {
  const timeline = (d: Data) => d.timelines.get(1)!.messages.map((m) => m.id);
  const loaded = withMessagePage(empty, 1, [message(10, 1), message(20, 1)], true, true);

  it("are ordered by the provider's time, whatever the order of arrival", () => {
    const data = [message(30, 1), message(15, 1), message(25, 1, { providerTime: at(20) })].reduce((d, m) => withMessage(d, m, true), loaded);
    assert.deepEqual(timeline(data), [10, 15, 20, 25, 30]);
  });

  it("older than what is loaded wait for their page", () => {
    assert.deepEqual(timeline(withMessage(loaded, message(5, 1), true)), [10, 20]);
    const all = withMessagePage(loaded, 1, [message(5, 1), message(6, 1)], false, false);
    assert.deepEqual(timeline(all), [5, 6, 10, 20]);
    assert.deepEqual(timeline(withMessage(all, message(4, 1), true)), [4, 5, 6, 10, 20]);
  });

  it("twice are one, and an update of an unknown one is none", () => {
    assert.deepEqual(timeline(withMessage(withMessage(loaded, message(30, 1), true), message(30, 1), true)), [10, 20, 30]);
    assert.deepEqual(timeline(withMessage(loaded, message(15, 1), false)), [10, 20]);
  });

  it("never go back in status", () => {
    const status = (d: Data, name: Message["status"]) => apply(d, { name: "message:status", data: { messageId: 30, chatId: 1, status: name } });
    let data = withMessage(loaded, message(30, 1, { fromMe: true, status: "queued" }), true);
    for (const name of ["sent", "delivered", "sent", "read", "failed", "queued"] as const) data = status(data, name);
    assert.equal(data.timelines.get(1)!.messages.at(-1)!.status, "read");
  });

  it("keep a file's link when an event, which has none, replaces them", () => {
    const media = { id: 3, mime: "image/png", size: 1, filename: "", width: 1, height: 1, durationMs: 0, state: "ready" as const, url: "/api/media/3?sig=x" };
    const before = withMessage(loaded, message(30, 1, { media }), true);
    const after = withMessage(before, message(30, 1, { media: { ...media, url: "" } }), false);
    assert.equal(after.timelines.get(1)!.messages.at(-1)!.media!.url, media.url);
  });
});

describe("what was imported", () => {
  const imported = { name: "messages:imported" as const, data: { channelId: 1, chatIds: [1, 2] } } satisfies LoggedEvent;
  const loaded = withMessagePage(empty, 1, [message(10, 1)], true, true);

  it("makes a conversation that is loaded stale, until its newest page is there", () => {
    const data = apply(loaded, imported);
    assert.deepEqual([...data.stale], [1]);
    assert.deepEqual([...withMessagePage(data, 1, [message(5, 1)], false, false).stale], [1]);
    assert.deepEqual([...withMessagePage(data, 1, [message(10, 1)], false, true).stale], []);
    assert.deepEqual([...apply(data, { name: "chat:deleted", data: { chatId: 1 } }).stale], []);
  });
});

describe("pictures", () => {
  const contact = { ...chat(1).contact, avatarUrl: "/api/media/3?sig=x", avatarMediaId: 3 };
  const known = withChatPage(empty, everything, [chat(1, { contact })], null, true);
  const told = (avatarMediaId: number | null) => apply(known, { name: "chat:updated", data: chat(1, { contact: { ...contact, avatarUrl: "", avatarMediaId } }) }).chats.get(1)!.contact.avatarUrl;

  it("keep their link when an event, which has none, replaces the chat, and lose it with another picture", () => {
    assert.equal(told(3), contact.avatarUrl);
    assert.equal(told(4), "");
    assert.equal(told(null), "");
  });
});

describe("the list", () => {
  const lined = (minute: number) => ({ lastMessage: { id: minute, content: "", type: "text" as const, fromMe: false, createdAt: at(minute) } });
  const page = withChatPage(empty, everything, [chat(3, lined(30)), chat(2, lined(20)), chat(1, lined(10))], "next", true);

  it("moves what is active to the top, and leaves the rest where it is", () => {
    const data = apply(page, { name: "chat:updated", data: chat(1, lined(40)) });
    assert.deepEqual(data.list.ids, [1, 3, 2]);
    assert.deepEqual(apply(data, { name: "chat:updated", data: chat(2, { ...lined(20), tags: ["x"] }) }).list.ids, [1, 3, 2]);
  });

  it("does not show what belongs to a page that is not loaded", () => {
    assert.deepEqual(apply(page, { name: "chat:updated", data: chat(7, lined(5)) }).list.ids, [3, 2, 1]);
    const all = withChatPage(page, everything, [], null, false);
    assert.deepEqual(apply(all, { name: "chat:updated", data: chat(7, lined(5)) }).list.ids, [3, 2, 1, 7]);
  });

  it("lets go of what the filter no longer wants, but not of what a search found elsewhere", () => {
    const open = withChatPage(empty, { ...everything, status: "open" }, [chat(1)], null, true);
    assert.deepEqual(apply(open, { name: "chat:updated", data: chat(1, { status: "resolved" }) }).list.ids, []);
    const search = withChatPage(empty, { ...everything, q: "said long ago" }, [chat(1)], null, true);
    assert.deepEqual(apply(search, { name: "chat:updated", data: chat(1, { tags: ["x"] }) }).list.ids, [1]);
  });

  it("continues without repeating what moved between two pages", () => {
    assert.deepEqual(withChatPage(page, everything, [chat(1), chat(8)], null, false).list.ids, [3, 2, 1, 8]);
  });
});
