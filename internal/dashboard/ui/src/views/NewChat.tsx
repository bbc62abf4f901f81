import { useState } from "preact/hooks";

import type { Channel } from "../contract";
import { useSelect, useWorkspace } from "../context";
import { navigate } from "../route";
import { Dialog, Field, Problem, Select, useSubmit } from "./basics";

// A linked phone may write what it likes, the Business Platform wants a template first, and what is not connected can wait only.
function ease({ kind, status }: Channel): number {
  return (status.state === "connected" ? 0 : 2) + (kind === "waba" ? 1 : 0);
}

/** Starts a chat with somebody who has not written yet, on a channel that allows it. */
export function NewChat({ onClose }: { onClose: () => void }) {
  const workspace = useWorkspace();
  const all = useSelect((s) => s.data.channels);
  const channels = [...all.values()].filter((c) => c.kind !== "telegram").sort((a, b) => ease(a) - ease(b) || a.id - b.id); // a bot cannot write first
  const [channelId, setChannelId] = useState(String(channels[0]?.id ?? ""));
  const { busy, error, fields, submit } = useSubmit(async (form) => {
    const phone = String(new FormData(form).get("phone")).trim();
    const chat = await workspace.startChat({ channelId: Number(channelId), phone });
    onClose();
    navigate({ page: "inbox", chatId: chat.id });
  });
  const chosen = all.get(Number(channelId));
  const waba = chosen?.kind === "waba";
  return (
    <Dialog title="Start a chat" onClose={onClose}>
      {channels.length === 0 ? (
        <p class="muted">You have no channel that can write first. Customers reach a Telegram bot by themselves; for numbers connect a WhatsApp channel.</p>
      ) : (
        <form onSubmit={submit}>
          <Problem text={error} />
          <Select label="From" value={channelId} onChange={setChannelId} options={channels.map((c) => [String(c.id), c.status.state === "connected" ? c.name : `${c.name} (not connected)`])} />
          {chosen?.status.code === "reach_out_limited" && <p class="link-only">{chosen.status.reason}</p>}
          <Field
            label="Phone number"
            name="phone"
            type="tel"
            placeholder="+49 151 2345678"
            required
            autofocus
            error={fields.phone}
            hint={waba ? "With the country code. The first message must be an approved template." : "With the country code."}
          />
          <footer>
            <button type="button" class="button" onClick={onClose}>
              Cancel
            </button>
            <button class="button button-main" disabled={busy}>
              {busy ? "Looking the number up…" : "Start chat"}
            </button>
          </footer>
        </form>
      )}
    </Dialog>
  );
}
