// What is wrong, the worst first: the banner's word, sentence and next command. Pure.

import { ago, bytes, count, duration, isNumber, plural, secondsSince, text } from "./format.js";

const RANK = { bad: 3, warn: 2, paused: 1, ok: 0 };
const OWED_LONG_S = 300;
const DISK_LOW = 1.25;
const ALSO_SHOWN = 6;

export const MIRROR_LEVEL = { ok: "ok", paused: "paused", behind: "warn", failing: "bad", halted: "bad" };
const MIRROR_ORDER = ["halted", "failing", "behind", "paused", "ok"];

export function listOf(value) {
  return Array.isArray(value) ? value.filter((each) => each !== null && typeof each === "object") : [];
}

/** Mirrors with the worst first, in the order of the configuration otherwise. */
export function worstFirst(mirrors) {
  const place = (mirror) => (MIRROR_ORDER.includes(mirror.state) ? MIRROR_ORDER.indexOf(mirror.state) : 2);
  return [...mirrors].sort((a, b) => place(a) - place(b));
}

export function levelOf(mirror) {
  return MIRROR_LEVEL[mirror.state] ?? "warn";
}

/** Return {level, word, headline, next, also: [text]} of a status as the daemon gave it. */
export function judge(status) {
  const mirrors = listOf(status.mirrors);
  const problems = [
    ...daemonProblems(status),
    ...worstFirst(mirrors).flatMap(mirrorProblems),
    ...listOf(status.hops).flatMap(hopProblems),
    ...announcementProblems(status.announcing ?? {}),
    ...mirrors.flatMap(diskProblems),
  ].sort((a, b) => RANK[b.level] - RANK[a.level]);
  const [worst, ...others] = problems;
  const paused = mirrors.length > 0 && mirrors.every((mirror) => mirror.state === "paused");
  if (!worst) {
    return { level: paused ? "paused" : "ok", word: paused ? "PAUSED" : "OK", headline: summary(mirrors), next: "", also: [] };
  }
  return { level: worst.level, word: worst.word, headline: worst.said, next: worst.next, also: shortened(others) };
}

function shortened(problems) {
  const shown = problems.slice(0, ALSO_SHOWN).map((each) => each.said);
  const left = problems.length - shown.length;
  return left > 0 ? [...shown, `and ${plural(left, "more problem")} below`] : shown;
}

function summary(mirrors) {
  const sum = (field) => mirrors.reduce((all, mirror) => all + (isNumber(mirror[field]) ? mirror[field] : 0), 0);
  const paused = mirrors.filter((mirror) => mirror.state === "paused").length;
  const held = `${plural(mirrors.length, "mirror")}, ${plural(sum("files"), "file")}, ${bytes(sum("bytes"))} held and verified`;
  return paused ? `${held}; ${count(paused)} paused` : held;
}

function daemonProblems(status) {
  if (status.daemon && status.daemon.running === false) {
    return [{ level: "bad", word: "NO DAEMON", said: "No daemon is running.", next: "syncd service status" }];
  }
  const own = Array.isArray(status.problems) ? status.problems : [];
  const found = own.map((said) => ({ level: "warn", word: "WARNING", said: text(said), next: "syncd doctor" }));
  if (listOf(status.mirrors).length === 0) {
    found.unshift({ level: "warn", word: "NO MIRRORS", said: "No mirror is configured.", next: "syncd init" });
  }
  return found;
}

function mirrorProblems(mirror) {
  const level = levelOf(mirror);
  if (level === "ok" || level === "paused") return [];
  const state = text(mirror.state) || "unknown";
  const why = text(mirror.message) || (isNumber(mirror.lag_s) ? `last full look ${duration(mirror.lag_s)} ago` : state);
  return [{ level, word: state.toUpperCase(), said: `${text(mirror.name)}: ${why}`, next: text(mirror.hint) }];
}

function hopProblems(hop) {
  if (hop.state !== "down") return [];
  const name = text(hop.name);
  const word = name.startsWith("source") ? "SOURCE DOWN" : `${name === "nsqd" ? "NSQ" : name.toUpperCase()} DOWN`;
  const since = secondsSince(hop.since) === null ? "" : ` since ${ago(hop.since).replace(/ ago$/, "")}`;
  const detail = text(hop.detail);
  return [{ level: "warn", word, said: `${name} is down${since}${detail ? `: ${detail}` : ""}`, next: "syncd doctor" }];
}

function announcementProblems(announcing) {
  const found = [];
  const age = secondsSince(announcing.oldest);
  if (text(announcing.error) || (announcing.mode !== "off" && announcing.owed > 0 && age !== null && age > OWED_LONG_S)) {
    const said = `${plural(announcing.owed, "announcement")} owed${text(announcing.error) ? `: ${text(announcing.error)}` : ""}`;
    found.push({ level: "warn", word: "UNANNOUNCED", said, next: "syncd doctor" });
  }
  if (text(announcing.warning)) {
    found.push({ level: "warn", word: "WARNING", said: text(announcing.warning), next: "syncd doctor" });
  }
  return found;
}

/** How the room on a mirror's disk is: ok, low or full; unknown without numbers. */
export function roomOf(disk) {
  const free = disk?.free_bytes;
  const floor = disk?.floor_bytes;
  if (!isNumber(free) || !isNumber(floor)) return "unknown";
  if (free <= floor) return "full";
  return free < floor * DISK_LOW ? "low" : "ok";
}

function diskProblems(mirror) {
  const room = roomOf(mirror.disk);
  if (room !== "full" && room !== "low") return [];
  const said = `${text(mirror.name)}: ${bytes(mirror.disk.free_bytes)} free, the floor is ${bytes(mirror.disk.floor_bytes)}`;
  const next = "free some space; the next run goes on";
  return [{ level: room === "full" ? "bad" : "warn", word: room === "full" ? "DISK FULL" : "DISK LOW", said, next }];
}
