// How numbers and times are written. Pure but for the clock; `skew` is the daemon's clock less the viewer's.

export const UNKNOWN = "not known";

const UNITS = ["B", "KB", "MB", "GB", "TB", "PB"];
const grouped = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });

const SKEW_LEAST_MS = 2000; // below, it is the way from there to here
let skew = 0;

/** Learn the daemon's clock from the time in an answer: ages are by its clock, whatever the viewer's says. */
export function learnClock(iso) {
  const theirs = instant(iso);
  if (theirs === null) return;
  const difference = theirs - Date.now();
  skew = Math.abs(difference) < SKEW_LEAST_MS ? 0 : difference;
}

export function now() {
  return Date.now() + skew;
}

export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** Any value of the API as text; objects too, so that a field of another form than expected is shown, not lost. */
export function text(value) {
  if (value === null || value === undefined || value === "") return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

export function count(number) {
  return isNumber(number) ? grouped.format(number) : UNKNOWN;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** 512 B, 9.4 MB, 398 MB: units of 1000, as the command line writes them. */
export function bytes(size) {
  if (!isNumber(size)) return UNKNOWN;
  let unit = 0;
  let left = size;
  while (left >= 999.5 && unit < UNITS.length - 1) {
    left /= 1000;
    unit += 1;
  }
  return `${unit && left < 9.95 ? left.toFixed(1) : grouped.format(left)} ${UNITS[unit]}`;
}

/** 0.8 ms, 3 s, 2 min, 1 h 05 min, 3 days. */
export function duration(seconds) {
  if (!isNumber(seconds)) return UNKNOWN;
  if (seconds > 0 && seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds > 0 && seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 99.5) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${grouped.format(Math.round(minutes / 1440))} days`;
}

/** An ISO 8601 time as milliseconds since 1970, null when it is none. */
export function instant(iso) {
  const found = typeof iso === "string" ? Date.parse(iso) : NaN;
  return Number.isFinite(found) ? found : null;
}

export function secondsSince(iso) {
  const at = instant(iso);
  return at === null ? null : Math.max((now() - at) / 1000, 0);
}

export function ago(iso) {
  const seconds = secondsSince(iso);
  if (seconds === null) return UNKNOWN;
  return seconds < 2 ? "just now" : `${duration(Math.floor(seconds))} ago`;
}

export function until(iso) {
  const at = instant(iso);
  if (at === null) return UNKNOWN;
  const seconds = (at - now()) / 1000;
  if (seconds > -2 && seconds < 2) return "now";
  return seconds < 0 ? `overdue by ${duration(Math.floor(-seconds))}` : `in ${duration(Math.ceil(seconds))}`;
}

/** The time in the viewer's zone, with the day where it is not today. */
export function clock(iso) {
  const at = instant(iso);
  if (at === null) return UNKNOWN;
  const when = new Date(at);
  return day.format(when) === day.format(new Date(now())) ? time.format(when) : `${day.format(when)}, ${time.format(when)}`;
}

/** The same in UTC, for the title. */
export function utc(iso) {
  const at = instant(iso);
  return at === null ? "" : `${new Date(at).toISOString().replace("T", " ").replace(/\.\d+Z$/, "")} UTC`;
}
