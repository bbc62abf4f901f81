// What was typed and not sent, chat by chat, so that switching chats or a reload loses nothing.

const prefix = "switchboard.draft.";

export function draftOf(userId: number, chatId: number): string {
  return localStorage.getItem(`${prefix}${userId}.${chatId}`) ?? "";
}

export function keepDraft(userId: number, chatId: number, text: string): void {
  const key = `${prefix}${userId}.${chatId}`;
  try {
    if (text.trim()) localStorage.setItem(key, text);
    else localStorage.removeItem(key);
  } catch {
    // The storage is full or forbidden: the text stays in the field.
  }
}

/** Signing out leaves nothing of the customers' on the machine. */
export function forgetDrafts(): void {
  for (const key of Object.keys(localStorage)) if (key.startsWith(prefix)) localStorage.removeItem(key);
}
