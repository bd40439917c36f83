// Draws segments, score curves and the playhead on one canvas, and steers the page's video player.
//
// Streamlit calls the default export again whenever the data or the theme changes and runs only the last
// cleanup, on unmount; so one Timeline lives per mount and is updated. Labels reach the page only through
// textContent and canvas text, never as HTML.

const RULER = 26;      // px, height of the time axis
const TITLE = 20;      // px, the line of text above every row
const CURVE = 84;      // px, height of a score plot
const GAP = 8;         // px between rows
const PAD = 10;        // px left and right of the time axis
const MIN_SPAN = 0.25; // seconds, the deepest zoom
const STEPS = [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200];

const timelines = new WeakMap();

export default function ({ data, parentElement }) {
  let timeline = timelines.get(parentElement);
  if (!timeline) {
    timeline = new Timeline(parentElement.querySelector(".timeline"));
    timelines.set(parentElement, timeline);
  }
  const call = timeline.update(data);
  return () => {
    if (call !== timeline.calls) return; // an overtaken call must not tear down its successor
    timeline.destroy();
    timelines.delete(parentElement);
  };
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function clock(seconds, decimals = 2) {
  const unit = 10 ** decimals;
  const whole = Math.round(seconds * unit) / unit;
  if (whole < 60) return `${whole.toFixed(decimals)} s`;
  const rest = whole % 60;
  const minutes = Math.floor(whole / 60);
  const padded = rest.toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0");
  if (minutes < 60) return `${minutes}:${padded}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${padded}`;
}

function inkOn(hex) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#111111" : "#ffffff";
}

class Timeline {
  constructor(root) {
    this.root = root;
    this.calls = 0;
    this.time = 0;
    this.hidden = new Set(); // outcomes switched off in the legend
    this.build();
    this.listen();
  }

  // ---- the page's elements -------------------------------------------------------------------------

