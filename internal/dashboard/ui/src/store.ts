import { useLayoutEffect, useReducer, useRef } from "preact/hooks";

/** A value that views watch. Values are replaced, never changed. */
export class Store<S> {
  private readonly listeners = new Set<() => void>();
  private queued = false;

  constructor(private value: S) {}

  get(): S {
    return this.value;
  }

  set(change: (now: S) => S): void {
    const next = change(this.value);
    if (next === this.value) return;
    this.value = next;
    // A replay of a thousand events is one rendering.
    if (this.queued) return;
    this.queued = true;
    queueMicrotask(() => {
      this.queued = false;
      for (const listener of [...this.listeners]) listener();
    });
  }

  patch(part: Partial<S>): void {
    this.set((now) => ({ ...now, ...part }));
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

/** Renders again when what select takes out of the store becomes another value. */
export function useStore<S, T>(store: Store<S>, select: (state: S) => T): T {
  const [, render] = useReducer((n: number) => n + 1, 0);
  const value = select(store.get());
  const latest = useRef({ select, value });
  latest.current = { select, value };
  useLayoutEffect(() => {
    const check = () => {
      const { select, value } = latest.current;
      if (!Object.is(select(store.get()), value)) render(undefined);
    };
    check(); // it may have changed since it was rendered
    return store.subscribe(check);
  }, [store]);
  return value;
}
