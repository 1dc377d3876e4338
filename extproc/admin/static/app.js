// The dashboard.  Everything that comes from traffic is put into the page as text, never as markup.
"use strict";

const $ = (id) => document.getElementById(id);
const MAX_EVENTS = 100;
const MAX_SEEN = 1000;
const SUMMARY_MS = 3000;
let token = "";
let threshold = 5;
let polling = 0;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function ask(path, question) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const options = { headers };
  if (question !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(question);
  }
  const answer = await fetch(path, options).catch(() => { throw new Error("the sidecar does not answer"); });
  const data = await answer.json().catch(() => { throw new Error(`the sidecar answers ${answer.status}`); });
  if (answer.status === 401) $("token").hidden = false;
  if (!answer.ok && data.error && !("ok" in data)) throw new Error(data.error);
  return data;
}

function say(text) {
  $("state").textContent = text;
}

// -- counts ---------------------------------------------------------------------------------------

function drawTimeline(slices, seconds) {
  const now = Math.floor(Date.now() / 1000 / seconds) * seconds;
  const count = 180;
  const points = [];
  for (let i = count - 1; i >= 0; i--) {
    points.push(slices[String(now - i * seconds)] || [0, 0, 0]);
  }
  const top = Math.max(1, ...points.map((p) => p[0]));
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `0 0 ${count * 10} 140`);
  svg.setAttribute("preserveAspectRatio", "none");
  points.forEach((point, index) => {
    ["pass", "block", "detect"].forEach((kind, which) => {
      if (!point[which]) return;
      const bar = document.createElementNS(space, "rect");
      const height = Math.max(2, (130 * point[which]) / top);
      bar.setAttribute("x", index * 10 + (which === 0 ? 1 : which === 1 ? 1 : 5));
      bar.setAttribute("y", 140 - height);
      bar.setAttribute("width", which === 0 ? 8 : 4);
      bar.setAttribute("height", height);
      bar.setAttribute("class", kind);
      svg.append(bar);
    });
  });
  $("timeline").replaceChildren(svg);
}

function drawBars(id, bounds, counts, label, over) {
  const top = Math.max(1, ...counts);
  $(id).replaceChildren(
    ...counts.map((count, index) => {
      const last = index === bounds.length;
      const row = element("div", undefined, over(last ? Infinity : bounds[index]) ? "over" : "");
      const bar = element("progress");
      bar.max = top;
      bar.value = count;
      const name = last ? `> ${bounds[bounds.length - 1]}` : `≤ ${bounds[index]}`;
      bar.setAttribute("aria-label", `${name} ${label}: ${count}`);
      row.append(element("span", `${name} ${label}`), bar, element("span", String(count)));
      return row;
    }),
  );
}

function drawTop(id, items) {
  $(id).replaceChildren(
    ...items.map(([name, count]) => {
      const row = element("li");
      row.append(element("span", name), element("span", String(count)));
      return row;
    }),
  );
  if (!items.length) $(id).append(element("li", "nothing yet"));
}

async function summary() {
  const data = await ask("api/summary");
  const slices = Object.entries(data.slices);
  const sum = (which) => slices.reduce((total, [, counts]) => total + counts[which], 0);
  $("n-requests").textContent = sum(0);
  $("n-blocked").textContent = sum(1);
  $("n-detected").textContent = sum(2);
  const recent = slices.filter(([stamp]) => Number(stamp) > Date.now() / 1000 - 70);
  const rate = recent.reduce((total, [, counts]) => total + counts[0], 0) / 60;
  $("n-rate").textContent = rate.toFixed(1);
  drawTimeline(data.slices, data.slice_seconds);
  drawBars("scores", data.score_bounds, data.scores, "points", (bound) => bound >= threshold);
  drawBars("latencies", data.latency_bounds_ms, data.latencies, "ms", (bound) => bound > 50);
  drawTop("rules", data.rules);
  drawTop("paths", data.paths);
  drawTop("clients", data.clients);
}

function health(data) {
  const down = (data.workers || []).flatMap((worker, index) => (worker.ready ? [] : [index]));
  if (down.length) return `worker ${down.join(", ")} of ${data.workers.length} not ready`;
  return data.ready ? "live" : "not ready";
}

