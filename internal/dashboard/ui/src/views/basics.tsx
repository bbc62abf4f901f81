import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";

import { reason, ApiError } from "../api";
import type { Network } from "../contract";
import { hue, initials } from "../text/names";
import { Icon, NetworkIcon, type IconName } from "./icons";

export interface AvatarProps {
  id: number;
  name: string;
  url?: string;
  network?: Network;
  size?: "s" | "m" | "l";
  /** The picture cannot be loaded; its initials are shown. */
  onBroken?: () => void;
}

export function Avatar({ id, name, url, network, size = "m", onBroken }: AvatarProps) {
  const [broken, setBroken] = useState(false);
  useEffect(() => setBroken(false), [url]);
  // Pictures of other hosts are not asked for: they would tell the host who reads.
  const own = url?.startsWith("/") && !url.startsWith("//") && !broken;
  return (
    <span class={`avatar avatar-${size} hue-${hue(id)}`} aria-hidden="true">
      {own ? <img src={url} alt="" onError={() => (setBroken(true), onBroken?.())} /> : initials(name)}
      {network && (
        <span class="avatar-network">
          <NetworkIcon network={network} size={size === "l" ? 20 : 15} />
        </span>
      )}
    </span>
  );
}

export function IconButton({ icon, label, class: extra = "", ...rest }: { icon: IconName; label: string; class?: string } & JSX.IntrinsicElements["button"]) {
  return (
    <button type="button" class={`icon-button ${extra}`} aria-label={label} title={label} {...rest}>
      <Icon name={icon} />
    </button>
  );
}

export function Spinner({ label = "Loading" }: { label?: string }) {
  return <span class="spinner" role="status" aria-label={label} />;
}

export function Empty({ icon, title, children }: { icon: IconName; title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <span class="empty-icon">
        <Icon name={icon} size={28} />
      </span>
      <h2>{title}</h2>
      {children && <div class="empty-text">{children}</div>}
    </div>
  );
}

/** A labelled input with its hint or what is wrong with it. */
export function Field({ label, hint, error, ...input }: { label: string; hint?: string; error?: string } & JSX.IntrinsicElements["input"]) {
  const id = useId();
  return (
    <div class={`field ${error ? "field-bad" : ""}`}>
      <label for={id}>{label}</label>
      <input id={id} aria-invalid={error ? "true" : undefined} aria-describedby={error || hint ? `${id}-hint` : undefined} {...input} />
      {(error || hint) && (
        <p id={`${id}-hint`} class="field-hint" role={error ? "alert" : undefined}>
          {error || hint}
        </p>
      )}
    </div>
  );
}

export function Select<T extends string>({ label, value, options, onChange, hidden }: { label: string; value: T; options: [T, string][]; onChange: (value: T) => void; hidden?: boolean }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id} class={hidden ? "visually-hidden" : ""}>
        {label}
      </label>
      <span class="select">
        <select id={id} value={value} onChange={(e) => onChange(e.currentTarget.value as T)}>
          {options.map(([key, text]) => (
            <option key={key} value={key}>
              {text}
            </option>
          ))}
        </select>
        <Icon name="down" size={16} />
      </span>
    </div>
  );
}

/** A form's submission: busy while it runs, with what went wrong: as a whole, or field by field. */
export function useSubmit(work: (form: HTMLFormElement) => Promise<unknown>) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const [fields, setFields] = useState<Record<string, string>>({});
  const submit = async (event: Event) => {
    event.preventDefault();
    if (busy) return;
    const form = event.currentTarget as HTMLFormElement;
    setBusy(true);
    setError("");
    setFields({});
    try {
      await work(form);
    } catch (cause) {
      const known = cause instanceof ApiError ? cause.fields : {};
      const inputs = Object.keys(known).map((field) => inputOf(form, field));
      setFields(known);
      // What stands under its field is not said over the form once more.
      if (inputs.length > 0 && inputs.every((input) => input)) inputs[0]!.focus();
      else setError(reason(cause));
    } finally {
      setBusy(false);
    }
  };
  return { busy, error, fields, submit };
}

