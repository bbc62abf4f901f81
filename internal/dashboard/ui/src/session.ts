// Who is signed in. The access token lives in memory only. The refresh token is in localStorage, so that a reload, a second
// tab and a restart of the browser stay signed in without a password. The price: a script that ran in this page could take
// it. Against that stand a content security policy without inline or foreign scripts, no HTML made of data, and the server,
// where every refresh token is good for one use and a second use ends the session. (A cookie would resist reading, but not
// use, by such a script, and would bring forged requests back.)

import type { Session, SignedInUser } from "./contract";

const storageKey = "switchboard.refreshToken";
const lockName = "switchboard.refresh";
/** An access token is renewed this long before its end, in milliseconds. */
const margin = 60_000;

/** Thrown by calls that need a session when there is none any more. */
export class SignedOut extends Error {}

/** How a session ended: this tab's user left, or it ended elsewhere, in another tab or at the server. */
export type Ending = "left" | "elsewhere";

/** What the session needs of the world; the page's is in main.tsx, tests have their own. */
export interface Surroundings {
  /** Exchanges a refresh token. Throws what `refused` recognizes when the server does not accept it. */
  refresh(refreshToken: string): Promise<Session>;
  refused(error: unknown): boolean;
  storage: Pick<Storage, "getItem" | "setItem" | "removeItem">;
  /** Runs work while no other tab does. */
  exclusively<T>(name: string, work: () => Promise<T>): Promise<T>;
  now(): number;
}

export class SessionKeeper {
  user: SignedInUser | null = null;
  private access: { token: string; endsAt: number } | null = null;
  private renewing: Promise<string> | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** ended is called when the session is over. */
  constructor(
    private readonly around: Surroundings,
    private readonly ended: (how: Ending) => void,
  ) {}

  /** Whether there is something to continue from. */
  get remembered(): boolean {
    return this.around.storage.getItem(storageKey) !== null;
  }

  begin(session: Session): void {
    this.user = session.user;
    this.access = { token: session.accessToken, endsAt: this.around.now() + session.expiresIn * 1000 };
    this.around.storage.setItem(storageKey, session.refreshToken);
    clearTimeout(this.timer);
    const wait = Math.max(session.expiresIn * 1000 - margin, (session.expiresIn * 1000) / 2);
    this.timer = setTimeout(() => void this.renew().catch(() => undefined), wait);
  }

  /**
   * Signs in with a refresh token from a link. An older session is left only once the new one stands; a renewal of it that is
   * under way comes first, or it would put the older one back.
   */
  beginWithLink(refreshToken: string): Promise<void> {
    return this.around.exclusively(lockName, async () => this.begin(await this.around.refresh(refreshToken)));
  }

  /** Forgets the session on this machine. */
  end(how: Ending): void {
    clearTimeout(this.timer);
    this.user = this.access = null;
    this.around.storage.removeItem(storageKey);
    this.ended(how);
  }

  /** Another tab signed in or out: its storage event calls this. */
  changedElsewhere(key: string | null, value: string | null): void {
    if (key !== null && key !== storageKey) return;
    if (value === null && this.user) this.end("elsewhere");
  }

  /** An access token that is good for a while. */
  async token(): Promise<string> {
    if (this.access && this.access.endsAt - 5000 > this.around.now()) return this.access.token;
    return this.renew();
  }

  /** A token other than the one that was refused. */
  async renewed(refusedToken: string): Promise<string> {
    if (this.access && this.access.token !== refusedToken) return this.access.token;
    return this.renew();
  }

  private renew(): Promise<string> {
    this.renewing ??= this.around.exclusively(lockName, () => this.exchange()).finally(() => (this.renewing = null));
    return this.renewing;
  }

  // Refresh tokens rotate: the tabs take turns, and each reads what the one before it left.
  private async exchange(): Promise<string> {
    const refreshToken = this.around.storage.getItem(storageKey);
    if (!refreshToken) {
      if (this.user) this.end("elsewhere");
      throw new SignedOut();
    }
    try {
      const session = await this.around.refresh(refreshToken);
      if (this.user && session.user.id !== this.user.id) location.reload(); // another tab signed in as somebody else
      this.begin(session);
      return session.accessToken;
    } catch (error) {
      if (!this.around.refused(error)) {
        // Not reachable just now: the token may well be good still.
        clearTimeout(this.timer);
        this.timer = setTimeout(() => void this.renew().catch(() => undefined), 10_000);
        throw error;
      }
      if (this.around.storage.getItem(storageKey) === refreshToken) this.end("elsewhere");
      throw new SignedOut();
    }
  }
}

/** Takes a sign-in token out of the address, and out of the browser's history, before anything else can see it. */
export function takeLinkToken(where: Pick<Location, "hash" | "pathname">, history: Pick<History, "replaceState">): string | null {
  const match = /^#(?:refresh=|\/?signin\?(?:.*&)?token=)([^&]+)/.exec(where.hash);
  if (!match) return null;
  history.replaceState(null, "", where.pathname);
  try {
    return decodeURIComponent(match[1]!);
  } catch {
    return null;
  }
}

/** Hands on the token of a sign-in link that is opened in a tab with the page already in it: that loads nothing anew. */
export function onLinkToken(page: Pick<Window, "addEventListener" | "removeEventListener" | "location" | "history">, take: (token: string) => void): () => void {
  const changed = () => {
    const token = takeLinkToken(page.location, page.history);
    if (token) take(token);
  };
  page.addEventListener("hashchange", changed);
  return () => page.removeEventListener("hashchange", changed);
}

/** Takes turns among the tabs of a browser. Web Locks exist only over https and on localhost: else tabs queue by storage. */
export async function exclusively<T>(name: string, work: () => Promise<T>): Promise<T> {
  if (navigator.locks) return navigator.locks.request(name, work) as Promise<T>;
  const key = `${name}.until`;
  const mine = `${Math.random()}`;
  for (;;) {
    const [until = "0"] = (localStorage.getItem(key) ?? "0").split(" ");
    if (Number(until) < Date.now()) {
      localStorage.setItem(key, `${Date.now() + 10_000} ${mine}`);
      await new Promise((done) => setTimeout(done, 50)); // who wrote last has it
      if (localStorage.getItem(key)?.endsWith(mine)) break;
    }
    await new Promise((done) => setTimeout(done, 100));
  }
  try {
    return await work();
  } finally {
    localStorage.removeItem(key);
  }
}
