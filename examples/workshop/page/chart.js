// The chart: what each cluster serves, stacked, so that the top of the pile meets what is offered,
// and home's part meets its limit.

const SECONDS = 60;
// Ticks that are averaged: a count per second of evenly spaced requests is one off every so often.
const SMOOTH = 3;
const MARGIN = { top: 12, right: 12, bottom: 24, left: 34 };
const NS = "http://www.w3.org/2000/svg";

function element(name, attributes, parent) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

// The least of 1, 2, 5, 10, 20, 50 … that cuts `top` into five parts or fewer.
function step(top) {
  for (let unit = 1; ; unit *= 10) {
    for (const factor of [1, 2, 5]) if (top / (unit * factor) <= 5) return unit * factor;
  }
}

export class Chart {
  constructor(svg) {
    this.svg = svg;
    this.raw = [];
    this.ticks = [];
    this.grid = element("g", {}, svg);
    this.home = element("path", { class: "home" }, svg);
    this.burst = element("path", { class: "burst" }, svg);
    this.offered = element("path", { class: "offered" }, svg);
    this.limit = element("path", { class: "limit" }, svg);
    this.name = element("text", { class: "limit-name" }, svg);
    new ResizeObserver(() => this.draw()).observe(svg);
  }

  // Adds a tick (t in seconds; offered, home, burst and limit per second) and gives it smoothed.
  add(tick) {
    this.raw.push(tick);
    while (this.raw.length > SMOOTH) this.raw.shift();
    const mean = (key) => this.raw.reduce((sum, { [key]: value }) => sum + value, 0) / this.raw.length;
    const smooth = { ...tick, offered: mean("offered"), home: mean("home"), burst: mean("burst") };
    this.ticks.push(smooth);
    while (this.ticks[0].t < tick.t - SECONDS) this.ticks.shift();
    this.draw();
    return smooth;
  }

  // Begins anew with the ticks of the past.
  replace(ticks) {
    this.raw = [];
    this.ticks = [];
    for (const tick of ticks) this.add(tick);
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.svg;
    const last = this.ticks.at(-1);
    if (!width || !last) return;
    const right = width - MARGIN.right;
    const bottom = height - MARGIN.bottom;
    const highest = Math.max(...this.ticks.map((tick) => Math.max(tick.offered, tick.home + tick.burst, tick.limit)));
    const unit = step(highest * 1.12);
    const top = Math.max(unit, Math.ceil((highest * 1.12) / unit) * unit);
    const x = (t) => right - ((last.t - t) / SECONDS) * (right - MARGIN.left);
    const y = (rate) => bottom - (rate / top) * (bottom - MARGIN.top);
    const line = (value) => this.ticks.map((tick) => `${x(tick.t).toFixed(1)},${y(value(tick)).toFixed(1)}`);
    const area = (low, high) => `M${line(high).join("L")}L${line(low).reverse().join("L")}Z`;

    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.drawGrid(x, y, top, unit, last.t, right);
    this.home.setAttribute("d", area(() => 0, (tick) => tick.home));
    this.burst.setAttribute("d", area((tick) => tick.home, (tick) => tick.home + tick.burst));
    this.offered.setAttribute("d", `M${line((tick) => tick.offered).join("L")}`);
    this.limit.setAttribute("d", this.limitPath(x, y));
    this.name.setAttribute("x", MARGIN.left + 6);
    this.name.setAttribute("y", y(this.ticks[0].limit) - 7);
    this.name.textContent = `limit ${this.ticks[0].limit}/s`;
  }

  // Steps, since a limit does not slide; from the left edge on, so that it shows before any load.
  limitPath(x, y) {
    let path = `M${MARGIN.left},${y(this.ticks[0].limit)}`;
    for (const tick of this.ticks) path += `H${x(tick.t).toFixed(1)}V${y(tick.limit).toFixed(1)}`;
    return path;
  }

  drawGrid(x, y, top, unit, now, right) {
    this.grid.replaceChildren();
    for (let rate = 0; rate <= top; rate += unit) {
      element("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y(rate), y2: y(rate) }, this.grid);
      element("text", { x: MARGIN.left - 8, y: y(rate) + 4, "text-anchor": "end" }, this.grid).textContent = rate;
    }
    for (let ago = 0; ago <= SECONDS; ago += right > 520 ? 10 : 20) {
      const text = ago === 0 ? "now" : ago === SECONDS ? `${ago} s ago` : `${ago} s`;
      const anchor = ago === 0 ? "end" : ago === SECONDS ? "start" : "middle";
      element("text", { x: x(now - ago), y: y(0) + 18, "text-anchor": anchor }, this.grid).textContent = text;
    }
  }
}
