import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { linkify } from "../src/text/links";

const links = (text: string) => linkify(text).filter((p) => p.href).map((p) => [p.text, p.href]);

describe("linkify", () => {
  const cases: [string, [string, string][]][] = [
    ["see https://a.example/x?y=1#z.", [["https://a.example/x?y=1#z", "https://a.example/x?y=1#z"]]],
    ["(https://a.example/x_(y)) and (https://b.example)", [["https://a.example/x_(y)", "https://a.example/x_(y)"], ["https://b.example", "https://b.example/"]]],
    ["www.a.example, mail me@b.example!", [["www.a.example", "https://www.a.example/"], ["me@b.example", "mailto:me@b.example"]]],
    ["*https://a.example*", [["https://a.example", "https://a.example/"]]],
    ["javascript:alert(1) data:text/html,x vbscript:x file:///etc", []],
    ["https:// http://: www. @b.example 1.5 a.b", []],
    ['https://a.example/"onmouseover=x', [["https://a.example/", "https://a.example/"]]],
    ["<a href='https://a.example'>x</a>", [["https://a.example", "https://a.example/"]]],
    ["https://bücher.example/ü", [["https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"]]],
  ];
  for (const [text, want] of cases) it(text, () => assert.deepEqual(links(text), want));

  it("loses nothing of the text", () => {
    for (const [text] of cases) assert.equal(linkify(text).map((p) => p.text).join(""), text);
  });

  it("is quick on texts made to be slow", () => {
    const began = performance.now();
    for (const text of ["a@".repeat(20_000), "a.".repeat(20_000), "https://" + "(".repeat(20_000), "https://a.example/" + ")".repeat(40_000), "www.".repeat(15_000), "-".repeat(40_000) + "@"]) linkify(text.slice(0, 65_536));
    assert.ok(performance.now() - began < 500, `took ${performance.now() - began} ms`);
  });
});
