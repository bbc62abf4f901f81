import { useEffect, useState } from "preact/hooks";

import { reason } from "../api";
import type { Channel, ChannelKind, ChannelState } from "../contract";
import { useSelect, useWorkspace } from "../context";
import { distance, full } from "../text/time";
import { Confirm, Copyable, Empty, Problem, useNow } from "./basics";
import { ChannelForm } from "./ChannelForm";
import { Icon, NetworkIcon, networkOf } from "./icons";
import { LinkDevice } from "./LinkDevice";
import { PageHead } from "./Page";

export const stateNames: Record<ChannelState, string> = {
  disconnected: "Disconnected",
  connecting: "Connecting",
  qr: "Waiting for the scan",
  pairing: "Linking",
  connected: "Connected",
  logged_out: "Logged out",
  banned: "Banned",
  conflict: "In use elsewhere",
  error: "Error",
};

export const kindNames: Record<ChannelKind, string> = {
  whatsapp: "WhatsApp (linked phone)",
  waba: "WhatsApp Business Platform",
  telegram: "Telegram bot",
};

export function stateTone(state: ChannelState): "good" | "wait" | "off" | "bad" {
  if (state === "connected") return "good";
  if (state === "connecting" || state === "qr" || state === "pairing") return "wait";
  return state === "disconnected" ? "off" : "bad";
}

/** Meta delivers to this address. */
export function webhookAddress(): string {
  return `${location.origin}/webhooks/waba`;
}

export function Channels() {
  const workspace = useWorkspace();
  const channels = useSelect((s) => s.data.channels);
  const [kinds, setKinds] = useState<ChannelKind[] | null>(null);
  const [trouble, setTrouble] = useState("");
  const [creating, setCreating] = useState(false);
  useEffect(() => {
    workspace.channelKinds().then(setKinds, (e) => setTrouble(reason(e)));
  }, []);
  const list = [...channels.values()].sort((a, b) => a.id - b.id);
  return (
    <div class="page">
      <PageHead title="Channels" text="The numbers and bots that your customers write to.">
        <button type="button" class="button button-main" disabled={!kinds?.length} onClick={() => setCreating(true)}>
          <Icon name="plus" size={18} /> Add a channel
        </button>
      </PageHead>
      <Problem text={trouble} />
      {list.length === 0 ? (
        <Empty icon="channels" title="No channel yet">
          <p>Add the number that your customers know.</p>
        </Empty>
      ) : (
        <ul class="cards">
          {list.map((channel) => (
            <ChannelCard key={channel.id} channel={channel} linkable={channel.kind === "whatsapp" && !!kinds?.includes("whatsapp")} />
          ))}
        </ul>
      )}
      {creating && kinds && <ChannelForm kinds={kinds} onClose={() => setCreating(false)} />}
    </div>
  );
}

function ChannelCard({ channel, linkable }: { channel: Channel; linkable: boolean }) {
  const workspace = useWorkspace();
  const now = useNow(30_000);
  const [asking, setAsking] = useState<"delete" | "disconnect" | null>(null);
  const [linking, setLinking] = useState(false);
  const [busy, setBusy] = useState(false);
  const { status } = channel;
  const running = ["connected", "connecting", "qr", "pairing"].includes(status.state);
  const base = `/api/channels/${channel.id}`;
  const connect = async () => {
    setBusy(true);
    const done = await workspace.act(workspace.saveChannel(() => workspace.api.post<Channel>(`${base}/connect`)));
    setBusy(false);
    if (done && linkable) setLinking(true);
  };
  return (
    <li class={`card channel tone-${stateTone(status.state)}`}>
      <header>
        <NetworkIcon network={networkOf(channel.kind)} size={36} />
        <div>
          <h2>{channel.name}</h2>
          <p class="muted">{kindNames[channel.kind]}</p>
        </div>
        <span class="state" role="status">
          <i /> {stateNames[status.state] ?? status.state}
        </span>
      </header>
      {status.reason && <p class={status.state === "connected" && !status.code ? "muted" : "channel-reason"}>{status.reason}</p>}
      <dl class="facts">
        <dt>Since</dt>
        <dd>
          <time title={full(status.since)}>{distance(status.since, now)}</time>
        </dd>
        <dt>Worker</dt>
        <dd>{status.worker || "None"}</dd>
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
        {linkable && running && status.state !== "connected" && (
          <button type="button" class="button button-main" onClick={() => setLinking(true)}>
            Link a phone
          </button>
        )}
        {running ? (
          <button type="button" class="button" disabled={busy} onClick={() => setAsking("disconnect")}>
            Disconnect
          </button>
        ) : (
          <button type="button" class="button button-main" disabled={busy} onClick={() => void connect()}>
            Connect
          </button>
        )}
        <button type="button" class="button button-quiet" onClick={() => setAsking("delete")}>
          Delete
        </button>
      </footer>
      {asking === "disconnect" && (
        <Confirm
          title={`Disconnect ${channel.name}?`}
          text="Nothing is received or sent until it is connected again. Answers written meanwhile wait."
          action="Disconnect"
          onClose={() => setAsking(null)}
          onConfirm={() => workspace.saveChannel(() => workspace.api.post<Channel>(`${base}/disconnect`))}
        />
      )}
      {asking === "delete" && (
        <Confirm
          title={`Delete ${channel.name}?`}
          text="Its chats stay readable, but nothing is received or sent any more, and what still waits to be sent fails. This cannot be undone."
          action="Delete channel"
          onClose={() => setAsking(null)}
          onConfirm={() => workspace.api.delete(base)}
        />
      )}
      {linking && <LinkDevice channel={channel} onClose={() => setLinking(false)} />}
    </li>
  );
}
