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
import { exclusively, SessionKeeper, SignedOut, takeLinkToken } from "./session";
import { applyTheme } from "./theme";
import { Spinner } from "./views/basics";
import { Shell } from "./views/Shell";
import { Logo, SignIn } from "./views/SignIn";
import { Workspace } from "./workspace";

// The token of a link leaves the address before anything else happens.
const linkToken = takeLinkToken(location, history);
applyTheme();

let signedOut: () => void = () => undefined;
const session = new SessionKeeper(
  {
    refresh: (refreshToken) => request<Session>("POST", "/api/auth/refresh", { refreshToken }),
    refused: (error) => error instanceof ApiError && (error.status === 401 || error.status === 422),
    storage: localStorage,
    exclusively,
    now: Date.now,
  },
  () => signedOut(),
);
window.addEventListener("storage", (e) => session.changedElsewhere(e.key, e.newValue));

function App() {
  const [workspace, setWorkspace] = useState<Workspace | null>(null);
  const [state, setState] = useState<"starting" | "waiting" | "gate">("starting");
  const [notice, setNotice] = useState("");

  const enter = () => {
    const next = new Workspace(session, session.user!);
    setWorkspace(next);
    void next.start();
  };
  signedOut = () => {
    setWorkspace((now) => (now?.stop(), null));
    forgetDrafts();
    sessionStorage.clear();
    setState("gate");
  };
  useEffect(() => void start(), []);

  const start = async () => {
    if (linkToken) {
      try {
        await session.beginWithLink(linkToken);
        return enter();
      } catch (error) {
        setNotice(error instanceof ApiError && error.status === 401 ? "This sign-in link was used already, or is too old. Sign in with your password." : reason(error));
      }
    }
    for (let attempt = 0; session.remembered; attempt++) {
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
          setNotice("");
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
