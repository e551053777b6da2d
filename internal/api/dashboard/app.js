"use strict";
// Shows /api/overview, asked again every two seconds. All text comes from
// tenants' configuration: it is only ever set as text, never as markup.

const every = 2000;
let filter = "";
let last = null;

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

const certClass = { valid: "good", renewing: "good", ordering: "warn", wanted: "warn", failed: "bad", covered: "good" };

function show(v) {
  const now = new Date(v.now);
  const summary = byId("summary");
  summary.className = v.ready ? "good" : "warn";
  summary.textContent = (v.ready ? "ready" : `not ready: ${v.reason}`) + ` · replica ${v.replica} · ${v.version}`;

  const problems = byId("problems");
  problems.hidden = v.problems.length === 0;
  problems.querySelector("ul").replaceChildren(...v.problems.map((p) => el("li", p.warning ? "warn" : "bad", p.text)));

  table("certificates", ["Names", "State", "Issuer", "Expires", "Renewal or next attempt", "Worked on by", "Last error"],
    v.certificates.map((c) => [
      lines(c.names.map(code)), state(c.state + (c.step ? `: ${c.step}` : ""), certClass[c.state] ?? "warn"), c.issuer,
      when(c.notAfter, now), when(c.nextAttempt ?? c.renewAt, now), c.holder ?? "",
      c.problem || c.error ? el("span", "bad", (c.problem ?? c.error) + (c.failures ? ` (failures: ${c.failures})` : "")) : "",
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
