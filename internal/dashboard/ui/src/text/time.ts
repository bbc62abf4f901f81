// Times in the reader's own zone and language. now and locale are arguments so that tests can fix them.

type Locale = string | undefined;

const day = 24 * 60 * 60 * 1000;

// Making a formatter costs a hundred times more than using it.
const formatters = new Map<string, Intl.DateTimeFormat>();

function format(at: Date, options: Intl.DateTimeFormatOptions, locale: Locale): string {
  const key = `${locale}${JSON.stringify(options)}`;
  let formatter = formatters.get(key);
  if (!formatter) formatters.set(key, (formatter = new Intl.DateTimeFormat(locale, options)));
  return formatter.format(at);
}

function midnight(at: Date): number {
  return new Date(at.getFullYear(), at.getMonth(), at.getDate()).getTime();
}

/** Whole calendar days from at to now, by the reader's calendar. */
export function daysAgo(at: Date, now: Date): number {
  return Math.round((midnight(now) - midnight(at)) / day);
}

/** 14:05 */
export function clock(time: string, locale?: Locale): string {
  return format(new Date(time), { hour: "2-digit", minute: "2-digit" }, locale);
}

/** For lists: 14:05, Yesterday, Monday, 3 May, 3 May 2024. */
export function short(time: string, now = new Date(), locale?: Locale): string {
  const at = new Date(time);
  const days = daysAgo(at, now);
  if (days <= 0) return clock(time, locale);
  if (days === 1) return relative(-1, "day", locale);
  if (days < 7) return format(at, { weekday: "short" }, locale);
  if (at.getFullYear() === now.getFullYear()) return format(at, { day: "numeric", month: "short" }, locale);
  return format(at, { day: "numeric", month: "short", year: "numeric" }, locale);
}

/** For day separators: Today, Yesterday, Monday 3 May, … */
export function dayName(time: string, now = new Date(), locale?: Locale): string {
  const at = new Date(time);
  const days = daysAgo(at, now);
  if (days === 0 || days === 1) return relative(-days, "day", locale);
  if (at.getFullYear() === now.getFullYear()) return format(at, { weekday: "long", day: "numeric", month: "long" }, locale);
  return format(at, { day: "numeric", month: "long", year: "numeric" }, locale);
}

/** A date and a time, in full: for titles and details. */
export function full(time: string, locale?: Locale): string {
  return format(new Date(time), { dateStyle: "medium", timeStyle: "short" }, locale);
}

/** How long ago or until: 3 minutes ago, in 5 hours. */
export function distance(time: string, now = new Date(), locale?: Locale): string {
  const seconds = (new Date(time).getTime() - now.getTime()) / 1000;
  const size = Math.abs(seconds);
  if (size < 45) return relative(0, "second", locale);
  if (size < 45 * 60) return relative(Math.round(seconds / 60) || Math.sign(seconds), "minute", locale);
  if (size < 22 * 3600) return relative(Math.round(seconds / 3600) || Math.sign(seconds), "hour", locale);
  return relative(Math.round(seconds / 86400) || Math.sign(seconds), "day", locale);
}

function relative(n: number, unit: Intl.RelativeTimeFormatUnit, locale: Locale): string {
  const text = new Intl.RelativeTimeFormat(locale, { numeric: "auto" }).format(n, unit);
  return text.charAt(0).toLocaleUpperCase(locale) + text.slice(1);
}

/** A time span of minutes and seconds: 1:05. */
export function duration(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
