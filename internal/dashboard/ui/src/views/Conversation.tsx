import { useCallback, useEffect, useState } from "preact/hooks";

import { ApiError, reason } from "../api";
import type { Chat, Message } from "../contract";
import { useSelect, useWorkspace } from "../context";
import { navigate } from "../route";
import { chatName, phone } from "../text/names";
import { Empty, IconButton, Spinner } from "./basics";
import { Composer } from "./Composer";
import { ContactAvatar } from "./ContactAvatar";
import { Thread } from "./Thread";

export function Conversation({ chatId, panel, onPanel }: { chatId: number; panel: boolean; onPanel: () => void }) {
  const workspace = useWorkspace();
  const chat = useSelect((s) => s.data.chats.get(chatId));
  const [missing, setMissing] = useState("");
  useEffect(() => {
    setMissing("");
    if (chat) return;
    workspace.loadChat(chatId).catch((e) => setMissing(e instanceof ApiError && e.status === 404 ? "This chat does not exist any more." : reason(e)));
  }, [chatId, !chat]);
  if (!chat)
    return (
      <section class="conversation" aria-label="Chat">
        {missing ? (
          <Empty icon="inbox" title={missing}>
            <button type="button" class="button" onClick={() => navigate({ page: "inbox", chatId: null })}>
              Back to the inbox
            </button>
          </Empty>
        ) : (
          <div class="thread-wait">
            <Spinner />
          </div>
        )}
      </section>
    );
  return <Open key={chatId} chat={chat} panel={panel} onPanel={onPanel} />;
}

function Open({ chat, panel, onPanel }: { chat: Chat; panel: boolean; onPanel: () => void }) {
  const workspace = useWorkspace();
  const [replyTo, setReplyTo] = useState<Message | null>(null);
  const [editing, setEditing] = useState<Message | null>(null);
  useEffect(() => {
    workspace.watch(chat.id, true);
    return () => workspace.watch(chat.id, false);
  }, [chat.id]);
  const reply = useCallback((m: Message) => (setEditing(null), setReplyTo(m)), []);
  const edit = useCallback((m: Message) => (setReplyTo(null), setEditing(m)), []);
  const done = useCallback(() => (setReplyTo(null), setEditing(null)), []);
  return (
    <section class="conversation" aria-label={`Chat with ${chatName(chat)}`}>
      <Head chat={chat} panel={panel} onPanel={onPanel} />
      <Thread chat={chat} onReply={reply} onEdit={edit} />
      <Composer chat={chat} replyTo={replyTo} editing={editing} onDone={done} />
    </section>
  );
}

function Head({ chat, panel, onPanel }: { chat: Chat; panel: boolean; onPanel: () => void }) {
  const workspace = useWorkspace();
  const channel = useSelect((s) => s.data.channels.get(chat.channelId));
  const typing = useSelect((s) => s.typing.get(chat.id));
  const users = useSelect((s) => s.users);
  const colleagues = [...(typing ?? [])].filter((who) => who !== "contact").map((who) => users.get(Number(who))?.name.split(" ")[0] ?? "A colleague");
  const address = chat.contact.phone ? phone(chat.contact.phone) : chat.contact.username ? `@${chat.contact.username}` : "";
  const resolved = chat.status === "resolved";
  return (
    <header class="conversation-head">
      <IconButton icon="back" label="Back to the chats" class="only-narrow" onClick={() => navigate({ page: "inbox", chatId: null })} />
      <button type="button" class="who" onClick={onPanel} aria-expanded={panel} aria-label={`Details of ${chatName(chat)}`}>
        <ContactAvatar chat={chat} />
        <span class="who-lines">
          <strong>{chatName(chat)}</strong>
          <span class="who-sub" role="status">
            {typing?.has("contact") ? (
              <em class="typing-word">types…</em>
            ) : colleagues.length > 0 ? (
              <em class="typing-word">
                {colleagues.join(", ")} {colleagues.length > 1 ? "type" : "types"} an answer…
              </em>
            ) : (
              [chat.contact.name && address, chat.kind === "group" && "Group", channel?.name].filter(Boolean).join(" · ")
            )}
          </span>
        </span>
      </button>
      <button type="button" class={`button resolve ${resolved ? "" : "button-soft"}`} onClick={() => void workspace.act(workspace.changeChat(chat.id, { status: resolved ? "open" : "resolved" }))}>
        {resolved ? "Reopen" : "Resolve"}
      </button>
      <IconButton icon="panel" label={panel ? "Hide the details" : "Show the details"} aria-pressed={panel} onClick={onPanel} />
    </header>
  );
}
