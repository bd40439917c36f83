// The timeline: a Picture that zooms, pans and answers to mouse and keys, a Player for its clock, an Editor.
//
// Streamlit calls the default export again whenever the data or the theme changes and runs only the last
// cleanup, on unmount; so one Timeline lives per mount and is updated. Labels reach the page only through
// textContent and canvas text, never as HTML.

const MIN_SPAN = 0.25; // seconds, the deepest zoom
const HANDLE = 5;      // px around the playhead that take hold of it
const QUIET = 400;     // ms without a move after which the place is spoken
const FRAME = 0.04;    // seconds, where nobody knows the video's frame rate
const RIGHT = new Set(["true positive", "ambiguous"]); // outcomes that are no mistake

const KEYS = [
  ["Space", "play, pause"],
  ["← →", "1 second back, on; with Shift one frame"],
  ["N, P", "next, previous segment (of the selected row, else of the ground truth)"],
  ["M, Shift M", "next, previous mistake of any row"],
  ["Home, End", "start, end of the video"],
  ["+ − 0", "zoom in, out, whole video; Z zooms to the selected segment"],
  ["Esc", "select nothing"],
  ["?", "show or hide these keys"],
  ["mouse", "click or drag: seek · double click: zoom to a segment · Ctrl wheel: zoom · Shift drag or wheel: move"],
];

const timelines = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  let timeline = timelines.get(parentElement);
  if (!timeline) {
    timeline = new Timeline(parentElement.querySelector(".timeline"));
    timelines.set(parentElement, timeline);
  }
  timeline.send = setTriggerValue;
  const call = timeline.update(data);
  return () => {
    if (call !== timeline.calls) return; // an overtaken call must not tear down its successor
    timeline.destroy();
    timelines.delete(parentElement);
  };
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function button(text, action, label) {
  const node = element("button", "", text);
  node.type = "button";
  if (label) {
    node.title = label;
    if (text.length < 2) node.setAttribute("aria-label", label);
  }
  node.addEventListener("click", action);
  return node;
}

class Timeline {
  constructor(root) {
    this.root = root;
    this.calls = 0;
    this.player = new Player(() => this.place());
    this.editor = new Editor(this, (value) => this.send("edit", value));
    this.build();
    this.listen();
  }

  build() {
    const toolbar = element("div", "toolbar");
    this.hint = element("span", "hint");
    this.clock = element("span", "clock");
    this.playButton = button("Play", () => this.player.toggle(), "Play, pause (Space)");
    this.mistakeButton = button("Next mistake", () => this.step(this.mistakes(), 1), "Next mistake (M)");
    this.helpButton = button("Keys", () => this.toggleHelp(), "Show all keys (?)");
    toolbar.append(
      this.clock,
      this.playButton,
      button("−", () => this.zoom(0.5), "Zoom out (−)"),
      button("+", () => this.zoom(2), "Zoom in (+)"),
      button("Whole video", () => this.show(0, this.data.duration), "Whole video (0)"),
      this.mistakeButton,
      this.hint,
      this.helpButton,
    );
    this.help = element("dl", "help");
    this.canvas = element("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-roledescription", "timeline");
    const outlines = element("canvas", "outlines");
    this.picture = new Picture(this.canvas, outlines);
    this.playhead = element("div", "playhead");
    this.playhead.append(element("div", "grip"));
    this.tooltip = element("div", "tooltip");
    this.tooltip.hidden = true;
    this.legend = element("div", "legend");
    this.spoken = element("div", "spoken");
    this.spoken.setAttribute("aria-live", "polite");
    this.bar = element("div", "scroll");
    this.thumb = element("div", "thumb");
    this.bar.append(this.thumb);
    const stage = element("div", "stage");
    stage.append(this.canvas, outlines, this.playhead);
    this.root.replaceChildren(toolbar, this.editor.root, stage, this.bar, this.help, this.legend, this.tooltip,
      this.spoken);
    this.help.hidden = true;
  }

