import { render } from "preact";
import { useEffect, useState } from "preact/hooks";

import "./styles/base.css";
import "./styles/controls.css";
import "./styles/shell.css";
import "./styles/inbox.css";
import "./styles/thread.css";
import "./styles/pages.css";

import { ApiError, reason, request } from "./api";
import { WorkspaceContext } from "./context";
import type { Session } from "./contract";
import { forgetDrafts } from "./inbox/drafts";
import { exclusively, onLinkToken, SessionKeeper, SignedOut, takeLinkToken, type Ending } from "./session";
import { applyTheme } from "./theme";
import { Spinner } from "./views/basics";
import { Shell } from "./views/Shell";
import { Logo, SignIn } from "./views/SignIn";
import { Workspace } from "./workspace";

// The token of a link leaves the address before anything else happens.
const linkToken = takeLinkToken(location, history);
applyTheme();

const endedElsewhere = "Your session has ended: you were signed out elsewhere, its sign-in link was used twice, or it was too old. Sign in again.";

let signedOut: (how: Ending) => void = () => undefined;
const session = new SessionKeeper(
  {
    refresh: (refreshToken) => request<Session>("POST", "/api/auth/refresh", { refreshToken }),
    refused: (error) => error instanceof ApiError && (error.status === 401 || error.status === 422),
    storage: localStorage,
    exclusively,
    now: Date.now,
  },
  (how) => signedOut(how),
);
window.addEventListener("storage", (e) => session.changedElsewhere(e.key, e.newValue));

function App() {
  const [workspace, setWorkspace] = useState<Workspace | null>(null);
  const [state, setState] = useState<"starting" | "waiting" | "gate">("starting");
  const [notice, setNotice] = useState("");

  const enter = () => {
    const next = new Workspace(session, session.user!);
    setNotice("");
    setWorkspace((before) => (before?.stop(), next));
    void next.start();
  };
  signedOut = (how) => {
    setWorkspace((now) => (now?.stop(), null));
    forgetDrafts();
    sessionStorage.clear();
    setNotice(how === "left" ? "" : endedElsewhere);
    setState("gate");
  };
  useEffect(() => void start(), []);
  useEffect(() => onLinkToken(window, (token) => void enterWithLink(token)), []);

  // What is wrong with a link is said on the sign-in form, or over the page of who is signed in already.
  const enterWithLink = async (token: string) => {
    try {
      await session.beginWithLink(token);
      enter();
    } catch (error) {
      const used = error instanceof ApiError && error.status === 401;
      const trouble = used ? "This sign-in link was used already, or is too old." : reason(error);
      setNotice(used ? `${trouble} Sign in with your password.` : trouble);
      setWorkspace((now) => (now?.toast(trouble, true), now));
    }
  };
  const start = async () => {
    if (linkToken) await enterWithLink(linkToken);
    for (let attempt = 0; session.remembered && !session.user; attempt++) {
      try {
        await session.token();
        return enter();
      } catch (error) {
        if (error instanceof SignedOut) break;
        setNotice(reason(error));
        setState("waiting");
        await new Promise((done) => setTimeout(done, Math.min(1000 * 2 ** attempt, 10_000)));
      }
    }
    setState("gate");
  };

  if (workspace)
    return (
      <WorkspaceContext.Provider value={workspace}>
        <Shell />
      </WorkspaceContext.Provider>
    );
  if (state === "gate")
    return (
      <SignIn
        notice={notice}
        onSession={(s) => {
          session.begin(s);
          enter();
        }}
      />
    );
  return (
    <main class="gate">
      <Logo size={56} />
      {state === "waiting" && <p role="alert">{notice}</p>}
      <Spinner label="Signing in" />
    </main>
  );
}

render(<App />, document.getElementById("app")!);
