// The fleet: a plot of coordinates and a table. No map tiles: nothing is asked of another host.

import { days } from "./api.js";
import { age, number, power, table } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 900, HEIGHT = 380, EDGE = 46;

const make = (name, attributes, text) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  return element;
};

// A round step that gives a handful of lines.
function step(span) {
  const rough = span / 4, base = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((by) => by * base).find((size) => size >= rough);
}

const lines = (low, high) => {
  const size = step(high - low), found = [];
  for (let at = Math.ceil(low / size) * size; at <= high + 1e-9; at += size) found.push(Number(at.toPrecision(8)));
  return found;
};

function frame(parks) {
  const lats = parks.map((park) => park.latitude), lons = parks.map((park) => park.longitude);
  const middle = (Math.min(...lats) + Math.max(...lats)) / 2, narrow = Math.cos((middle * Math.PI) / 180) || 0.1;
  const tall = Math.max(Math.max(...lats) - Math.min(...lats), 0.02) * 1.2;
  const wide = Math.max((Math.max(...lons) - Math.min(...lons)) * narrow, 0.02) * 1.2;
  const scale = Math.min((WIDTH - 2 * EDGE) / wide, (HEIGHT - 2 * EDGE) / tall);
  const center = (Math.min(...lons) + Math.max(...lons)) / 2;
  return {
    x: (lon) => WIDTH / 2 + (lon - center) * narrow * scale,
    y: (lat) => HEIGHT / 2 - (lat - middle) * scale,
    lons: [center - (WIDTH / 2 - EDGE) / scale / narrow, center + (WIDTH / 2 - EDGE) / scale / narrow],
    lats: [middle - (HEIGHT / 2 - EDGE / 2) / scale, middle + (HEIGHT / 2 - EDGE / 2) / scale],
  };
}

export function map(svg, parks, drifted, link) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  if (!parks.length) return svg.replaceChildren();
  const at = frame(parks), largest = Math.max(...parks.map((park) => park.ac_capacity_kw));
  const drawn = [];
  for (const lon of lines(...at.lons)) {
    drawn.push(make("line", { class: "grid", x1: at.x(lon), x2: at.x(lon), y1: 0, y2: HEIGHT }));
    drawn.push(make("text", { x: at.x(lon) + 3, y: HEIGHT - 5 }, `${number(Math.abs(lon), 6)}° ${lon < 0 ? "W" : "E"}`));
  }
  for (const lat of lines(...at.lats)) {
    drawn.push(make("line", { class: "grid", x1: -WIDTH, x2: 2 * WIDTH, y1: at.y(lat), y2: at.y(lat) }));
    drawn.push(make("text", { x: 4, y: at.y(lat) - 4 }, `${number(Math.abs(lat), 6)}° ${lat < 0 ? "S" : "N"}`));
  }
  for (const park of [...parks].sort((a, b) => b.ac_capacity_kw - a.ac_capacity_kw)) {
    const anchor = make("a", { href: link(park.id), class: drifted.has(park.id) ? "drifted" : "" });
    anchor.dataset.park = park.id;
    const radius = parks.length > 200 ? 4 : 5 + 11 * Math.sqrt(park.ac_capacity_kw / largest);
    anchor.append(
      make("title", {}, `${park.name}, ${power(park.ac_capacity_kw)}${drifted.has(park.id) ? ", drift" : ""}`),
      make("circle", { cx: at.x(park.longitude), cy: at.y(park.latitude), r: radius }),
    );
    if (parks.length <= 12) anchor.append(make("text", { x: at.x(park.longitude) + radius + 4, y: at.y(park.latitude) + 4 }, park.name));
    drawn.push(anchor);
  }
  svg.replaceChildren(...drawn);
}

export function list(element, parks, drifted, known, link) {
  const name = (park) => {
    const anchor = document.createElement("a");
    anchor.href = link(park.id);
    anchor.dataset.park = park.id;
    anchor.textContent = park.name;
    return anchor;
  };
  const of = (field) => (park) => known.get(park.id)?.[field];
  table(element, [
    ["Park", name],
    ["Groups", (park) => park.groups.join(", ") || "–"],
    ["AC capacity", (park) => power(park.ac_capacity_kw), "number"],
    ["Next interval", (park) => power(known.get(park.id)?.power_kw["0.5"]?.[0]), "number"],
    ["Next 24 h", (park) => (known.has(park.id) ? `${number(of("median_energy_kwh")(park))} kWh` : "–"), "number"],
    ["Weather", (park) => (known.has(park.id) ? age(of("weather_age_minutes")(park)) : "–"), "number"],
    ["Metered", (park) => (known.has(park.id) ? age(of("generation_age_minutes")(park)) : "–"), "number"],
    ["Degraded", (park) => of("degraded")(park)?.join(", ") || "–"],
    ["Drift", (park) => drifted.get(park.id)?.severity ?? "–"],
    ["Model", (park) => of("model_version")(park) ?? "–"],
  ], parks, "no park is found");
}

const KEPT_MS = 60000;
const asked = new Map(); // park -> when, and its prediction

// Calls `changed` with what is known of these parks, at once and whenever there is more.
export async function load(parks, changed) {
  const fresh = (id) => Date.now() - (asked.get(id)?.at ?? 0) < KEPT_MS;
  const told = () => changed(new Map(parks.filter((park) => asked.has(park.id)).map((park) => [park.id, asked.get(park.id).prediction])));
  told();
  await days(parks.map((park) => park.id).filter((id) => !fresh(id)), (predictions) => {
    for (const one of predictions) asked.set(one.park_id, { at: Date.now(), prediction: one });
    told();
  });
}