  listen() {
    const { canvas, bar } = this;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", () => this.abandon());
    canvas.addEventListener("pointerleave", () => this.hover(null));
    canvas.addEventListener("dblclick", (event) => this.focusOn(this.picture.hit(this.point(event))));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.root.addEventListener("keydown", (event) => this.key(event));
    bar.addEventListener("pointerdown", (event) => {
      bar.setPointerCapture(event.pointerId);
      this.slide(event);
    });
    bar.addEventListener("pointermove", (event) => { if (bar.hasPointerCapture(event.pointerId)) this.slide(event); });
    this.resize = new ResizeObserver(() => this.draw());
    this.resize.observe(canvas);
  }

  destroy() {
    this.resize.disconnect();
    this.player.destroy();
    this.editor.destroy();
    clearTimeout(this.quiet);
    cancelAnimationFrame(this.redraw);
  }

  /** Take new data, but not under somebody's hands: a drag ends first. Returns this call's number. */
  update(data) {
    this.calls += 1;
    this.late = this.drag ? data : null;
    if (!this.late) this.take(data);
    return this.calls;
  }

  /** Zoom, position and selection stay as long as the video is the same. */
  take(data) {
    const same = Boolean(this.data) && this.data.video_id === data.video_id && this.data.duration === data.duration;
    const kept = same && this.selected ? { ...this.selected, title: this.selected.row.title } : null;
    const edited = this.editor.on;
    this.data = data;
    this.order = {};
    this.names = Object.fromEntries(data.legend.map((entry) => [entry.outcome, entry.name]));
    this.hovered = this.selected = null;
    this.tooltip.hidden = true;
    this.canvas.setAttribute("aria-label", `${data.description}. Press question mark for the keys.`);
    this.picture.setData(data);
    if (!same) {
      this.picture.from = 0;
      this.picture.to = data.duration;
    }
    const row = kept && data.rows.find((other) => other.title === kept.title);
    if (row) this.selected = this.find(row, kept.start, kept.end);
    this.player.load(data.player, data.duration, same);
    this.mistakeButton.hidden = !data.rows.some((other) => other.segments.outcomes.some((one) => one.length));
    this.hint.textContent = `Space: play · ← → N P: step${this.mistakeButton.hidden ? "" : " · M: mistake"}`;
    this.editor.update(data.edit);
    this.buildHelp();
    this.buildLegend();
    this.draw();
    const obeyed = this.obey(data.focus);
    if (this.editor.on && (obeyed || !edited)) this.selected = this.annotationOf(this.selected) ?? this.selected;
    this.editor.show();
    this.mark();
  }

  buildHelp() {
    const keys = this.editor.on ? [...KEYS, ...EDIT_KEYS] : KEYS;
    this.help.replaceChildren(...keys.flatMap(([key, meaning]) => [element("dt", "", key), element("dd", "", meaning)]));
  }

  toggleHelp() {
    this.help.hidden = !this.help.hidden;
    this.helpButton.setAttribute("aria-expanded", String(!this.help.hidden));
  }

  buildLegend() {
    const { hidden } = this.picture;
    const entries = this.data.legend.map((entry) => {
      const node = button("", () => {
        if (!hidden.delete(entry.outcome)) hidden.add(entry.outcome);
        node.setAttribute("aria-pressed", String(!hidden.has(entry.outcome)));
        this.order = {};
        this.draw();
      });
      node.setAttribute("aria-pressed", String(!hidden.has(entry.outcome)));
      node.title = entry.meaning;
      const swatch = element("span", "swatch");
      swatch.style.background = entry.color;
      node.append(swatch, element("span", "", entry.name), element("b", "", entry.counts.join(" / ")));
      return node;
    });
    this.legend.replaceChildren(...entries, element("span", "note", this.data.legend_note));
  }

  draw() {
    cancelAnimationFrame(this.redraw);
    this.redraw = requestAnimationFrame(() => {
      const begin = performance.now();
      this.picture.paint();
      this.place();
      this.root.dataset.paint = (performance.now() - begin).toFixed(2); // ms, for whoever measures
    });
  }

