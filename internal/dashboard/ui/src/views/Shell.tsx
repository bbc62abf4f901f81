import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";

import { useSelect, useWorkspace } from "../context";
import { follow, pathOf, useRoute, type Route } from "../route";
import { ApiKeys } from "./ApiKeys";
import { Avatar, Empty, Spinner } from "./basics";
import { Bell } from "./Bell";
import { Channels, statusTone } from "./Channels";
import { Icon, type IconName } from "./icons";
import { Inbox } from "./Inbox";
import { Profile } from "./Profile";
import { Logo } from "./SignIn";
import { Team } from "./Team";
import { Tickets } from "./Tickets";

/** The signed-in page: the rail, what it leads to, and what has to be said over everything. */
export function Shell() {
  const workspace = useWorkspace();
  const route = useRoute();
  const ready = useSelect((s) => s.ready);
  const trouble = useSelect((s) => s.trouble);
  useTitle();
  if (!ready)
    return (
      <main class="gate">
        <Logo size={56} />
        {trouble ? <p role="alert">{trouble}</p> : null}
        <Spinner label="Loading your inbox" />
      </main>
    );
  const admin = workspace.me.role === "admin";
  return (
    <div class={`shell ${route.page === "inbox" && route.chatId ? "shell-chat" : ""}`}>
      <Rail route={route} admin={admin} />
      <main class="main">
        <Banner />
        {route.page === "inbox" && <Inbox chatId={route.chatId} />}
        {route.page === "tickets" && <Tickets />}
        {route.page === "profile" && <Profile />}
        {route.page === "channels" && (admin ? <Channels /> : <AdminsOnly />)}
        {route.page === "team" && (admin ? <Team /> : <AdminsOnly />)}
        {route.page === "keys" && (admin ? <ApiKeys /> : <AdminsOnly />)}
      </main>
      <Toasts />
    </div>
  );
}

function AdminsOnly() {
  return <Empty icon="key" title="Only admins see this page" />;
}

function Rail({ route, admin }: { route: Route; admin: boolean }) {
  const workspace = useWorkspace();
  const ailing = useSelect((s) => [...s.data.channels.values()].filter((c) => statusTone(c.status) === "bad").length);
  const self = useSelect((s) => s.users.get(workspace.me.id));
  const item = (to: Route, icon: IconName, label: string, extra?: ComponentChildren) => (
    <a class="rail-item" href={pathOf(to)} onClick={follow(to)} aria-label={label} title={label} aria-current={route.page === to.page ? "page" : undefined}>
      <Icon name={icon} size={22} />
      {extra}
    </a>
  );
  return (
    <nav class="rail" aria-label="Main">
      <span class="rail-logo">
        <Logo size={36} />
      </span>
      {item({ page: "inbox", chatId: null }, "inbox", "Inbox")}
      {item({ page: "tickets" }, "ticket", "Tickets")}
      {admin && item({ page: "channels" }, "channels", ailing ? `Channels, ${ailing} not working` : "Channels", ailing > 0 && <span class="badge badge-bad">!</span>)}
      {admin && item({ page: "team" }, "team", "Team")}
      {admin && item({ page: "keys" }, "code", "API keys")}
      <span class="rail-space" />
      <Bell />
      <a class="rail-item rail-self" href="/profile" onClick={follow({ page: "profile" })} aria-label="Your profile" title={self?.name ?? workspace.me.name} aria-current={route.page === "profile" ? "page" : undefined}>
        <Avatar id={workspace.me.id} name={self?.name ?? workspace.me.name} size="s" />
      </a>
    </nav>
  );
}

// Says when what is seen may be old. A connection that comes back within two seconds is not worth a word.
function Banner() {
  const connection = useSelect((s) => s.connection);
  const [shown, setShown] = useState(connection);
  const [back, setBack] = useState(false);
  useEffect(() => {
    if (connection === "connected") {
      if (shown !== "connected" && shown !== "connecting") setBack(true);
      setShown("connected");
      const timer = setTimeout(() => setBack(false), 2500);
      return () => clearTimeout(timer);
    }
    const timer = setTimeout(() => setShown(connection), connection === "offline" ? 0 : 2000);
    return () => clearTimeout(timer);
  }, [connection]);
  return (
    <div role="status" aria-live="polite">
      {shown === "connected" ? (
        back && <p class="banner banner-good">Connected again. Everything is up to date.</p>
      ) : (
        <p class={`banner banner-${shown}`}>
          {shown === "offline" ? "You are offline. What you send is kept, and leaves when the network is back." : "Connecting to Switchboard… What you see may be a few moments old."}
        </p>
      )}
    </div>
  );
}

function Toasts() {
  const workspace = useWorkspace();
  const toasts = useSelect((s) => s.toasts);
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.map((t) => (
        <p key={t.id} class={t.bad ? "toast toast-bad" : "toast"}>
          <span>{t.text}</span>
          <button type="button" aria-label="Dismiss" onClick={() => workspace.dismiss(t.id)}>
            <Icon name="close" size={16} />
          </button>
        </p>
      ))}
    </div>
  );
}

function useTitle(): void {
  const unread = useSelect((s) => [...s.data.chats.values()].filter((c) => c.unreadCount > 0).length);
  useEffect(() => {
    document.title = unread > 0 ? `(${unread}) Switchboard` : "Switchboard";
  }, [unread]);
}
