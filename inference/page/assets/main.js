// The page's state is the URL's query: view, park or sum, hours, zone, what is drawn, theme. A link brings it back.

import * as api from "./api.js";
import { draw, resize } from "./chart.js";
import * as fleetView from "./fleet.js";
import { age, facts, instant, number, power, quantity, table } from "./format.js";

const $ = (id) => document.getElementById(id);
const DEFAULTS = { view: "forecast", park: "", hours: "48", zone: "park", metered: "1", yesterday: "1", theme: "", find: "" };
const VIEWS = ["forecast", "fleet", "status"];
const SUM = "sum:";

let known = null; // the fleet as the server told it
let stopListening = () => {};
let turn = 0; // an answer that comes after the next question is not shown
let shown = null; // what the chart shows, to draw it again

const state = () => ({ ...DEFAULTS, ...Object.fromEntries(new URLSearchParams(location.search)) });

function link(change) {
  const next = { ...state(), ...change };
  const query = new URLSearchParams(Object.entries(next).filter(([name, value]) => name in DEFAULTS && value !== DEFAULTS[name]));
  return `?${query}`;
}

function go(change, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", link(change));
  return show();
}

function tell(error) {
  $("message").hidden = !error;
  $("message").textContent = error ? [error.message, error.hint].filter(Boolean).join(" – ") : "";
}

function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = state().theme || (dark ? "dark" : "light");
  $("theme").value = state().theme;
}

async function show() {
  const mine = ++turn;
  theme();
  stopListening();
  stopListening = () => {};
  tell(null);
  try {
    known ??= await api.fleet();
    if (mine !== turn) return;
    const now = state(), view = VIEWS.includes(now.view) ? now.view : "forecast";
    $("login").hidden = true;
    $("logout").hidden = false;
    for (const name of VIEWS) $(name).hidden = name !== view;
    for (const anchor of document.querySelectorAll("nav a")) {
      anchor.href = link({ view: anchor.dataset.view });
      if (anchor.dataset.view === view) anchor.setAttribute("aria-current", "page");
      else anchor.removeAttribute("aria-current");
    }
    await { forecast, fleet, status }[view](now, () => mine === turn);
  } catch (error) {
    if (mine !== turn) return;
    if (error.status === 401) return askForKey();
    if (!(error instanceof api.ApiError)) throw error;
    tell(error);
  }
}

function askForKey() {
  known = null;
  for (const name of VIEWS) $(name).hidden = true;
  $("logout").hidden = true;
  $("login").hidden = false;
  $("key").focus();
}

function choices(now) {
  const groups = [...new Set(known.parks.flatMap((park) => park.groups))].sort();
  const options = [
    ...known.parks.map((park) => [park.id, park.name]),
    ...(known.parks.length > 1 ? [[SUM, "Sum of the fleet"]] : []),
    ...groups.map((group) => [SUM + group, `Sum of ${group}`]),
  ];
  $("park").replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  const wanted = options.some(([value]) => value === now.park) ? now.park : options[0]?.[0] ?? "";
  $("park").value = wanted;
  for (const name of ["hours", "zone"]) $(name).value = now[name];
  for (const name of ["metered", "yesterday"]) $(name).checked = now[name] === "1";
  return wanted;
}

async function forecast(now, current) {
  const chosen = choices(now), hours = Number(now.hours) || 48;
  if (now.park && chosen !== now.park) tell({ message: `no such park: ${now.park}`, hint: "choose one of the list" });
  $("export").hidden = chosen.startsWith(SUM);
  $("metered").disabled = $("yesterday").disabled = chosen.startsWith(SUM);
  if (!chosen) {
    $("forecast-title").textContent = "No park is registered yet";
    return;
  }
  if (chosen.startsWith(SUM)) return sum(chosen.slice(SUM.length), hours, current);
  const park = known.parks.find((one) => one.id === chosen);
  await onePark(park, hours, now, current);
}

