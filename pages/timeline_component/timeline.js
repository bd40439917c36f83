// The timeline: a Picture that zooms, pans and answers to mouse and keys, and steers the page's video player.
//
// Streamlit calls the default export again whenever the data or the theme changes and runs only the last
// cleanup, on unmount; so one Timeline lives per mount and is updated. Labels reach the page only through
// textContent and canvas text, never as HTML.

const MIN_SPAN = 0.25; // seconds, the deepest zoom
const REWINDS = 2000; // ms after a video is ready in which st.video may still rewind it
const MEDIA_EVENTS = ["timeupdate", "seeking", "seeked", "play", "pause", "loadedmetadata"];

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
    node.setAttribute("aria-label", label);
  }
  node.addEventListener("click", action);
  return node;
}

class Timeline {
  constructor(root) {
    this.root = root;
    this.calls = 0;
    this.time = 0;
    this.asked = null; // seconds that a link asked for, held until the player has settled
    this.build();
    this.listen();
  }

  build() {
    const toolbar = element("div", "toolbar");
    this.clock = element("span", "clock");
    this.play = button("Play / pause", () => this.togglePlay());
    toolbar.append(
      this.clock,
      this.play,
      button("−", () => this.zoom(0.5), "Zoom out"),
      button("+", () => this.zoom(2), "Zoom in"),
      button("Whole video", () => this.show(0, this.data.duration)),
      element("span", "hint", "Click: seek · drag: move · Ctrl + wheel: zoom · ← → 1 s · + − 0"),
    );
    this.canvas = element("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    const outlines = element("canvas", "outlines");
    this.picture = new Picture(this.canvas, outlines);
    this.playhead = element("div", "playhead");
    this.tooltip = element("div", "tooltip");
    this.tooltip.hidden = true;
    this.legend = element("div", "legend");
    const stage = element("div", "stage");
    stage.append(this.canvas, outlines, this.playhead);
    this.root.replaceChildren(toolbar, stage, this.legend, this.tooltip);
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", () => { this.drag = null; });
    canvas.addEventListener("pointerleave", () => this.hover(null));
    canvas.addEventListener("dblclick", (event) => this.focusOn(this.picture.hit(this.point(event))));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    this.resize = new ResizeObserver(() => this.draw());
    this.resize.observe(canvas);
    // Media events don't bubble, but they can be captured; so the player may come, go or be replaced.
    this.onMedia = (event) => { if (event.target === this.video()) this.follow(); };
    for (const name of MEDIA_EVENTS) document.addEventListener(name, this.onMedia, true);
  }

  destroy() {
    this.resize.disconnect();
    for (const name of MEDIA_EVENTS) document.removeEventListener(name, this.onMedia, true);
    cancelAnimationFrame(this.frame);
    cancelAnimationFrame(this.redraw);
  }

  /** Take new data; zoom and position stay as long as the video is the same. Returns this call's number. */
  update(data) {
    const same = this.data && this.data.video_id === data.video_id && this.data.duration === data.duration;
    this.data = data;
    this.hovered = this.selected = null;
    this.tooltip.hidden = true;
    this.play.hidden = !data.player;
    this.canvas.setAttribute("aria-label", data.description);
    this.picture.setData(data);
    if (!same) {
      this.time = this.picture.from = 0;
      this.picture.to = data.duration;
    }
    this.buildLegend();
    this.draw();
    this.follow();
    this.obey(data.focus);
    this.calls += 1;
    return this.calls;
  }

  buildLegend() {
    const { hidden } = this.picture;
    const entries = this.data.legend.map((entry) => {
      const node = button("", () => {
        if (!hidden.delete(entry.outcome)) hidden.add(entry.outcome);
        node.setAttribute("aria-pressed", String(!hidden.has(entry.outcome)));
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
      this.picture.paint();
      this.place();
    });
  }

  mark() {
    this.picture.marks = [this.hovered, this.selected].filter(Boolean);
    this.picture.paintMarks();
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
    const centre = around ?? (this.inView(this.time) ? this.time : (from + to) / 2);
    this.show(centre - (centre - from) / factor, centre + (to - centre) / factor);
  }

  focusOn(found) {
    if (!found) return;
    const margin = Math.max((found.end - found.start) * 0.75, 1);
    this.show(found.start - margin, found.end + margin);
  }

  /** Zoom in on the stretch that a link asks for, once, and outline the segment that it is. */
  obey(focus) {
    const wanted = focus ? JSON.stringify([this.data.video_id, ...focus]) : "";
    if (wanted === this.obeyed) return;
    this.obeyed = wanted;
    if (!focus) return;
    const [start, end] = focus;
    const margin = Math.max(end - start, 5);
    this.show(start - margin, end + margin);
    this.seek(start);
    this.asked = { seconds: this.time, until: null };
    const near = (a, b) => Math.abs(a - b) < 0.001;
    for (const row of this.data.rows) { // a run's row comes after the ground truth, and counts rather
      const { start: starts, end: ends } = row.segments;
      const index = starts.findIndex((value, i) => near(value, start) && near(ends[i], end));
      if (index >= 0) this.selected = { row, index, start: starts[index], end: ends[index] };
    }
    this.mark();
  }

  // ---- the player ----------------------------------------------------------------------------------

  video() {
    if (!this.data || !this.data.player) return null;
    return document.querySelector(`.st-key-${CSS.escape(this.data.player)} video`);
  }

  seek(seconds) {
    this.asked = null;
    this.time = clamp(seconds, 0, this.data.duration);
    this.place();
    const video = this.video();
    if (!video) return;
    if (video.readyState >= 1) {
      video.currentTime = this.time;
      return;
    }
    const wanted = this.time; // st.video rewinds once its metadata is there; go after it
    const later = () => setTimeout(() => { video.currentTime = wanted; });
    video.addEventListener("loadedmetadata", later, { once: true });
  }

  /** Go where a link asked: the player may appear late, and st.video rewinds it once it is ready. */
  hold(video) {
    this.asked.until ??= performance.now() + REWINDS;
    if (!video.paused || performance.now() > this.asked.until) {
      this.asked = null;
    } else if (Math.abs(video.currentTime - this.asked.seconds) > 0.1) {
      const wanted = this.asked.seconds;
      setTimeout(() => { video.currentTime = wanted; });
    }
  }

  togglePlay() {
    const video = this.video();
    if (!video) return;
    if (video.paused) video.play().catch(() => {}); // a refused play leaves the video paused, as it shows
    else video.pause();
  }

  /** Take the player's time; again with every frame as long as it plays. */
  follow() {
    cancelAnimationFrame(this.frame);
    const video = this.video();
    if (video && video.readyState >= 1) {
      if (this.asked) this.hold(video);
      this.time = clamp(video.currentTime, 0, this.data.duration);
      if (!video.paused) {
        const span = this.picture.to - this.picture.from;
        if (!this.inView(this.time)) this.show(this.time - 0.1 * span, this.time + 0.9 * span);
        this.frame = requestAnimationFrame(() => this.follow());
      }
    }
    this.place();
  }

  place() {
    this.playhead.hidden = !this.inView(this.time);
    this.playhead.style.transform = `translateX(${this.picture.x(this.time) - 1}px)`;
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
    const { from, to } = this.picture;
    this.canvas.setPointerCapture(event.pointerId);
    this.drag = { x, from, to, scrub: y < RULER, moved: false };
    if (this.drag.scrub) this.seek(this.picture.seconds(x));
  }

  move(event) {
    const point = this.point(event);
    const { drag } = this;
    if (!drag) {
      this.hover(this.picture.hit(point), event);
    } else if (drag.scrub) {
      this.seek(this.picture.seconds(point.x));
    } else if (drag.moved || Math.abs(point.x - drag.x) > 4) {
      drag.moved = true;
      this.hover(null);
      const shift = (drag.x - point.x) * this.picture.secondsPerPixel;
      this.show(drag.from + shift, drag.to + shift);
    }
  }

  release(event) {
    const { drag } = this;
    this.drag = null;
    if (!drag || drag.moved || drag.scrub) return;
    const point = this.point(event);
    this.selected = this.picture.hit(point);
    this.seek(this.selected ? this.selected.start : this.picture.seconds(point.x));
    this.mark();
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
      Escape: () => { this.selected = null; this.hover(null); this.mark(); },
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    actions[event.key]();
  }

  /** Seek, and bring the place into view. */
  reach(seconds) {
    this.seek(seconds);
    const half = (this.picture.to - this.picture.from) / 2;
    if (!this.inView(this.time)) this.show(this.time - half, this.time + half);
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
