import type { ComponentChildren } from "preact";

/** The head of a page beside the inbox. */
export function PageHead({ title, text, children }: { title: string; text?: string; children?: ComponentChildren }) {
  return (
    <header class="page-head">
      <div>
        <h1>{title}</h1>
        {text && <p class="muted">{text}</p>}
      </div>
      {children && <div class="page-tools">{children}</div>}
    </header>
  );
}