async function status() {
  const data = await ask("status");
  if (!data.policies) return health(data);
  threshold = data.anomaly_threshold || 5;
  const names = data.policies.map((policy) => `${policy.name} (${policy.mode}, ${policy.rules} rules)`).join(", ");
  $("what").textContent = `${data.ruleset.text} · generation ${data.generation} · ${names}`;
  return health(data);
}

async function refresh() {
  try {
    const state = await status();
    await summary();
    say(state);
    $("token").hidden = true;
  } catch (error) {
    say(error.message);
  }
  setTimeout(refresh, SUMMARY_MS);
}

// -- events ---------------------------------------------------------------------------------------

const seen = new Set();

function addEvent(event) {
  const key = `${event.transaction_id} ${event.time}`;
  if (seen.has(key)) return;
  seen.add(key);
  if (seen.size > MAX_SEEN) seen.delete(seen.values().next().value);
  const row = element("li");
  const button = element("button");
  button.type = "button";
  const time = new Date(event.time * 1000).toLocaleTimeString([], { hour12: false });
  const rules = event.rules.map((rule) => rule.id).join(" ");
  button.append(
    element("span", time),
    element("span", `${event.action} ${event.status || ""}`, event.action),
    element("span", `score ${event.score}`),
    element("span", `${event.method} ${event.host}${event.path}  ·  ${event.client}  ·  ${rules}`, "path"),
  );
  button.addEventListener("click", () => why(event.transaction_id));
  row.append(button);
  row.hidden = !fits(row);
  $("events").prepend(row);
  while ($("events").children.length > MAX_EVENTS) $("events").lastChild.remove();
}

function fits(row) {
  const words = $("filter").value.toLowerCase().split(/\s+/);
  const text = row.textContent.toLowerCase();
  return words.every((word) => text.includes(word));
}

async function pollEvents() {
  try {
    const data = await ask(`api/events?limit=${MAX_EVENTS}`);
    data.events.reverse().forEach(addEvent);
  } catch (error) {
    say(error.message);
  }
  // With a token EventSource cannot be used: it sends no headers.
  clearTimeout(polling);
  polling = setTimeout(pollEvents, token ? 2000 : 30000);
}

function follow() {
  if (token) return;
  const source = new EventSource("api/events/stream");
  source.onmessage = (message) => addEvent(JSON.parse(message.data));
}

async function why(id) {
  const body = $("why-body");
  body.replaceChildren(element("p", "asking ..."));
  if (!$("why").open) $("why").showModal();
  try {
    const found = await ask("api/explain", { id });
    const parts = [element("p", found.request), element("p", `${found.verdict}: ${found.reason} (score ${found.score})`, found.verdict)];
    for (const rule of found.rules) {
      if (!(rule.score || rule.decides || rule.logged)) continue;
      const block = element("div", undefined, "rule");
      block.append(element("p", `${rule.id} ${rule.message}${rule.score ? `  +${rule.score}` : ""}${rule.decides ? `  → ${rule.action}` : ""}`));
      for (const match of rule.matches) {
        block.append(element("p", `${match.variable} = ${match.value}`));
        for (const step of match.steps) block.append(element("p", `t:${step.t} → ${step.value}`));
        block.append(element("p", match.operator.slice(0, 200), "hint"));
      }
      parts.push(block);
    }
    if (found.proposals.length) {
      parts.push(element("h2", "If it is legitimate, exclude no more than this"), element("pre", found.proposals.join("\n\n")));
    }
    body.replaceChildren(...parts);
  } catch (error) {
    body.replaceChildren(element("p", error.message));
  }
}

$("reload").addEventListener("click", async () => {
  say("reloading ...");
  try {
    const outcome = await ask("api/reload", {});
    say(outcome.ok ? `generation ${outcome.generation} serves` : outcome.error);
  } catch (error) {
    say(error.message);
  }
});

$("filter").addEventListener("input", () => {
  for (const row of $("events").children) row.hidden = !fits(row);
});

$("token-send").addEventListener("click", () => {
  token = $("token-text").value;
  $("token-text").value = "";
  pollEvents();
});

refresh();
pollEvents();
follow();
