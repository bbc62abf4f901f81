import { useState } from "preact/hooks";

import type { Channel, ChannelKind } from "../contract";
import { useWorkspace } from "../context";
import { uuid } from "../random";
import { Copyable, Dialog, Field, Problem, Select, useSubmit } from "./basics";
import { kindNames, webhookAddress } from "./Channels";

interface Setting {
  key: string;
  label: string;
  hint: string;
  secret?: boolean;
  optional?: boolean;
  digits?: boolean;
  phone?: boolean;
}

const settings: Record<ChannelKind, Setting[]> = {
  whatsapp: [{ key: "phone", label: "Phone number", hint: "Optional: then no other phone can be linked. With the country code.", optional: true, phone: true }],
  waba: [
    { key: "phoneNumberId", label: "Phone number ID", hint: "Meta's app dashboard, WhatsApp › API Setup. Not the number itself.", digits: true },
    { key: "businessAccountId", label: "WhatsApp Business Account ID", hint: "On the same page. Optional.", optional: true, digits: true },
    { key: "accessToken", label: "Access token", hint: "A permanent token of a system user with whatsapp_business_messaging.", secret: true },
    { key: "appSecret", label: "App secret", hint: "App settings › Basic. It proves that a delivery is Meta's.", secret: true },
  ],
  telegram: [{ key: "botToken", label: "Bot token", hint: "As @BotFather gave it, such as 123456:ABC…", secret: true }],
};

const kinds: ChannelKind[] = ["whatsapp", "waba", "telegram"];

/** Adds a channel. Secrets are sealed on the server and never come back. One that a phone is linked to is connected at once. */
export function ChannelForm({ onClose }: { onClose: (made?: Channel) => void }) {
  const workspace = useWorkspace();
  const [kind, setKind] = useState<ChannelKind>("whatsapp");
  const [verifyToken] = useState(() => uuid().replaceAll("-", ""));
  const { busy, error, fields, submit } = useSubmit(async (form) => {
    const values = new FormData(form);
    const config: Record<string, string> = kind === "waba" ? { verifyToken } : {};
    for (const { key } of settings[kind]) {
      const value = String(values.get(key) ?? "").trim();
      if (value) config[key] = value;
    }
    const name = String(values.get("name")).trim();
    const made = await workspace.saveChannel(() => workspace.api.post<Channel>("/api/channels", { kind, name, config }));
    if (kind === "whatsapp") await workspace.act(workspace.saveChannel(() => workspace.api.post<Channel>(`/api/channels/${made.id}/connect`)));
    onClose(made);
  });
  return (
    <Dialog title="Add a channel" onClose={() => onClose()}>
      <form onSubmit={submit} autocomplete="off">
        <Problem text={error} />
        <Select label="Kind" value={kind} onChange={setKind} options={kinds.map((k) => [k, kindNames[k]])} />
        <Field label="Name" name="name" required maxLength={200} autofocus hint="What your team calls it, such as Support or Sales." error={fields.name} />
        {settings[kind].map((s) => (
          <Field
            key={s.key}
            label={s.label}
            name={s.key}
            hint={s.hint}
            required={!s.optional}
            {...(s.secret ? { type: "password" } : s.phone ? { type: "tel" } : { type: "text" })}
            placeholder={s.phone ? "+49 151 2345678" : undefined}
            autocomplete={s.secret ? "new-password" : "off"}
            inputMode={s.digits ? "numeric" : undefined}
            pattern={s.digits ? "[0-9]+" : undefined}
            maxLength={4096}
            error={fields[`config.${s.key}`] ?? fields[s.key]}
          />
        ))}
        {kind === "waba" && (
          <div class="steps">
            <p>
              <strong>Then, at Meta</strong> (WhatsApp › Configuration › Webhook), enter these two, verify, and subscribe to <code>messages</code>:
            </p>
            <p class="label">Callback URL</p>
            <Copyable text={webhookAddress()} label="Copy the callback URL" />
            <p class="label">Verify token</p>
            <Copyable text={verifyToken} label="Copy the verify token" />
            <p class="muted small">Save the channel first: Meta asks at once. The token is not shown again.</p>
          </div>
        )}
        {kind === "whatsapp" && (
          <p class="steps">
            An ordinary number, linked like WhatsApp Web: the next step shows the code to scan. WhatsApp does not support programs like this one and may ban
            numbers that use them, above all those that write to many strangers.
          </p>
        )}
        <footer>
          <button type="button" class="button" onClick={() => onClose()}>
            Cancel
          </button>
          <button class="button button-main" disabled={busy}>
            {busy ? "Adding…" : kind === "whatsapp" ? "Add and link" : "Add channel"}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