// The input of a form that shows what is wrong with a field of the request, such as config.phone.
function inputOf(form: HTMLFormElement, field: string): HTMLElement | null {
  return form.querySelector<HTMLElement>(`input[name="${CSS.escape(field.split(".").at(-1)!)}"]`);
}

export function Problem({ text }: { text: string }) {
  return text ? (
    <p class="problem" role="alert">
      <Icon name="warning" size={18} /> <span>{text}</span>
    </p>
  ) : null;
}

/** A modal dialog: the browser keeps the focus inside, and closes it on Escape. */
export function Dialog({ title, onClose, children, wide }: { title: string; onClose: () => void; children: ComponentChildren; wide?: boolean }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current!;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  return (
    <dialog
      ref={ref}
      class={`dialog ${wide ? "dialog-wide" : ""}`}
      aria-labelledby={id}
      onCancel={(e) => {
        e.preventDefault();
        onClose();
      }}
      onMouseDown={(e) => e.target === ref.current && onClose()}
    >
      <div class="dialog-box">
        <header>
          <h2 id={id}>{title}</h2>
          <IconButton icon="close" label="Close" onClick={onClose} />
        </header>
        {children}
      </div>
    </dialog>
  );
}

export function Confirm({ title, text, action, onClose, onConfirm }: { title: string; text: string; action: string; onClose: () => void; onConfirm: () => Promise<unknown> }) {
  const { busy, error, submit } = useSubmit(async () => {
    await onConfirm();
    onClose();
  });
  return (
    <Dialog title={title} onClose={onClose}>
      <form onSubmit={submit}>
        <p>{text}</p>
        <Problem text={error} />
        <footer>
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button button-danger" disabled={busy}>
            {action}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

/** A button that opens a small panel beside it. Escape and a click elsewhere close it. */
export function Popover({ trigger, panelClass = "", children }: {
  trigger: (props: { onClick: () => void; "aria-expanded": boolean }) => ComponentChildren;
  panelClass?: string;
  children: (close: () => void) => ComponentChildren;
}) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLSpanElement>(null);
  const panel = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (!open) return;
    const away = (e: Event) => !box.current?.contains(e.target as Node) && setOpen(false);
    const escape = (e: KeyboardEvent) => {
      if (e.key !== "Escape") return;
      e.stopPropagation();
      setOpen(false);
      box.current?.querySelector("button")?.focus();
    };
    document.addEventListener("pointerdown", away);
    box.current?.addEventListener("keydown", escape);
    panel.current?.querySelector<HTMLElement>("button, a, input")?.focus({ preventScroll: true });
    const current = box.current;
    return () => {
      document.removeEventListener("pointerdown", away);
      current?.removeEventListener("keydown", escape);
    };
  }, [open]);
  return (
    <span class="popover" ref={box}>
      {trigger({ onClick: () => setOpen(!open), "aria-expanded": open })}
      {open && (
        <div class={`popover-panel ${panelClass}`} ref={panel}>
          {children(() => setOpen(false))}
        </div>
      )}
    </span>
  );
}

/** Copies a text; where the browser has no clipboard for this page, the old way. */
export async function copy(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");
  field.value = text;
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

/** Text to take away, such as an address or a secret. */
export function Copyable({ text, label }: { text: string; label: string }) {
  const [done, setDone] = useState(false);
  return (
    <span class="copyable">
      <code>{text}</code>
      <IconButton
        icon={done ? "check" : "copy"}
        label={done ? "Copied" : label}
        onClick={() => void copy(text).then(() => setDone(true))}
      />
    </span>
  );
}

/** The present time, renewed every interval (milliseconds). */
export function useNow(interval: number): Date {
  const [now, setNow] = useState(() => new Date());
  useEffect(() => {
    const timer = setInterval(() => setNow(new Date()), interval);
    return () => clearInterval(timer);
  }, [interval]);
  return now;
}
