import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";

import { ApiError, reason } from "../api";
import type { Channel, ChannelStatus, Time } from "../contract";
import { useSelect, useWorkspace } from "../context";
import { phone } from "../text/names";
import { duration } from "../text/time";
import { copy, Dialog, Field, Problem, Spinner, useNow, useSubmit } from "./basics";
import { statusName } from "./Channels";
import { Icon } from "./icons";

/** Links a phone: a code to scan, renewed as it changes, or a code to type. Every way in which that ends is told, with why. */
export function LinkDevice({ channel, onClose }: { channel: Channel; onClose: () => void }) {
  const { status } = channel;
  return (
    <Dialog title={`Link ${channel.name}`} onClose={onClose}>
      {status.state === "connected" ? (
        <Linked status={status} onClose={onClose} />
      ) : status.state === "qr" || status.state === "pairing" ? (
        <Waiting channel={channel} />
      ) : status.state === "connecting" ? (
        <Result status={status} mark={<Spinner label="Connecting" />} title={statusName(status)} />
      ) : (
        <Ended channel={channel} onClose={onClose} />
      )}
    </Dialog>
  );
}

function Result({ status, mark, title, children }: { status: ChannelStatus; mark: ComponentChildren; title: string; children?: ComponentChildren }) {
  return (
    <div class="link-result" role="status">
      {mark}
      <h3>{title}</h3>
      {status.reason && <p>{status.reason}</p>}
      {children && <footer>{children}</footer>}
    </div>
  );
}

function Linked({ status, onClose }: { status: ChannelStatus; onClose: () => void }) {
  const importing = status.code === "history_sync";
  return (
    <Result status={status} mark={importing ? <Spinner label="Importing" /> : <Icon name="check" size={40} class="good" />} title={importing ? "Linked. The phone's chats are being imported." : "The phone is linked."}>
      <button type="button" class="button button-main" onClick={onClose}>
        Done
      </button>
    </Result>
  );
}

function Ended({ channel, onClose }: { channel: Channel; onClose: () => void }) {
  const { connect, busy, error } = useConnect(channel);
  const never = channel.status.state === "disconnected" && !channel.status.code;
  return (
    <Result status={channel.status} mark={<Icon name={never ? "link" : "warning"} size={40} class={never ? "" : "bad"} />} title={statusName(channel.status)}>
      <Problem text={error} />
      <button type="button" class="button" onClick={onClose}>
        Close
      </button>
      <button type="button" class="button button-main" disabled={busy} onClick={() => void connect()}>
        {never ? "Connect" : "Try again"}
      </button>
    </Result>
  );
}

/** Connects a channel; anew: in the place of another admin, whose codes end by that. */
function useConnect(channel: Channel) {
  const workspace = useWorkspace();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const connect = async (anew = false) => {
    setBusy(true);
    setError("");
    try {
      for (const step of anew ? ["disconnect", "connect"] : ["connect"]) {
        await workspace.saveChannel(() => workspace.api.post<Channel>(`/api/channels/${channel.id}/${step}`));
      }
    } catch (e) {
      setError(reason(e));
    } finally {
      setBusy(false);
    }
  };
  return { connect, busy, error };
}

function Waiting({ channel }: { channel: Channel }) {
  const [typing, setTyping] = useState(channel.status.state === "pairing");
  const { code, trouble } = useCode(channel);
  // The channel waits for a phone, so a conflict can mean one thing only.
  if (trouble instanceof ApiError && trouble.status === 409) return <Elsewhere channel={channel} />;
  return (
    <>
      <div class="segments" role="group" aria-label="How to link the phone">
        <button type="button" aria-pressed={!typing} onClick={() => setTyping(false)}>
          Scan a QR code
        </button>
        <button type="button" aria-pressed={typing} onClick={() => setTyping(true)}>
          Link with phone number
        </button>
      </div>
      {channel.config.phone && <p class="link-only">Only {phone(channel.config.phone)} can be linked to this channel.</p>}
      {typing ? (
        <PairByNumber channel={channel} />
      ) : (
        <>
          <Steps last={<>Point the phone at this code.</>} />
          <Code code={code} trouble={trouble ? reason(trouble) : ""} />
        </>
      )}
    </>
  );
}

function Steps({ last }: { last: ComponentChildren }) {
  return (
    <ol class="link-steps">
      <li>Open WhatsApp on the phone that has the number.</li>
      <li>
        Go to <strong>Settings</strong>, <strong>Linked devices</strong>, then <strong>Link a device</strong>.
      </li>
      <li>{last}</li>
    </ol>
  );
}

function Elsewhere({ channel }: { channel: Channel }) {
  const { connect, busy, error } = useConnect(channel);
  return (
    <div class="link-result" role="status">
      <Icon name="person" size={40} />
      <h3>Another admin is linking this channel</h3>
      <p>Only the admin who asked last sees the codes. When you link the phone here, theirs end.</p>
      <Problem text={error} />
      <footer>
        <button type="button" class="button button-main" disabled={busy} onClick={() => void connect(true)}>
          Link here instead
        </button>
      </footer>
    </div>
  );
}

