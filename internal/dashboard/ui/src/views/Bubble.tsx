import { useState } from "preact/hooks";

import type { Channel, Chat, Message, MessageStatus } from "../contract";
import { useSelect, useWorkspace } from "../context";
import { linkify } from "../text/links";
import { clock, full } from "../text/time";
import { hue, kindName, preview, senderName } from "../text/names";
import { Attachment, Place } from "./Attachment";
import { Confirm, IconButton, Popover, copy } from "./basics";
import { Icon, Ticks } from "./icons";
import { memo } from "./memo";

export interface BubbleProps {
  message: Message;
  chat: Chat;
  /** Follows one of the same sender closely. */
  follows: boolean;
  onReply: (message: Message) => void;
  onEdit: (message: Message) => void;
  onQuote: (id: number) => void;
}

export const Bubble = memo<BubbleProps>(function Bubble({ message, chat, follows, onReply, onEdit, onQuote }) {
  const workspace = useWorkspace();
  if (message.type === "system")
    return (
      <li class="system" id={`message-${message.id}`}>
        <span>
          <Linked text={message.content} /> · <time title={full(message.providerTime)}>{clock(message.providerTime)}</time>
        </span>
      </li>
    );
  const mine = message.fromMe;
  const named = !follows && ((!mine && chat.kind === "group") || (mine && message.senderUserId !== workspace.me.id));
  const bad = mine && (message.status === "failed" || message.status === "unknown");
  return (
    <li class={`line ${mine ? "line-out" : "line-in"} ${follows ? "follows" : ""}`} id={`message-${message.id}`}>
      <article class={`bubble bubble-${message.type} ${bad ? "bubble-bad" : ""}`} aria-label={`${senderName(message, chat)}, ${clock(message.providerTime)}`}>
        {named && <p class={`sender hue-${hue(mine ? (message.senderUserId ?? 0) : nameId(message.senderName))}`}>{mine ? message.senderName || "Sent from the phone" : senderName(message, chat)}</p>}
        {message.revokedAt ? (
          <p class="revoked">
            <Icon name="undo" size={16} /> {message.senderUserId === workspace.me.id ? "You took this message back" : "This message was taken back"}
          </p>
        ) : (
          <>
            {message.replyTo && (
              <button type="button" class="quote" disabled={!message.replyTo.id} onClick={() => onQuote(message.replyTo!.id)}>
                <strong>{message.replyTo.senderName || "Message"}</strong>
                <span>{preview(message.replyTo.type, message.replyTo.content)}</span>
              </button>
            )}
            <Content message={message} />
          </>
        )}
        <p class="stamp">
          {message.editedAt && !message.revokedAt && <span title={full(message.editedAt)}>edited</span>}
          <time dateTime={message.providerTime} title={full(message.providerTime)}>
            {clock(message.providerTime)}
          </time>
          {mine && <Status status={message.status} />}
        </p>
        {bad && <Outcome message={message} />}
        {message.reactions.length > 0 && <Reactions message={message} />}
      </article>
      {!message.revokedAt && <Actions message={message} chat={chat} onReply={onReply} onEdit={onEdit} />}
    </li>
  );
});

function nameId(name: string): number {
  return [...name].reduce((sum, c) => (sum * 31 + c.codePointAt(0)!) | 0, 7);
}

function Content({ message }: { message: Message }) {
  return (
    <>
      {message.media && <Attachment message={message} media={message.media} />}
      {message.location && <Place place={message.location} />}
      {message.type === "template" && <p class="kind">{`Template${message.template ? ` · ${message.template.name} (${message.template.language})` : ""}`}</p>}
      {message.type === "contact" && <p class="kind">Contact card</p>}
      {message.type === "unsupported" && (
        <p class="revoked">
          <Icon name="question" size={16} /> {message.content || "A message of a kind that cannot be shown here. Ask the customer to send it differently, or look at it on the phone."}
        </p>
      )}
      {message.content && message.type !== "unsupported" && (
        <p class={`text ${onlyEmoji(message.content) ? "text-emoji" : ""}`} dir="auto">
          <Linked text={message.content} />
        </p>
      )}
      {!message.content && message.type === "template" && message.template?.parameters?.length ? <p class="text">{message.template.parameters.join(" · ")}</p> : null}
      {!message.content && !message.media && !message.location && !["template", "unsupported"].includes(message.type) && <p class="revoked">{kindName(message.type)}</p>}
    </>
  );
}

function onlyEmoji(text: string): boolean {
  return text.length <= 24 && /^(?:\p{Extended_Pictographic}|\p{Emoji_Component}|\s)+$/u.test(text) && /\p{Extended_Pictographic}/u.test(text);
}

export function Linked({ text }: { text: string }) {
  return (
    <>
      {linkify(text).map((piece, i) =>
        piece.href ? (
          <a key={i} href={piece.href} target="_blank" rel="noopener noreferrer nofollow">
            {piece.text}
          </a>
        ) : (
          piece.text
        ),
      )}
    </>
  );
}

