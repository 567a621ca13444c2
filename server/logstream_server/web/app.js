// The first page: follows one stream over the WebSocket beside it and shows its newest lines.
//
// Log text is never trusted: it only ever becomes text nodes. All addresses are relative, so that the page works under
// any base path. The socket speaks logstream.json.v1 (docs/protocol.md); after a break it goes on at the last cursor.

"use strict";

const MAX_LINES = 5000; // kept in the page; the file has the rest
const MAX_SHOWN = 4000; // characters of one line
const FIRST_LINES = 500; // asked for at the start
const FIRST_RETRY_MS = 200;
const LONGEST_RETRY_MS = 5000;
const FINAL_CODES = new Set([4002, 4003, 4004, 4009, 4010]); // asking again would not help
const BAD_REQUEST = 4009;
const SESSION_ENDED = 4002;
const QUIET_STATES = new Set(["starting", "following"]); // of a stream; any other is shown beside its name

const element = (id) => document.getElementById(id);
const view = {
  log: element("log"), empty: element("empty"), newest: element("newest"), problem: element("problem"),
  state: element("state"), stateText: element("state-text"), stream: element("stream"), filter: element("filter"),
};
const count = new Intl.NumberFormat();
const plural = (n, noun) => `${count.format(n)} ${noun}${n === 1 ? "" : "s"}`;
const address = new URLSearchParams(location.search);

// --- The log: rows wait in a queue and are drawn together, at most every few frames -----------------------------------

const log = {
  queue: [], // rows that are not drawn yet: {text, kind} with kind "line", "note" or "loss"
  following: true, // whether the newest line is in sight; if not, nothing moves
  skipped: 0, // lines that the queue had no room for while the reader was elsewhere
  unfinished: null, // the row of a line that has no newline yet
  timer: 0,
  pauseMs: 30,

  lines({ lines, partial, continued, cut }) {
    const fullBytes = new Map(cut || []); // of the lines that the server cut, by index
    lines.forEach((text, index) => {
      if (index === 0 && continued && this.unfinished) this.extend(text);
      else this.add({ text, kind: "line", node: null, bytes: fullBytes.get(index) });
    });
    if (lines.length) this.unfinished = partial ? this.last : null;
    this.schedule();
  },

  note(text, kind = "note") {
    this.add({ text, kind, node: null });
    this.schedule();
  },

  add(row) {
    this.last = row;
    this.queue.push(row);
    if (this.queue.length <= 2 * MAX_LINES) return;
    const dropped = this.queue.splice(0, this.queue.length - MAX_LINES);
    if (!this.following) this.skipped += dropped.filter((each) => each.kind === "line").length;
  },

  extend(text) {
    this.unfinished.text += text;
    this.last = this.unfinished;
    if (this.unfinished.node) fill(this.unfinished);
  },

  schedule() {
    if (!this.timer) this.timer = setTimeout(() => this.draw(), this.pauseMs);
  },

  draw() {
    this.timer = 0;
    view.empty.hidden = this.queue.length > 0 || view.log.childElementCount > 0;
    if (!this.following) {
      this.announce();
      return;
    }
    const began = performance.now();
    const rows = this.queue.splice(0).slice(-MAX_LINES);
    if (this.skipped) rows.unshift({ text: `${plural(this.skipped, "line")} went by while you were reading`, kind: "note" });
    this.skipped = 0;
    const fragment = document.createDocumentFragment();
    for (const row of rows) {
      row.node = document.createElement("div");
      fill(row);
      fragment.append(row.node);
    }
    const surplus = view.log.childElementCount + rows.length - MAX_LINES;
    for (let i = 0; i < surplus && view.log.firstChild; i++) view.log.firstChild.remove();
    view.log.append(fragment);
    view.log.scrollTop = view.log.scrollHeight;
    // Under load, draw less often rather than keep the browser busy: at most a quarter of the time.
    this.pauseMs = Math.min(1000, Math.max(30, 4 * (performance.now() - began)));
  },

  announce() {
    const waiting = this.skipped + this.queue.filter((row) => row.kind === "line").length;
    view.newest.textContent = waiting ? `↓ ${plural(waiting, "new line")}` : "↓ Newest";
    view.newest.hidden = false;
  },

  follow(following) {
    if (following === this.following) return;
    this.following = following;
    view.newest.hidden = following;
    this.draw();
  },

  clear(words) {
    Object.assign(this, { queue: [], skipped: 0, unfinished: null, following: true });
    view.newest.hidden = true;
    view.log.replaceChildren();
    view.empty.textContent = words;
    view.empty.hidden = false;
  },
};

