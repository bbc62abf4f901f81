import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import type { Chat, LastMessage } from "../contract";
import { useSelect, useWorkspace } from "../context";
import { activity } from "../inbox/data";
import { everything, type Filter } from "../inbox/filter";
import { follow, pathOf } from "../route";
import { full, short } from "../text/time";
import { chatName, preview } from "../text/names";
import { Avatar, Empty, IconButton, Popover, Select, Spinner, useNow } from "./basics";
import { ContactAvatar } from "./ContactAvatar";
import { Icon } from "./icons";
import { NewChat } from "./NewChat";

export function ChatList({ selected }: { selected: number | null }) {
  const workspace = useWorkspace();
  const list = useSelect((s) => s.data.list);
  const chats = useSelect((s) => s.data.chats);
  const busy = useSelect((s) => s.listBusy);
  const trouble = useSelect((s) => s.listTrouble);
  const [starting, setStarting] = useState(false);
  const now = useNow(60_000);
  const shown = useMemo(() => list.ids.map((id) => chats.get(id)).filter((c): c is Chat => !!c), [list.ids, chats]);
  const narrowed = list.filter !== everything && JSON.stringify(list.filter) !== JSON.stringify(everything);
  return (
    <section class="chats" aria-label="Chats">
      <header class="pane-head">
        <h1>Inbox</h1>
        <IconButton icon="plus" label="Start a chat" onClick={() => setStarting(true)} />
      </header>
      <Filters filter={list.filter} />
      <nav class="chat-scroll" aria-label="Chats" onKeyDown={arrows}>
        {shown.length > 0 && (
          <ul class="chat-list">
            {shown.map((chat) => (
              <Row key={chat.id} chat={chat} selected={chat.id === selected} now={now} />
            ))}
          </ul>
        )}
        {trouble && (
          <div class="list-note">
            <p>{trouble}</p>
            <button type="button" class="button" onClick={() => void workspace.showChats(list.filter)}>
              Try again
            </button>
          </div>
        )}
        {!busy && !trouble && list.loaded && shown.length === 0 && <Nothing narrowed={narrowed} />}
        {busy && shown.length === 0 && <Skeleton />}
        {list.nextCursor && !trouble && <More key={`${list.nextCursor}`} />}
      </nav>
      {starting && <NewChat onClose={() => setStarting(false)} />}
    </section>
  );
}

function Nothing({ narrowed }: { narrowed: boolean }) {
  const workspace = useWorkspace();
  const channels = useSelect((s) => s.data.channels.size);
  if (narrowed)
    return (
      <Empty icon="search" title="No chats here">
        <p>No chat matches what you are looking for.</p>
        <button type="button" class="button" onClick={() => workspace.clearFilter()}>
          Show all chats
        </button>
      </Empty>
    );
  return (
    <Empty icon="inbox" title="No chats yet">
      <p>{channels > 0 ? "As soon as a customer writes, the chat appears here." : "Connect a channel, and your customers' messages appear here."}</p>
    </Empty>
  );
}

function Skeleton() {
  return (
    <ul class="chat-list" aria-label="Loading chats" aria-busy="true">
      {Array.from({ length: 8 }, (_, i) => (
        <li key={i} class="chat-row skeleton">
          <span class="avatar" />
          <span class="chat-lines">
            <i />
            <i />
          </span>
        </li>
      ))}
    </ul>
  );
}

// Loads the next page when it comes into view.
function More() {
  const workspace = useWorkspace();
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const seen = new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && void workspace.moreChats(), { rootMargin: "600px" });
    seen.observe(ref.current!);
    return () => seen.disconnect();
  }, []);
  return (
    <div class="more" ref={ref}>
      <Spinner label="Loading more chats" />
    </div>
  );
}

function Row({ chat, selected, now }: { chat: Chat; selected: boolean; now: Date }) {
  const typing = useSelect((s) => s.typing.get(chat.id)?.has("contact") ?? false);
  const channel = useSelect((s) => s.data.channels.get(chat.channelId));
  const assignee = useSelect((s) => (chat.assigneeId ? s.users.get(chat.assigneeId) : undefined));
  const name = chatName(chat);
  const last = chat.lastMessage;
  const route = { page: "inbox", chatId: chat.id } as const;
  const dead = channel && channel.status.state !== "connected";
  return (
    <li>
      <a
        class={`chat-row ${selected ? "chat-selected" : ""} ${chat.unreadCount > 0 ? "chat-unread" : ""}`}
        href={pathOf(route)}
        onClick={follow(route)}
        aria-current={selected ? "page" : undefined}
      >
        <ContactAvatar chat={chat} />
        <span class="chat-lines">
          <span class="chat-top">
            <span class="chat-name">{name}</span>
            <time class="chat-time" dateTime={activity(chat)} title={full(activity(chat))}>
              {short(activity(chat), now)}
            </time>
          </span>
          <span class="chat-bottom">
            <span class="chat-preview">
              {typing ? <em class="typing-word">types…</em> : last ? <Last message={last} /> : "No messages yet"}
            </span>
            {chat.unreadCount > 0 && (
              <span class="badge" aria-label={`${chat.unreadCount} unread`}>
                {chat.unreadCount > 99 ? "99+" : chat.unreadCount}
              </span>
            )}
            {assignee && (
              <span class="chat-assignee" title={`Assigned to ${assignee.name}`}>
                <span class="visually-hidden">Assigned to {assignee.name}</span>
                <Avatar id={assignee.id} name={assignee.name} size="s" />
              </span>
            )}
          </span>
          {(chat.tags.length > 0 || chat.status !== "open" || dead) && (
            <span class="chat-marks">
              {dead && (
                <span class="mark mark-bad" title={channel.status.reason || "The channel is not connected."}>
                  <Icon name="warning" size={12} /> {channel.name}
                </span>
              )}
              {chat.status !== "open" && <span class={`mark mark-${chat.status}`}>{chat.status === "pending" ? "Pending" : "Resolved"}</span>}
              {chat.tags.slice(0, 3).map((tag) => (
                <span key={tag} class="mark">
                  {tag}
                </span>
              ))}
              {chat.tags.length > 3 && <span class="mark">+{chat.tags.length - 3}</span>}
            </span>
          )}
        </span>
      </a>
    </li>
  );
}