async function onePark(park, hours, now, current) {
  const zone = now.zone === "utc" ? "UTC" : park.timezone;
  const prediction = await api.forecast(park.id, hours);
  const past = await api.past(park.id, prediction.issued_at).catch((error) => {
    if (error.status === 401) throw error;
    tell(error);
    return { metered: null, yesterday: null };
  });
  if (!current()) return;
  const median = past.yesterday?.power_kw?.["0.5"];
  const yesterday = median ? { valid_at: past.yesterday.valid_at, power_kw: median } : null;
  $("forecast-title").textContent = park.name;
  paint({
    forecast: prediction, zone,
    metered: now.metered === "1" ? past.metered : null,
    yesterday: now.yesterday === "1" ? yesterday : null,
    label: `Forecast of ${park.name}`,
  });
  const drift = known.drift?.find((row) => row.park_id === park.id);
  facts($("facts"), [
    ["Issued at", instant(prediction.issued_at, zone)],
    ["Energy, median", `${number(prediction.median_energy_kwh, 4)} kWh in ${hours} h`],
    ["AC capacity", power(park.ac_capacity_kw)],
    ["Model", `version ${prediction.model_version}`],
    ["Weather", `${prediction.weather_source ?? "none"}, ${age(prediction.weather_age_minutes)} old`],
    ["Metered until", age(prediction.generation_age_minutes) + (prediction.generation_age_minutes === null ? "" : " ago")],
    ["Degraded", prediction.degraded.join(", ") || "no", prediction.degraded.length > 0],
    ["Drift", known.drift === null ? "not known" : drift ? `${drift.severity}: ${drift.likely ?? "cause not told"}` : "none open", Boolean(drift)],
    ["Yesterday's forecast", past.yesterday ? `issued ${instant(past.yesterday.issued_at, zone)}` : "none was logged"],
  ]);
  $("csv").href = api.exportUrl(park.id, hours, "csv");
  $("parquet").href = api.exportUrl(park.id, hours, "parquet");
  stopListening = api.listen(park.id, prediction.snapshot_id, () => { if (current()) show(); }, (text) => { $("live").textContent = text; });
}

async function sum(group, hours, current) {
  const total = await api.portfolio(group, hours);
  if (!current()) return;
  $("forecast-title").textContent = group ? `Sum of ${group}` : "Sum of the fleet";
  paint({ forecast: { ...total, issued_at: total.issued_at.at(-1) }, zone: "UTC", metered: null, yesterday: null, label: $("forecast-title").textContent });
  facts($("facts"), [
    ["Parks", String(total.parks.length)],
    ["Energy", `${number(total.energy_kwh["0.5"], 4)} kWh (P50)`],
    ["Model", total.model_version.map((version) => `version ${version}`).join(", ")],
    ["How parks move together", total.dependence_fitted ? "learned with the model" : "a general assumption"],
    ["Degraded", Object.entries(total.degraded).map(([why, count]) => `${count} × ${why}`).join(", ") || "no"],
    ["Left out", Object.keys(total.left_out).join(", ") || "none"],
  ]);
}

function paint(what) {
  shown = what;
  draw($("chart"), what);
  const { forecast: one, zone } = what, levels = Object.keys(one.power_kw).sort((a, b) => a - b);
  const middle = one.power_kw["0.5"] ?? one.power_kw[levels[0]], peak = middle.indexOf(Math.max(...middle));
  $("chart-words").textContent =
    `Highest expected power: ${power(middle[peak])} at ${instant(one.valid_at[peak], zone)}. ` +
    `Bands: P${number(levels[0] * 100)} to P${number(levels.at(-1) * 100)}; the dashed line is when it was issued. Times: ${zone}.`;
  table($("hours-table"), [
    ["Begins", (at) => instant(one.valid_at[at], zone)],
    ...levels.map((level) => [`P${number(level * 100)} kW`, (at) => number(one.power_kw[level][at]), "number"]),
  ], one.valid_at.map((_, at) => at), "");
}

async function fleet(now, current) {
  const drifted = new Map((known.drift ?? []).map((row) => [row.park_id, row]));
  const word = now.find.toLowerCase();
  const parks = known.parks.filter((park) => [park.id, park.name, ...park.groups].join(" ").toLowerCase().includes(word));
  const to = (park) => link({ view: "forecast", park, find: "" });
  if ($("find").value !== now.find) $("find").value = now.find;
  $("fleet-title").textContent = `Fleet: ${parks.length} of ${known.parks.length} parks, ${power(parks.reduce((all, park) => all + park.ac_capacity_kw, 0))}`;
  fleetView.map($("map"), parks, drifted, to);
  await fleetView.load(parks, (predictions) => { if (current()) fleetView.list($("fleet-table"), parks, drifted, predictions, to); });
}

