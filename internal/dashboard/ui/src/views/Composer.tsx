import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import type { Chat, Message } from "../contract";
import { useSelect, useWorkspace } from "../context";
import { draftOf, keepDraft } from "../inbox/drafts";
import { uuid } from "../random";
import { distance } from "../text/time";
import { bytes, contactName, preview } from "../text/names";
import { IconButton, useNow } from "./basics";
import { Icon } from "./icons";
import { TemplateForm } from "./TemplateForm";

/** "typing:start" is repeated no more often than this, in milliseconds. */
const typingEvery = 3000;
/** Without a key for this long, the operator has stopped typing. */
const typingPause = 4000;

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
            <strong>{closes === 0 ? `${contactName(chat.contact)} has not written yet.` : "The 24-hour window is closed."}</strong>{" "}
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
  const [text, setText] = useState(() => draftOf(me, chat.id));
  const [files, setFiles] = useState<File[]>([]);
  const [dropping, setDropping] = useState(false);
  const field = useRef<HTMLTextAreaElement>(null);
  const picker = useRef<HTMLInputElement>(null);
  const typing = useTyping(chat.id);

  useEffect(() => {
    if (!editing) keepDraft(me, chat.id, text);
  }, [text]);
  useEffect(() => {
    setText(editing ? editing.content : draftOf(me, chat.id));
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
    if (editing) {
      if (content && content !== editing.content && !(await workspace.act(workspace.accept(`/api/messages/${editing.id}`, { content }, "PATCH")))) return;
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
    setText("");
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
            <strong>{editing ? "Edit message" : replyTo!.fromMe ? replyTo!.senderName || "You" : replyTo!.senderName || contactName(chat.contact)}</strong>
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
          aria-label={`Message to ${contactName(chat.contact)}`}
          placeholder="Write a message"
          maxLength={65536}
          value={text}
          onInput={(e) => (setText(e.currentTarget.value), typing.key(e.currentTarget.value !== ""))}
          onKeyDown={keys}
          onPaste={(e) => e.clipboardData?.files.length && (e.preventDefault(), add(e.clipboardData.files))}
          onBlur={() => typing.stop()}
        />
        <button class="send" aria-label={editing ? "Save the change" : "Send"} title={editing ? "Save" : "Send (Enter)"} disabled={!text.trim() && files.length === 0}>
          <Icon name={editing ? "check" : "send"} />
        </button>
      </div>
    </form>
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
