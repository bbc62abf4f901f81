import { useState } from "preact/hooks";

import type { Channel, ChannelKind, ChannelState, ChannelStatus } from "../contract";
import { useSelect, useWorkspace } from "../context";
import { phone } from "../text/names";
import { distance, full } from "../text/time";
import { Confirm, Copyable, Empty, useNow } from "./basics";
import { ChannelForm } from "./ChannelForm";
import { Icon, NetworkIcon, networkOf } from "./icons";
import { LinkDevice } from "./LinkDevice";
import { PageHead } from "./Page";

const stateNames: Record<ChannelState, string> = {
  disconnected: "Disconnected",
  connecting: "Connecting",
  qr: "Waiting for the scan",
  pairing: "Waiting for the code",
  connected: "Connected",
  logged_out: "Logged out",
  banned: "Banned",
  conflict: "In use elsewhere",
  error: "Error",
};

// What says more than the state does; the reason says what to do.
const codeNames: Record<string, string> = {
  account_banned: "Banned, unlinked",
  account_locked: "Phone logged out",
  client_outdated: "Update needed",
  history_incomplete: "Part of the history missing",
  history_sync: "Importing chats",
  keys_missing: "Keys missing",
  link_failed: "Not linked",
  link_refused: "Phone refused",
  link_timeout: "Not linked in time",
  logging_out: "Logging out",
  passkey: "Passkey needed",
  phone_outdated: "Phone too old",
  reach_out_limited: "No new chats for now",
  storage: "Cannot store",
  temporary_ban: "Banned for a while",
  unreachable: "Cannot connect",
};

/** How a channel is, in two or three words. */
export function statusName({ state, code }: ChannelStatus): string {
  return (code && codeNames[code]) || stateNames[state] || state;
}

export const kindNames: Record<ChannelKind, string> = {
  whatsapp: "WhatsApp (linked phone)",
  waba: "WhatsApp Business Platform",
  telegram: "Telegram bot",
};

export function statusTone({ state, code }: ChannelStatus): "good" | "wait" | "off" | "bad" {
  if (state === "connected") return code ? "wait" : "good";
  if (state === "connecting" || state === "qr" || state === "pairing") return code === "unreachable" || code === "storage" ? "bad" : "wait";
  return state === "disconnected" && (!code || code === "link_timeout") ? "off" : "bad";
}

/** Meta delivers to this address. */
export function webhookAddress(): string {
  return `${location.origin}/webhooks/waba`;
}

// The ends of an attempt to link: the channel has no phone then.
const notLinked = ["link_timeout", "link_refused", "link_failed", "passkey", "phone_outdated"];

/** Whether a channel may have a linked phone. The server knows: to log out one that has none does no harm. */
function linked({ kind, config, status: { state, code } }: Channel): boolean {
  return kind === "whatsapp" && !!config.phone && !["qr", "pairing", "logged_out"].includes(state) && !notLinked.includes(code ?? "");
}

export function Channels() {
  const channels = useSelect((s) => s.data.channels);
  const [creating, setCreating] = useState(false);
  const [linking, setLinking] = useState(0);
  const list = [...channels.values()].sort((a, b) => a.id - b.id);
  const shown = channels.get(linking);
  return (
    <div class="page">
      <PageHead title="Channels" text="The numbers and bots that your customers write to.">
        <button type="button" class="button button-main" onClick={() => setCreating(true)}>
          <Icon name="plus" size={18} /> Add a channel
        </button>
      </PageHead>
      {list.length === 0 ? (
        <Empty icon="channels" title="No channel yet">
          <p>Add the number that your customers know.</p>
        </Empty>
      ) : (
        <ul class="cards">
          {list.map((channel) => (
            <ChannelCard key={channel.id} channel={channel} onLink={() => setLinking(channel.id)} />
          ))}
        </ul>
      )}
      {creating && (
        <ChannelForm
          onClose={(made) => {
            setCreating(false);
            if (made?.kind === "whatsapp") setLinking(made.id);
          }}
        />
      )}
      {shown && <LinkDevice channel={shown} onClose={() => setLinking(0)} />}
    </div>
  );
}

type Question = "delete" | "disconnect" | "logout";

