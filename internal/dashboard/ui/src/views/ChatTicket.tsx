import { useEffect, useState } from "preact/hooks";

import type { Chat, Priority, Ticket, TicketStatus } from "../contract";
import { useSelect, useWorkspace } from "../context";
import { Dialog, Field, Problem, Select, useSubmit } from "./basics";
import { Icon } from "./icons";
import { Notes } from "./Notes";

export const priorities: [Priority, string][] = [
  ["low", "Low"],
  ["normal", "Normal"],
  ["high", "High"],
  ["urgent", "Urgent"],
];

export const ticketStatuses: [TicketStatus, string][] = [
  ["open", "Open"],
  ["pending", "Pending"],
  ["resolved", "Resolved"],
  ["closed", "Closed"],
];

/** The chat's case: shown, or made. */
export function ChatTicket({ chat }: { chat: Chat }) {
  const workspace = useWorkspace();
  const ticket = useSelect((s) => (chat.ticketId ? s.data.tickets.get(chat.ticketId) : undefined));
  const [creating, setCreating] = useState(false);
  const [open, setOpen] = useState(false);
  useEffect(() => {
    if (chat.ticketId && !ticket) void workspace.act(workspace.loadTicket(chat.ticketId));
  }, [chat.ticketId, !ticket]);
  return (
    <section class="side-block">
      <h3>Ticket</h3>
      {chat.ticketId ? (
        ticket && (
          <button type="button" class="ticket-card" onClick={() => setOpen(true)}>
            <span class="ticket-top">
              <span class="ticket-number">#{ticket.number}</span>
              <span class={`mark mark-${ticket.status}`}>{ticketStatuses.find(([key]) => key === ticket.status)?.[1]}</span>
              {(ticket.priority === "high" || ticket.priority === "urgent") && <span class="mark mark-bad">{ticket.priority === "urgent" ? "Urgent" : "High"}</span>}
            </span>
            <span>{ticket.subject}</span>
          </button>
        )
      ) : (
        <p class="muted small">No ticket belongs to this chat.</p>
      )}
      <button type="button" class="link" onClick={() => setCreating(true)}>
        <Icon name="plus" size={16} /> {chat.ticketId ? "Open another ticket" : "Open a ticket"}
      </button>
      {creating && <NewTicket chat={chat} onClose={() => setCreating(false)} />}
      {open && ticket && <TicketDialog ticket={ticket} onClose={() => setOpen(false)} />}
    </section>
  );
}

function NewTicket({ chat, onClose }: { chat: Chat; onClose: () => void }) {
  const workspace = useWorkspace();
  const [priority, setPriority] = useState<Priority>("normal");
  const { busy, error, fields, submit } = useSubmit(async (form) => {
    const subject = String(new FormData(form).get("subject")).trim();
    await workspace.saveTicket(() => workspace.api.post<Ticket>("/api/tickets", { chatId: chat.id, subject, priority }));
    onClose();
  });
  return (
    <Dialog title="Open a ticket" onClose={onClose}>
      <form onSubmit={submit}>
        <Problem text={error} />
        <Field label="What is it about?" name="subject" required maxLength={300} autofocus error={fields.subject} />
        <Select label="Priority" value={priority} onChange={setPriority} options={priorities} />
        <footer>
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button button-main" disabled={busy}>
            Open ticket
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

export function TicketDialog({ ticket, onClose }: { ticket: Ticket; onClose: () => void }) {
  const workspace = useWorkspace();
  const users = useSelect((s) => s.users);
  const change = (part: object) => void workspace.act(workspace.saveTicket(() => workspace.api.patch<Ticket>(`/api/tickets/${ticket.id}`, part)));
  const people = [...users.values()].filter((u) => u.active || u.id === ticket.assigneeId);
  return (
    <Dialog title={`Ticket #${ticket.number}`} onClose={onClose}>
      <p class="ticket-subject">{ticket.subject}</p>
      <div class="field-pair">
        <Select label="Status" value={ticket.status} onChange={(status) => change({ status })} options={ticketStatuses} />
        <Select label="Priority" value={ticket.priority} onChange={(priority) => change({ priority })} options={priorities} />
      </div>
      <Select
        label="Assigned to"
        value={String(ticket.assigneeId ?? "")}
        onChange={(v) => change({ assigneeId: v ? Number(v) : null })}
        options={[["", "Nobody"], ...people.map((u): [string, string] => [String(u.id), u.name])]}
      />
      <Notes path={`/api/tickets/${ticket.id}/notes`} />
    </Dialog>
  );
}