function fill(row) {
  const plain = row.text.replace(/\x1b\[[0-?]*[ -/]*[@-~]/g, ""); // colours for terminals
  let rest = plain.length > MAX_SHOWN ? ` … and ${plural(plain.length - MAX_SHOWN, "more character")}` : "";
  if (row.bytes) rest = ` … cut, ${plural(row.bytes, "byte")} in all`;
  row.node.className = row.kind === "line" ? `line ${severity(plain)}` : `note ${row.kind}`;
  row.node.textContent = plain.slice(0, MAX_SHOWN) + rest;
}

function severity(text) {
  const start = text.slice(0, 200);
  if (/\b(?:ERROR|FATAL|CRITICAL|SEVERE|PANIC|EMERG)\b|\blevel=(?:error|fatal|critical|panic)\b/.test(start)) return "error";
  return /\bWARN(?:ING)?\b|\blevel=warn(?:ing)?\b/.test(start) ? "warn" : "";
}

// --- The connection ---------------------------------------------------------------------------------------------------

const feed = {
  socket: null,
  stream: address.get("stream") || "", // "" is the server's first
  filter: address.get("grep") || "",
  cursor: "",
  attempts: 0,
  timer: 0, // of the next try; -1 while that asks whether the server is there
  bye: null,
  fresh: true,

  start() {
    this.stop();
    this.cursor = "";
    this.attempts = 0;
    this.fresh = true; // the old lines stay until the new view is there, or while a filter is half typed
    state("connecting", "Connecting");
    this.connect();
  },

  stop() {
    clearTimeout(this.timer);
    this.timer = 0;
    const socket = this.socket;
    this.socket = null; // its events are not ours any more
    if (socket) socket.close();
  },

  connect() {
    this.timer = 0;
    this.bye = null;
    const socket = new WebSocket(this.url(), "logstream.json.v1");
    this.socket = socket;
    let opened = false;
    socket.onopen = () => { opened = true; };
    socket.onmessage = (event) => { if (socket === this.socket) this.receive(JSON.parse(event.data)); };
    socket.onclose = (event) => { if (socket === this.socket) this.closed(event, opened); };
  },

  url() {
    const url = new URL("ws", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    const query = new URLSearchParams();
    if (this.stream) query.set("stream", this.stream);
    if (this.filter) query.set("grep", this.filter);
    if (address.has("access_token")) query.set("access_token", address.get("access_token"));
    query.set(...(this.cursor ? ["cursor", this.cursor] : ["tail", FIRST_LINES]));
    url.search = query;
    return url.href;
  },

  receive(message) {
    if (message.cursor) this.cursor = message.cursor;
    switch (message.type) {
      case "hello": this.greeted(message); break;
      case "lines":
        if (message.lines.length) this.attempts = 0;
        log.lines(message);
        break;
      case "gap": {
        const size = message.bytes == null ? "Lines" : plural(message.bytes, "byte");
        log.note(`${size} missing here: ${message.detail || message.reason}`, "loss");
        break;
      }
      case "event": log.note(message.detail ? `${message.event}: ${message.detail}` : message.event); break;
      case "error": problem(message.reason); break;
      case "bye": this.bye = message; break;
      default: // a later version's
    }
  },

  greeted(message) {
    if (this.fresh) log.clear(this.filter ? "No line matches yet" : "Waiting for lines");
    this.fresh = false;
    this.stream = message.stream || this.stream;
    showStreams(message.streams || []);
    state("live", "Live");
    problem("");
    if (message.recovered === false) {
      log.note(`Could not go on where it was: ${message.reason || "the file is another one"}`, "loss");
    }
    document.title = this.stream ? `${this.stream} – logstream` : "logstream";
  },

  closed(event, opened) {
    this.socket = null;
    const reason = event.reason || (this.bye && this.bye.reason) || "";
    if (event.code === SESSION_ENDED) {
      logIn();
      return;
    }
    if (FINAL_CODES.has(event.code) || (this.bye && !this.bye.reconnect)) {
      state("failed", event.code === BAD_REQUEST && this.filter ? "Filter not understood" : "Stopped");
      problem(reason || `The server refused (code ${event.code})`);
      view.filter.setAttribute("aria-invalid", String(event.code === BAD_REQUEST));
      return;
    }
    const backOff = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(this.attempts++, 20)) * (0.5 + Math.random() / 2);
    const delay = Math.max(backOff, (this.bye && this.bye.retry_ms) || 0);
    state("connecting", this.cursor ? "Reconnecting" : "Connecting");
    this.timer = setTimeout(() => this.retry(opened), delay);
  },

  // A socket that never opened says nothing about why, and Firefox delays the tries after it: so ask over HTTP first.
  async retry(opened) {
    this.timer = -1;
    const answer = opened ? 200 : await fetchStreams();
    if (this.timer !== -1) return; // started anew meanwhile
    if (answer === 401 || answer === 403) {
      state("failed", "Not allowed");
      problem(answer === 401 ? "This server asks for a token." : "This server does not let you in.");
      if (answer === 401) logIn();
    } else if (answer === 200) {
      this.connect();
    } else {
      this.closed({ code: 1006, reason: "" }, false);
    }
  },

  hurry() {
    if (this.timer > 0) {
      clearTimeout(this.timer);
      this.retry(false);
    }
  },
};

// --- Controls ---------------------------------------------------------------------------------------------------------

function state(kind, text) {
  view.state.className = `state ${kind}`;
  view.stateText.textContent = text;
}

function problem(text) {
  view.problem.hidden = !text;
  view.problem.textContent = text;
  view.filter.removeAttribute("aria-invalid");
}

function showStreams(streams) {
  const named = streams.some((each) => each.name === feed.stream) || !feed.stream;
  const shown = named ? streams : [{ name: feed.stream }, ...streams];
  const labels = shown.map(({ name, state }) => (!state || QUIET_STATES.has(state) ? name : `${name} (${state})`));
  if (labels.join("\n") !== [...view.stream.options].map((option) => option.text).join("\n")) { // an open list stays open
    view.stream.replaceChildren(...labels.map((label, index) => new Option(label, shown[index].name)));
  }
  view.stream.value = feed.stream || (streams[0] ? streams[0].name : "");
}

async function fetchStreams() {
  try {
    const url = new URL("api/v1/streams", document.baseURI);
    if (address.has("access_token")) url.searchParams.set("access_token", address.get("access_token"));
    const response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (response.ok) showStreams((await response.json()).streams);
    return response.status;
  } catch {
    return 0;
  }
}

// Whoever has no session, or none any more, gets the form; it leads back here, to the same stream and filter.
function logIn() {
  const query = new URLSearchParams(address);
  query.delete("access_token");
  location.replace(new URL(query.size ? `login?${query}` : "login", document.baseURI));
}

async function showSession() {
  try {
    const response = await fetch(new URL("session", document.baseURI), { cache: "no-store" });
    element("logout").hidden = !(await response.json()).session;
  } catch {
    // the page does without the button
  }
}

// By fetch and not as a form: a page without a referrer posts its forms with the origin "null", which no server trusts.
element("logout").addEventListener("submit", async (event) => {
  event.preventDefault();
  feed.stop();
  const answer = await fetch(new URL("logout", document.baseURI), { method: "POST", redirect: "manual" }).catch(() => null);
  if (answer) logIn();
  else problem("The server does not answer; you are still logged in");
});

function choose() {
  const stream = view.stream.value;
  const filter = view.filter.value;
  if (stream === feed.stream && filter === feed.filter) return;
  Object.assign(feed, { stream, filter });
  address.set("stream", stream);
  if (filter) address.set("grep", filter);
  else address.delete("grep");
  history.replaceState(null, "", `?${address}`);
  feed.start();
}

let typing = 0;
view.filter.value = feed.filter;
view.filter.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(choose, 400);
});
view.stream.addEventListener("change", choose);
view.stream.addEventListener("pointerdown", fetchStreams); // new files may have come
element("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  choose();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target === view.filter) return;
  event.preventDefault();
  view.filter.focus();
});

view.log.addEventListener("scroll", () => {
  log.follow(view.log.scrollHeight - view.log.scrollTop - view.log.clientHeight < 24);
}, { passive: true });
view.newest.addEventListener("click", () => {
  log.follow(true);
  view.log.focus({ preventScroll: true });
});
new ResizeObserver(() => { if (log.following) view.log.scrollTop = view.log.scrollHeight; }).observe(view.log);
addEventListener("online", () => feed.hurry());
document.addEventListener("visibilitychange", () => { if (!document.hidden) feed.hurry(); });

showSession();
fetchStreams();
feed.start();
