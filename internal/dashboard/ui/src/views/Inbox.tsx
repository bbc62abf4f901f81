import { useEffect, useState } from "preact/hooks";

import { useSelect } from "../context";
import { Empty } from "./basics";
import { ChatList } from "./ChatList";
import { Conversation } from "./Conversation";
import { SidePanel } from "./SidePanel";
import { navigate } from "../route";
import { useWorkspace } from "../context";

const panelKey = "switchboard.panel";
const roomy = () => matchMedia("(min-width: 1180px)").matches;

export function Inbox({ chatId }: { chatId: number | null }) {
  const workspace = useWorkspace();
  const [panel, setPanel] = useState(() => roomy() && localStorage.getItem(panelKey) !== "closed");
  const known = useSelect((s) => chatId !== null && s.data.chats.has(chatId));
  const toggle = () => {
    if (roomy()) localStorage.setItem(panelKey, panel ? "closed" : "open");
    setPanel(!panel);
  };
  useEffect(() => {
    if (!roomy()) setPanel(false);
  }, [chatId]);
  useEffect(() => {
    // Alt and an arrow: the next or the previous chat of the list.
    const keys = (e: KeyboardEvent) => {
      if (!e.altKey || (e.key !== "ArrowDown" && e.key !== "ArrowUp")) return;
      const { ids } = workspace.store.get().data.list;
      const next = ids[ids.indexOf(chatId ?? -1) + (e.key === "ArrowDown" ? 1 : -1)];
      if (next === undefined) return;
      e.preventDefault();
      navigate({ page: "inbox", chatId: next });
    };
    document.addEventListener("keydown", keys);
    return () => document.removeEventListener("keydown", keys);
  }, [chatId]);
  return (
    <div class={`inbox ${chatId ? "inbox-open" : ""} ${panel && known ? "inbox-panel" : ""}`}>
      <ChatList selected={chatId} />
      {chatId ? (
        <Conversation chatId={chatId} panel={panel} onPanel={toggle} />
      ) : (
        <section class="conversation conversation-none" aria-label="Chat">
          <Empty icon="inbox" title="Choose a chat">
            <p>
              Press <kbd>/</kbd> to search, <kbd>Alt</kbd> <kbd>↓</kbd> for the next chat.
            </p>
          </Empty>
        </section>
      )}
      {panel && known && chatId && (
        <>
          <button type="button" class="scrim" aria-label="Hide the details" onClick={toggle} />
          <SidePanel chatId={chatId} onClose={toggle} />
        </>
      )}
    </div>
  );
}
