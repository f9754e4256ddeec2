// What the page asks of the server. The cookie goes along by itself; 401 means: log in.

export class ApiError extends Error {
  constructor(status, body) {
    super(body?.error ?? `the server answered ${status}`);
    this.status = status;
    this.hint = body?.hint ?? null;
  }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new ApiError(0, { error: "the server cannot be reached", hint: "try again" });
  }
  const text = await response.text();
  let body = null;
  try { body = text ? JSON.parse(text) : null; } catch { /* the status says enough */ }
  if (!response.ok) throw new ApiError(response.status, body);
  return body;
}

const post = (path, body) =>
  ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

export const logIn = (key) => ask("/page/login", { method: "POST", headers: { "x-api-key": key } });
export const logOut = () => ask("/page/logout", { method: "POST" });
export const fleet = () => ask("/page/api/fleet");
export const status = () => ask("/page/api/status");
export const numbers = () => ask("/page/api/numbers");
export const past = (park, issuedAt) =>
  ask(`/page/api/parks/${encodeURIComponent(park)}/past?issued_at=${encodeURIComponent(issuedAt)}`);
export const exportUrl = (park, hours, format) =>
  `/page/api/parks/${encodeURIComponent(park)}/export?horizon_hours=${hours}&format=${format}`;

export async function forecast(park, hours) {
  const answer = await post("/v1/models/pv-forecast:predict", { instances: [{ park_id: park, horizon_hours: hours }] });
  return answer.predictions[0];
}

export async function portfolio(group, hours) {
  const answer = await post("/v1/portfolio", { ...(group ? { group } : {}), horizon_hours: hours, each: false });
  return answer.portfolio;
}

// The next day of many parks, a hundred a request: what the fleet's table shows. A park without a snapshot fails its
// hundred, so those are asked one by one.
export async function days(parks, onSome) {
  const some = async (ids) => {
    const instances = ids.map((park_id) => ({ park_id, horizon_hours: 24 }));
    onSome((await post("/v1/models/pv-forecast:predict", { instances })).predictions);
  };
  for (let at = 0; at < parks.length; at += 100) {
    const ids = parks.slice(at, at + 100);
    try {
      await some(ids);
    } catch (error) {
      if (error.status !== 404 || ids.length === 1) { if (error.status !== 404) throw error; continue; }
      for (const id of ids) await some([id]).catch((one) => { if (one.status !== 404) throw one; });
    }
  }
}

// Calls `changed` when a new forecast of the park is there. Returns a function that ends it.
export function listen(park, lastId, changed, told) {
  let socket = null, ended = false, pause = 1000, first = true;
  const open = () => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    socket = new WebSocket(`${scheme}://${location.host}/v1/forecasts/stream?park=${encodeURIComponent(park)}`);
    socket.onopen = () => { pause = 1000; told("live: new forecasts are shown as they come"); };
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.type !== "forecast") return;
      if (!first || message.prediction.snapshot_id !== lastId) changed(message.prediction);
      first = false;
    };
    socket.onclose = () => {
      if (ended) return;
      told("not live: connecting again");
      setTimeout(() => { if (!ended) open(); }, pause);
      pause = Math.min(pause * 2, 30000);
    };
  };
  open();
  return () => { ended = true; socket.close(); told(""); };
}
