// The page: it shows what the workshop tells, and asks for what the visitor sets.

import { Chart } from "/chart.js";

const ROWS = 16;
const byId = (id) => document.getElementById(id);
const chart = new Chart(byId("chart"));
const controls = byId("controls");
const workers = new Map();
let inForce = null;
let waiting = [];
let failure = "before this page was opened";

// ---- what the workshop tells

const on = {
  hello({ endpoints, history, settings }) {
    drawFleet(endpoints);
    chart.replace(history);
    showSettings(settings);
    
  },
  settings: showSettings,
  tick(tick) {
    showTick(chart.add(tick));
  },
  answer(answer) {
    if (waiting.push(answer) === 1) requestAnimationFrame(showAnswers);
    if (waiting.length > ROWS) waiting.shift();
  },
  failed({ reason }) {
    failure = reason;
  },
};

const events = new EventSource("/events");
events.onopen = () => link("live", "live");
events.onerror = () => link("lost", "the workshop has ended");
events.onmessage = ({ data }) => {
  const event = JSON.parse(data);
  on[event.type](event);
};

function link(kind, text) {
  byId("link").className = `link ${kind}`;
  byId("link").textContent = text;
}

function showTick({ t, offered, home, burst, limit, totals, firstSpill, workers: rates }) {
  const texts = {
    "now-offered": `${Math.round(offered)}/s`, "now-home": `${Math.round(home)}/s`,
    "now-burst": `${Math.round(burst)}/s`, "now-limit": `${limit}/s`,
    "total-home": totals.home.toLocaleString("en"), "total-burst": totals.burst.toLocaleString("en"),
    "total-errors": totals.errors.toLocaleString("en"),
  };
  for (const [id, text] of Object.entries(texts)) byId(id).textContent = text;
  byId("errors-tile").classList.toggle("wrong", totals.errors > 0);
  byId("errors-hint").textContent = totals.errors ? failure : "every reply was 200";
  showFirstSpill(firstSpill);
  showCountdown();
  const scale = Math.max(limit, offered, 1);
  for (const [name, rate] of Object.entries(rates)) {
    const worker = workers.get(name);
    worker.bar.style.width = `${Math.min(100, (100 * rate) / scale)}%`;
    worker.rate.textContent = rate;
  }
  // For those who hear the page: not at every tick.
  if (Math.round(t * 4) % 20 === 0) {
    byId("chart").setAttribute("aria-label",
      `Rates of the last minute; now offered ${texts["now-offered"]}, primary ${texts["now-home"]}, burst ${texts["now-burst"]}, limit ${limit}/s`);
  }
}

function showFirstSpill({ state, seconds }) {
  const shown = byId("first-spill");
  const text = { idle: "–", waiting: "…", seen: `${seconds?.toFixed(seconds < 1 ? 2 : 1)} s` }[state];
  if (shown.textContent === text) return;
  shown.textContent = text;
  byId("first-spill-hint").textContent = {
    idle: "once above the limit",
    waiting: "nothing has spilled yet",
    seen: "from change to answer",
  }[state];
}

function showAnswers() {
  const rows = waiting.reverse().map(({ id, result, by, burst }) => {
    const row = document.createElement("li");
    row.className = burst ? "answer burst" : "answer home";
    const hash = document.createElement("code");
    const cut = result.lastIndexOf("-") + 1;
    if (cut) hash.append(span("prefix", result.slice(0, cut)));
    hash.append(result.slice(cut));
    row.append(span("id", `#${id}`), hash, span("by", by));
    return row;
  });
  waiting = [];
  const list = byId("answers");
  list.prepend(...rows);
  while (list.children.length > ROWS) list.lastChild.remove();
}

function span(kind, text) {
  const made = document.createElement("span");
  made.className = kind;
  made.textContent = text;
  return made;
}

