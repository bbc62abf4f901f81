import { apply, type Data, type LoggedEvent } from "./data";

/**
 * The last events, so that a snapshot that was asked for before they came, and answered after, can be brought up to them.
 * Events carry whole objects or are guarded by rank: applying one again that the snapshot already holds does no harm, once
 * those behind it follow.
 */
export class Journal {
  private events: { seq: number; event: LoggedEvent }[] = [];
  private forgotten = 0;

  /** limit is how many events are kept. */
  constructor(private readonly limit = 5000) {}

  add(seq: number, event: LoggedEvent): void {
    this.events.push({ seq, event });
    if (this.events.length > this.limit * 2) {
      const gone = this.events.splice(0, this.events.length - this.limit);
      this.forgotten = gone.at(-1)!.seq;
    }
  }

  /** Begins anew, behind a reset of the log. */
  clear(): void {
    this.events = [];
    this.forgotten = 0;
  }

  /** Applies what came after seq. Null: the journal does not reach back that far, so that the snapshot is of no use. */
  replay(data: Data, seq: number): Data | null {
    if (seq < this.forgotten) return null;
    return this.events.reduce((now, e) => (e.seq > seq ? apply(now, e.event) : now), data);
  }
}
