import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { Media, SendRequest } from "../src/contract";
import { Sender, type Outbox, type Pending } from "../src/inbox/outbox";
import { Store } from "../src/store";
import { message } from "./samples";

const settle = async () => {
  for (let i = 0; i < 20; i++) await new Promise((done) => setImmediate(done));
};

function storage(): Storage {
  const kept = new Map<string, string>();
  return { getItem: (k: string) => kept.get(k) ?? null, setItem: (k: string, v: string) => void kept.set(k, v), removeItem: (k: string) => void kept.delete(k) } as Storage;
}

function begin(send: (request: SendRequest) => Promise<void>, where = storage()) {
  const store = new Store<Outbox>({ pending: new Map() });
  const sent: string[] = [];
  const sender = new Sender(
    store,
    {
      upload: async () => ({ id: 77 }) as Media,
      send: async (request) => {
        sent.push(`${request.content}/${request.clientMessageId}`);
        await send(request);
        return message(1, request.chatId);
      },
      transient: (e) => (e as Error).message === "later",
      reason: (e) => (e as Error).message,
    },
    where,
  );
  return { store, sent, sender, where };
}

const item = (content: string, part: Partial<Pending> = {}): Pending => ({
  request: { chatId: 5, content, clientMessageId: `id-${content}` }, createdAt: "", state: "sending", reason: "", ...part,
});

describe("the outbox", () => {
  it("keeps the order of a chat, and repeats with the same id until it is taken", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    let failures = 2;
    const { store, sent, sender } = begin(async () => {
      if (failures-- > 0) throw new Error("later");
    });
    sender.add(item("a"));
    sender.add(item("b"));
    await settle();
    assert.equal(store.get().pending.get(5)![0]!.state, "waiting");
    for (let i = 0; i < 3; i++) {
      t.mock.timers.tick(10_000);
      await settle();
    }
    assert.deepEqual(sent, ["a/id-a", "a/id-a", "a/id-a", "b/id-b"]);
    assert.equal(store.get().pending.size, 0);
  });

  it("shows what was refused, goes on with the next, and sends again or discards when told", async () => {
    let refuse = true;
    const { store, sent, sender } = begin(async (r) => {
      if (refuse && r.content === "a") throw new Error("No.");
    });
    sender.add(item("a"));
    sender.add(item("b"));
    await settle();
    const [left] = store.get().pending.get(5)!;
    assert.deepEqual([left!.state, left!.reason], ["failed", "No."]);
    assert.deepEqual(sent, ["a/id-a", "b/id-b"]);
    refuse = false;
    sender.again(left!);
    await settle();
    assert.equal(store.get().pending.size, 0);
    assert.equal(sent.at(-1), "a/id-a");
  });

  it("uploads a file once, whatever happens to the message", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    let failures = 1;
    const seen: (number | undefined)[] = [];
    const { sender } = begin(async (r) => {
      seen.push(r.mediaId);
      if (failures-- > 0) throw new Error("later");
    });
    sender.add(item("a", { file: {} as File, state: "uploading" }));
    await settle();
    t.mock.timers.tick(10_000);
    await settle();
    assert.deepEqual(seen, [77, 77]);
  });

  it("survives a reload, for the user who wrote", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const first = begin(async () => {
      throw new Error("later");
    });
    first.sender.resume(1);
    first.sender.add(item("a"));
    await settle();
    first.sender.stop();
    const stranger = begin(async () => undefined, first.where);
    stranger.sender.resume(2);
    await settle();
    assert.deepEqual(stranger.sent, []);
    const again = begin(async () => undefined, first.where);
    again.sender.resume(1);
    await settle();
    assert.deepEqual(again.sent, ["a/id-a"]);
  });
});
