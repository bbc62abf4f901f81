import { useEffect, useState } from "preact/hooks";

import { reason, request } from "../api";
import type { Session } from "../contract";
import { Field, Problem, Spinner, useSubmit } from "./basics";

export function Logo({ size = 40 }: { size?: number }) {
  return (
    <svg class="logo" width={size} height={size} viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" />
      <path d="M9 11h6c4 0 2 10 6 10h2" />
      <path d="M9 21h3.5M19.5 11H23" opacity=".55" />
      <circle cx="8.500" cy="11" r="2.600" />
      <circle cx="23.500" cy="21" r="2.600" />
    </svg>
  );
}

/** Asks whether an organization can be created. */
async function registrationOpen(): Promise<boolean> {
  return (await request<{ open: boolean }>("GET", "/api/auth/register")).open;
}

export function SignIn({ notice, onSession }: { notice: string; onSession: (session: Session) => void }) {
  const [mode, setMode] = useState<"asking" | "login" | "register">("asking");
  const [open, setOpen] = useState(false);
  const [trouble, setTrouble] = useState("");
  useEffect(() => {
    let gone = false;
    registrationOpen().then(
      (isOpen) => {
        if (gone) return;
        setOpen(isOpen);
        setMode("login");
      },
      (error) => {
        if (gone) return;
        setTrouble(reason(error));
        setMode("login");
      },
    );
    return () => void (gone = true);
  }, []);
  return (
    <main class="gate">
      <div class="gate-card">
        <header class="gate-brand">
          <Logo />
          <span>Switchboard</span>
        </header>
        {mode === "asking" && <Spinner />}
        {mode === "login" && <Login notice={notice || trouble} onSession={onSession} />}
        {mode === "register" && <Register onSession={onSession} />}
        {mode === "login" && open && (
          <p class="gate-switch">
            New here?{" "}
            <button type="button" class="link" onClick={() => setMode("register")}>
              Create an organization
            </button>
          </p>
        )}
        {mode === "register" && (
          <p class="gate-switch">
            Have an account?{" "}
            <button type="button" class="link" onClick={() => setMode("login")}>
              Sign in
            </button>
          </p>
        )}
      </div>
      <p class="gate-claim">Every WhatsApp and Telegram conversation, on every screen, in order.</p>
    </main>
  );
}

function Login({ notice, onSession }: { notice: string; onSession: (session: Session) => void }) {
  const { busy, error, fields, submit } = useSubmit(async (form) => {
    const values = Object.fromEntries(new FormData(form));
    onSession(await request<Session>("POST", "/api/auth/login", values));
  });
  return (
    <form onSubmit={submit}>
      <h1>Sign in</h1>
      <Problem text={error || notice} />
      <Field label="E-mail" name="email" type="email" autocomplete="username" required autofocus error={fields.email} />
      <Field label="Password" name="password" type="password" autocomplete="current-password" required error={fields.password} />
      <button class="button button-main button-wide" disabled={busy}>
        {busy ? "Signing in…" : "Sign in"}
      </button>
    </form>
  );
}

function Register({ onSession }: { onSession: (session: Session) => void }) {
  const { busy, error, fields, submit } = useSubmit(async (form) => {
    const values = Object.fromEntries(new FormData(form));
    onSession(await request<Session>("POST", "/api/auth/register", values));
  });
  return (
    <form onSubmit={submit}>
      <h1>Create your organization</h1>
      <p class="muted">You become its admin, and can add colleagues afterwards.</p>
      <Problem text={error} />
      <Field label="Organization" name="organizationName" autocomplete="organization" maxLength={200} required autofocus error={fields.organizationName} />
      <Field label="Your name" name="name" autocomplete="name" maxLength={200} required error={fields.name} />
      <Field label="E-mail" name="email" type="email" autocomplete="username" maxLength={254} required error={fields.email} />
      <Field label="Password" name="password" type="password" autocomplete="new-password" minLength={8} maxLength={256} required hint="At least 8 characters." error={fields.password} />
      <button class="button button-main button-wide" disabled={busy}>
        {busy ? "Creating…" : "Create organization"}
      </button>
    </form>
  );
}
