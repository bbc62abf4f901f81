import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import { reason } from "../api";
import type { Chat, Message } from "../contract";
import { useSelect, useWorkspace } from "../context";
import type { Pending } from "../inbox/outbox";
import { clock, dayName, daysAgo } from "../text/time";
import { preview } from "../text/names";
import { Spinner, useNow } from "./basics";
import { Bubble } from "./Bubble";
import { Icon } from "./icons";

/** Messages of one sender closer than this, in milliseconds, stand together. */
const together = 4 * 60_000;
/** How near to its end, in pixels, a conversation counts as being at the end. */
const nearEnd = 120;

const none: readonly Pending[] = [];

export function Thread({ chat, onReply, onEdit }: { chat: Chat; onReply: (m: Message) => void; onEdit: (m: Message) => void }) {
  const workspace = useWorkspace();
  const timeline = useSelect((s) => s.data.timelines.get(chat.id));
  const pending = useSelect((s) => s.pending.get(chat.id) ?? none);
  const customerTypes = useSelect((s) => s.typing.get(chat.id)?.has("contact") ?? false);
  const now = useNow(60_000);
  const [trouble, setTrouble] = useState("");
  const messages = timeline?.messages;

  const taken = useMemo(() => new Set(messages?.map((m) => m.clientMessageId).filter(Boolean)), [messages]);
  const days = useMemo(() => byDay(messages ?? []), [messages]);
  const waiting = pending.filter((p) => !taken.has(p.request.clientMessageId));
  const older = useOlder(chat, setTrouble);
  const scroll = useScroll(chat, messages, waiting.length + (customerTypes ? 1 : 0), older);
  useRead(chat, scroll.atEnd);

  const quote = useCallback(async (id: number) => {
    // The quoted message may be pages away: go there, within reason.
    for (let page = 0; page < 20 && !document.getElementById(`message-${id}`); page++) {
      if (!workspace.store.get().data.timelines.get(chat.id)?.hasOlder) break;
      if (!(await workspace.act(workspace.olderMessages(chat.id)))) return;
      await new Promise((done) => requestAnimationFrame(done));
    }
    const line = document.getElementById(`message-${id}`);
    line?.scrollIntoView({ block: "center", behavior: "smooth" });
    line?.classList.add("flash");
    setTimeout(() => line?.classList.remove("flash"), 1600);
  }, [chat.id]);

  return (
    <div class="thread-box">
      <div class="thread" ref={scroll.ref} onScroll={scroll.onScroll} tabIndex={0} role="log" aria-label="Messages" aria-live="polite">
        {!timeline && !trouble && <div class="thread-wait"><Spinner label="Loading messages" /></div>}
        {timeline?.hasOlder && <div class="more"><Spinner label="Loading older messages" /></div>}
        {trouble && <p class="list-note">{trouble}</p>}
        {messages && !timeline.hasOlder && messages.length === 0 && waiting.length === 0 && <p class="thread-none">No messages yet.</p>}
        <ol class="lines">
          {days.map((day) => (
            <li key={day[0]!.id} class="day-group">
              <p class="day">
                <span>{dayName(day[0]!.providerTime, now)}</span>
              </p>
              <ol>
                {day.map((message, i) => (
                  <Bubble key={message.id} message={message} chat={chat} follows={follows(day[i - 1], message)} onReply={onReply} onEdit={onEdit} onQuote={quote} />
                ))}
              </ol>
            </li>
          ))}
          {waiting.map((item) => (
            <Waiting key={item.request.clientMessageId} item={item} />
          ))}
          {customerTypes && (
            <li class="line line-in">
              <div class="bubble typing" role="status" aria-label="The customer is typing">
                <i /><i /><i />
              </div>
            </li>
          )}
        </ol>
      </div>
      {!scroll.atEnd && (
        <button type="button" class="to-end" onClick={scroll.toEnd} aria-label="Go to the newest message">
          <Icon name="down" />
          {chat.unreadCount > 0 && <span class="badge">{chat.unreadCount}</span>}
        </button>
      )}
    </div>
  );
}

// Each day stands by itself, so that its name can stay in view while the day does.
function byDay(messages: readonly Message[]): Message[][] {
  const days: Message[][] = [];
  for (const message of messages) {
    const day = days.at(-1);
    if (day && daysAgo(new Date(day[0]!.providerTime), new Date(message.providerTime)) === 0) day.push(message);
    else days.push([message]);
  }
  return days;
}

function follows(before: Message | undefined, message: Message): boolean {
  return (
    !!before && before.type !== "system" && before.fromMe === message.fromMe && before.senderName === message.senderName && before.senderUserId === message.senderUserId &&
    new Date(message.providerTime).getTime() - new Date(before.providerTime).getTime() < together
  );
}

