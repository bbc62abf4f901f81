import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import type { Chat, Message } from "../contract";
import { useSelect, useWorkspace } from "../context";
import { draftOf, keepDraft } from "../inbox/drafts";
import { uuid } from "../random";
import { distance } from "../text/time";
import { bytes, chatName, preview, senderName } from "../text/names";
import { IconButton, useNow } from "./basics";
import { Icon } from "./icons";
import { TemplateForm } from "./TemplateForm";

/** "typing:start" is repeated no more often than this, in milliseconds. */
const typingEvery = 3000;
/** Without a key for this long, the operator has stopped typing. */
const typingPause = 4000;
/** How many characters every network takes as a text, and as one under a file. */
const maxText = 4096;
const maxCaption = 1024;

interface Props {
  chat: Chat;
  replyTo: Message | null;
  editing: Message | null;
  onDone: () => void;
}

export function Composer(props: Props) {
  const { chat } = props;
  const channel = useSelect((s) => s.data.channels.get(chat.channelId));
  const now = useNow(30_000);
  const [template, setTemplate] = useState(false);
  const closes = chat.windowExpiresAt ? new Date(chat.windowExpiresAt).getTime() : Infinity;
  const closed = closes <= now.getTime();
  const soon = !closed && closes - now.getTime() < 4 * 3600_000;
  const dead = channel && channel.status.state !== "connected";
  if (!channel)
    return (
      <footer class="composer">
        <p class="composer-note note-bad">
          <Icon name="warning" size={17} /> <span>This chat's channel was deleted: it can be read, but not answered.</span>
        </p>
      </footer>
    );
  return (
    <footer class="composer">
      {dead && (
        <p class="composer-note note-bad">
          <Icon name="warning" size={17} />
          <span>
            {channel.name} is not connected{channel.status.reason ? `: ${channel.status.reason}` : "."} What you send waits.
          </span>
        </p>
      )}
      {soon && (
        <p class="composer-note">
          <Icon name="clock" size={17} /> <span>Free answers are possible for a while yet: the 24-hour window closes {distance(chat.windowExpiresAt!, now).toLowerCase()}.</span>
        </p>
      )}
      {closed ? (
        <div class="window-closed">
          <Icon name="clock" size={20} />
          <p>
            <strong>{closes === 0 ? `${chatName(chat)} has not written yet.` : "The 24-hour window is closed."}</strong>{" "}
            WhatsApp takes only approved templates until the customer writes{closes === 0 ? "" : " again"}.
          </p>
          <button type="button" class="button button-main" onClick={() => setTemplate(true)}>
            Send a template
          </button>
        </div>
      ) : (
        <Writer key={chat.id} {...props} onTemplate={chat.windowExpiresAt ? () => setTemplate(true) : undefined} />
      )}
      {template && <TemplateForm chat={chat} onClose={() => setTemplate(false)} />}
    </footer>
  );
}

