import { useState } from "preact/hooks";

import { useSelect, useWorkspace } from "../context";
import { navigate } from "../route";
import { Dialog, Field, Problem, Select, useSubmit } from "./basics";

/** Starts a chat with somebody who has not written yet, on a channel that allows it. */
export function NewChat({ onClose }: { onClose: () => void }) {
  const workspace = useWorkspace();
  const all = useSelect((s) => s.data.channels);
  const channels = [...all.values()].filter((c) => c.kind !== "telegram"); // a bot cannot write first
  const [channelId, setChannelId] = useState(String(channels[0]?.id ?? ""));
  const { busy, error, fields, submit } = useSubmit(async (form) => {
    const phone = String(new FormData(form).get("phone")).trim();
    const chat = await workspace.startChat({ channelId: Number(channelId), phone });
    onClose();
    navigate({ page: "inbox", chatId: chat.id });
  });
  const waba = all.get(Number(channelId))?.kind === "waba";
  return (
    <Dialog title="Start a chat" onClose={onClose}>
      {channels.length === 0 ? (
        <p class="muted">You have no channel that can write first. Customers reach a Telegram bot by themselves; for numbers connect a WhatsApp channel.</p>
      ) : (
        <form onSubmit={submit}>
          <Problem text={error} />
          <Select label="From" value={channelId} onChange={setChannelId} options={channels.map((c) => [String(c.id), c.name])} />
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