// A line that the server has not taken yet.
function Waiting({ item }: { item: Pending }) {
  const workspace = useWorkspace();
  const { request, state, file } = item;
  const url = useMemo(() => (file?.type.startsWith("image/") ? URL.createObjectURL(file) : ""), [file]);
  useEffect(() => () => void (url && URL.revokeObjectURL(url)), [url]);
  const word = { uploading: "Uploading…", sending: "Sending…", waiting: "Waiting for the connection…", failed: "Not sent" }[state];
  return (
    <li class="line line-out waiting">
      <article class={`bubble ${state === "failed" ? "bubble-bad" : ""}`}>
        {item.replyTo && (
          <div class="quote">
            <strong>{item.replyTo.senderName || "Message"}</strong>
            <span>{preview(item.replyTo.type, item.replyTo.content)}</span>
          </div>
        )}
        {url && <img class="picture" src={url} alt="" />}
        {file && !url && <p class="kind">{file.name}</p>}
        {request.template && <p class="kind">Template · {request.template.name}</p>}
        {request.content && <p class="text" dir="auto">{request.content}</p>}
        <p class="stamp">
          <span>{word}</span>
          <time>{clock(item.createdAt)}</time>
          <Icon name={state === "failed" ? "warning" : "clock"} size={14} />
        </p>
        {state === "failed" && (
          <div class="outcome">
            <span>{item.reason}</span>
            <button type="button" class="button button-small" onClick={() => workspace.outbox.again(item)}>
              <Icon name="retry" size={15} /> Send again
            </button>
            <button type="button" class="button button-small" onClick={() => workspace.outbox.discard(item)}>
              Discard
            </button>
          </div>
        )}
      </article>
    </li>
  );
}

// Loads older pages, one at a time.
function useOlder(chat: Chat, setTrouble: (text: string) => void) {
  const workspace = useWorkspace();
  const busy = useRef(false);
  useEffect(() => {
    setTrouble("");
    workspace.openChat(chat.id).catch((e) => setTrouble(reason(e)));
  }, [chat.id]);
  return async () => {
    if (busy.current || !workspace.store.get().data.timelines.get(chat.id)?.hasOlder) return;
    busy.current = true;
    try {
      await workspace.olderMessages(chat.id);
    } catch (e) {
      workspace.toast(reason(e), true);
    } finally {
      setTimeout(() => (busy.current = false), 150);
    }
  };
}

// Stays at the end while the reader is there, and in place while older messages come in above.
function useScroll(chat: Chat, messages: readonly Message[] | undefined, extra: number, older: () => void) {
  const ref = useRef<HTMLDivElement>(null);
  const [atEnd, setAtEnd] = useState(true);
  const last = useRef({ chatId: 0, first: 0, newest: 0, extra: 0, height: 0, stick: true });

  useLayoutEffect(() => {
    const box = ref.current!;
    const was = last.current;
    const first = messages?.[0]?.id ?? 0;
    const newest = messages?.at(-1);
    const opened = was.chatId !== chat.id || (was.first === 0 && first !== 0);
    const mine = !opened && ((newest?.id !== was.newest && newest?.fromMe) || extra > was.extra);
    if (opened || was.stick || (mine && was.stick)) box.scrollTop = box.scrollHeight;
    else if (first !== was.first) box.scrollTop += box.scrollHeight - was.height;
    last.current = { chatId: chat.id, first, newest: newest?.id ?? 0, extra, height: box.scrollHeight, stick: opened || was.stick };
    if (opened) setAtEnd(true);
    if (box.scrollHeight <= box.clientHeight + 40) older(); // nothing to scroll: what is there does not fill the view
  }, [chat.id, messages, extra]);

  // Pictures and the composer change heights without any message.
  useEffect(() => {
    const box = ref.current!;
    const sized = new ResizeObserver(() => {
      if (last.current.stick) box.scrollTop = box.scrollHeight;
      last.current.height = box.scrollHeight;
    });
    sized.observe(box);
    for (const child of box.children) sized.observe(child);
    return () => sized.disconnect();
  }, [chat.id, !!messages]);

  const toEnd = () => {
    const box = ref.current!;
    last.current.stick = true;
    const far = box.scrollHeight - box.scrollTop > 4 * box.clientHeight;
    box.scrollTo({ top: box.scrollHeight, behavior: far ? "instant" : "smooth" });
  };
  const onScroll = () => {
    const box = ref.current!;
    const end = box.scrollHeight - box.scrollTop - box.clientHeight < nearEnd;
    last.current.stick = end;
    last.current.height = box.scrollHeight;
    setAtEnd(end);
    if (box.scrollTop < 400) older();
  };
  return { ref, atEnd, toEnd, onScroll };
}

// What is in view is read: the page is visible, and the end of the conversation is on it.
function useRead(chat: Chat, atEnd: boolean): void {
  const workspace = useWorkspace();
  const loaded = useSelect((s) => s.data.timelines.has(chat.id));
  const [visible, setVisible] = useState(() => !document.hidden && document.hasFocus());
  useEffect(() => {
    const update = () => setVisible(!document.hidden && document.hasFocus());
    window.addEventListener("focus", update);
    window.addEventListener("blur", update);
    document.addEventListener("visibilitychange", update);
    return () => {
      window.removeEventListener("focus", update);
      window.removeEventListener("blur", update);
      document.removeEventListener("visibilitychange", update);
    };
  }, []);
  useEffect(() => {
    if (!visible || !atEnd || !loaded || chat.unreadCount === 0) return;
    const timer = setTimeout(() => void workspace.markRead(chat), 400);
    return () => clearTimeout(timer);
  }, [visible, atEnd, loaded, chat.id, chat.unreadCount, chat.lastMessage?.id]);
}
