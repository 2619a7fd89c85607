// Talking to the daemon: the token, calls that end by their deadline, and the two loops (status, events).

import { now } from "./format.js";

const TOKEN = "syncd-token";
const CALL_MS = 4000;
const IDLE_MS = 3000;
const BUSY_MS = 1500;
const LOST_MS = 2000;
const POLL_S = 15;
const POLL_MS = (POLL_S + 10) * 1000;
const PAST_EVENTS = 30;
const EVENTS_MAX = 200;
const GATHER_MS = 250;
const HIDDEN_MS = 5000;
const SOONEST_MS = 1000;

/** An answer that is none: `status` is HTTP's, 0 where the daemon did not answer at all. */
export class Unanswered extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Take the token out of the address bar into this tab's memory. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    keepToken(given);
    history.replaceState(null, "", location.pathname + location.search);
  }
}

export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

/** GET a path of the API; return the object. Raises Unanswered, at the latest after `patience` milliseconds. */
export async function get(path, patience = CALL_MS) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  try {
    const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(patience) });
    const body = await answer.json();
    if (answer.ok) return body;
    throw new Unanswered(body?.error?.message ?? `HTTP ${answer.status}`, answer.status);
  } catch (error) {
    if (error instanceof Unanswered) throw error;
    throw new Unanswered(error.name === "TimeoutError" ? "no answer in time" : "the connection failed");
  }
}

/** What is no Unanswered is a fault of this page: it must not end a loop, and must be seen. */
function explained(error) {
  if (error instanceof Unanswered) return error;
  console.error(error);
  return new Unanswered("this page cannot show the daemon's answer", 200);
}

/** A pause that wake() cuts short. */
class Pause {
  #end = null;

  wait(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#end = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  wake() {
    this.#end?.();
  }
}

/** Asks for the status for ever. told(status) or failed(Unanswered) after each call. */
export class StatusLoop {
  #pause = new Pause();
  #asked = 0;

  async run(told, failed) {
    for (;;) {
      let rest = LOST_MS;
      this.#asked = now();
      try {
        const status = await get("/api/v1/status");
        rest = told(status) ? BUSY_MS : IDLE_MS;
      } catch (error) {
        failed(explained(error));
      }
      await this.#pause.wait(rest);
    }
  }

  /** Ask now; at most once a second. */
  hurry() {
    setTimeout(() => this.#pause.wake(), Math.max(this.#asked + SOONEST_MS - now(), 0));
  }
}

/** Follows the event feed for ever. told(events, gap) for what is new; the first time, the last few of the past. */
export class EventLoop {
  #pause = new Pause();
  #since = -1;

  async run(told) {
    for (;;) {
      try {
        if (this.#since < 0) await this.#begin();
        // a browser has six connections for all tabs of a site: those that nobody sees hold none
        const wait = document.hidden ? 0 : POLL_S;
        const answer = await get(`/api/v1/events?since=${this.#since}&limit=${EVENTS_MAX}&timeout=${wait}`, POLL_MS);
        // numbers that went back: another catalogue; begin anew
        this.#since = answer.next < this.#since ? -1 : answer.next;
        if (answer.events.length || answer.gap) told(answer.events, answer.gap);
        await this.#pause.wait(document.hidden ? HIDDEN_MS : GATHER_MS);
      } catch (error) {
        explained(error);
        await this.#pause.wait(LOST_MS);
      }
    }
  }

  async #begin() {
    const { next, oldest } = await get("/api/v1/events?since=-1");
    this.#since = Math.max(next - PAST_EVENTS, (oldest ?? 1) - 1, 0);
  }

  hurry() {
    this.#pause.wake();
  }
}