const statusWords: Record<MessageStatus, string> = {
  received: "Received",
  queued: "Waiting to be sent",
  sending: "Being sent",
  unknown: "Not known whether it arrived",
  sent: "Sent",
  failed: "Not sent",
  delivered: "Delivered",
  read: "Read",
};

export function Status({ status }: { status: MessageStatus }) {
  const label = statusWords[status];
  return (
    <span class={`status status-${status}`} role="img" aria-label={label} title={label}>
      {status === "failed" ? (
        <Icon name="warning" size={15} />
      ) : status === "unknown" ? (
        <Icon name="question" size={15} />
      ) : status === "queued" || status === "sending" ? (
        <Icon name="clock" size={14} />
      ) : (
        <Ticks double={status !== "sent"} />
      )}
    </span>
  );
}

function Outcome({ message }: { message: Message }) {
  const workspace = useWorkspace();
  const [busy, setBusy] = useState(false);
  const unknown = message.status === "unknown";
  const retry = async () => {
    setBusy(true);
    await workspace.act(workspace.accept(`/api/messages/${message.id}/retry`, {}));
    setBusy(false);
  };
  return (
    <div class="outcome">
      <span>{message.error?.message || (unknown ? "It left, but nobody confirmed it. It may have arrived." : "It was not sent.")}</span>
      <button type="button" class="button button-small" disabled={busy} onClick={() => void retry()}>
        <Icon name="retry" size={15} /> {unknown ? "Send again anyway" : "Send again"}
      </button>
    </div>
  );
}

function Reactions({ message }: { message: Message }) {
  const workspace = useWorkspace();
  const groups = new Map<string, { names: string[]; mine: boolean }>();
  for (const r of message.reactions) {
    const group = groups.get(r.emoji) ?? { names: [], mine: false };
    group.names.push(r.fromMe ? r.senderName || "You" : r.senderName || "Customer");
    group.mine ||= r.fromMe;
    groups.set(r.emoji, group);
  }
  return (
    <p class="reactions">
      {[...groups].map(([emoji, { names, mine }]) => (
        <button key={emoji} type="button" class={mine ? "reaction reaction-mine" : "reaction"} title={names.join(", ")} aria-label={`${emoji} ${names.join(", ")}`} aria-pressed={mine} onClick={() => react(workspace, message, mine ? "" : emoji)}>
          {emoji} {names.length > 1 && names.length}
        </button>
      ))}
    </p>
  );
}

function react(workspace: ReturnType<typeof useWorkspace>, message: Message, emoji: string): void {
  void workspace.act(workspace.accept(`/api/messages/${message.id}/reactions`, { emoji }));
}

const emojis = ["👍", "❤️", "😂", "😮", "🙏", "✅"];

/** What the channel of a kind lets change of a message that was sent. */
function changeable(channel: Channel | undefined, message: Message): boolean {
  return message.fromMe && channel?.kind !== "waba" && ["sent", "delivered", "read"].includes(message.status);
}

function Actions({ message, chat, onReply, onEdit }: Pick<BubbleProps, "message" | "chat" | "onReply" | "onEdit">) {
  const workspace = useWorkspace();
  const channel = useSelect((s) => s.data.channels.get(chat.channelId));
  const [revoking, setRevoking] = useState(false);
  const mine = message.reactions.find((r) => r.fromMe)?.emoji;
  const editable = changeable(channel, message) && (message.type === "text" || !!message.media);
  const revocable = changeable(channel, message) || (message.fromMe && message.status === "queued");
  return (
    <div class="actions">
      <Popover trigger={(p) => <IconButton icon="smile" label="React" {...p} />} panelClass="emoji-panel">
        {(close) =>
          emojis.map((emoji) => (
            <button
              key={emoji}
              type="button"
              class={emoji === mine ? "emoji emoji-on" : "emoji"}
              aria-label={`React with ${emoji}`}
              onClick={() => {
                react(workspace, message, emoji === mine ? "" : emoji);
                close();
              }}
            >
              {emoji}
            </button>
          ))
        }
      </Popover>
      <IconButton icon="reply" label="Reply" onClick={() => onReply(message)} />
      {(message.content || editable || revocable) && (
        <Popover trigger={(p) => <IconButton icon="more" label="More" {...p} />} panelClass="menu">
          {(close) => (
            <>
              {message.content && (
                <button type="button" onClick={() => void copy(message.content).then(close)}>
                  <Icon name="copy" size={17} /> Copy text
                </button>
              )}
              {editable && (
                <button type="button" onClick={() => (onEdit(message), close())}>
                  <Icon name="edit" size={17} /> Edit
                </button>
              )}
              {revocable && (
                <button type="button" class="menu-danger" onClick={() => (setRevoking(true), close())}>
                  <Icon name="undo" size={17} /> Take back
                </button>
              )}
            </>
          )}
        </Popover>
      )}
      {revoking && (
        <Confirm
          title="Take the message back?"
          text="It disappears from the customer's phone as well, as far as the customer's app allows."
          action="Take back"
          onClose={() => setRevoking(false)}
          onConfirm={() => workspace.accept(`/api/messages/${message.id}`, {}, "DELETE")}
        />
      )}
    </div>
  );
}