function drawFleet(endpoints) {
  byId("fleet").replaceChildren();
  for (const burst of [false, true]) {
    const cluster = document.createElement("div");
    cluster.className = burst ? "cluster burst" : "cluster home";
    const title = document.createElement("h3");
    title.append(burst ? "burst" : "primary", span("", burst ? "overflow" : "home"));
    cluster.append(title);
    for (const { name } of endpoints.filter((endpoint) => endpoint.burst === burst)) {
      const row = document.createElement("div");
      row.className = "worker";
      const bar = span("bar", "");
      const fill = document.createElement("i");
      bar.append(fill);
      const rate = document.createElement("b");
      rate.textContent = "0";
      row.append(span("", name), bar, rate);
      cluster.append(row);
      workers.set(name, { bar: fill, rate });
    }
    byId("fleet").append(cluster);
  }
}

// ---- what the visitor sets

function showSettings(settings) {
  inForce = settings;
  for (const id of ["frequency", "limit"]) {
    if (document.activeElement !== byId(id)) byId(id).value = settings[id];
  }
  const forced = settings.override;
  choose("mode", settings.mode);
  choose("override", forced && forced.untilUnixSeconds * 1000 > Date.now() ? forced.force : "");
  byId("mode-hint").textContent = settings.mode === "Spill"
    ? "Only the excess goes to burst."
    : `All goes to burst above ${settings.limit}/s, and back home below ${+(settings.limit * 2 / 3).toFixed(1)}/s.`;
  showCountdown();
}

// A list of radio buttons cannot be set to the empty value by its own property.
function choose(name, value) {
  for (const radio of controls.elements[name]) radio.checked = radio.value === value;
}

// An override ends by itself; only its end has to be shown.
function showCountdown() {
  const forced = inForce?.override;
  const left = forced ? Math.ceil(forced.untilUnixSeconds - Date.now() / 1000) : 0;
  if (forced && left <= 0) {
    choose("override", "");
    inForce.override = null;
  }
  byId("override-hint").textContent = left > 0
    ? `All goes to ${forced.force === "Home" ? "primary" : "burst"} for ${left} s more.`
    : "Ends by itself after that time.";
}

async function ask(change) {
  let reply, body;
  try {
    reply = await fetch("/settings", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(change),
    });
    body = await reply.json();
  } catch {
    say("The workshop does not answer.", true);
    return;
  }
  if (!reply.ok) {
    say(body.reasons.join(" "), true);
    showSettings(inForce);
  } else if ("frequency" in change) {
    say(`${body.frequency} requests a second from now on.`);
  } else {
    say(`Configuration ${body.generation} in force after ${body.appliedMs} ms.`);
  }
}

function say(text, wrong = false) {
  byId("said").classList.toggle("wrong", wrong);
  byId("said").textContent = text;
}

function askNumber(id) {
  const value = byId(id).valueAsNumber;
  if (!Number.isInteger(value) || value < +byId(id).min || value > +byId(id).max) {
    say(`A whole number from ${byId(id).min} to ${byId(id).max}, please.`, true);
  } else if (value !== inForce?.[id]) {
    inForce[id] = value; // Enter is both a change and a submission: once is enough.
    ask({ [id]: value });
  }
}

function askOverride() {
  const force = controls.elements.override.value || null;
  ask({ override: { force, seconds: force ? byId("seconds").valueAsNumber || 0 : 0 } });
}

controls.addEventListener("submit", (event) => {
  event.preventDefault();
  const { id } = document.activeElement;
  if (id === "frequency" || id === "limit") askNumber(id);
});
byId("frequency").addEventListener("change", () => askNumber("frequency"));
byId("limit").addEventListener("change", () => askNumber("limit"));
for (const radio of controls.elements.mode) radio.addEventListener("change", () => ask({ mode: radio.value }));
for (const radio of controls.elements.override) radio.addEventListener("change", askOverride);
byId("seconds").addEventListener("change", () => controls.elements.override.value && askOverride());
for (const preset of controls.querySelectorAll(".presets button")) {
  preset.addEventListener("click", () => {
    byId("frequency").value = preset.value;
    askNumber("frequency");
  });
}
