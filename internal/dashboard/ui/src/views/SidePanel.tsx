import { useState } from "preact/hooks";

import type { Chat } from "../contract";
import { useSelect, useWorkspace } from "../context";
import { navigate } from "../route";
import { full } from "../text/time";
import { chatName, phone } from "../text/names";
import { Confirm, Copyable, IconButton, Select } from "./basics";
import { ContactAvatar } from "./ContactAvatar";
import { Icon } from "./icons";
import { Notes } from "./Notes";
import { ChatTicket } from "./ChatTicket";

export function SidePanel({ chatId, onClose }: { chatId: number; onClose: () => void }) {
  const chat = useSelect((s) => s.data.chats.get(chatId));
  return chat ? <Details key={chatId} chat={chat} onClose={onClose} /> : null;
}

function Details({ chat, onClose }: { chat: Chat; onClose: () => void }) {
  const workspace = useWorkspace();
  const channel = useSelect((s) => s.data.channels.get(chat.channelId));
  const [deleting, setDeleting] = useState(false);
  const { contact } = chat;
  return (
    <aside class="side" aria-label="Details">
      <header class="pane-head">
        <h2>Details</h2>
        <IconButton icon="close" label="Hide the details" onClick={onClose} />
      </header>
      <div class="side-scroll">
        <section class="side-contact">
          <ContactAvatar chat={chat} size="l" />
          <h3>{chatName(chat)}</h3>
          {contact.phone && <Copyable text={phone(contact.phone)} label="Copy the number" />}
          {contact.username && <Copyable text={`@${contact.username}`} label="Copy the name" />}
        </section>
        <section class="side-block">
          <Assignee chat={chat} />
          <StatusChoice chat={chat} />
          <Tags chat={chat} />
        </section>
        <ChatTicket chat={chat} />
        <Notes path={`/api/chats/${chat.id}/notes`} />
        <section class="side-block">
          <h3>About</h3>
          <dl class="facts">
            <dt>Channel</dt>
            <dd>{channel?.name ?? "Deleted"}</dd>
            <dt>Kind</dt>
            <dd>{chat.kind === "group" ? "Group" : "Direct chat"}</dd>
            <dt>Since</dt>
            <dd>{full(chat.createdAt)}</dd>
          </dl>
          <button type="button" class="link link-danger" onClick={() => setDeleting(true)}>
            <Icon name="trash" size={16} /> Delete this chat
          </button>
        </section>
      </div>
      {deleting && (
        <Confirm
          title="Delete this chat?"
          text="Its messages, files, tickets and notes disappear for everybody in your organization. The customer keeps theirs."
          action="Delete"
          onClose={() => setDeleting(false)}
          onConfirm={async () => {
            await workspace.deleteChat(chat.id);
            navigate({ page: "inbox", chatId: null });
          }}
        />
      )}
    </aside>
  );
}

function Assignee({ chat }: { chat: Chat }) {
  const workspace = useWorkspace();
  const users = useSelect((s) => s.users);
  const me = workspace.me.id;
  const assign = (id: number | null) => void workspace.act(workspace.changeChat(chat.id, { assigneeId: id }));
  const options = [...users.values()].filter((u) => u.active || u.id === chat.assigneeId);
  return (
    <div class="assignee">
      <Select
        label="Assigned to"
        value={String(chat.assigneeId ?? "")}
        onChange={(value) => assign(value ? Number(value) : null)}
        options={[["", "Nobody"], ...options.map((u): [string, string] => [String(u.id), u.id === me ? `${u.name} (you)` : u.name])]}
      />
      {chat.assigneeId !== me && (
        <button type="button" class="link" onClick={() => assign(me)}>
          Assign to me
        </button>
      )}
    </div>
  );
}

function StatusChoice({ chat }: { chat: Chat }) {
  const workspace = useWorkspace();
  return (
    <div class="field">
      <span class="label" id="chat-status">
        Status
      </span>
      <div class="segments" role="group" aria-labelledby="chat-status">
        {(["open", "pending", "resolved"] as const).map((status) => (
          <button
            key={status}
            type="button"
            aria-pressed={chat.status === status}
            onClick={() => void workspace.act(workspace.changeChat(chat.id, { status }))}
          >
            {status[0]!.toUpperCase() + status.slice(1)}
          </button>
        ))}
      </div>
    </div>
  );
}

function Tags({ chat }: { chat: Chat }) {
  const workspace = useWorkspace();
  const [text, setText] = useState("");
  const save = (tags: string[]) => workspace.act(workspace.changeChat(chat.id, { tags }));
  const add = async (e: Event) => {
    e.preventDefault();
    const tag = text.trim();
    if (!tag || chat.tags.includes(tag)) return setText("");
    if (await save([...chat.tags, tag])) setText("");
  };
  return (
    <form class="field" onSubmit={add}>
      <label class="label" for="new-tag">
        Tags
      </label>
      <div class="tags">
        {chat.tags.map((tag) => (
          <span key={tag} class="tag">
            {tag}
            <button type="button" aria-label={`Remove the tag ${tag}`} onClick={() => void save(chat.tags.filter((t) => t !== tag))}>
              <Icon name="close" size={13} />
            </button>
          </span>
        ))}
        <input id="new-tag" value={text} maxLength={50} placeholder="Add a tag" enterkeyhint="done" onInput={(e) => setText(e.currentTarget.value)} />
      </div>
    </form>
  );
}