  mark() {
    this.picture.marks = [this.hovered, this.selected].filter(Boolean);
    this.picture.draft = this.editor.draft;
    this.picture.cue = this.editor.on ? this.editor.mark : null;
    this.picture.paintMarks();
  }

  select(found) {
    this.selected = found;
    this.editor.show();
    this.mark();
  }

  /** The segment of a row with these times, as `hit` gives them, or null. */
  find(row, start, end) {
    const near = (a, b) => Math.abs(a - b) < 0.001;
    const index = row.segments.start.findIndex((value, i) => near(value, start) && near(row.segments.end[i], end));
    return index < 0 ? null : this.at(row, index);
  }

  at(row, index) {
    return { row, index, start: row.segments.start[index], end: row.segments.end[index] };
  }

  // ---- the time axis -------------------------------------------------------------------------------

  show(from, to) {
    const { duration } = this.data;
    const span = clamp(to - from, Math.min(MIN_SPAN, duration), duration);
    this.picture.from = clamp(from, 0, duration - span);
    this.picture.to = this.picture.from + span;
    this.draw();
  }

  inView(seconds) { return seconds >= this.picture.from && seconds <= this.picture.to; }

  zoom(factor, around) {
    const { from, to } = this.picture;
    const { time } = this.player;
    const centre = around ?? (this.inView(time) ? time : (from + to) / 2);
    this.show(centre - (centre - from) / factor, centre + (to - centre) / factor);
  }

  focusOn(found) {
    if (!found) return;
    const margin = Math.max((found.end - found.start) * 0.75, 1);
    this.show(found.start - margin, found.end + margin);
  }

  /** Zoom in on the stretch that a link asks for, once, and select the segment that it is; says whether it did. */
  obey(focus) {
    const wanted = focus ? JSON.stringify([this.data.video_id, ...focus]) : "";
    if (wanted === this.obeyed) return false;
    this.obeyed = wanted;
    if (!focus) return false;
    const [start, end] = focus;
    const margin = Math.max(end - start, 5);
    this.show(start - margin, end + margin);
    this.player.seekAndHold(start);
    for (const row of this.data.rows) { // a run's row comes after the ground truth, and counts rather
      this.selected = this.find(row, start, end) ?? this.selected;
    }
    return true;
  }

  /** The annotation that a detection goes with: the one to mend. */
  annotationOf(found) {
    if (!found || found.row.truth) return null;
    const row = this.data.rows.find((other) => other.truth);
    const index = row ? row.segments.id.indexOf(found.row.segments.partner[found.index]) : -1;
    return index < 0 ? null : this.at(row, index);
  }

  /** The scroll bar under the axis: where the view is in the video. */
  slide(event) {
    const box = this.bar.getBoundingClientRect();
    const middle = ((event.clientX - box.left) / box.width) * this.data.duration;
    const half = (this.picture.to - this.picture.from) / 2;
    this.show(middle - half, middle + half);
  }

  /** Seek, and bring the place into view. */
  reach(seconds) {
    this.player.seek(seconds);
    const { time } = this.player;
    const half = (this.picture.to - this.picture.from) / 2;
    if (!this.inView(time)) this.show(time - half, time + half);
  }

  /** Playhead, clock and scroll bar at the player's time; called with every frame that plays. */
  place() {
    const { picture, player, data } = this;
    if (!data || !picture.width) return;
    const { time, playing } = player;
    if (playing && !this.drag && !this.inView(time)) {
      const span = picture.to - picture.from;
      this.show(time - 0.1 * span, time + 0.9 * span);
    }
    this.playhead.hidden = !this.inView(time);
    this.playhead.style.transform = `translateX(${picture.x(time) - 1}px)`;
    this.clock.textContent = `${clock(time)} / ${clock(data.duration)}`;
    const word = playing ? "Pause" : "Play";
    if (this.playButton.textContent !== word) this.playButton.textContent = word;
    const share = (picture.to - picture.from) / data.duration;
    this.bar.classList.toggle("idle", share >= 1);
    this.thumb.style.left = `${(100 * picture.from) / data.duration}%`;
    this.thumb.style.width = `${100 * share}%`;
    clearTimeout(this.quiet);
    if (!playing) this.quiet = setTimeout(() => this.speak(), QUIET);
  }

