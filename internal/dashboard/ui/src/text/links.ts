/** A stretch of a text: plain, or a link with the address it leads to. */
export interface Piece {
  text: string;
  href?: string;
}

// An address begins where a word does: so each stretch of the text is tried once, however long it is.
const candidates = /\b(?:https?:\/\/|www\.)[^\s<>"'`]+|(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+/gi;
const brackets: Record<string, string> = { ")": "(", "]": "[", "}": "{" };

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
  const count: Record<string, number> = {};
  for (const c of link) count[c] = (count[c] ?? 0) + 1;
  let end = link.length;
  for (; end > 0; end--) {
    const last = link[end - 1]!;
    const opener = brackets[last];
    const unopened = opener !== undefined && (count[opener] ?? 0) < count[last]!;
    if (!unopened && !/[.,;:!?…'"*_~]/.test(last)) break;
    count[last]!--;
  }
  return link.slice(0, end);
}

function address(link: string): string | undefined {
  if (/^https?:\/\//i.test(link)) {
    const parsed = URL.canParse(link) ? new URL(link) : undefined;
    return parsed && /^https?:$/.test(parsed.protocol) && parsed.hostname ? parsed.href : undefined;
  }
  if (/^www\./i.test(link)) return link.includes(".", 4) ? address(`https://${link}`) : undefined;
  return /@[\w-]+(\.[\w-]+)*\.[a-z]{2,}$/i.test(link) ? `mailto:${link}` : undefined;
}
