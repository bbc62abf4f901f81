// As much of a browser's page as it takes to render a view in node: elements, events, and what the views ask the window.
// How it looks, and what a real browser makes of it, is not to be learned here.

import type { TestContext } from "node:test";

import { h, render, type ComponentChild } from "preact";

import { WorkspaceContext } from "../src/context";
import { Store } from "../src/store";
import type { Workspace } from "../src/workspace";

class Element extends EventTarget {
  readonly nodeType = 1;
  readonly style: Record<string, string> = {};
  readonly attributes = new Map<string, string>();
  readonly childNodes: Element[] = [];
  readonly scrollHeight = 20;
  parentNode: Element | null = null;
  data = "";
  private typed: string | null = null;
  private given = "";

  constructor(readonly localName: string) {
    super();
  }

  // As with a browser's inputs: what was typed hides the default, and neither is forgotten.
  get defaultValue(): string {
    return this.given;
  }
  set defaultValue(text: string) {
    this.given = text;
  }
  get value(): string {
    return this.typed ?? this.given;
  }
  set value(text: string) {
    this.typed = text;
  }

  get firstChild(): Element | null {
    return this.childNodes[0] ?? null;
  }
  get nextSibling(): Element | null {
    const siblings = this.parentNode?.childNodes ?? [];
    return siblings[siblings.indexOf(this) + 1] ?? null;
  }
  insertBefore(child: Element, before: Element | null): Element {
    child.remove();
    this.childNodes.splice(before ? this.childNodes.indexOf(before) : this.childNodes.length, 0, child);
    child.parentNode = this;
    return child;
  }
  appendChild(child: Element): Element {
    return this.insertBefore(child, null);
  }
  removeChild(child: Element): Element {
    this.childNodes.splice(this.childNodes.indexOf(child), 1);
    child.parentNode = null;
    return child;
  }
  remove(): void {
    this.parentNode?.removeChild(this);
  }
  contains(other: Element | null): boolean {
    for (; other; other = other.parentNode) if (other === this) return true;
    return false;
  }
  setAttribute(name: string, value: string): void {
    this.attributes.set(name, String(value));
  }
  removeAttribute(name: string): void {
    this.attributes.delete(name);
  }
  focus(): void {}
  showModal(): void {}
  close(): void {}

  /** The first element of a name within. */
  find(name: string): Element {
    const found = this.all().find((e) => e.localName === name);
    if (!found) throw new Error(`no <${name}> on the page`);
    return found;
  }
  all(): Element[] {
    return this.childNodes.flatMap((child) => [child, ...child.all()]);
  }
  get text(): string {
    return [this, ...this.all()].map((e) => e.data).join("");
  }

  /** Types into a field. */
  fill(text: string): void {
    this.value = text;
    this.dispatchEvent(new Event("input"));
  }
  press(key: string): void {
    this.dispatchEvent(Object.assign(new Event("keydown", { cancelable: true }), { key }));
  }
}

function memory(): Storage & Record<string, string> {
  const methods = {
    getItem: (k: string) => kept[k] ?? null,
    setItem: (k: string, v: string) => void (kept[k] = v),
    removeItem: (k: string) => void delete kept[k],
  };
  // Its keys are what it holds, as with a browser's.
  const kept: Record<string, string> = Object.create(methods);
  return kept as Storage & Record<string, string>;
}

/** Waits until the page has rendered, and done what it does after that. */
export const rendered = () => new Promise((done) => setTimeout(done, 60));

/** Renders a view within a workspace that has these parts, in a page of its own, until the test's end. */
export function page(t: TestContext, state: object, parts: object) {
  const root = new Element("body");
  const text = (data: string) => Object.assign(new Element("#text"), { nodeType: 3, data });
  const world = {
    document: { createElementNS: (_: string, name: string) => new Element(name), createTextNode: text, documentElement: root },
    matchMedia: () => ({ matches: false }),
    localStorage: memory(),
  };
  Object.assign(globalThis, world);
  const store = new Store(state);
  const workspace = { me: { id: 1 }, store, act: (work: Promise<unknown>) => work.then(() => true, () => false), type: () => undefined, ...parts } as unknown as Workspace;
  const show = (view: ComponentChild) => {
    render(view && h(WorkspaceContext.Provider, { value: workspace, children: view }), root as unknown as globalThis.Element);
    return rendered();
  };
  t.after(() => show(null));
  return { root, show, storage: world.localStorage };
}
