import { useState } from "preact/hooks";

import type { Chat } from "../contract";
import { useWorkspace } from "../context";
import { uuid } from "../random";
import { Dialog, Field, IconButton, useSubmit } from "./basics";
import { Icon } from "./icons";

const lastUsed = "switchboard.template";

interface Remembered {
  name: string;
  language: string;
  count: number;
}

function remembered(): Remembered {
  try {
    return { name: "", language: navigator.language.replace("-", "_"), count: 0, ...JSON.parse(localStorage.getItem(lastUsed) ?? "{}") };
  } catch {
    return { name: "", language: "en", count: 0 };
  }
}

/** Sends a template that was approved at Meta: its name, language and the values of its placeholders. */
export function TemplateForm({ chat, onClose }: { chat: Chat; onClose: () => void }) {
  const workspace = useWorkspace();
  const [last] = useState(remembered);
  const [parameters, setParameters] = useState<string[]>(() => Array.from({ length: Math.min(last.count, 50) }, () => ""));
  const { submit } = useSubmit(async (form) => {
    const values = new FormData(form);
    const name = String(values.get("name")).trim();
    const language = String(values.get("language")).trim();
    localStorage.setItem(lastUsed, JSON.stringify({ name, language, count: parameters.length }));
    workspace.outbox.add({
      request: {
        chatId: chat.id,
        content: "",
        type: "template",
        template: { name, language, ...(parameters.length > 0 ? { parameters } : {}) },
        clientMessageId: uuid(),
      },
      createdAt: new Date().toISOString(),
      state: "sending",
      reason: "",
    });
    onClose();
  });
  return (
    <Dialog title="Send a template" onClose={onClose}>
      <form onSubmit={submit}>
        <p class="muted">Templates are written and approved in Meta's WhatsApp Manager. Enter name and language exactly as they stand there.</p>
        <div class="field-pair">
          <Field label="Name" name="name" required maxLength={512} autofocus placeholder="order_update" defaultValue={last.name} />
          <Field label="Language" name="language" required minLength={2} maxLength={20} placeholder="en_US" defaultValue={last.language} />
        </div>
        {parameters.map((value, i) => (
          <div class="field-row" key={i}>
            <Field
              label={`Value of {{${i + 1}}}`}
              value={value}
              required
              onInput={(e) => {
                const text = e.currentTarget.value;
                setParameters((now) => now.map((v, j) => (j === i ? text : v)));
              }}
            />
            <IconButton icon="close" label={`Remove {{${i + 1}}}`} onClick={() => setParameters(parameters.filter((_, j) => j !== i))} />
          </div>
        ))}
        {parameters.length < 50 && (
          <button type="button" class="link" onClick={() => setParameters([...parameters, ""])}>
            <Icon name="plus" size={16} /> Add a placeholder's value
          </button>
        )}
        <footer>
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button button-main">Send template</button>
        </footer>
      </form>
    </Dialog>
  );
}
