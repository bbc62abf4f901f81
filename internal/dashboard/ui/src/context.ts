import { createContext } from "preact";
import { useContext } from "preact/hooks";

import { useStore } from "./store";
import type { State, Workspace } from "./workspace";

export const WorkspaceContext = createContext<Workspace | null>(null);

/** The signed-in user's workspace; only below the signed-in part of the page. */
export function useWorkspace(): Workspace {
  const workspace = useContext(WorkspaceContext);
  if (!workspace) throw new Error("no workspace above this view");
  return workspace;
}

/** A part of the workspace's state. select must return the same value for the same state. */
export function useSelect<T>(select: (state: State) => T): T {
  return useStore(useWorkspace().store, select);
}