// Which colleague wrote it is not told: it is marked as one of ours.
function Last({ message }: { message: LastMessage }) {
  return (
    <>
      {message.fromMe && message.type !== "system" && (
        <span class="chat-sent" role="img" aria-label="Sent" title="Sent">
          <Icon name="send" size={13} />
        </span>
      )}
      {preview(message.type, message.content)}
    </>
  );
}

// Up and down move along the list.
function arrows(event: KeyboardEvent): void {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const rows = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>("a.chat-row")];
  const next = rows[rows.indexOf(document.activeElement as HTMLElement) + (event.key === "ArrowDown" ? 1 : -1)];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

function Filters({ filter }: { filter: Filter }) {
  const workspace = useWorkspace();
  const channels = useSelect((s) => s.data.channels);
  const users = useSelect((s) => s.users);
  const [q, setQ] = useState(filter.q);
  const field = useRef<HTMLInputElement>(null);
  const show = (part: Partial<Filter>) => void workspace.showChats({ ...filter, ...part });

  useEffect(() => setQ(filter.q), [filter.q]);
  useEffect(() => {
    if (q === filter.q) return;
    const timer = setTimeout(() => show({ q }), 250);
    return () => clearTimeout(timer);
  }, [q]);
  useEffect(() => {
    const slash = (e: KeyboardEvent) => {
      if (e.key !== "/" || /^(INPUT|TEXTAREA|SELECT)$/.test((e.target as Element).tagName) || document.querySelector("dialog[open]")) return;
      e.preventDefault();
      field.current?.focus();
    };
    document.addEventListener("keydown", slash);
    return () => document.removeEventListener("keydown", slash);
  }, []);

  const me = workspace.me.id;
  const tabs: [string, Partial<Filter>, boolean][] = [
    ["All", { assignee: "any", unread: false }, filter.assignee === "any" && !filter.unread],
    ["Mine", { assignee: me, unread: false }, filter.assignee === me && !filter.unread],
    ["Unassigned", { assignee: "none", unread: false }, filter.assignee === "none" && !filter.unread],
    ["Unread", { assignee: "any", unread: true }, filter.unread],
  ];
  const extra = [filter.status !== "any", filter.channelId !== "any", filter.tag !== "", typeof filter.assignee === "number" && filter.assignee !== me].filter(Boolean).length;
  const active = [...users.values()].filter((u) => u.active);
  return (
    <div class="filters">
      <div class="search-row">
        <label class="search">
          <Icon name="search" size={17} />
          <span class="visually-hidden">Search chats</span>
          <input ref={field} type="search" placeholder="Name or number" value={q} onInput={(e) => setQ(e.currentTarget.value)} onKeyDown={(e) => e.key === "Escape" && setQ("")} />
        </label>
        <Popover
          panelClass="filter-panel"
          trigger={(p) => (
            <button type="button" class={`button filter-button ${extra ? "button-on" : ""}`} {...p}>
              Filter{extra > 0 && <span class="badge">{extra}</span>}
            </button>
          )}
        >
          {(close) => (
            <>
              <Select label="Status" value={filter.status} onChange={(status) => show({ status })} options={[["any", "Any status"], ["open", "Open"], ["pending", "Pending"], ["resolved", "Resolved"]]} />
              <Select
                label="Assigned to"
                value={String(filter.assignee)}
                onChange={(v) => show({ assignee: v === "any" || v === "none" ? v : Number(v), unread: filter.unread })}
                options={[["any", "Anyone"], ["none", "Nobody"], ...active.map((u): [string, string] => [String(u.id), u.id === me ? `${u.name} (you)` : u.name])]}
              />
              <Select
                label="Channel"
                value={String(filter.channelId)}
                onChange={(v) => show({ channelId: v === "any" ? "any" : Number(v) })}
                options={[["any", "Any channel"], ...[...channels.values()].map((c): [string, string] => [String(c.id), c.name])]}
              />
              <TagFilter value={filter.tag} onChange={(tag) => show({ tag })} />
              <div class="panel-foot">
                <button type="button" class="link" onClick={() => (workspace.clearFilter(), close())}>
                  Clear all
                </button>
                <button type="button" class="button" onClick={close}>
                  Done
                </button>
              </div>
            </>
          )}
        </Popover>
      </div>
      <div class="tabs" role="group" aria-label="Which chats">
        {tabs.map(([label, part, on]) => (
          <button key={label} type="button" class={on ? "tab tab-on" : "tab"} aria-pressed={on} onClick={() => show(part)}>
            {label}
          </button>
        ))}
      </div>
    </div>
  );
}

function TagFilter({ value, onChange }: { value: string; onChange: (tag: string) => void }) {
  const chats = useSelect((s) => s.data.chats);
  const tags = useMemo(() => [...new Set([...chats.values()].flatMap((c) => c.tags).concat(value || []))].sort(), [chats, value]);
  return <Select label="Tag" value={value} onChange={onChange} options={[["", "Any tag"], ...tags.map((t): [string, string] => [t, t])]} />;
}