  build() {
    const toolbar = element("div", "toolbar");
    this.clock = element("span", "clock");
    toolbar.append(
      this.clock,
      this.button("Play / pause", () => this.togglePlay(), "play"),
      this.button("−", () => this.zoom(0.5), "", "Zoom out"),
      this.button("+", () => this.zoom(2), "", "Zoom in"),
      this.button("Whole video", () => this.show(0, this.data.duration)),
      element("span", "hint", "Click: seek · drag: move · Ctrl + wheel: zoom · ← → 1 s · + − 0"),
    );
    this.play = toolbar.querySelector(".play");
    this.stage = element("div", "stage");
    this.canvas = element("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.pen = this.canvas.getContext("2d");
    this.playhead = element("div", "playhead");
    this.tooltip = element("div", "tooltip");
    this.tooltip.hidden = true;
    this.legend = element("div", "legend");
    this.stage.append(this.canvas, this.playhead);
    this.root.replaceChildren(toolbar, this.stage, this.legend, this.tooltip);
  }

  button(text, action, className, label) {
    const button = element("button", className, text);
    button.type = "button";
    if (label) {
      button.title = label;
      button.setAttribute("aria-label", label);
    }
    button.addEventListener("click", action);
    return button;
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", () => { this.drag = null; });
    canvas.addEventListener("pointerleave", () => this.hover(null));
    canvas.addEventListener("dblclick", (event) => this.focusOn(this.hit(event)));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    this.resize = new ResizeObserver(() => this.draw());
    this.resize.observe(this.stage);
    // Media events don't bubble, but they can be captured; so the player may come, go or be replaced.
    this.onMedia = (event) => { if (event.target === this.video()) this.follow(); };
    this.mediaEvents = ["timeupdate", "seeking", "seeked", "play", "pause", "loadedmetadata"];
    for (const name of this.mediaEvents) document.addEventListener(name, this.onMedia, true);
  }

  destroy() {
    this.resize.disconnect();
    for (const name of this.mediaEvents) document.removeEventListener(name, this.onMedia, true);
    cancelAnimationFrame(this.frame);
    cancelAnimationFrame(this.redraw);
  }

  // ---- data ----------------------------------------------------------------------------------------

  update(data) {
    const sameVideo = this.data && this.data.video_id === data.video_id
      && this.data.duration === data.duration;
    this.data = data;
    this.hovered = this.selected = null;
    this.tooltip.hidden = true;
    this.play.hidden = !data.player;
    this.canvas.setAttribute("aria-label", data.description);
    if (!sameVideo) {
      this.from = 0;
      this.to = data.duration;
      this.time = 0;
    }
    this.buildLegend();
    this.draw();
    this.follow();
    this.calls += 1;
    return this.calls;
  }

  buildLegend() {
    this.legend.replaceChildren(...this.data.legend.map((entry) => {
      const button = this.button("", () => {
        if (!this.hidden.delete(entry.outcome)) this.hidden.add(entry.outcome);
        this.buildLegend();
        this.draw();
      });
      button.setAttribute("aria-pressed", String(!this.hidden.has(entry.outcome)));
      button.title = entry.meaning;
      const swatch = element("span", "swatch");
      swatch.style.background = entry.color;
      button.append(swatch, element("span", "", `${entry.name}  ${entry.counts.join(" / ")}`));
      return button;
    }), element("span", "note", this.data.legend_note));
  }

  /** Where every row and plot lies: [{row | curve, top, bar, height}], top including the title line. */
  layout() {
    const places = [];
    let top = RULER;
    for (const row of this.data.rows) {
      const bar = clamp(Math.floor(132 / row.lanes), 4, 22);
      places.push({ row, top, bar, height: TITLE + bar * row.lanes });
      top += TITLE + bar * row.lanes + GAP;
    }
    for (const curve of this.data.curves) {
      places.push({ curve, top, height: TITLE + CURVE });
      top += TITLE + CURVE + GAP;
    }
    return { places, height: top };
  }

  // ---- time axis -----------------------------------------------------------------------------------

  get width() { return this.stage.clientWidth; }

  x(seconds) { return PAD + ((seconds - this.from) / (this.to - this.from)) * (this.width - 2 * PAD); }

  seconds(x) { return this.from + ((x - PAD) / (this.width - 2 * PAD)) * (this.to - this.from); }

  show(from, to) {
    const span = clamp(to - from, Math.min(MIN_SPAN, this.data.duration), this.data.duration);
    this.from = clamp(from, 0, this.data.duration - span);
    this.to = this.from + span;
    this.draw();
  }

  zoom(factor, around) {
    if (around === undefined) {
      around = this.time >= this.from && this.time <= this.to ? this.time : (this.from + this.to) / 2;
    }
    this.show(around - (around - this.from) / factor, around + (this.to - around) / factor);
  }

  focusOn(found) {
    if (!found) return;
    const { start, end } = found;
    const margin = Math.max((end - start) * 0.75, 1);
    this.show(start - margin, end + margin);
  }

  // ---- the player ----------------------------------------------------------------------------------

  video() {
    return this.data && this.data.player
      ? document.querySelector(`.st-key-${CSS.escape(this.data.player)} video`) : null;
  }

  seek(seconds) {
    this.time = clamp(seconds, 0, this.data.duration);
    this.place();
    const video = this.video();
    if (!video) return;
    if (video.readyState >= 1) {
      video.currentTime = this.time;
    } else { // st.video rewinds once its metadata is there; go after it
      const wanted = this.time;
      video.addEventListener("loadedmetadata", () => setTimeout(() => { video.currentTime = wanted; }),
        { once: true });
    }
  }

  togglePlay() {
    const video = this.video();
    if (!video) return;
    if (video.paused) video.play().catch(() => {}); // refused play leaves the video paused, as it shows
    else video.pause();
  }

  follow() {
    cancelAnimationFrame(this.frame);
    const video = this.video();
    if (video && video.readyState >= 1) {
      this.time = clamp(video.currentTime, 0, this.data.duration);
      const span = this.to - this.from;
      const outside = this.time < this.from || this.time > this.to;
      if (!video.paused && outside) this.show(this.time - span * 0.1, this.time + span * 0.9);
      if (!video.paused) this.frame = requestAnimationFrame(() => this.follow());
    }
    this.place();
  }

  place() {
    const visible = this.time >= this.from && this.time <= this.to;
    this.playhead.hidden = !visible;
    this.playhead.style.transform = `translateX(${this.x(this.time) - 1}px)`;
    this.clock.textContent = `${clock(this.time)} / ${clock(this.data.duration)}`;
  }

  // ---- mouse and keys ------------------------------------------------------------------------------

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  press(event) {
    if (event.button !== 0) return;
    const { x, y } = this.point(event);
    this.canvas.setPointerCapture(event.pointerId);
    this.drag = { x, from: this.from, to: this.to, scrub: y < RULER, moved: false };
    if (this.drag.scrub) this.seek(this.seconds(x));
  }

  move(event) {
    if (!this.drag) {
      this.hover(this.hit(event), event);
      return;
    }
    const { x } = this.point(event);
    if (this.drag.scrub) {
      this.seek(this.seconds(x));
      return;
    }
    if (Math.abs(x - this.drag.x) > 4) this.drag.moved = true;
    if (this.drag.moved) {
      this.hover(null);
      const perPixel = (this.drag.to - this.drag.from) / (this.width - 2 * PAD);
      const shift = (this.drag.x - x) * perPixel;
      this.show(this.drag.from + shift, this.drag.to + shift);
    }
  }

  release(event) {
    const drag = this.drag;
    this.drag = null;
    if (!drag || drag.moved || drag.scrub) return;
    const found = this.hit(event);
    this.selected = found;
    this.seek(found ? found.start : this.seconds(this.point(event).x));
    this.draw();
  }

  wheel(event) {
    const { x, y } = this.point(event);
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX
      : event.shiftKey ? event.deltaY : 0;
    if (event.ctrlKey || event.metaKey || (y < RULER && !sideways)) {
      event.preventDefault();
      this.zoom(Math.exp(-clamp(event.deltaY, -100, 100) / 200), this.seconds(x));
    } else if (sideways) {
      event.preventDefault();
      const shift = (sideways / this.width) * (this.to - this.from);
      this.show(this.from + shift, this.to + shift);
    }
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 0.1 : 1;
    const actions = {
      ArrowLeft: () => this.reach(this.time - step),
      ArrowRight: () => this.reach(this.time + step),
      Home: () => this.reach(0),
      End: () => this.reach(this.data.duration),
      "+": () => this.zoom(2),
      "=": () => this.zoom(2),
      "-": () => this.zoom(0.5),
      0: () => this.show(0, this.data.duration),
      " ": () => this.togglePlay(),
      Escape: () => { this.selected = null; this.hover(null); },
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    actions[event.key]();
  }

  /** Seek, and bring the place into view. */
  reach(seconds) {
    this.seek(seconds);
    const span = this.to - this.from;
    if (this.time < this.from || this.time > this.to) this.show(this.time - span / 2, this.time + span / 2);
  }

  // ---- what lies under the pointer -----------------------------------------------------------------

  hit(event) {
    const { x, y } = this.point(event);
    for (const { row, top, bar, height } of this.layout().places) {
      if (!row || y < top + TITLE || y >= top + height) continue;
      const lane = Math.floor((y - top - TITLE) / bar);
      const s = row.segments;
      for (let i = s.start.length - 1; i >= 0; i -= 1) {
        if (s.lane[i] !== lane || this.isHidden(row, i)) continue;
        const left = this.x(s.start[i]);
        if (x >= left - 1 && x <= Math.max(this.x(s.end[i]), left + 3) + 1) {
          return { row, index: i, start: s.start[i], end: s.end[i] };
        }
      }
    }
    return null;
  }

  isHidden(row, i) {
    const states = row.segments.outcomes[i];
    return states.length > 0 && states.every((state) => this.hidden.has(state));
  }

  hover(found, event) {
    const changed = (found && found.row) !== (this.hovered && this.hovered.row)
      || (found && found.index) !== (this.hovered && this.hovered.index);
    this.hovered = found;
    this.canvas.style.cursor = found ? "pointer" : "default";
    if (changed) this.draw();
    this.tooltip.hidden = !found;
    if (!found) return;
    const s = found.row.segments;
    const lines = [element("div", "name", this.data.labels[s.label[found.index]]),
      element("div", "", `${clock(found.start)} – ${clock(found.end)}`
        + ` (${(found.end - found.start).toFixed(2)} s)`)];
    for (const line of s.text[found.index].split("\n")) if (line) lines.push(element("div", "", line));
    this.tooltip.replaceChildren(...lines);
    const box = this.root.getBoundingClientRect();
    const left = event.clientX - box.left + 14;
    const top = event.clientY - box.top + 16;
    const over = left + this.tooltip.offsetWidth > box.width;
    this.tooltip.style.left = `${over ? Math.max(0, left - this.tooltip.offsetWidth - 28) : left}px`;
    this.tooltip.style.top = `${top}px`;
  }

  // ---- drawing -------------------------------------------------------------------------------------

  draw() {
    cancelAnimationFrame(this.redraw);
    this.redraw = requestAnimationFrame(() => this.paint());
  }

  paint() {
    if (!this.data || !this.width) return;
    const { pen, width } = this;
    const style = getComputedStyle(this.root);
    this.ink = style.color;
    this.font = style.fontFamily;
    this.paper = style.getPropertyValue("--st-background-color").trim() || "#ffffff";
    this.shade = style.getPropertyValue("--st-secondary-background-color").trim() || "#f0f2f6";
    const { places, height } = this.layout();
    const ratio = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.canvas.style.height = `${height}px`;
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = this.paper;
    pen.fillRect(0, 0, width, height);
    pen.textBaseline = "middle";
    this.paintRuler(height);
    for (const place of places) {
      if (place.row) this.paintRow(place);
      else this.paintCurves(place);
    }
    this.place();
  }

  paintRuler(height) {
    const { pen } = this;
    const raw = ((this.to - this.from) / (this.width - 2 * PAD)) * 80;
    const step = STEPS.find((candidate) => candidate >= raw) || STEPS[STEPS.length - 1];
    const decimals = step >= 1 ? 0 : step >= 0.5 ? 1 : 2;
    pen.fillStyle = this.shade;
    pen.fillRect(0, 0, this.width, RULER);
    pen.font = `12px ${this.font}`;
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
      pen.fillText(text, clamp(x, half + 2, this.width - half - 2), RULER / 2);
    }
    pen.globalAlpha = 1;
    pen.textAlign = "left";
  }

  /** A bold name followed by quieter text; returns where the text ends. */
  paintTitle(title, note, top) {
    const { pen } = this;
    pen.fillStyle = this.ink;
    pen.font = `600 13px ${this.font}`;
    pen.fillText(title, PAD, top + TITLE / 2);
    const x = PAD + pen.measureText(title).width + 10;
    pen.font = `12px ${this.font}`;
    pen.globalAlpha = 0.75;
    pen.fillText(note, x, top + TITLE / 2);
    pen.globalAlpha = 1;
    return x + pen.measureText(note).width + 14;
  }

  paintRow({ row, top, bar, height }) {
    const { pen, width } = this;
    this.paintTitle(row.title, row.note, top);
    pen.fillStyle = this.shade;
    pen.globalAlpha = 0.45;
    pen.fillRect(0, top + TITLE, width, height - TITLE);
    pen.globalAlpha = 1;
    const s = row.segments;
    const inset = bar > 8 ? 1 : 0.5;
    pen.font = `${bar >= 18 ? 12 : 11}px ${this.font}`;
    for (let i = 0; i < s.start.length; i += 1) {
      if (s.end[i] < this.from || s.start[i] > this.to || this.isHidden(row, i)) continue;
      const left = Math.max(this.x(s.start[i]), -4);
      const right = Math.max(Math.min(this.x(s.end[i]), width + 4), left + 2);
      this.paintBar(row, i, left, right - left, top + TITLE + s.lane[i] * bar + inset, bar - 2 * inset);
    }
  }

  /** One segment: a stripe per outcome (ground truth has one per run), the class as a chip and as text. */
  paintBar(row, i, left, wide, y, high) {
    const { pen, data } = this;
    const s = row.segments;
    const chip = data.label_colors[s.label[i]];
    const colors = s.outcomes[i].map((outcome) => data.outcome_colors[outcome]);
    if (!colors.length) colors.push(chip);
    colors.forEach((color, k) => {
      pen.fillStyle = color;
      pen.fillRect(left, y + (high * k) / colors.length, wide, high / colors.length);
    });
    if (wide > 8) {
      pen.fillStyle = chip;
      pen.fillRect(left, y, 3, high);
      pen.fillStyle = this.paper;
      pen.fillRect(left + wide - 1, y, 1, high); // keeps neighbours apart
    }
    if (high >= 12 && wide > 26) this.paintLabel(data.labels[s.label[i]], left + 6, wide - 9, y + high / 2, colors);
    if (this.isMarked(row, i)) {
      pen.strokeStyle = this.ink;
      pen.lineWidth = 2;
      pen.strokeRect(left, y, wide, high);
    }
  }

  paintLabel(text, x, room, y, colors) {
    const { pen } = this;
    const start = Math.max(x, 4);
    const space = room - (start - x);
    let shown = text;
    if (pen.measureText(text).width > space) {
      const letters = Math.floor((space / pen.measureText(text).width) * text.length) - 1;
      if (letters < 3) return;
      shown = `${text.slice(0, letters)}…`;
    }
    const inks = new Set(colors.map(inkOn));
    pen.fillStyle = inks.size === 1 ? [...inks][0] : "#111111";
    pen.fillText(shown, start, y + 0.5);
  }

  /** The segment under the pointer, the clicked one, and the ground truth that they go with. */
  isMarked(row, i) {
    return [this.hovered, this.selected].some((mark) => {
      if (!mark) return false;
      if (mark.row === row && mark.index === i) return true;
      return row.truth && !mark.row.truth && mark.row.segments.partner[mark.index] === row.segments.id[i];
    });
  }

  paintCurves({ curve, top, height }) {
    const { pen, width } = this;
    let x = this.paintTitle(curve.title, curve.note, top);
    for (const line of curve.lines) {
      pen.fillStyle = line.color;
      pen.fillRect(x, top + TITLE / 2 - 5, 10, 10);
      pen.fillStyle = this.ink;
      pen.fillText(line.label, x + 14, top + TITLE / 2);
      x += 14 + pen.measureText(line.label).width + 12;
    }
    const floor = top + height - 1;
    const rise = CURVE - 6;
    pen.fillStyle = pen.strokeStyle = this.ink;
    pen.lineWidth = 1;
    for (const level of [0, 0.5, 1]) {
      const y = Math.round(floor - level * rise) + 0.5;
      pen.globalAlpha = 0.15;
      pen.beginPath();
      pen.moveTo(0, y);
      pen.lineTo(width, y);
      pen.stroke();
    }
    pen.globalAlpha = 1;
    pen.lineWidth = 1.75;
    pen.lineJoin = "round";
    for (const line of curve.lines) this.paintLine(line, curve, (value) => floor - (value / curve.top) * rise);
    pen.font = `11px ${this.font}`;
    pen.textAlign = "right";
    pen.fillStyle = this.ink;
    pen.globalAlpha = 0.75;
    pen.fillText(String(curve.top), width - 3, floor - rise + 7);
    pen.fillText("0", width - 3, floor - 7);
    pen.globalAlpha = 1;
    pen.textAlign = "left";
  }

  /** Visible snippets only; where several share a pixel, the highest score counts. */
  paintLine(line, curve, y) {
    const { pen } = this;
    const first = Math.max(0, Math.floor((this.from - curve.offset) / curve.stride) - 1);
    const last = Math.min(line.values.length - 1, Math.ceil((this.to - curve.offset) / curve.stride) + 1);
    const perPixel = (last - first) / (this.width - 2 * PAD);
    const jump = Math.max(1, Math.floor(perPixel));
    pen.strokeStyle = line.color;
    pen.beginPath();
    for (let i = first; i <= last; i += jump) {
      let value = line.values[i];
      for (let k = i + 1; k < Math.min(i + jump, last + 1); k += 1) value = Math.max(value, line.values[k]);
      const x = this.x(curve.offset + (i + (jump - 1) / 2) * curve.stride);
      if (i === first) pen.moveTo(x, y(value));
      else pen.lineTo(x, y(value));
    }
    pen.stroke();
  }
}
