// The status page: puts what the daemon says on the screen, and says so when the daemon says nothing.

import { byId, make, mark, say, sayHint, show, tick } from "./dom.js";
import { clock, duration, learnClock, now, secondsSince, text } from "./format.js";
import { EventLoop, keepToken, StatusLoop, takeToken } from "./connect.js";
import { judge, listOf } from "./judge.js";
import { changedIn, offerMirrors, startFolders } from "./folders.js";
import { showMirrors } from "./mirrors.js";
import { showEvents, showHops, showOwed, showWorkers } from "./tables.js";

const TICK_MS = 1000;
const STALE_S = 10;
const MARKS = { ok: "✓", paused: "❙❙", warn: "!", bad: "✕", lost: "✕", locked: "?" };
const ICONS = { ok: "ok", paused: "paused", warn: "warn", locked: "warn", bad: "bad", lost: "bad", wait: "wait" };

const statuses = new StatusLoop();
const events = new EventLoop();

let status = null; // the last one received
let receivedAt = 0;
let trouble = null; // why there is none now
let spoken = "";
let tokenGiven = false;

function received(answer) {
  learnClock(answer.at);
  status = answer;
  receivedAt = now();
  trouble = null;
  tokenGiven = false;
  show(byId("access"), false);
  show(byId("columns"), true);
  const mirrors = listOf(status.mirrors);
  showMirrors(mirrors);
  showHops(status.hops);
  showOwed(status.announcing, status.leases);
  showWorkers(status.workers);
  offerMirrors(mirrors.map((mirror) => text(mirror.name)));
  showHost();
  showBanner();
  return mirrors.some((mirror) => mirror.current);
}

function failed(error) {
  trouble = error;
  if (error.status === 401 || error.status === 403) lock();
  showBanner();
}

function happened(found, gap) {
  showEvents(found, gap);
  changedIn(new Set(listOf(found).map((event) => text(event.mirror))));
  statuses.hurry();
}

// --- the banner ------------------------------------------------------------------------------------------------------

function showBanner() {
  const verdict = current();
  const { level, word, headline, next, also } = verdict;
  mark(document.body, "data-level", level);
  mark(byId("banner"), "data-long", String(word.length > 9));
  say(byId("mark"), MARKS[level] ?? "");
  say(byId("state"), word);
  say(byId("headline"), headline);
  sayHint(byId("command"), next);
  show(byId("next"), next !== "");
  showAlso(also);
  say(byId("asof"), age());
  speak(verdict);
}

function current() {
  if (locked()) return { level: "locked", word: "NO ACCESS", headline: trouble.message, next: "syncd status --open", also: [] };
  if (trouble || stale()) return lost();
  if (!status) return { level: "wait", word: "LOADING", headline: "Asking the daemon.", next: "", also: [] };
  return judge(status);
}

function locked() {
  return trouble?.status === 401 || trouble?.status === 403;
}

/** No answer for long, and no error either: this page slept, or a call hangs. */
function stale() {
  return status !== null && now() - receivedAt > STALE_S * 1000;
}

function lost() {
  const why = trouble?.message ?? "no answer";
  const before = status ? `Everything below is ${duration(Math.floor((now() - receivedAt) / 1000))} old.` : "";
  const word = trouble?.status >= 500 ? "DAEMON ERROR" : "NO CONNECTION";
  return { level: "lost", word, headline: `The daemon does not tell how it is: ${why}. ${before}`.trim(), next: "syncd status", also: [] };
}

function showAlso(also) {
  const list = byId("also");
  if ([...list.children].map((node) => node.textContent).join("\n") !== also.join("\n")) {
    list.replaceChildren(...also.map((words) => make("li", {}, words)));
  }
  show(list, also.length > 0);
}

function age() {
  if (!status) return "Nothing received yet.";
  const seconds = Math.floor((now() - receivedAt) / 1000);
  const at = new Date(receivedAt).toISOString();
  return seconds < 2 ? `As of now, ${clock(at)}` : `As of ${duration(seconds)} ago, ${clock(at)}`;
}

/** Tell a screen reader and the tab what changed in the whole, not each number. */
function speak({ level, word, headline }) {
  const host = text(status?.host);
  document.title = `${word}${host ? ` - ${host}` : ""} - syncd`;
  mark(byId("icon"), "href", `/static/icon-${ICONS[level]}.svg`);
  const states = listOf(status?.mirrors).map((mirror) => `${text(mirror.name)} ${text(mirror.state)}`).join(", ");
  const heard = `${word} ${states}`;
  if (heard === spoken || level === "wait") return;
  spoken = heard;
  say(byId("spoken"), level === "lost" || level === "locked" ? `${word}. ${headline}` : `${word}. ${states}`);
}

function showHost() {
  say(byId("host"), text(status.host));
  const daemon = status.daemon ?? {};
  const up = secondsSince(daemon.since);
  const parts = [
    `syncd ${text(status.version)}`,
    daemon.pid ? `daemon pid ${text(daemon.pid)}` : "",
    up === null ? "" : `up ${duration(up)}`,
    `times in ${Intl.DateTimeFormat().resolvedOptions().timeZone}; UTC in their titles`,
  ];
  say(byId("about"), parts.filter(Boolean).join(" | "));
}

// --- the token -------------------------------------------------------------------------------------------------------

function lock() {
  show(byId("columns"), false);
  show(byId("access"), true);
  say(byId("token-refused"), tokenGiven ? `Refused: ${trouble.message}` : "");
  tokenGiven = false;
}

function give(event) {
  event.preventDefault();
  tokenGiven = true;
  keepToken(byId("token").value.trim());
  byId("token").value = "";
  wake();
}

function wake() {
  statuses.hurry();
  events.hurry();
}

// --- the start -------------------------------------------------------------------------------------------------------

takeToken();
startFolders();
byId("token-form").addEventListener("submit", give);
window.addEventListener("hashchange", () => {
  takeToken();
  wake();
});
window.addEventListener("online", wake);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) wake();
});
setInterval(() => {
  tick();
  showBanner();
}, TICK_MS);
statuses.run(received, failed);
events.run(happened);
