import assert from "node:assert/strict";
import { it } from "node:test";

import { bytes, contactName, hue, initials, phone, preview } from "../src/text/names";
import { parse, pathOf } from "../src/route";

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
  assert.equal(contactName({ id: 1, name: "", phone: "", username: "bob", avatarUrl: "" }), "@bob");
  assert.equal(preview("image", " two\n lines "), "Photo · two lines");
  assert.equal(preview("voice", ""), "Voice message");
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
