import { useEffect, useRef, useState } from "preact/hooks";

import type { Chat } from "../contract";
import { useWorkspace } from "../context";
import { chatName } from "../text/names";
import { Avatar } from "./basics";

/** The picture of a chat's contact. Its link is asked for when an event told of it, which carries none, and once more when it has ended. */
export function ContactAvatar({ chat, size }: { chat: Chat; size?: "s" | "m" | "l" }) {
  const workspace = useWorkspace();
  const [asked, setAsked] = useState({ id: 0, url: "" });
  const tried = useRef(0);
  const { id: contactId, avatarMediaId: id, avatarUrl } = chat.contact;
  const ask = (fresh: boolean) => {
    if (id) workspace.pictureLink(id, fresh).then((url) => setAsked({ id, url }), () => undefined);
  };
  useEffect(() => {
    if (!avatarUrl) ask(false);
  }, [id, avatarUrl]);
  const broken = () => {
    if (!id || tried.current === id) return;
    tried.current = id;
    ask(true);
  };
  const url = (asked.id === id && asked.url) || avatarUrl;
  return <Avatar id={contactId} name={chatName(chat)} url={url} network={chat.channel} size={size} onBroken={broken} />;
}
