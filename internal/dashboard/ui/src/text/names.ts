import type { Chat, Message, MessageType } from "../contract";

const nameless = "Unknown contact";

/** What to call a chat, which is what to call its customer or group: the best of what is known. */
export function chatName({ kind, contact: c }: Pick<Chat, "kind" | "contact">): string {
  return c.name || (c.phone ? phone(c.phone) : c.username ? `@${c.username}` : kind === "group" ? "Unnamed group" : nameless);
}

// Country calling codes have one digit (these two), two (these), or three.
const short = /^(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58])/;

/** A phone number for reading: +49 151 123 456 78. */
export function phone(number: string): string {
  const digits = number.replace(/\D/g, "");
  if (!digits) return number;
  const country = short.exec(digits)?.[0] ?? digits.slice(0, 3);
  return [`+${country}`, ...(digits.slice(country.length).match(/\d{3}(?=\d\d)|\d+/g) ?? [])].join(" ");
}

/** One or two letters for an avatar without a picture. */
export function initials(name: string): string {
  const words = name.replace(/[^\p{L}\p{N}\s]/gu, "").split(/\s+/).filter(Boolean);
  if (words.length === 0) return "#";
  if (/^\d/.test(words[0]!)) return words.join("").slice(-2);
  const letters = [words[0]!, ...words.slice(1).slice(-1)].map((word) => [...word][0]!);
  return letters.join("").toLocaleUpperCase();
}

/** One of eight colours, always the same for the same id. */
export function hue(id: number): number {
  return Math.abs(Math.imul(id, 2654435761) >>> 8) % 8;
}

const kinds: Record<MessageType, string> = {
  text: "Message",
  image: "Photo",
  video: "Video",
  audio: "Audio",
  voice: "Voice message",
  document: "Document",
  sticker: "Sticker",
  location: "Location",
  contact: "Contact card",
  template: "Template",
  system: "System message",
  unsupported: "Unsupported message",
};

/** What kind of message it is, in words. */
export function kindName(type: MessageType): string {
  return kinds[type] ?? "Message";
}

/** One line for lists and quotes. */
export function preview(type: MessageType, content: string): string {
  const text = content.replace(/\s+/g, " ").trim();
  if (type === "text") return text || "Message taken back"; // nothing else leaves a text without words
  // What is unsupported says itself which kind it is of.
  if (type === "system" || type === "template" || type === "unsupported") return text || kindName(type);
  return text ? `${kindName(type)} · ${text}` : kindName(type);
}

/** Who wrote a message. */
export function senderName(message: Message, chat: Chat): string {
  return message.senderName || (message.fromMe ? "You" : chat.kind === "group" ? nameless : chatName(chat));
}

const units = ["B", "KB", "MB", "GB"];

/** 1.4 MB */
export function bytes(size: number): string {
  const power = Math.min(units.length - 1, Math.floor(Math.log(Math.max(size, 1)) / Math.log(1024)));
  const value = size / 1024 ** power;
  return `${power > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[power]}`;
}