  /** Tell screen readers what is under the playhead. */
  speak() {
    const { time } = this.player;
    const found = this.data.rows.flatMap((row) => this.picture.under(row, time).map((i) => {
      const outcomes = row.segments.outcomes[i].map((outcome) => this.names[outcome] ?? outcome);
      const name = this.data.labels[row.segments.label[i]];
      return `${row.title}: ${name}${outcomes.length ? ` (${outcomes.join(", ")})` : ""}`;
    }));
    const text = `${clock(time)}: ${found.join("; ") || "no segment"}`;
    if (this.spoken.textContent !== text) this.spoken.textContent = text;
  }

  // ---- from segment to segment ---------------------------------------------------------------------

  /** What N and P step through: segments of the selected row, else of the first one. */
  segments() {
    const row = this.selected?.row ?? this.data.rows[0];
    return row ? this.listed(row.title, (other) => other === row, () => true) : [];
  }

  mistakes() {
    return this.listed("", () => true, (outcomes) => outcomes.some((outcome) => !RIGHT.has(outcome)));
  }

  /** Segments of the rows and with the outcomes that are wanted, by start; kept until the data change. */
  listed(key, wantedRow, wanted) {
    this.order[key] ??= this.data.rows.filter(wantedRow).flatMap((row) => row.segments.start
      .map((_, index) => this.at(row, index))
      .filter(({ index }) => wanted(row.segments.outcomes[index]) && !this.picture.isHidden(row, index)))
      .sort((a, b) => a.start - b.start);
    return this.order[key];
  }

  /** Select the next (1) or previous (-1) of a list: from the selected one if the playhead is there, else from that. */
  step(list, way) {
    const { selected } = this;
    const here = selected && Math.abs(selected.start - this.player.time) < 0.05;
    let place = here ? list.findIndex((one) => one.row === selected.row && one.index === selected.index) : -1;
    if (place < 0) {
      const after = list.findIndex((one) => one.start > this.player.time + 1e-3);
      const next = after < 0 ? list.length : after;
      place = way > 0 ? next - 1 : list.findLastIndex((one) => one.start < this.player.time - 1e-3) + 1;
    }
    const found = list[place + way];
    if (!found) return;
    this.select(found);
    this.reach(found.start);
  }

  // ---- mouse and keys ------------------------------------------------------------------------------

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  press(event) {
    const pan = event.button === 1 || (event.button === 0 && event.shiftKey);
    if (event.button !== 0 && !pan) return;
    if (event.button === 1) event.preventDefault();
    const point = this.point(event);
    const { from, to } = this.picture;
    const grip = pan || point.y < RULER ? null : this.editor.grip(point);
    const kind = pan ? "pan" : grip ? "edit" : "scrub";
    this.canvas.setPointerCapture(event.pointerId);
    this.drag = { kind, grip, x: point.x, from, to, seconds: this.picture.seconds(point.x), moved: false };
    if (point.y < RULER && !pan) {
      this.drag.moved = true;
      this.player.seek(this.drag.seconds);
    } else if (kind === "scrub" && this.onPlayhead(point) && !this.picture.hit(point)) {
      this.drag.moved = true;
    }
  }

  onPlayhead({ x }) { return Math.abs(x - this.picture.x(this.player.time)) <= HANDLE; }

