import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";

import { useState } from "preact/hooks";

import type { Message } from "../src/contract";
import type { Pending } from "../src/inbox/outbox";
import { Composer } from "../src/views/Composer";
import { LinkDevice } from "../src/views/LinkDevice";
import { page, rendered } from "./page";
import { channel, chat, message } from "./samples";

describe("the composer", () => {
  const draft = "switchboard.draft.1.5";
  const theirs = message(1, 5);
  const ours = message(2, 5, { fromMe: true, senderUserId: 1, status: "sent", content: "Until tenn." });

  // The composer as a conversation has it: choose() answers, or edits, a message.
  async function compose(t: TestContext, accept: () => Promise<unknown> = async () => undefined) {
    const sent: Pending[] = [];
    const changes: string[] = [];
    const it = page(
      t,
      { data: { channels: new Map([[1, channel(1)]]) } },
      { outbox: { add: (item: Pending) => sent.push(item) }, accept: (_: string, body: { content: string }) => (changes.push(body.content), accept()) },
    );
    let choose: (part: { replyTo?: Message; editing?: Message }) => void;
    const Conversation = () => {
      const [{ replyTo = null, editing = null }, set] = useState<{ replyTo?: Message; editing?: Message }>({});
      choose = set;
      return <Composer chat={chat(5)} replyTo={replyTo} editing={editing} onDone={() => set({})} />;
    };
    await it.show(<Conversation />);
    return { ...it, sent, changes, field: () => it.root.find("textarea"), choose: (part: Parameters<typeof choose>[0]) => (choose(part), rendered()) };
  }

  const enter = async (field: { press(key: string): void }) => {
    field.press("Enter");
    await rendered();
  };

  it("keeps what is typed as a draft, and neither text nor draft of what is sent", async (t) => {
    const { sent, field, storage } = await compose(t);
    field().fill("Yes.");
    await rendered();
    assert.equal(storage[draft], "Yes.");
    await enter(field());
    await enter(field());
    assert.deepEqual(sent.map((s) => s.request.content), ["Yes."]);
    assert.equal(field().value, "");
    assert.equal(storage[draft], undefined);
  });

  it("sends an answer to a message once, whether it was begun before or after choosing to answer", async (t) => {
    const { sent, field, storage, choose } = await compose(t);
    field().fill("We ");
    await choose({ replyTo: theirs });
    assert.equal(field().value, "We ");
    field().fill("We do.");
    await rendered();
    await enter(field());
    await enter(field());
    assert.deepEqual(sent.map((s) => [s.request.content, s.request.replyToId]), [["We do.", 1]]);
    assert.equal(field().value, "");
    assert.equal(storage[draft], undefined);
  });

  it("changes a message once, and gives the draft back afterwards", async (t) => {
    let done: () => void = () => undefined;
    const { sent, changes, field, storage, choose } = await compose(t, () => new Promise<void>((ok) => (done = ok)));
    field().fill("And on");
    await choose({ editing: ours });
    assert.equal(field().value, "Until tenn.");
    field().fill("Until ten.");
    await rendered();
    await enter(field());
    await enter(field()); // while the change is on its way
    done();
    await rendered();
    assert.deepEqual(changes, ["Until ten."]);
    assert.equal(field().value, "And on");
    assert.equal(storage[draft], "And on");
    assert.equal(sent.length, 0);
  });

  it("keeps the text of a change that failed", async (t) => {
    const { field, storage, choose } = await compose(t, async () => Promise.reject(new Error("no")));
    await choose({ editing: ours });
    field().fill("Until ten.");
    await rendered();
    await enter(field());
    assert.equal(field().value, "Until ten.");
    assert.equal(storage[draft], undefined);
  });

  it("does not send what the network would refuse, and says by how much", async (t) => {
    const { root, sent, field } = await compose(t);
    field().fill("👍".repeat(4096)); // counted as the server counts: a character is one, however long
    await rendered();
    assert.match(root.text, /0 characters left/);
    field().fill("👍".repeat(4097));
    await rendered();
    assert.match(root.text, /1 character more than the 4,096 that WhatsApp takes in a message/);
    await enter(field());
    assert.equal(sent.length, 0);
    field().fill("Short.");
    await rendered();
    assert.doesNotMatch(root.text, /character/);
  });
});

it("the number to pair with can be changed, though one is known", async (t) => {
  const { root, show } = page(t, { qr: new Map() }, { api: { get: () => new Promise(() => undefined) } });
  const linking = channel(1);
  await show(<LinkDevice channel={{ ...linking, kind: "whatsapp", config: { phone: "15550200001" }, status: { ...linking.status, state: "pairing" } }} onClose={() => undefined} />);
  const field = root.find("input");
  assert.equal(field.value, "+1 555 020 0001");
  field.fill("+1 555 020 0002");
  await new Promise((done) => setTimeout(done, 600)); // the clock beside it has moved on
  assert.equal(field.value, "+1 555 020 0002");
});
