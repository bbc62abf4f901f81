import { useEffect, useState } from "preact/hooks";

import { reason } from "../api";
import type { ApiKey, Role } from "../contract";
import { useWorkspace } from "../context";
import { distance, full } from "../text/time";
import { Confirm, Copyable, Dialog, Empty, Field, Problem, Select, useNow, useSubmit } from "./basics";
import { Icon } from "./icons";
import { PageHead } from "./Page";
import { roles } from "./Team";

export function ApiKeys() {
  const workspace = useWorkspace();
  const now = useNow(60_000);
  const [keys, setKeys] = useState<ApiKey[] | null>(null);
  const [trouble, setTrouble] = useState("");
  const [creating, setCreating] = useState(false);
  const [deleting, setDeleting] = useState<ApiKey | null>(null);
  const load = () => workspace.api.all<ApiKey>("/api/api-keys").then(setKeys, (e) => setTrouble(reason(e)));
  useEffect(() => void load(), []);
  return (
    <div class="page">
      <PageHead title="API keys" text="For programs that use Switchboard's API in your name.">
        <a class="button" href="/docs" target="_blank" rel="noopener">
          Documentation
        </a>
        <button type="button" class="button button-main" onClick={() => setCreating(true)}>
          <Icon name="plus" size={18} /> New key
        </button>
      </PageHead>
      <Problem text={trouble} />
      {keys?.length === 0 && (
        <Empty icon="key" title="No keys yet">
          <p>A key lets your CRM or a script send messages and follow events.</p>
        </Empty>
      )}
      {keys && keys.length > 0 && (
        <div class="table-box">
          <table class="table">
            <thead>
              <tr>
                <th>Name</th>
                <th>Key</th>
                <th>Role</th>
                <th>Last used</th>
                <th>
                  <span class="visually-hidden">Actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {keys.map((key) => (
                <tr key={key.id}>
                  <td data-label="Name">{key.name}</td>
                  <td data-label="Key">
                    <code>{key.prefix}…</code>
                  </td>
                  <td data-label="Role">{roles.find(([r]) => r === key.role)?.[1]}</td>
                  <td data-label="Last used">{key.lastUsedAt ? <time title={full(key.lastUsedAt)}>{distance(key.lastUsedAt, now)}</time> : <span class="muted">Never</span>}</td>
                  <td class="row-actions">
                    <button type="button" class="button button-small button-quiet" onClick={() => setDeleting(key)}>
                      Delete
                    </button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {creating && <NewKey onClose={() => (setCreating(false), void load())} />}
      {deleting && (
        <Confirm
          title={`Delete ${deleting.name}?`}
          text="Programs that use this key lose access at once."
          action="Delete key"
          onClose={() => setDeleting(null)}
          onConfirm={async () => {
            await workspace.api.delete(`/api/api-keys/${deleting.id}`);
            await load();
          }}
        />
      )}
    </div>
  );
}

function NewKey({ onClose }: { onClose: () => void }) {
  const workspace = useWorkspace();
  const [role, setRole] = useState<Role>("operator");
  const [secret, setSecret] = useState("");
  const { busy, error, fields, submit } = useSubmit(async (form) => {
    const name = String(new FormData(form).get("name")).trim();
    setSecret((await workspace.api.post<ApiKey & { secret: string }>("/api/api-keys", { name, role })).secret);
  });
  if (secret)
    return (
      <Dialog title="Your new key" onClose={onClose}>
        <p>Copy it now: it is not shown again.</p>
        <Copyable text={secret} label="Copy the key" />
        <footer>
          <button type="button" class="button button-main" onClick={onClose}>
            Done
          </button>
        </footer>
      </Dialog>
    );
  return (
    <Dialog title="New API key" onClose={onClose}>
      <form onSubmit={submit}>
        <Problem text={error} />
        <Field label="What is it for?" name="name" required maxLength={200} autofocus placeholder="CRM" error={fields.name} />
        <Select label="Role" value={role} onChange={setRole} options={roles} />
        <footer>
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button button-main" disabled={busy}>
            Make the key
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