  move(event) {
    const point = this.point(event);
    const { drag } = this;
    if (!drag) {
      const found = this.picture.hit(point);
      this.hover(found, event);
      const grip = point.y < RULER ? null : this.editor.grip(point);
      if (grip) this.canvas.style.cursor = this.editor.cursor(grip);
      else if (!found && this.onPlayhead(point)) this.canvas.style.cursor = "col-resize";
      return;
    }
    if (!drag.moved && Math.abs(point.x - drag.x) <= 4) return;
    if (!drag.moved) this.hover(null);
    drag.moved = true;
    if (drag.kind === "pan") {
      const shift = (drag.x - point.x) * this.picture.secondsPerPixel;
      this.show(drag.from + shift, drag.to + shift);
    } else if (drag.kind === "edit") {
      this.canvas.style.cursor = drag.grip.part === "inside" ? "grabbing" : this.editor.cursor(drag.grip);
      const to = this.picture.seconds(point.x);
      this.editor.dragTo({ grip: drag.grip, from: drag.seconds, to, free: event.altKey });
    } else {
      this.player.seek(this.picture.seconds(point.x));
    }
  }

  release(event) {
    const { drag } = this;
    this.drag = null;
    if (!drag) return;
    if (!drag.moved) {
      const point = this.point(event);
      const found = this.picture.hit(point);
      this.select(found);
      this.player.seek(found ? found.start : this.picture.seconds(point.x));
    } else if (drag.kind === "edit") {
      this.editor.drop(drag.grip);
    }
    this.catchUp();
  }

  abandon() {
    this.drag = null;
    this.editor.cancel();
    this.mark();
    this.catchUp();
  }

  /** Take the data that came during a drag. */
  catchUp() {
    const { late } = this;
    this.late = null;
    if (late) this.take(late);
  }

  wheel(event) {
    const { x, y } = this.point(event);
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX
      : event.shiftKey ? event.deltaY : 0;
    if (event.ctrlKey || event.metaKey || (y < RULER && !sideways)) {
      event.preventDefault();
      this.zoom(Math.exp(-clamp(event.deltaY, -100, 100) / 200), this.picture.seconds(x));
    } else if (sideways) {
      event.preventDefault();
      const shift = sideways * this.picture.secondsPerPixel;
      this.show(this.picture.from + shift, this.picture.to + shift);
    }
  }

  key(event) {
    const { target } = event;
    if (target.tagName === "INPUT" || (target.tagName === "BUTTON" && [" ", "Enter"].includes(event.key))) return;
    const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
    const action = this.editor.action(event) ?? (plain ? this.action(event) : undefined);
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  action(event) {
    const { player } = this;
    const step = event.shiftKey ? this.data.frame_seconds ?? FRAME : 1;
    return {
      " ": () => player.toggle(),
      arrowleft: () => this.reach(player.time - step),
      arrowright: () => this.reach(player.time + step),
      home: () => this.reach(0),
      end: () => this.reach(this.data.duration),
      n: () => this.step(this.segments(), 1),
      p: () => this.step(this.segments(), -1),
      m: () => this.step(this.mistakes(), event.shiftKey ? -1 : 1),
      "+": () => this.zoom(2),
      "=": () => this.zoom(2),
      "-": () => this.zoom(0.5),
      0: () => this.show(0, this.data.duration),
      z: () => this.focusOn(this.selected),
      "?": () => this.toggleHelp(),
      escape: () => { this.abandon(); this.hover(null); this.select(null); },
    }[event.key.toLowerCase()];
  }

  hover(found, event) {
    const before = this.hovered;
    this.hovered = found;
    this.canvas.style.cursor = found ? "pointer" : "default";
    this.tooltip.hidden = !found;
    if (found?.row !== before?.row || found?.index !== before?.index) this.mark();
    if (!found) return;
    const { label, text } = found.row.segments;
    const times = `${clock(found.start)} – ${clock(found.end)} (${(found.end - found.start).toFixed(2)} s)`;
    const lines = [times, ...text[found.index].split("\n")].filter(Boolean);
    this.tooltip.replaceChildren(
      element("div", "name", this.data.labels[label[found.index]]),
      ...lines.map((line) => element("div", "", line)),
    );
    const box = this.root.getBoundingClientRect();
    const left = event.clientX - box.left + 14;
    const over = left + this.tooltip.offsetWidth > box.width;
    this.tooltip.style.left = `${over ? Math.max(0, left - this.tooltip.offsetWidth - 28) : left}px`;
    this.tooltip.style.top = `${event.clientY - box.top + 16}px`;
  }
}