// What the dashboards show: a table for each, a row a panel, what to read out of it as the row's title.
function numbers({ whole_fleet: whole, dashboards }) {
  $("numbers-words").textContent = !whole ? "For keys that see the whole fleet."
    : dashboards ? "At this moment, out of Prometheus." : "Not known: no Prometheus answers (PVF_PROMETHEUS_URL).";
  $("numbers").replaceChildren(...(dashboards ?? []).flatMap((one) => {
    const heading = document.createElement("h4"), scroll = document.createElement("div"), rows = document.createElement("table");
    heading.textContent = one.title;
    scroll.className = "scroll";
    table(rows, [
      ["Panel", (panel) => panelName(panel)],
      ["Now", (panel) => panel.values.map(({ name, value }) => `${name ? name + ": " : ""}${quantity(value, panel.unit)}`).join(" · ")
        + (panel.left_off ? ` · and ${panel.left_off} more` : "") || "–"],
    ], one.panels, "none");
    scroll.append(rows);
    return [heading, scroll];
  }));
}

function panelName(panel) {
  const name = document.createElement("span");
  name.textContent = panel.title;
  name.title = panel.help;
  return name;
}

async function status(_now, current) {
  const [told, shown] = await Promise.all([api.status(), api.numbers()]);
  if (!current()) return;
  numbers(shown);
  const sumUp = (predictions) => {
    const all = [...predictions.values()], worst = (field) => Math.max(...all.map((one) => one[field] ?? -1));
    facts($("status-facts"), [
      ["Parks that you see", String(told.parks)],
      ["Parks with a forecast", `${all.length}`, all.length > 0 && all.length < told.parks],
      ["Model", [...new Set(all.map((one) => `version ${one.model_version}`))].join(", ") || "–"],
      ["Oldest weather", all.length ? age(worst("weather_age_minutes") < 0 ? null : worst("weather_age_minutes")) : "–"],
      ["Oldest metered power", all.length ? age(worst("generation_age_minutes") < 0 ? null : worst("generation_age_minutes")) : "–"],
      ["Degraded", String(all.filter((one) => one.degraded.length).length), all.some((one) => one.degraded.length)],
      ["Open drift", told.database ? String(told.drift.length) : "not known", told.drift.length > 0],
    ]);
  };
  table($("drift-table"), [
    ["Park", (row) => row.park_id], ["Since", (row) => instant(row.event_time, "UTC") + " UTC"],
    ["Severity", (row) => row.severity], ["Likely", (row) => row.likely ?? "–"],
  ], told.drift, told.database ? "no park has drifted" : "the database does not answer");
  table($("runs-table"), [
    ["Run", (row) => row.id, "number"], ["Begun", (row) => instant(row.started_at, "UTC") + " UTC"], ["State", (row) => row.status],
    ["Verdict", (row) => row.verdict ?? "–"], ["Model", (row) => row.model_version ?? "–"], ["Why", (row) => row.reason],
  ], told.runs, "none");
  await fleetView.load(known.parks, (predictions) => { if (current()) sumUp(predictions); });
}

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await api.logIn($("key").value.trim());
    $("key").value = "";
    await show();
  } catch (error) {
    tell(error.status === 401 ? { message: "this key is not known", hint: "check that it is whole and has not ended" } : error);
  }
});
$("logout").addEventListener("click", async () => {
  stopListening();
  stopListening = () => {};
  await api.logOut();
  turn++;
  askForKey();
});
$("controls").addEventListener("submit", (event) => event.preventDefault());
for (const name of ["park", "hours", "zone"]) $(name).addEventListener("change", (event) => go({ [name]: event.target.value }));
for (const name of ["metered", "yesterday"]) $(name).addEventListener("change", (event) => go({ [name]: event.target.checked ? "1" : "0" }));
$("theme").addEventListener("change", (event) => {
  history.replaceState(null, "", link({ theme: event.target.value }));
  repaint();
});
$("find").addEventListener("input", (event) => go({ find: event.target.value }, { replace: true }));
document.addEventListener("click", (event) => {
  const anchor = event.target.closest("nav a, a[data-park]");
  if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  history.pushState(null, "", anchor.getAttribute("href"));
  show().then(() => $("main").focus());
});
function repaint() {
  theme();
  if (shown && !$("forecast").hidden) draw($("chart"), shown);
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
addEventListener("popstate", show);
addEventListener("resize", () => resize($("chart")));
show();
