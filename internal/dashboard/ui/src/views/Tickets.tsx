import { useEffect, useMemo, useState } from "preact/hooks";

import { reason } from "../api";
import type { Ticket, TicketStatus } from "../contract";
import { useSelect, useWorkspace } from "../context";
import { follow, pathOf } from "../route";
import { chatName } from "../text/names";
import { full, short } from "../text/time";
import { Empty, Problem, Select, Spinner, useNow } from "./basics";
import { TicketDialog, priorities, ticketStatuses } from "./ChatTicket";
import { PageHead } from "./Page";

type Shown = TicketStatus | "any";

export function Tickets() {
  const workspace = useWorkspace();
  const known = useSelect((s) => s.data.tickets);
  const users = useSelect((s) => s.users);
  const [status, setStatus] = useState<Shown>("open");
  const [next, setNext] = useState<string | null>(null);
  const [busy, setBusy] = useState(true);
  const [trouble, setTrouble] = useState("");
  const [openId, setOpenId] = useState<number | null>(null);
  const now = useNow(60_000);
  const load = async (cursor?: string) => {
    setBusy(true);
    setTrouble("");
    try {
      const query: Record<string, string> = {};
      if (status !== "any") query.status = status;
      if (cursor) query.cursor = cursor;
      setNext((await workspace.loadTickets(query)).nextCursor);
    } catch (e) {
      setTrouble(reason(e));
    }
    setBusy(false);
  };
  useEffect(() => void load(), [status]);
  // Every ticket that events or routes told of, so that the list is as live as the rest.
  const shown = useMemo(() => [...known.values()].filter((t) => status === "any" || t.status === status).sort((a, b) => b.number - a.number), [known, status]);
  const open = openId ? known.get(openId) : undefined;
  return (
    <div class="page">
      <PageHead title="Tickets" text="Cases that are more than one answer.">
        <Select label="Which tickets" hidden value={status} onChange={(v: Shown) => setStatus(v)} options={[["any", "All tickets"], ...ticketStatuses]} />
      </PageHead>
      <Problem text={trouble} />
      {shown.length > 0 && (
        <div class="table-box">
          <table class="table">
            <thead>
              <tr>
                <th>Ticket</th>
                <th>Customer</th>
                <th>Status</th>
                <th>Priority</th>
                <th>Assigned to</th>
                <th>Changed</th>
              </tr>
            </thead>
            <tbody>
              {shown.map((t) => (
                <tr key={t.id}>
                  <td data-label="Ticket">
                    <button type="button" class="link" onClick={() => setOpenId(t.id)}>
                      #{t.number} {t.subject}
                    </button>
                  </td>
                  <td data-label="Customer">
                    <CustomerLink ticket={t} />
                  </td>
                  <td data-label="Status">
                    <span class={`mark mark-${t.status}`}>{ticketStatuses.find(([key]) => key === t.status)?.[1]}</span>
                  </td>
                  <td data-label="Priority">
                    <span class={t.priority === "urgent" || t.priority === "high" ? "mark mark-bad" : "mark"}>{priorities.find(([key]) => key === t.priority)?.[1]}</span>
                  </td>
                  <td data-label="Assigned to">{t.assigneeId ? (users.get(t.assigneeId)?.name ?? "–") : <span class="muted">Nobody</span>}</td>
                  <td data-label="Changed">
                    <time title={full(t.updatedAt)}>{short(t.updatedAt, now)}</time>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {!busy && !trouble && shown.length === 0 && (
        <Empty icon="ticket" title="No tickets here">
          <p>Open one from a chat's details when a case needs more than an answer.</p>
        </Empty>
      )}
      {busy && shown.length === 0 && <Spinner />}
      {next && (
        <button type="button" class="button" disabled={busy} onClick={() => void load(next)}>
          Older tickets
        </button>
      )}
      {open && <TicketDialog ticket={open} onClose={() => setOpenId(null)} />}
    </div>
  );
}

function CustomerLink({ ticket }: { ticket: Ticket }) {
  const workspace = useWorkspace();
  const chat = useSelect((s) => s.data.chats.get(ticket.chatId));
  useEffect(() => {
    if (!chat) workspace.loadChat(ticket.chatId).catch(() => undefined); // deleted: the link stays a number
  }, [ticket.chatId]);
  const route = { page: "inbox", chatId: ticket.chatId } as const;
  return (
    <a href={pathOf(route)} onClick={follow(route)}>
      {chat ? chatName(chat) : `Chat ${ticket.chatId}`}
    </a>
  );
}
