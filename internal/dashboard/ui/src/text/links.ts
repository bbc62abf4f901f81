/** A stretch of a text: plain, or a link with the address it leads to. */
export interface Piece {
  text: string;
  href?: string;
}

const candidates = /\b(?:https?:\/\/|www\.)[^\s<>"'`]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+/gi;

/** Splits a text into plain stretches and links. Only http, https and mailto ever become links. */
export function linkify(text: string): Piece[] {
  const pieces: Piece[] = [];
  let end = 0;
  for (const match of text.matchAll(candidates)) {
    const link = trimmed(match[0]);
    const href = address(link);
    if (!href) continue;
    if (match.index > end) pieces.push({ text: text.slice(end, match.index) });
    pieces.push({ text: link, href });
    end = match.index + link.length;
  }
  if (end < text.length) pieces.push({ text: text.slice(end) });
  return pieces;
}

// A sentence's punctuation is no part of the address, and neither is a bracket that was opened before it.
function trimmed(link: string): string {
  for (;;) {
    const last = link.at(-1) ?? "";
    const opener = { ")": "(", "]": "[", "}": "{" }[last];
    const unopened = opener !== undefined && link.split(opener).length < link.split(last).length;
    if (!unopened && !/[.,;:!?…'"*_~]/.test(last)) return link;
    link = link.slice(0, -1);
  }
}

function address(link: string): string | undefined {
  if (/^https?:\/\//i.test(link)) {
    const parsed = URL.canParse(link) ? new URL(link) : undefined;
    return parsed && /^https?:$/.test(parsed.protocol) && parsed.hostname ? parsed.href : undefined;
  }
  if (/^www\./i.test(link)) return link.includes(".", 4) ? address(`https://${link}`) : undefined;
  return /@[\w-]+(\.[\w-]+)*\.[a-z]{2,}$/i.test(link) ? `mailto:${link}` : undefined;
}
