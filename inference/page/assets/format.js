// Numbers, instants and tables in words. Pure but for the elements it makes.

export const seconds = (text) => Date.parse(text) / 1000;

export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return new Intl.NumberFormat("en", { maximumSignificantDigits: digits }).format(value);
}

export function power(kw) {
  if (kw === null || kw === undefined) return "–";
  return Math.abs(kw) >= 10000 ? `${number(kw / 1000)} MW` : `${number(kw)} kW`;
}

export function age(minutes) {
  if (minutes === null || minutes === undefined) return "none";
  if (minutes < 120) return `${minutes} min`;
  return minutes < 2880 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 1440)} days`;
}

// A value in one of Grafana's units, as `inference/panels.py` names them.
export function quantity(value, unit) {
  const rate = { reqps: " /s", ops: " /s" }[unit];
  if (rate) return number(value) + rate;
  if (unit === "percentunit") return `${number(value * 100)} %`;
  if (unit === "s") return value < 120 ? `${number(value)} s` : age(Math.round(value / 60));
  if (unit === "ms") return `${number(value)} ms`;
  if (unit === "bytes") return value < 1e6 ? `${number(value / 1e3)} kB` : `${number(value / 1e6)} MB`;
  if (unit === "dateTimeFromNow") return instant(value, "UTC") + " UTC";
  return number(value, 6);
}

export function instant(text, zone) {
  return new Intl.DateTimeFormat("en-GB", {
    timeZone: zone, day: "2-digit", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit",
  }).format(new Date(text));
}

export function facts(list, entries) {
  list.replaceChildren(...entries.map(([name, value, bad]) => {
    const box = document.createElement("div");
    const term = document.createElement("dt"), told = document.createElement("dd");
    term.textContent = name;
    told.textContent = value;
    if (bad) told.className = "bad";
    box.append(term, told);
    return box;
  }));
}

// columns: [heading, cell(row) -> text or element, "number"?]
export function table(element, columns, rows, empty) {
  const head = document.createElement("tr");
  for (const [heading, , kind] of columns) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = heading;
    if (kind) cell.className = kind;
    head.append(cell);
  }
  const lines = rows.map((row) => {
    const line = document.createElement("tr");
    for (const [, cell, kind] of columns) {
      const box = document.createElement("td");
      const content = cell(row);
      if (kind) box.className = kind;
      box.append(content instanceof Node ? content : String(content ?? "–"));
      line.append(box);
    }
    return line;
  });
  if (!rows.length) {
    const line = document.createElement("tr"), box = document.createElement("td");
    box.colSpan = columns.length;
    box.textContent = empty;
    line.append(box);
    lines.push(line);
  }
  element.replaceChildren(head, ...lines);
}
