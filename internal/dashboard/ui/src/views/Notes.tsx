import { useEffect, useState } from "preact/hooks";

import { reason } from "../api";
import type { Note, Page } from "../contract";
import { useSelect, useWorkspace } from "../context";
import { full, short } from "../text/time";
import { Linked } from "./Bubble";
import { Problem, useNow, useSubmit } from "./basics";

/** What colleagues wrote for each other about a chat or a ticket. */
export function Notes({ path }: { path: string }) {
  const workspace = useWorkspace();
  const users = useSelect((s) => s.users);
  const now = useNow(60_000);
  const [notes, setNotes] = useState<Note[] | null>(null);
  const [next, setNext] = useState<string | null>(null);
  const [trouble, setTrouble] = useState("");
  const load = async (cursor?: string) => {
    try {
      const page = await workspace.api.get<Page<Note>>(path, { limit: 20, cursor });
      setNotes((before) => [...(cursor ? (before ?? []) : []), ...page.items]);
      setNext(page.nextCursor);
      setTrouble("");
    } catch (e) {
      setTrouble(reason(e));
    }
  };
  useEffect(() => void load(), [path]);
  const [text, setText] = useState("");
  const { busy, error, submit } = useSubmit(async () => {
    if (!text.trim()) return;
    const note = await workspace.api.post<Note>(path, { content: text.trim() });
    setNotes((before) => [note, ...(before ?? [])]);
    setText("");
  });
  return (
    <section class="side-block">
      <h3>Notes</h3>
      <form class="note-form" onSubmit={submit}>
        <textarea
          rows={2}
          value={text}
          maxLength={4000}
          placeholder="Only your team sees notes"
          aria-label="New note"
          onInput={(e) => setText(e.currentTarget.value)}
          onKeyDown={(e) => e.key === "Enter" && (e.ctrlKey || e.metaKey) && void submit(e)}
        />
        {text.trim() && (
          <button class="button button-small" disabled={busy}>
            Add note
          </button>
        )}
      </form>
      <Problem text={error || trouble} />
      <ul class="notes">
        {notes?.map((note) => (
          <li key={note.id}>
            <p>
              <Linked text={note.content} />
            </p>
            <small>
              {users.get(note.userId)?.name ?? "A former colleague"} · <time title={full(note.createdAt)}>{short(note.createdAt, now)}</time>
            </small>
          </li>
        ))}
      </ul>
      {next && (
        <button type="button" class="link" onClick={() => void load(next)}>
          Older notes
        </button>
      )}
    </section>
  );
}