interface ShownCode {
  url: string;
  text: string;
  /** Milliseconds by this machine's clock; 0 when that and the server's differ too much to tell. */
  until: number;
}

/** Longer than any code lives, in milliseconds. */
const codeLife = 65_000;

/** The code on show. It is asked for when an event tells of a new one, and when the last has ended without such an event. */
function useCode(channel: Channel) {
  const workspace = useWorkspace();
  const turn = useSelect((s) => s.qr.get(channel.id) ?? 0);
  const [round, setRound] = useState(0);
  const [code, setCode] = useState<ShownCode | null>(null);
  const [trouble, setTrouble] = useState<unknown>(null);
  useEffect(() => {
    let gone = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const again = (wait: number) => (timer = setTimeout(() => setRound((n) => n + 1), wait));
    const path = `/api/channels/${channel.id}/qr`;
    const load = async () => {
      const { qr: text, expiresAt } = await workspace.api.get<{ qr: string; expiresAt: Time }>(path);
      const image = await workspace.api.get<Blob>(`${path}.png`);
      if (gone) return;
      const left = Date.parse(expiresAt) - Date.now();
      const known = left > 0 && left < codeLife;
      setCode({ url: URL.createObjectURL(image), text, until: known ? Date.now() + left : 0 });
      setTrouble(null);
      again(known ? left + 1000 : 10_000);
    };
    load().catch((e) => {
      if (gone) return;
      setTrouble(e);
      if (e instanceof ApiError && e.transient) again(2000);
    });
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [channel.id, turn, round]);
  useEffect(() => () => void (code && URL.revokeObjectURL(code.url)), [code]);
  return { code, trouble };
}

function Code({ code, trouble }: { code: ShownCode | null; trouble: string }) {
  const [copied, setCopied] = useState("");
  const now = useNow(500).getTime();
  const left = code?.until ? Math.max(0, code.until - now) : 0;
  const over = !!code?.until && left === 0;
  return (
    <>
      <div class={`qr ${over ? "qr-over" : ""}`}>
        {code && <img src={code.url} alt="QR code to scan with WhatsApp" />}
        {(!code || over) && <Spinner label="Waiting for the next code" />}
      </div>
      <p class="link-left muted" role="timer">
        {!code || over ? "Waiting for the next code…" : code.until ? `The code changes in ${duration(left)}.` : "The code changes by itself."}
      </p>
      {code && !over && (
        <button type="button" class="link link-center small" title="For a phone that cannot scan, such as the simulator's" onClick={() => void copy(code.text).then(() => setCopied(code.text))}>
          {copied === code.text ? "Copied" : "Copy the code's text"}
        </button>
      )}
      <Problem text={trouble} />
    </>
  );
}

function PairByNumber({ channel }: { channel: Channel }) {
  const workspace = useWorkspace();
  const now = useNow(500).getTime();
  const [answer, setAnswer] = useState<{ code: string; expiresAt: Time; phone: string } | null>(null);
  const { busy, error, fields, submit } = useSubmit(async (form) => {
    const number = String(new FormData(form).get("phone")).trim();
    const given = await workspace.api.post<{ code: string; expiresAt: Time }>(`/api/channels/${channel.id}/pair-code`, { phone: number });
    setAnswer({ ...given, phone: number });
  });
  const left = answer ? Math.max(0, Date.parse(answer.expiresAt) - now) : 0;
  if (answer && left > 0)
    return (
      <>
        <Steps
          last={
            <>
              Choose <strong>Link with phone number instead</strong> and type this code.
            </>
          }
        />
        <PairCode code={answer.code} />
        <p class="link-left muted" role="timer">
          For {phone(answer.phone)}, good for {duration(left)}.
        </p>
        <button type="button" class="link link-center" onClick={() => setAnswer(null)}>
          Get another code
        </button>
      </>
    );
  return (
    <form onSubmit={submit}>
      <p class="muted">{answer ? "The code has ended. Get another one." : "WhatsApp gives a code for one phone number. It is typed into that phone; nothing is scanned."}</p>
      <Problem text={error} />
      <Field label="The phone's number" name="phone" type="tel" required autofocus placeholder="+49 151 2345678" hint="With the country code." defaultValue={answer?.phone ?? (channel.config.phone ? phone(channel.config.phone) : undefined)} error={fields.phone} />
      <footer>
        <button class="button button-main" disabled={busy}>
          {busy ? "Asking WhatsApp…" : "Get a code"}
        </button>
      </footer>
    </form>
  );
}

function PairCode({ code }: { code: string }) {
  const [done, setDone] = useState(false);
  return (
    <div class="pair-code">
      <output aria-label={`The code is ${[...code].join(" ")}`}>{code}</output>
      <button type="button" class="button" onClick={() => void copy(code).then(() => setDone(true))}>
        <Icon name={done ? "check" : "copy"} size={17} /> {done ? "Copied" : "Copy"}
      </button>
    </div>
  );
}
