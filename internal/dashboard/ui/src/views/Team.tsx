import { useState } from "preact/hooks";

import type { Role, User } from "../contract";
import { useSelect, useWorkspace } from "../context";
import { Avatar, Confirm, Dialog, Field, Problem, Select, useSubmit } from "./basics";
import { Icon } from "./icons";
import { PageHead } from "./Page";

export const roles: [Role, string][] = [
  ["operator", "Operator"],
  ["admin", "Admin"],
];

export function Team() {
  const workspace = useWorkspace();
  const users = useSelect((s) => s.users);
  const [adding, setAdding] = useState(false);
  const list = [...users.values()].sort((a, b) => Number(b.active) - Number(a.active) || a.id - b.id);
  return (
    <div class="page">
      <PageHead title="Team" text="Operators answer chats. Admins also manage people, keys and channels.">
        <button type="button" class="button button-main" onClick={() => setAdding(true)}>
          <Icon name="plus" size={18} /> Add a person
        </button>
      </PageHead>
      <div class="table-box">
        <table class="table">
          <thead>
            <tr>
              <th>Name</th>
              <th>E-mail</th>
              <th>Role</th>
              <th>
                <span class="visually-hidden">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {list.map((user) => (
              <Row key={user.id} user={user} self={user.id === workspace.me.id} />
            ))}
          </tbody>
        </table>
      </div>
      {adding && <NewUser onClose={() => setAdding(false)} />}
    </div>
  );
}

function Row({ user, self }: { user: User; self: boolean }) {
  const workspace = useWorkspace();
  const [asking, setAsking] = useState(false);
  const change = async (part: object) => {
    if (await workspace.act(workspace.api.patch(`/api/users/${user.id}`, part))) await workspace.act(workspace.loadPeople());
  };
  return (
    <tr class={user.active ? "" : "row-off"}>
      <td data-label="Name">
        <span class="person">
          <Avatar id={user.id} name={user.name} size="s" /> {user.name} {self && <span class="mark">You</span>} {!user.active && <span class="mark">Deactivated</span>}
        </span>
      </td>
      <td data-label="E-mail">{user.email}</td>
      <td data-label="Role">
        {self ? roles.find(([key]) => key === user.role)?.[1] : <Select label={`Role of ${user.name}`} hidden value={user.role} onChange={(role) => void change({ role })} options={roles} />}
      </td>
      <td class="row-actions">
        {!self &&
          (user.active ? (
            <button type="button" class="button button-small button-quiet" onClick={() => setAsking(true)}>
              Deactivate
            </button>
          ) : (
            <button type="button" class="button button-small" onClick={() => void change({ active: true })}>
              Reactivate
            </button>
          ))}
        {asking && (
          <Confirm
            title={`Deactivate ${user.name}?`}
            text="Access ends at once, on every device. What was written stays, and you can reactivate the account later."
            action="Deactivate"
            onClose={() => setAsking(false)}
            onConfirm={async () => {
              await workspace.api.patch(`/api/users/${user.id}`, { active: false });
              await workspace.loadPeople();
            }}
          />
        )}
      </td>
    </tr>
  );
}

function NewUser({ onClose }: { onClose: () => void }) {
  const workspace = useWorkspace();
  const [role, setRole] = useState<Role>("operator");
  const { busy, error, fields, submit } = useSubmit(async (form) => {
    const { name, email, password } = Object.fromEntries(new FormData(form));
    await workspace.api.post("/api/users", { name, email, password, role });
    await workspace.loadPeople();
    onClose();
  });
  return (
    <Dialog title="Add a person" onClose={onClose}>
      <form onSubmit={submit} autocomplete="off">
        <Problem text={error} />
        <Field label="Name" name="name" required maxLength={200} autofocus error={fields.name} />
        <Field label="E-mail" name="email" type="email" required maxLength={254} error={fields.email} />
        <Field label="First password" name="password" type="password" autocomplete="new-password" required minLength={8} maxLength={256} hint="At least 8 characters. The person can change it." error={fields.password} />
        <Select label="Role" value={role} onChange={setRole} options={roles} />
        <footer>
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button button-main" disabled={busy}>
            Add person
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
