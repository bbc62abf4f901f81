import { useState } from "preact/hooks";

import { useSelect, useWorkspace } from "../context";
import { Avatar, Field, Problem, useSubmit } from "./basics";
import { Icon } from "./icons";
import { PageHead } from "./Page";
import { setTheme, theme, type Theme } from "../theme";

export function Profile() {
  const workspace = useWorkspace();
  const organization = useSelect((s) => s.organization);
  const self = useSelect((s) => s.users.get(workspace.me.id));
  return (
    <div class="page page-narrow">
      <PageHead title="Your profile" />
      <section class="card">
        <header>
          <Avatar id={workspace.me.id} name={self?.name ?? workspace.me.name} size="l" />
          <div>
            <h2>{self?.name ?? workspace.me.name}</h2>
            <p class="muted">
              {workspace.me.email} · {workspace.me.role === "admin" ? "Admin" : "Operator"}
              {organization && ` · ${organization.name}`}
            </p>
          </div>
        </header>
        <footer>
          <button type="button" class="button" onClick={() => void workspace.signOut()}>
            <Icon name="out" size={18} /> Sign out
          </button>
        </footer>
      </section>
      <Appearance />
      <Password />
    </div>
  );
}

function Appearance() {
  const [now, setNow] = useState<Theme>(theme());
  return (
    <section class="card">
      <h2 id="appearance">Appearance</h2>
      <div class="segments" role="group" aria-labelledby="appearance">
        {([["auto", "As the system", "auto"], ["light", "Light", "sun"], ["dark", "Dark", "moon"]] as const).map(([key, label, icon]) => (
          <button key={key} type="button" aria-pressed={now === key} onClick={() => (setTheme(key), setNow(key))}>
            <Icon name={icon} size={17} /> {label}
          </button>
        ))}
      </div>
    </section>
  );
}

function Password() {
  const workspace = useWorkspace();
  const { busy, error, fields, submit } = useSubmit(async (form) => {
    const { currentPassword, password } = Object.fromEntries(new FormData(form));
    await workspace.api.patch("/api/me", { currentPassword, password });
    form.reset();
    workspace.toast("Your password is changed. Other devices are signed out.");
  });
  return (
    <section class="card">
      <h2>Change the password</h2>
      <form onSubmit={submit}>
        <input type="text" autocomplete="username" value={workspace.me.email} hidden readOnly />
        <Problem text={error} />
        <Field label="Present password" name="currentPassword" type="password" autocomplete="current-password" required error={fields.currentPassword} />
        <Field label="New password" name="password" type="password" autocomplete="new-password" required minLength={8} maxLength={256} hint="At least 8 characters." error={fields.password} />
        <button class="button" disabled={busy}>
          Change password
        </button>
      </form>
    </section>
  );
}
