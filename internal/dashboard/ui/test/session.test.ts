import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { Session } from "../src/contract";
import { onLinkToken, SessionKeeper, SignedOut, takeLinkToken, type Ending, type Surroundings } from "../src/session";

// A server whose refresh tokens are good for one use, and the tabs of one browser before it.
class World {
  good = new Set(["link"]);
  reused = 0;
  down = false;
  time = 1_000_000;
  kept = new Map<string, string>();
  private turn: Promise<unknown> = Promise.resolve();
  private count = 0;

  tab(ended: (how: Ending) => void = () => undefined): SessionKeeper {
    const around: Surroundings = {
      refresh: async (token) => {
        await new Promise((done) => setImmediate(done));
        if (this.down) throw new Error("down");
        if (!this.good.delete(token)) {
          this.reused++;
          throw new Error("refused");
        }
        return this.issue();
      },
      refused: (error) => error instanceof Error && error.message === "refused",
      storage: { getItem: (k) => this.kept.get(k) ?? null, setItem: (k, v) => void this.kept.set(k, v), removeItem: (k) => void this.kept.delete(k) },
      exclusively: (_, work) => {
        const result = this.turn.then(work);
        this.turn = result.catch(() => undefined);
        return result;
      },
      now: () => this.time,
    };
    return new SessionKeeper(around, ended);
  }

  issue(): Session {
    const n = ++this.count;
    this.good.add(`r${n}`);
    return { accessToken: `a${n}`, refreshToken: `r${n}`, expiresIn: 900, user: { id: 1, organizationId: 1, name: "A", email: "a@b.example", role: "admin" } };
  }
}

describe("a session", () => {
  it("is renewed once for many calls, and by the tabs in turn, so that no token is used twice", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const world = new World();
    const tabs = [world.tab(), world.tab(), world.tab()];
    tabs[0]!.begin(world.issue());
    world.time += 901_000;
    const tokens = await Promise.all(tabs.flatMap((tab) => [tab.token(), tab.token(), tab.renewed("a1")]));
    assert.equal(world.reused, 0);
    assert.equal(new Set(tokens).size, 3);
  });

  it("is renewed by itself before its end", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const world = new World();
    const tab = world.tab();
    tab.begin(world.issue());
    t.mock.timers.tick(839_999);
    await new Promise((done) => setImmediate(done));
    assert.equal(await tab.token(), "a1");
    t.mock.timers.tick(1);
    for (let i = 0; i < 5; i++) await new Promise((done) => setImmediate(done));
    assert.equal(await tab.token(), "a2");
  });

  it("ends when the server refuses it, and survives a server that is down", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const world = new World();
    let ends = 0;
    const tab = world.tab(() => ends++);
    tab.begin(world.issue());
    world.time += 901_000;
    world.down = true;
    await assert.rejects(tab.token(), /down/);
    assert.equal(ends, 0);
    assert.ok(tab.remembered);
    world.down = false;
    assert.equal(await tab.token(), "a2");
    world.good.clear();
    world.time += 901_000;
    await assert.rejects(tab.token(), SignedOut);
    assert.equal(ends, 1);
    assert.ok(!tab.remembered);
  });

  it("is kept when a link turns out to be used up", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const world = new World();
    const tab = world.tab();
    tab.begin(world.issue());
    await assert.rejects(tab.beginWithLink("old"));
    assert.ok(tab.remembered);
    await tab.beginWithLink("link");
    assert.equal(await tab.token(), "a2");
  });

  it("ends in all tabs with one", () => {
    const world = new World();
    const ends: Ending[] = [];
    const tab = world.tab((how) => ends.push(how));
    tab.begin(world.issue());
    tab.changedElsewhere("something.else", null);
    assert.deepEqual(ends, []);
    tab.changedElsewhere("switchboard.refreshToken", null);
    assert.deepEqual(ends, ["elsewhere"]);
  });

  it("tells an end that its user made from one that was made elsewhere", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const world = new World();
    const ends: Ending[] = [];
    const tab = world.tab((how) => ends.push(how));
    tab.begin(world.issue());
    world.good.clear(); // the server ended it
    await assert.rejects(tab.renewed("a1"), SignedOut);
    assert.deepEqual(ends, ["elsewhere"]);

    tab.begin(world.issue());
    tab.end("left");
    await assert.rejects(tab.token(), SignedOut); // a call that was under way
    assert.deepEqual(ends, ["elsewhere", "left"]);
  });

  it("is the link's, whatever was under way for the one before", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const world = new World();
    const tab = world.tab();
    tab.begin(world.issue());
    const renewal = tab.renewed("a1");
    await tab.beginWithLink("link");
    assert.equal(await renewal, "a2");
    assert.equal(await tab.token(), "a3");
    assert.equal(world.kept.get("switchboard.refreshToken"), "r3");
  });
});

describe("takeLinkToken", () => {
  const take = (hash: string) => {
    const left: string[] = [];
    const token = takeLinkToken({ hash, pathname: "/" }, { replaceState: (_: unknown, __: string, url?: string | URL | null) => void left.push(String(url)) });
    return [token, left];
  };

  it("reads the forms of sign-in links, and takes them out of the address", () => {
    assert.deepEqual(take("#refresh=sbr_a%2Bb"), ["sbr_a+b", ["/"]]);
    assert.deepEqual(take("#/signin?token=sbr_x"), ["sbr_x", ["/"]]);
  });

  it("leaves other addresses alone, and survives broken ones", () => {
    assert.deepEqual(take("#message-4"), [null, []]);
    assert.deepEqual(take(""), [null, []]);
    assert.deepEqual(take("#refresh=%"), [null, ["/"]]);
  });
});

it("onLinkToken takes a link that is opened in a tab with the page in it", () => {
  const left: string[] = [];
  const taken: string[] = [];
  const page = Object.assign(new EventTarget(), {
    location: { hash: "", pathname: "/chats/4" },
    history: { replaceState: (_: unknown, __: string, url: string) => void left.push(url) },
  });
  const open = (hash: string) => {
    page.location.hash = hash;
    page.dispatchEvent(new Event("hashchange"));
  };
  const stop = onLinkToken(page as unknown as Window, (token) => taken.push(token));
  open("#message-4");
  open("#refresh=sbr_x");
  stop();
  open("#refresh=sbr_y");
  assert.deepEqual(taken, ["sbr_x"]);
  assert.deepEqual(left, ["/chats/4"]);
});
