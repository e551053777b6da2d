"use strict";
// Shows /api/overview, asked again every two seconds. All text comes from
// tenants' configuration: it is only ever set as text, never as markup.

const every = 2000;
let filter = "";
let last = null;
const pending = new Map(); // certificates asked for here, by ID: what their button says

const byId = (id) => document.getElementById(id);

function el(tag, cls, ...children) {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  e.append(...children.filter((c) => c !== null && c !== undefined && c !== ""));
  return e;
}

const code = (text) => el("code", "", String(text));
const lines = (items) => el("div", "", ...items.map((i) => el("div", "", i)));
const state = (text, cls) => el("span", "state " + cls, text);

function ago(time, now) {
  if (!time) return "";
  const s = Math.round((new Date(time) - now) / 1000);
  const abs = Math.abs(s);
  const [n, unit] = abs < 90 ? [abs, "s"] : abs < 5400 ? [Math.round(abs / 60), "min"] : abs < 129600 ? [Math.round(abs / 3600), "h"] : [Math.round(abs / 86400), "days"];
  return s >= 0 ? `in ${n} ${unit}` : `${n} ${unit} ago`;
}

function when(time, now) {
  const e = el("span", "", ago(time, now));
  if (e.textContent) e.title = time;
  return e;
}

function table(section, heads, rows, empty) {
  const t = byId(section).querySelector("table");
  const shown = rows.filter((r) => !filter || r.some((c) => (c instanceof Node ? c.textContent : String(c ?? "")).toLowerCase().includes(filter)));
  const body = shown.length
    ? shown.map((r) => el("tr", "", ...r.map((c) => el("td", "", c))))
    : [el("tr", "", Object.assign(el("td", "soft", rows.length ? "nothing matches the filter" : empty), { colSpan: heads.length }))];
  t.replaceChildren(el("thead", "", el("tr", "", ...heads.map((h) => el("th", "", h)))), el("tbody", "", ...body));
}

// life is a certificate's time line: how much of its life is over, and where in
// it the renewal comes.
function life(c, now) {
  if (!c.notAfter) return "";
  const begin = new Date(c.notBefore), end = new Date(c.notAfter);
  const part = (t) => Math.min(100, Math.max(0, (100 * (t - begin)) / (end - begin)));
  const bar = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const rect = (cls, x, width) => {
    const r = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [k, val] of Object.entries({ class: cls, x, width, y: 0, height: 6 })) r.setAttribute(k, val);
    bar.append(r);
  };
  bar.setAttribute("class", "life");
  bar.setAttribute("viewBox", "0 0 100 6");
  bar.setAttribute("preserveAspectRatio", "none");
  bar.setAttribute("aria-hidden", "true");
  rect("all", 0, 100);
  rect(end <= now ? "over" : "spent", 0, part(now));
  if (c.renewAt) rect("due", Math.min(98.5, part(new Date(c.renewAt))), 1.5);
  return el("div", "", when(c.notAfter, now), bar);
}

function renewButton(c) {
  const asked = pending.get(c.id);
  const b = el("button", "small", asked ?? (c.asked ? "asked for" : c.notAfter ? "renew now" : "try now"));
  b.type = "button";
  b.disabled = Boolean(asked || c.asked);
  b.title = `order ${(c.names ?? [c.id]).join(", ")} now, before it is due`;
  b.addEventListener("click", async () => {
    pending.set(c.id, "asking …");
    b.textContent = "asking …";
    b.disabled = true;
    let text = "asked for";
    try {
      const answer = await fetch(`/api/certificates/${encodeURIComponent(c.id)}/renew`, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
      if (!answer.ok) text = `refused: ${(await answer.json()).error}`;
    } catch (err) {
      text = `not asked: ${err.message}`;
    }
    pending.set(c.id, text);
    setTimeout(() => pending.delete(c.id), 3000);
  });
  return b;
}

const certClass = { valid: "good", renewing: "good", ordering: "warn", wanted: "warn", failed: "bad", waiting: "warn", covered: "good", standby: "good" };

function show(v) {
  const now = new Date(v.now);
  const summary = byId("summary");
  summary.className = v.ready && !v.reason ? "good" : "warn";
  summary.textContent = (v.ready ? "ready" : "not ready") + (v.reason ? `: ${v.reason}` : "") + ` · replica ${v.replica} · ${v.version}`;

  const problems = byId("problems");
  problems.hidden = v.problems.length === 0;
  problems.querySelector("ul").replaceChildren(...v.problems.map((p) => el("li", p.warning ? "warn" : "bad", p.text)));

  table("certificates", ["Names", "State", "Issuer", "Expires", "Renewal", "Next attempt", "Worked on by", "Last error"],
    v.certificates.map((c) => [
      el("div", "", lines((c.names ?? [c.id]).map(code)), v.canRenew && (c.sources ?? []).length && !c.holder ? renewButton(c) : ""),
      state(c.state, certClass[c.state] ?? "warn"), c.issuer,
      life(c, now), when(c.renewAt, now), when(c.nextAttempt, now),
      c.holder ? lines([c.holder, ...[c.step, c.journal].filter(Boolean).map((t) => el("span", "soft", t))]) : c.journal ? el("span", "soft", c.journal) : "",
      c.waits ? el("span", "soft", c.waits) : c.problem || c.error ? el("span", "bad", (c.problem ?? c.error) + (c.failures ? ` (failures in a row: ${c.failures})` : "")) : "",
    ]), "no certificate is kept here");

  const served = v.served ?? { entryPoints: [], routers: [], services: [] };
  table("routers", ["Router", "Entry points", "Rule", "Priority", "Middlewares", "Service", "State"],
    (served.routers ?? []).map((r) => [
      r.name, (r.entryPoints ?? []).join(", "), code(r.rule), String(r.priority ?? ""), (r.middlewares ?? []).join(", "), r.service,
      r.refusal ? state(`503: ${r.refusal}`, "bad") : state("serving", "good"),
    ]), "no router is configured");

  table("services", ["Service", "Servers"],
    (served.services ?? []).map((s) => [s.name, lines([
      ...(s.servers ?? []).map((srv) => el("span", "",
        state(srv.up ? "up" : "down", srv.up ? "good" : "bad"), " ", code(srv.url),
        el("span", "soft", ` weight ${srv.weight}, in flight ${srv.inFlight}`), srv.error ? el("span", "bad", ` ${srv.error}`) : "")),
      ...(s.services ?? []).map((share) => el("span", "", share.name, el("span", "soft", ` weight ${share.weight}`))),
    ])]), "no service is configured");

  table("entrypoints", ["Entry point", "Address", "TLS"],
    (served.entryPoints ?? []).map((e) => [e.name, code(e.address), e.tls ? "yes" : "no"]), "none");

  table("replicas", ["Replica", "Version", "Started", "Works on"],
    v.replicas.map((r) => [r.self ? `${r.name} (this one)` : r.name, r.version, when(r.started, now), lines((r.holds ?? []).map(code))]), "none");
}

async function refresh() {
  try {
    const answer = await fetch("/api/overview", { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(`/api/overview answered ${answer.status}`);
    last = await answer.json();
    show(last);
  } catch (err) {
    const summary = byId("summary");
    summary.className = "bad";
    summary.textContent = `no news: ${err.message}; asking again every ${every / 1000} s`;
  }
  setTimeout(refresh, every);
}

byId("filter").addEventListener("input", (e) => {
  filter = e.target.value.trim().toLowerCase();
  if (last) show(last);
});
refresh();
