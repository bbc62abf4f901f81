import { useEffect, useState } from "preact/hooks";

import { ApiError, reason } from "../api";
import type { Channel } from "../contract";
import { useSelect, useWorkspace } from "../context";
import { Dialog, Field, Problem, Spinner, useSubmit } from "./basics";
import { stateNames } from "./Channels";
import { Icon } from "./icons";

/** Links a phone: a code to scan, renewed as it changes, or a code to type. */
export function LinkDevice({ channel, onClose }: { channel: Channel; onClose: () => void }) {
  const { state, reason: why } = channel.status;
  const over = state !== "connecting" && state !== "qr" && state !== "pairing";
  return (
    <Dialog title={`Link ${channel.name}`} onClose={onClose}>
      {over ? (
        <div class="link-result">
          <Icon name={state === "connected" ? "check" : "warning"} size={40} />
          <h3>{state === "connected" ? "The phone is linked." : stateNames[state]}</h3>
          {why && <p>{why}</p>}
          <footer>
            <button type="button" class="button button-main" onClick={onClose}>
              Done
            </button>
          </footer>
        </div>
      ) : (
        <>
          <ol class="link-steps">
            <li>Open WhatsApp on the phone.</li>
            <li>
              Go to <strong>Linked devices</strong>, then <strong>Link a device</strong>.
            </li>
            <li>Point the phone at this code.</li>
          </ol>
          <Code channel={channel} />
          {why && <p class="muted">{why}</p>}
          <PairByNumber channel={channel} />
        </>
      )}
    </Dialog>
  );
}

function Code({ channel }: { channel: Channel }) {
  const workspace = useWorkspace();
  const turn = useSelect((s) => s.qr.get(channel.id) ?? 0);
  const [url, setUrl] = useState("");
  const [trouble, setTrouble] = useState("");
  useEffect(() => {
    let gone = false;
    workspace.api.get<Blob>(`/api/channels/${channel.id}/qr.png`).then(
      (image) => {
        if (gone) return;
        setUrl(URL.createObjectURL(image));
        setTrouble("");
      },
      (e) => {
        // Before the first code there is none: the event tells when.
        if (!gone) setTrouble(e instanceof ApiError && (e.status === 404 || e.status === 409) ? "" : reason(e));
      },
    );
    return () => void (gone = true);
  }, [turn, channel.status.state]);
  useEffect(() => () => void (url && URL.revokeObjectURL(url)), [url]);
  return (
    <div class="qr">
      {url ? <img src={url} alt="QR code to scan with WhatsApp" /> : <Spinner label="Waiting for the code" />}
      <Problem text={trouble} />
    </div>
  );
}

function PairByNumber({ channel }: { channel: Channel }) {
  const workspace = useWorkspace();
  const [code, setCode] = useState("");
  const { busy, error, fields, submit } = useSubmit(async (form) => {
    const phone = String(new FormData(form).get("phone")).trim();
    const answer = await workspace.api.post<{ code: string }>(`/api/channels/${channel.id}/pair-code`, { phone });
    setCode(answer.code);
  });
  return (
    <details class="pair">
      <summary>Link with a code instead</summary>
      {code ? (
        <p>
          Enter this code on the phone: <strong class="pair-code">{code}</strong>
        </p>
      ) : (
        <form onSubmit={submit}>
          <Problem text={error} />
          <Field label="The phone's number" name="phone" type="tel" required placeholder="+49 151 2345678" error={fields.phone} />
          <button class="button" disabled={busy}>
            Get a code
          </button>
        </form>
      )}
    </details>
  );
}