function ChannelCard({ channel, onLink }: { channel: Channel; onLink: () => void }) {
  const workspace = useWorkspace();
  const now = useNow(30_000);
  const [asking, setAsking] = useState<Question | null>(null);
  const [busy, setBusy] = useState(false);
  const { status } = channel;
  const running = ["connected", "connecting", "qr", "pairing"].includes(status.state);
  const idle = status.state === "disconnected" || status.state === "logged_out"; // the worker that is told has let go of it
  const links = channel.kind === "whatsapp" && !linked(channel);
  const base = `/api/channels/${channel.id}`;
  const connect = async () => {
    setBusy(true);
    const done = await workspace.act(workspace.saveChannel(() => workspace.api.post<Channel>(`${base}/connect`)));
    setBusy(false);
    if (done && links) onLink();
  };
  return (
    <li class={`card channel tone-${statusTone(status)}`}>
      <header>
        <NetworkIcon network={networkOf(channel.kind)} size={36} />
        <div>
          <h2>{channel.name}</h2>
          <p class="muted">{kindNames[channel.kind]}</p>
        </div>
        <span class="state" role="status">
          <i /> {statusName(status)}
        </span>
      </header>
      {status.reason && <p class={status.state === "connected" && !status.code ? "muted" : "channel-reason"}>{status.reason}</p>}
      <dl class="facts">
        <dt>Since</dt>
        <dd>
          <time title={full(status.since)}>{distance(status.since, now)}</time>
        </dd>
        {!idle && (
          <>
            <dt>Worker</dt>
            <dd>{status.worker || "None"}</dd>
          </>
        )}
        {channel.config.phone && (
          <>
            <dt>Number</dt>
            <dd>{phone(channel.config.phone)}</dd>
          </>
        )}
        {channel.config.phoneNumberId && (
          <>
            <dt>Phone number ID</dt>
            <dd>{channel.config.phoneNumberId}</dd>
          </>
        )}
        {channel.kind === "waba" && (
          <>
            <dt>Webhook</dt>
            <dd>
              <Copyable text={webhookAddress()} label="Copy the webhook's address" />
            </dd>
          </>
        )}
      </dl>
      <footer>
        {links && running && status.state !== "connected" && (
          <button type="button" class="button button-main" onClick={onLink}>
            Link a phone
          </button>
        )}
        {running ? (
          <button type="button" class="button" disabled={busy} onClick={() => setAsking("disconnect")}>
            Disconnect
          </button>
        ) : (
          <button type="button" class="button button-main" disabled={busy} onClick={() => void connect()}>
            {links ? "Connect and link" : "Connect"}
          </button>
        )}
        {linked(channel) && (
          <button type="button" class="button" onClick={() => setAsking("logout")}>
            Log out
          </button>
        )}
        <button type="button" class="button button-quiet" onClick={() => setAsking("delete")}>
          Delete
        </button>
      </footer>
      {asking === "disconnect" && (
        <Confirm
          title={`Disconnect ${channel.name}?`}
          text={`Nothing is received or sent until it is connected again. Answers written meanwhile wait.${linked(channel) ? " The phone stays linked." : ""}`}
          action="Disconnect"
          onClose={() => setAsking(null)}
          onConfirm={() => workspace.saveChannel(() => workspace.api.post<Channel>(`${base}/disconnect`))}
        />
      )}
      {asking === "logout" && (
        <Confirm
          title={`Log ${channel.name} out?`}
          text="The phone forgets this installation. Nothing is received or sent until a phone is linked again, and only the same number can be. Its chats stay."
          action="Log out"
          onClose={() => setAsking(null)}
          onConfirm={() => workspace.saveChannel(() => workspace.api.post<Channel>(`${base}/logout`))}
        />
      )}
      {asking === "delete" && (
        <Confirm
          title={`Delete ${channel.name}?`}
          text={`Its chats stay readable, but nothing is received or sent any more, and what still waits to be sent fails. This cannot be undone.${linked(channel) ? " The phone is told to forget this installation; should WhatsApp not be reached, remove the link there (Linked devices)." : ""}`}
          action="Delete channel"
          onClose={() => setAsking(null)}
          onConfirm={() => workspace.api.delete(base)}
        />
      )}
    </li>
  );
}
