// The fan chart: bands between mirrored quantiles, median, metered power, yesterday's forecast.
/* global uPlot */

import { number, seconds } from "./format.js";

let plot = null;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function column(times, from) {
  const found = new Map((from?.valid_at ?? []).map((text, at) => [seconds(text), from.power_kw[at]]));
  return times.map((time) => found.get(time) ?? null);
}

// [[low, high], …], the widest first
export function bands(levels) {
  const sorted = levels.map(Number).sort((a, b) => a - b);
  const pairs = [];
  for (let at = 0; at < Math.floor(sorted.length / 2); at++) pairs.push([sorted[at], sorted[sorted.length - 1 - at]]);
  return pairs;
}

const keyOf = (powers, level) => Object.keys(powers).find((key) => Number(key) === level);

export function draw(element, { forecast, metered, yesterday, zone, label }) {
  const powers = forecast.power_kw;
  const pairs = bands(Object.keys(powers));
  const times = [...new Set([forecast, metered, yesterday].flatMap((one) => (one?.valid_at ?? []).map(seconds)))];
  times.sort((a, b) => a - b);
  const series = [{ label: zone === "UTC" ? "UTC" : "local" }], data = [times], shaded = [];
  const add = (options, values) => {
    series.push({ spanGaps: false, points: { show: false }, value: (_, kw) => (kw === null ? "–" : `${number(kw)} kW`), ...options });
    data.push(values);
    return series.length - 1;
  };
  const of = (level) => column(times, { valid_at: forecast.valid_at, power_kw: powers[keyOf(powers, level)] });
  pairs.forEach(([low, high], at) => {
    const edge = { stroke: `rgba(${css("--band")}, .35)`, width: 1 };
    const above = add({ label: `P${number(high * 100)}`, ...edge }, of(high));
    const below = add({ label: `P${number(low * 100)}`, ...edge }, of(low));
    shaded.push({ series: [above, below], fill: `rgba(${css("--band")}, ${0.14 + 0.1 * at})` });
  });
  const median = keyOf(powers, 0.5);
  if (median) add({ label: "P50", stroke: css("--median"), width: 2.5 }, of(0.5));
  if (yesterday) add({ label: "yesterday's P50", stroke: css("--yesterday"), width: 2, dash: [6, 4] }, column(times, yesterday));
  if (metered) add({ label: "metered", stroke: css("--metered"), width: 2, points: { show: true, size: 5, fill: css("--metered") } }, column(times, metered));
  const axis = { stroke: css("--soft"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line") } };
  const now = seconds(forecast.issued_at);
  plot?.destroy();
  plot = new uPlot({
    width: element.clientWidth, height: Math.max(280, Math.min(420, window.innerHeight * 0.55)),
    tzDate: (time) => uPlot.tzDate(new Date(time * 1000), zone),
    series, bands: shaded,
    scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.08, 0.01)] } },
    axes: [{ ...axis, values: labels(zone) }, { ...axis, label: "kW", size: 64 }],
    cursor: { y: false },
    hooks: { draw: [(self) => line(self, now)] },
  }, data, element);
  element.setAttribute("aria-label", label);
}

// uPlot's own labels are of the American kind.
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
const two = (value) => String(value).padStart(2, "0");
const labels = (zone) => (_self, splits, _axis, _space, step) => splits.map((time) => {
  const at = uPlot.tzDate(new Date(time * 1000), zone);
  const day = `${two(at.getDate())} ${MONTHS[at.getMonth()]}`;
  if (step >= 86400) return day;
  const hour = `${two(at.getHours())}:${two(at.getMinutes())}`;
  return hour === "00:00" ? `${hour}\n${day}` : hour;
});

function line(self, time) {
  const x = self.valToPos(time, "x", true);
  const { left, width, top, height } = self.bbox;
  if (x < left || x > left + width) return;
  const pen = self.ctx;
  pen.save();
  pen.strokeStyle = css("--soft");
  pen.setLineDash([4, 4]);
  pen.beginPath();
  pen.moveTo(x, top);
  pen.lineTo(x, top + height);
  pen.stroke();
  pen.restore();
}

export function resize(element) {
  if (plot && element.clientWidth) plot.setSize({ width: element.clientWidth, height: plot.height });
}
