import assert from "node:assert/strict";
import { it } from "node:test";

import { bytes, chatName, hue, initials, phone, preview, senderName } from "../src/text/names";
import { parse, pathOf } from "../src/route";
import { chat, message } from "./samples";

it("initials", () => {
  assert.equal(initials("Sofia Marchetti"), "SM");
  assert.equal(initials("Лена"), "Л");
  assert.equal(initials("Anna Maria von Berg"), "AB");
  assert.equal(initials("+49 151 2345678"), "78");
  assert.equal(initials("👋"), "#");
});

it("phone numbers", () => {
  assert.equal(phone("4915123456780"), "+49 151 234 567 80");
  assert.equal(phone("+1 (555) 0100999"), "+1 555 010 0999");
  assert.equal(phone("351912345678"), "+351 912 345 678");
  assert.equal(phone("unknown"), "unknown");
});

it("names, previews, sizes, colours", () => {
  const contact = { id: 1, name: "", phone: "", username: "", avatarUrl: "", avatarMediaId: null };
  assert.equal(chatName(chat(1, { contact: { ...contact, username: "bob" } })), "@bob");
  assert.equal(chatName(chat(1, { contact })), "Unknown contact");
  const group = chat(1, { contact, kind: "group" });
  assert.equal(chatName(group), "Unnamed group");
  assert.equal(senderName(message(1, 1, { senderName: "" }), group), "Unknown contact");
  assert.equal(preview("image", " two\n lines "), "Photo · two lines");
  assert.equal(preview("voice", ""), "Voice message");
  assert.equal(preview("text", ""), "Message taken back");
  assert.equal(preview("unsupported", "Unsupported message of type poll."), "Unsupported message of type poll.");
  assert.equal(preview("unsupported", ""), "Unsupported message");
  assert.equal(bytes(0), "0 B");
  assert.equal(bytes(1500), "1.5 KB");
  assert.equal(bytes(84213), "82 KB");
  for (const id of [0, 1, 2 ** 40, -5]) assert.ok(hue(id) >= 0 && hue(id) < 8);
});

it("routes", () => {
  assert.deepEqual(parse("/chats/42"), { page: "inbox", chatId: 42 });
  assert.deepEqual(parse("/chats/4x"), { page: "inbox", chatId: null });
  assert.equal(pathOf(parse("/team")), "/team");
});
