// The drawing: rows of segments and score curves on one canvas, over a time axis from `from` to `to` seconds.
// Makes one module with the files beside it. Only what is in view is drawn; the outlines of
// marked segments have a canvas of their own, so that hovering over thousands of segments stays light.

const RULER = 26; // px, height of the time axis
const TITLE = 20; // px, the line of text above every row
const CURVE = 84; // px, height of a score plot
const GAP = 8;    // px between rows
const PAD = 10;   // px left and right of the time axis
const CHIP = 4;   // px, the class's colour at the left edge of a bar
const STEPS = [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200];

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** 12.3 -> "12.30 s", 83.5 -> "1:23.50", 3700 -> "1:01:40.00". */
function clock(seconds, decimals = 2) {
  const unit = 10 ** decimals;
  const whole = Math.round(seconds * unit) / unit;
  if (whole < 60) return `${whole.toFixed(decimals)} s`;
  const minutes = Math.floor(whole / 60);
  const rest = (whole % 60).toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0");
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

/** The first place in a list of growing numbers with a value above `value`; its length if there is none. */
function firstAbove(values, value) {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Black or white, whichever reads better on the colour #rrggbb. */
function inkOn(hex) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#111111" : "#ffffff";
}

class Picture {
  constructor(canvas, outlines) {
    this.canvas = canvas;
    this.outlines = outlines;
    this.pen = canvas.getContext("2d");
    this.hidden = new Set(); // outcomes that aren't drawn
    this.marks = [];         // segments to outline, as `hit` gives them
    this.draft = null;       // {start, end, label, index}: an annotation as it is being dragged
    this.cue = null;         // seconds where a new annotation begins
    this.from = 0;
    this.to = 1;
  }

  setData(data) {
    this.data = data;
    this.marks = [];
    this.draft = null;
    this.places = [];
    let top = RULER;
    for (const row of data.rows) {
      const bar = clamp(Math.floor(132 / row.lanes), 4, 22);
      const height = TITLE + bar * row.lanes;
      const colors = row.segments.outcomes.map((outcomes) => outcomes.map((o) => data.outcome_colors[o]));
      const looks = colors.map((some, i) => some.join() || data.label_colors[row.segments.label[i]]);
      const { next, reach } = this.neighbours(row.segments);
      this.places.push({ row, top, bar, height, colors, looks, next, reach });
      top += height + GAP;
    }
    for (const curve of data.curves) {
      this.places.push({ curve, top, height: TITLE + CURVE });
      top += TITLE + CURVE + GAP;
    }
    this.height = top;
  }

  /**
   * For each segment the start of the next one in its lane, which is how far its label may reach, and the latest
   * end of all segments up to it, which only grows. Segments are in order of their starts.
   */
  neighbours({ start, end, lane }) {
    const next = new Array(start.length);
    const reach = new Array(start.length);
    const upcoming = [];
    for (let i = start.length - 1; i >= 0; i -= 1) {
      next[i] = upcoming[lane[i]] ?? Infinity;
      upcoming[lane[i]] = start[i];
    }
    for (let i = 0, latest = -Infinity; i < start.length; i += 1) reach[i] = latest = Math.max(latest, end[i]);
    return { next, reach };
  }

  /** First and past-the-last segment of a row that may touch a stretch of time. */
  range({ row, reach }, from, to) {
    return [firstAbove(reach, from), firstAbove(row.segments.start, to)];
  }

  /** Segments of a row at a time, to the few milliseconds that a player is off. */
  under(row, seconds) {
    const slack = 0.005;
    const place = this.places.find((one) => one.row === row);
    const [first, past] = this.range(place, seconds - slack, seconds + slack);
    const found = [];
    for (let i = first; i < past; i += 1) {
      if (row.segments.end[i] >= seconds - slack && !this.isHidden(row, i)) found.push(i);
    }
    return found;
  }

  get width() { return this.canvas.clientWidth; }

  x(seconds) { return PAD + ((seconds - this.from) / (this.to - this.from)) * (this.width - 2 * PAD); }

  seconds(x) { return this.from + ((x - PAD) / (this.width - 2 * PAD)) * (this.to - this.from); }

  get secondsPerPixel() { return (this.to - this.from) / (this.width - 2 * PAD); }

  /** The segment at a point of the canvas: {row, index, start, end}, or null. */
  hit({ x, y }) {
    const place = this.places.find((p) => p.row && y >= p.top + TITLE && y < p.top + p.height);
    if (!place) return null;
    const lane = Math.floor((y - place.top - TITLE) / place.bar);
    const { start, end, lane: lanes } = place.row.segments;
    const slack = 4 * this.secondsPerPixel;
    const [first, past] = this.range(place, this.seconds(x) - slack, this.seconds(x) + slack);
    for (let i = past - 1; i >= first; i -= 1) {
      if (lanes[i] !== lane || this.isHidden(place.row, i)) continue;
      const left = this.x(start[i]);
      if (x >= left - 1 && x <= Math.max(this.x(end[i]), left + 3) + 1) {
        return { row: place.row, index: i, start: start[i], end: end[i] };
      }
    }
    return null;
  }

  isHidden(row, i) {
    const outcomes = row.segments.outcomes[i];
    return outcomes.length > 0 && outcomes.every((outcome) => this.hidden.has(outcome));
  }

  /** Marked segments, and the ground truth that a marked detection goes with. */
  isMarked(row, i) {
    return this.marks.some((mark) => {
      if (mark.row === row) return mark.index === i;
      return row.truth && !mark.row.truth && mark.row.segments.partner[mark.index] === row.segments.id[i];
    });
  }

  paint() {
    const { pen, canvas, width, height } = this;
    if (!this.data || !width) return;
    canvas.style.height = `${height}px`;
    const style = getComputedStyle(canvas);
    this.ink = style.color;
    this.family = style.fontFamily;
    this.paper = style.getPropertyValue("--st-background-color").trim() || "#ffffff";
    this.shade = style.getPropertyValue("--st-secondary-background-color").trim() || "#f0f2f6";
    this.fit(canvas, pen);
    pen.fillStyle = this.paper;
    pen.fillRect(0, 0, width, height);
    pen.textBaseline = "middle";
    this.paintRuler();
    for (const place of this.places) {
      if (place.row) this.paintRow(place);
      else this.paintCurves(place);
    }
    this.paintMarks();
  }

  /** As many device pixels as the canvas covers on the page; drawing goes on in CSS pixels. */
  fit(canvas, pen) {
    const ratio = window.devicePixelRatio || 1;
    const [columns, lines] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    if (canvas.width !== columns || canvas.height !== lines) {
      canvas.width = columns;
      canvas.height = lines;
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  paintMarks() {
    if (!this.ink) return;
    const pen = this.outlines.getContext("2d");
    this.fit(this.outlines, pen);
    pen.clearRect(0, 0, this.width, this.height);
    pen.strokeStyle = this.ink;
    pen.lineWidth = 2;
    for (const { row, top, bar } of this.marks.length ? this.places : []) {
      for (let i = 0; row && i < row.segments.start.length; i += 1) {
        if (!this.isMarked(row, i) || this.isHidden(row, i)) continue;
        const left = this.x(row.segments.start[i]);
        const wide = Math.max(this.x(row.segments.end[i]) - left, 2);
        pen.strokeRect(left, top + TITLE + row.segments.lane[i] * bar + 0.5, wide, bar - 1);
      }
    }
    if (this.draft || this.cue !== null) this.paintDraft(pen, this.places.find((place) => place.row?.truth));
  }

  /** An annotation on its way: where it would be, with its times; or the mark where a new one begins. */
  paintDraft(pen, { row, top, bar, height }) {
    pen.fillStyle = pen.strokeStyle = this.ink;
    pen.font = `600 12px ${this.family}`;
    pen.textBaseline = "middle";
    if (this.cue !== null) {
      pen.fillRect(this.x(this.cue) - 1, top + TITLE - 2, 2, height - TITLE + 4);
      pen.fillRect(this.x(this.cue) - 1, top + TITLE - 2, 8, 2);
    }
    if (!this.draft) return;
    const { start, end, label, index } = this.draft;
    const y = top + TITLE + (index === null ? 0 : row.segments.lane[index] * bar);
    const [left, right] = [this.x(start), this.x(end)];
    const color = this.data.label_colors[this.data.labels.indexOf(label)] ?? this.ink;
    pen.fillStyle = color;
    pen.globalAlpha = 0.55;
    pen.fillRect(left, y, right - left, bar);
    pen.globalAlpha = 1;
    pen.strokeRect(left, y + 0.5, right - left, bar - 1);
    const text = `${label} ${clock(start)} – ${clock(end)} (${(end - start).toFixed(2)} s)`;
    const size = pen.measureText(text).width;
    const x = clamp((left + right) / 2 - size / 2, PAD, this.width - PAD - size);
    pen.fillStyle = this.paper;
    pen.fillRect(x - 4, top + 1, size + 8, TITLE - 2);
    pen.fillStyle = this.ink;
    pen.fillText(text, x, top + TITLE / 2);
  }

  paintRuler() {
    const { pen, width, height } = this;
    const step = STEPS.find((s) => s >= 80 * this.secondsPerPixel) ?? STEPS[STEPS.length - 1];
    const decimals = step >= 1 ? 0 : step >= 0.5 ? 1 : 2;
    pen.fillStyle = this.shade;
    pen.fillRect(0, 0, width, RULER);
    pen.font = `12px ${this.family}`;
    pen.textAlign = "center";
    pen.strokeStyle = pen.fillStyle = this.ink;
    pen.lineWidth = 1;
    for (let k = Math.ceil(this.from / step - 1e-9); k * step <= this.to + 1e-9; k += 1) {
      const x = Math.round(this.x(k * step)) + 0.5;
      pen.globalAlpha = 0.12;
      pen.beginPath();
      pen.moveTo(x, RULER);
      pen.lineTo(x, height);
      pen.stroke();
      const text = clock(k * step, decimals);
      const half = pen.measureText(text).width / 2;
      pen.globalAlpha = 0.8;
      pen.fillText(text, clamp(x, half + 2, width - half - 2), RULER / 2);
    }
    pen.globalAlpha = 1;
    pen.textAlign = "left";
  }

  /** A bold name followed by quieter text; returns where the text ends. */
  paintTitle(title, note, top) {
    const { pen } = this;
    pen.fillStyle = this.ink;
    pen.font = `600 13px ${this.family}`;
    pen.fillText(title, PAD, top + TITLE / 2);
    const x = PAD + pen.measureText(title).width + 10;
    pen.font = `12px ${this.family}`;
    pen.globalAlpha = 0.75;
    pen.fillText(note, x, top + TITLE / 2);
    pen.globalAlpha = 1;
    return x + pen.measureText(note).width + 14;
  }

  paintRow(place) {
    const { row, top, bar, height, colors, looks, next } = place;
    const { pen, width } = this;
    this.paintTitle(row.title, row.note, top);
    pen.fillStyle = this.shade;
    pen.globalAlpha = 0.45;
    pen.fillRect(0, top + TITLE, width, height - TITLE);
    pen.globalAlpha = 1;
    const { start, end, lane } = row.segments;
    const inset = bar > 8 ? 1 : 0.5;
    pen.font = `${bar >= 18 ? 12 : 11}px ${this.family}`;
    this.textWidths = new Map();
    const margin = PAD * this.secondsPerPixel;
    const [first, past] = this.range(place, this.from - margin, this.to + margin);
    const painted = []; // by lane: the right end of what is painted, and how it looks
    for (let i = first; i < past; i += 1) {
      if (this.isHidden(row, i)) continue;
      const left = Math.max(this.x(start[i]), -CHIP - 1);
      const before = painted[lane[i]];
      if (before && left < before.x && this.x(end[i]) <= before.x && before.look === looks[i]) continue;
      painted[lane[i]] = { x: Math.max(this.x(end[i]), left + 1), look: looks[i] };
      const wide = Math.max(Math.min(this.x(end[i]), width + 4), left + 2) - left;
      const room = Math.min(this.x(next[i]), width) - left - wide;
      const y = top + TITLE + lane[i] * bar + inset;
      this.paintBar(row.segments.label[i], colors[i], { left, wide, y, high: bar - 2 * inset, room });
    }
  }

  /** One segment: a stripe per outcome (ground truth has one per run), its class as a chip and as text. */
  paintBar(label, outcomes, { left, wide, y, high, room }) {
    const { pen, data } = this;
    const chip = data.label_colors[label];
    const chipped = outcomes.length > 0 && wide > 6 * CHIP;
    const colors = outcomes.length ? outcomes : [chip]; // without a run the class is the colour
    colors.forEach((color, k) => {
      pen.fillStyle = color;
      pen.fillRect(left, y + (high * k) / colors.length, wide, high / colors.length);
    });
    pen.fillStyle = this.paper;
    if (wide > 8) pen.fillRect(left + wide - 1, y, 1, high); // keeps neighbours apart
    if (chipped) {
      pen.fillRect(left + CHIP, y, 1, high);
      pen.fillStyle = chip;
      pen.fillRect(left, y, CHIP, high);
    }
    if (high >= 12) {
      const start = left + (chipped ? CHIP + 4 : 4);
      this.paintLabel(data.labels[label], colors, { start, end: left + wide, middle: y + high / 2 + 0.5, room });
    }
  }

  /** Inside the bar if it fits, else beside it where its lane is free, else shortened. */
  paintLabel(text, colors, { start, end, middle, room }) {
    const { pen } = this;
    const size = this.textWidth(text);
    const left = Math.max(start, 4);
    const space = end - 3 - left;
    if (size > space && size + 6 < room) {
      pen.fillStyle = this.ink;
      pen.fillText(text, end + 3, middle);
      return;
    }
    const letters = size <= space ? text.length : Math.floor((space / size) * text.length) - 1;
    if (letters < 3 && letters < text.length) return;
    const inks = new Set(colors.map(inkOn));
    pen.fillStyle = inks.size === 1 ? [...inks][0] : "#111111";
    pen.fillText(letters < text.length ? `${text.slice(0, letters)}…` : text, left, middle);
  }

  textWidth(text) {
    if (!this.textWidths.has(text)) this.textWidths.set(text, this.pen.measureText(text).width);
    return this.textWidths.get(text);
  }

  paintCurves({ curve, top, height }) {
    const { pen, width } = this;
    let x = this.paintTitle(curve.title, curve.note, top);
    for (const line of curve.lines) {
      const end = x + 14 + pen.measureText(line.label).width;
      pen.fillStyle = this.ink;
      pen.fillText(end > width - 12 ? "…" : line.label, end > width - 12 ? x : x + 14, top + TITLE / 2);
      if (end > width - 12) break;
      pen.fillStyle = line.color;
      pen.fillRect(x, top + TITLE / 2 - 5, 10, 10);
      x = end + 12;
    }
    const floor = top + height - 1;
    const rise = CURVE - 6;
    pen.fillStyle = pen.strokeStyle = this.ink;
    pen.lineWidth = 1;
    pen.globalAlpha = 0.15;
    for (const level of [0, 0.5, 1]) {
      const y = Math.round(floor - level * rise) + 0.5;
      pen.beginPath();
      pen.moveTo(0, y);
      pen.lineTo(width, y);
      pen.stroke();
    }
    pen.globalAlpha = 1;
    pen.lineWidth = 1.75;
    pen.lineJoin = "round";
    for (const line of curve.lines) this.paintLine(line, curve, (score) => floor - (score / curve.top) * rise);
    pen.font = `11px ${this.family}`;
    pen.textAlign = "right";
    pen.fillStyle = this.ink;
    pen.globalAlpha = 0.75;
    pen.fillText(String(curve.top), width - 3, floor - rise + 7);
    pen.fillText("0", width - 3, floor - 7);
    pen.globalAlpha = 1;
    pen.textAlign = "left";
  }

  /** Visible snippets only; where several share a pixel, the highest score counts. */
  paintLine(line, { offset, stride }, y) {
    const { pen } = this;
    const first = Math.max(0, Math.floor((this.from - offset) / stride) - 1);
    const last = Math.min(line.values.length - 1, Math.ceil((this.to - offset) / stride) + 1);
    const jump = Math.max(1, Math.floor(this.secondsPerPixel / stride));
    pen.strokeStyle = line.color;
    pen.beginPath();
    for (let i = first; i <= last; i += jump) {
      let score = line.values[i];
      for (let k = i + 1; k < Math.min(i + jump, last + 1); k += 1) score = Math.max(score, line.values[k]);
      const x = this.x(offset + (i + (jump - 1) / 2) * stride);
      if (i === first) pen.moveTo(x, y(score));
      else pen.lineTo(x, y(score));
    }
    pen.stroke();
  }
}