function Writer({ chat, replyTo, editing, onDone, onTemplate }: Props & { onTemplate?: () => void }) {
  const workspace = useWorkspace();
  const me = workspace.me.id;
  // Two texts, each with its own place: what is written anew, and what a message is changed to.
  const [draft, setDraft] = useState(() => draftOf(me, chat.id));
  const [change, setChange] = useState("");
  const [saving, setSaving] = useState(false);
  const text = editing ? change : draft;
  const write = (now: string) => {
    if (editing) return setChange(now);
    setDraft(now);
    keepDraft(me, chat.id, now);
  };
  const [files, setFiles] = useState<File[]>([]);
  const [dropping, setDropping] = useState(false);
  const field = useRef<HTMLTextAreaElement>(null);
  const picker = useRef<HTMLInputElement>(null);
  const typing = useTyping(chat.id);

  const caption = editing ? editing.type !== "text" : files.length > 0;
  const limit = caption ? maxCaption : maxText;
  const left = limit - [...text.trim()].length;

  // Before anybody can type: it would take what was typed away.
  useLayoutEffect(() => {
    if (editing) setChange(editing.content);
    if (editing || replyTo) field.current?.focus();
  }, [editing?.id, replyTo?.id]);
  useEffect(() => {
    if (matchMedia("(min-width: 760px)").matches) field.current?.focus({ preventScroll: true });
  }, []);
  useLayoutEffect(() => {
    const box = field.current!;
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight, 180)}px`;
  }, [text]);

  const submit = async () => {
    const content = text.trim();
    if (left < 0 || saving) return;
    if (editing) {
      if (content && content !== editing.content) {
        setSaving(true);
        const saved = await workspace.act(workspace.accept(`/api/messages/${editing.id}`, { content }, "PATCH"));
        setSaving(false);
        if (!saved) return;
      }
      return onDone();
    }
    if (!content && files.length === 0) return;
    const base = { chatId: chat.id, replyToId: replyTo?.id };
    const createdAt = new Date().toISOString();
    const sends = files.length > 0 ? files : [undefined];
    sends.forEach((file, i) => {
      workspace.outbox.add({
        request: { ...base, content: i === 0 ? content : "", clientMessageId: uuid() },
        state: file ? "uploading" : "sending",
        reason: "",
        createdAt,
        file,
        replyTo: replyTo ?? undefined,
      });
    });
    write("");
    setFiles([]);
    typing.stop();
    onDone();
    field.current?.focus();
  };
  const add = (list: FileList | null | undefined) => setFiles((now) => [...now, ...(list ?? [])].slice(0, 10));
  const keys = (e: KeyboardEvent) => {
    if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
      e.preventDefault();
      void submit();
    } else if (e.key === "Escape" && (replyTo || editing)) onDone();
  };
  return (
    <form
      class={dropping ? "writer dropping" : "writer"}
      onSubmit={(e) => (e.preventDefault(), void submit())}
      onDragOver={(e) => (e.preventDefault(), setDropping(true))}
      onDragLeave={() => setDropping(false)}
      onDrop={(e) => (e.preventDefault(), setDropping(false), add(e.dataTransfer?.files))}
    >
      {(replyTo || editing) && (
        <div class="writer-context">
          <Icon name={editing ? "edit" : "reply"} size={17} />
          <span>
            <strong>{editing ? "Edit message" : senderName(replyTo!, chat)}</strong>
            <span>{preview((editing ?? replyTo)!.type, (editing ?? replyTo)!.content)}</span>
          </span>
          <IconButton icon="close" label={editing ? "Stop editing" : "Do not reply"} onClick={onDone} />
        </div>
      )}
      {files.length > 0 && (
        <ul class="files" aria-label="Files to send">
          {files.map((file, i) => (
            <li key={`${file.name}-${i}`}>
              <Icon name="file" size={16} />
              <span>{file.name}</span>
              <small>{bytes(file.size)}</small>
              <IconButton icon="close" label={`Remove ${file.name}`} onClick={() => setFiles(files.filter((_, other) => other !== i))} />
            </li>
          ))}
        </ul>
      )}
      <div class="writer-row">
        {!editing && <IconButton icon="attach" label="Attach files" onClick={() => picker.current?.click()} />}
        {!editing && onTemplate && <IconButton icon="template" label="Send a template" onClick={onTemplate} />}
        <input ref={picker} type="file" multiple hidden onChange={(e) => (add(e.currentTarget.files), (e.currentTarget.value = ""))} />
        <textarea
          ref={field}
          rows={1}
          dir="auto"
          aria-label={`Message to ${chatName(chat)}`}
          placeholder="Write a message"
          maxLength={65536}
          value={text}
          onInput={(e) => (write(e.currentTarget.value), typing.key(e.currentTarget.value !== ""))}
          onKeyDown={keys}
          onPaste={(e) => e.clipboardData?.files.length && (e.preventDefault(), add(e.clipboardData.files))}
          onBlur={() => typing.stop()}
        />
        <button class="send" aria-label={editing ? "Save the change" : "Send"} title={editing ? "Save" : "Send (Enter)"} disabled={(!text.trim() && files.length === 0) || left < 0 || saving}>
          <Icon name={editing ? "check" : "send"} />
        </button>
      </div>
      {left < limit / 10 && <Left left={left} limit={limit} where={`${chat.channel === "telegram" ? "Telegram" : "WhatsApp"} takes ${caption ? "under a file" : "in a message"}`} />}
    </form>
  );
}

// Said once the end is near: what is too long would come back from the network, so it is not sent.
function Left({ left, limit, where }: { left: number; limit: number; where: string }) {
  const count = Math.abs(left);
  const characters = `${count.toLocaleString()} ${count === 1 ? "character" : "characters"}`;
  if (left >= 0) return <p class="writer-left">{characters} left</p>;
  return (
    <p class="writer-left writer-over" role="status">
      {characters} more than the {limit.toLocaleString()} that {where}.
    </p>
  );
}

// Tells the others, and the customer, that somebody types: not for every key.
function useTyping(chatId: number) {
  const workspace = useWorkspace();
  const state = useRef<{ at: number; timer?: ReturnType<typeof setTimeout> }>({ at: 0 });
  const stop = () => {
    clearTimeout(state.current.timer);
    if (state.current.at === 0) return;
    state.current.at = 0;
    workspace.type(chatId, false);
  };
  const key = (something: boolean) => {
    if (!something) return stop();
    if (Date.now() - state.current.at >= typingEvery) {
      state.current.at = Date.now();
      workspace.type(chatId, true);
    }
    clearTimeout(state.current.timer);
    state.current.timer = setTimeout(stop, typingPause);
  };
  useEffect(() => stop, []);
  return { key, stop };
}
