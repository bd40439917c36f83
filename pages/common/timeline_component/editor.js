// Editing the ground truth: dragging and keys become edits, drawn at once and sent to Python, which decides.
//
// Streamlit merges triggers that arrive while a page runs. So every message holds all edits that Python has
// not yet confirmed, each with a number; it carries out those it has not seen and says which was the last.

const GRIP = 6;      // px around an edge that take hold of it
const MAGNET = 7;    // px within which a dragged edge jumps to another segment's edge
const SHORTEST = 0.01; // seconds

class Editor {
  constructor(timeline, send) {
    this.timeline = timeline;
    this.send = send;
    this.client = Math.random().toString(36).slice(2);
    this.outbox = [];
    this.number = 0;
    this.label = "";   // class of new segments
    this.mark = null;  // seconds where a new segment begins, set by key
    this.draft = null; // {start, end, label, index}: what is being dragged; index null: a new segment
    this.warn = (event) => { if (this.on && (this.state.unsaved || this.outbox.length)) event.preventDefault(); };
    window.addEventListener("beforeunload", this.warn);
    this.build();
  }

  destroy() { window.removeEventListener("beforeunload", this.warn); }

  build() {
    this.root = element("div", "toolbar editor");
    this.field = element("input");
    this.field.setAttribute("aria-label", "Class of the selected segment, and of new ones");
    this.field.title = "Class of the selected segment, and of new ones: choose one, or write a new one";
    this.field.placeholder = "class";
    this.field.spellcheck = false;
    this.names = element("datalist");
    this.names.id = `classes-${this.client}`;
    this.field.setAttribute("list", this.names.id);
    this.field.addEventListener("focus", () => this.field.select());
    this.field.addEventListener("change", () => this.relabel(this.field.value.trim()));
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === "Escape") {
        if (event.key === "Escape") this.show();
        this.timeline.canvas.focus();
        event.preventDefault();
      }
    });
    const label = element("label", "", "Class");
    label.append(this.field, this.names);
    this.startButton = button("Mark start", () => this.markStart(), "Mark where a new segment starts (I)");
    this.endButton = button("Mark end", () => this.markEnd(), "End the new segment at the playhead and add it (O)");
    this.addButton = button("Add as annotation", () => this.adopt(), "Make the selected detection an annotation (A)");
    this.deleteButton = button("Delete", () => this.remove(), "Delete the selected segment (Delete)");
    this.undoButton = button("Undo", () => this.ask("undo"), "Undo (Ctrl Z)");
    this.redoButton = button("Redo", () => this.ask("redo"), "Redo (Ctrl Shift Z)");
    this.note = element("span", "note");
    this.root.append(label, this.startButton, this.endButton, this.addButton, this.deleteButton,
      this.undoButton, this.redoButton, this.note);
  }

  get on() { return Boolean(this.state); }

  get row() { return this.timeline.data.rows.find((row) => row.truth); }

  /** Take what Python says; edits that it hasn't seen yet are drawn again on top. */
  update(state) {
    this.state = state;
    this.draft = null;
    this.root.hidden = !this.on;
    if (!this.on) {
      this.outbox = [];
      this.mark = null;
      return;
    }
    const last = state.seen[this.client] ?? 0;
    this.outbox = this.outbox.filter((edit) => edit.number > last);
    for (const edit of this.outbox) this.apply(edit);
    this.names.replaceChildren(...state.labels.map((name) => {
      const option = element("option");
      option.value = name;
      return option;
    }));
    this.label ||= state.labels[0] ?? "";
    this.show();
  }

  /** Buttons and class field as they fit what is selected. */
  show() {
    if (!this.on) return;
    const { selected, data } = this.timeline;
    const mine = this.chosen();
    if (mine) this.label = this.segment(mine.index)[2];
    else if (selected) this.label = data.labels[selected.row.segments.label[selected.index]];
    if (this.timeline.root.getRootNode().activeElement !== this.field) this.field.value = this.label;
    this.deleteButton.disabled = !mine;
    this.addButton.disabled = !selected || selected.row.truth;
    this.endButton.disabled = this.mark === null;
    this.undoButton.disabled = !this.state.undo && !this.outbox.length;
    this.redoButton.disabled = !this.state.redo;
    const unsaved = this.state.unsaved;
    this.note.textContent = this.mark !== null ? `Start marked at ${clock(this.mark)}: go to the end, press O`
      : unsaved ? `${unsaved} unsaved change${unsaved === 1 ? "" : "s"}`
      : "Drag on the ground truth: empty to add, inside to move, an edge to resize";
    this.note.classList.toggle("unsaved", unsaved > 0);
  }

  /** The selected annotation, if one is. Ambiguous ones aren't edited. */
  chosen() {
    const { selected } = this.timeline;
    return selected && selected.row.truth && this.editable(selected.index) ? selected : null;
  }

  editable(index) { return this.row.segments.outcomes[index][0] !== "ambiguous"; }

  /** [start, end, class name] of an annotation. */
  segment(index) {
    const { start, end, label } = this.row.segments;
    return [start[index], end[index], this.timeline.data.labels[label[index]]];
  }

  // ---- edits ---------------------------------------------------------------------------------------

  ask(kind, before = null, after = null) {
    this.number += 1;
    const edit = { number: this.number, kind, video_id: this.timeline.data.video_id, before, after };
    this.outbox.push(edit);
    this.apply(edit);
    this.send({ client: this.client, edits: this.outbox });
    this.show();
  }

  change(before, after) {
    if (before && after && before.every((value, k) => value === after[k])) return;
    if (after) this.label = after[2];
    this.ask("change", before, after);
  }

  /** Draw an edit before Python has answered. */
  apply({ kind, video_id, before, after }) {
    const { data, picture } = this.timeline;
    if (kind !== "change" || video_id !== data.video_id || !this.row) return;
    const { segments } = this.row;
    let label = 0;
    if (after) {
      label = data.labels.indexOf(after[2]);
      if (label < 0) label = data.labels.push(after[2]) - 1;
      data.label_colors[label] ??= "#8C96A0";
    }
    const index = before
      ? segments.start.findIndex((_, i) => this.segment(i).every((value, k) => value === before[k]))
      : -1;
    if (before && index < 0) return;
    if (before && after) {
      [segments.start[index], segments.end[index], segments.label[index]] = [after[0], after[1], label];
    } else if (before) {
      for (const name of ["start", "end", "lane", "label", "outcomes", "text", "id"]) segments[name].splice(index, 1);
    } else {
      const place = segments.start.findIndex((start) => start > after[0]);
      const at = place < 0 ? segments.start.length : place;
      const values = { start: after[0], end: after[1], lane: 0, label, outcomes: [], text: "", id: -3 };
      for (const name of Object.keys(values)) segments[name].splice(at, 0, values[name]);
    }
    this.timeline.selected = null;
    picture.setData(data);
    if (after) this.timeline.selected = this.timeline.find(this.row, after[0], after[1]);
    this.timeline.mark();
    this.timeline.draw();
  }

  relabel(name) {
    if (!name) { this.show(); return; }
    this.label = name;
    const mine = this.chosen();
    if (!mine) return;
    const before = this.segment(mine.index);
    this.change(before, [before[0], before[1], name]);
  }

  remove() {
    const mine = this.chosen();
    if (mine) this.change(this.segment(mine.index), null);
  }

  /** Make a detection an annotation. */
  adopt() {
    const { selected, data } = this.timeline;
    if (!selected || selected.row.truth) return;
    const { start, end } = selected;
    const times = [Math.max(0, start), Math.min(end, data.edit.end)].map((s) => this.rounded(s));
    this.change(null, [...times, data.labels[selected.row.segments.label[selected.index]]]);
  }

  markStart() {
    this.mark = this.rounded(this.timeline.player.time);
    this.show();
    this.timeline.mark();
  }

  markEnd() {
    if (this.mark === null) return;
    const [start, end] = [this.mark, this.rounded(this.timeline.player.time)].sort((a, b) => a - b);
    if (end - start < SHORTEST) return;
    this.mark = null;
    this.change(null, [start, end, this.label]);
  }

  /** Put an edge of the selected annotation (0: start, 1: end) where the playhead is. */
  edgeToPlayhead(side) {
    const mine = this.chosen();
    if (!mine) return;
    const before = this.segment(mine.index);
    const after = [...before];
    after[side] = this.rounded(this.timeline.player.time);
    if (after[1] - after[0] >= SHORTEST) this.change(before, after);
  }

  rounded(seconds) {
    const { step } = this.state;
    const snapped = step ? Math.round(seconds / step) * step : seconds;
    return Math.round(clamp(snapped, 0, this.state.end) * 1000) / 1000;
  }

  // ---- dragging ------------------------------------------------------------------------------------

  /** What a press at a point would take hold of: {part, index, segment}, or null outside the ground truth. */
  grip(point) {
    const { picture } = this.timeline;
    const place = picture.places.find((p) => p.row?.truth && point.y >= p.top && point.y < p.top + p.height);
    if (!this.on || !place || point.y < place.top + TITLE) return null;
    const lane = Math.floor((point.y - place.top - TITLE) / place.bar);
    const { start, end, lane: lanes } = this.row.segments;
    let best = null;
    for (let i = 0; i < start.length; i += 1) {
      if (lanes[i] !== lane || !this.editable(i) || picture.isHidden(this.row, i)) continue;
      const [left, right] = [picture.x(start[i]), picture.x(end[i])];
      const inner = Math.min(GRIP, (right - left) / 3); // most of a narrow segment is still its inside
      if (point.x < left - GRIP || point.x > right + GRIP) continue;
      const part = point.x <= left + inner ? "start" : point.x >= right - inner ? "end" : "inside";
      const off = part === "inside" ? 0 : Math.abs(point.x - (part === "start" ? left : right));
      if (!best || off < best.off) best = { part, index: i, segment: this.segment(i), off };
    }
    return best ?? { part: "empty", index: null };
  }

  cursor(grip) {
    if (grip.part === "empty") return "crosshair";
    return grip.part === "inside" ? "grab" : "ew-resize";
  }

  /** Follow a drag that began at `from` seconds on `grip`, now at `to`; `free` switches snapping off. */
  dragTo({ grip, from, to, free }) {
    const snap = (seconds) => (free ? Math.round(clamp(seconds, 0, this.state.end) * 1000) / 1000
      : this.snapped(seconds, grip.index));
    let [start, end, label] = grip.segment ?? [0, 0, this.label];
    let watched;
    if (grip.part === "empty") {
      [start, end] = [snap(from), snap(to)].sort((a, b) => a - b);
      watched = snap(to);
    } else if (grip.part === "start") {
      start = watched = Math.min(snap(to), end - SHORTEST);
    } else if (grip.part === "end") {
      end = watched = Math.max(snap(to), start + SHORTEST);
    } else {
      const length = end - start;
      let shift = snap(start + to - from) - start;
      const byEnd = snap(end + to - from) - end; // either edge may be the one that snaps
      if (Math.abs(byEnd - (to - from)) < Math.abs(shift - (to - from))) shift = byEnd;
      start = clamp(start + shift, 0, Math.max(0, this.state.end - length));
      end = start + length;
      watched = start;
    }
    const round = (seconds) => Math.round(seconds * 1000) / 1000;
    this.draft = { start: round(start), end: round(end), label, index: grip.index };
    this.timeline.player.seek(watched); // the frame at the edge is what a person needs to see
    this.timeline.mark();
  }

  /** The drag is over: make an edit of it. */
  drop(grip) {
    const { draft } = this;
    this.draft = null;
    if (draft && draft.end - draft.start >= SHORTEST) {
      this.change(grip.segment ?? null, [draft.start, draft.end, draft.label]);
    }
    this.timeline.mark();
  }

  cancel() {
    this.draft = null;
    this.mark = null;
    this.show();
  }

  /** The nearest edge of another segment within reach, else on the grid. The playhead goes along, so it doesn't count. */
  snapped(seconds, index) {
    const reach = MAGNET * this.timeline.picture.secondsPerPixel;
    let best = null;
    for (const row of this.timeline.data.rows) {
      const { start, end } = row.segments;
      for (let i = 0; i < start.length; i += 1) {
        if (row.truth && i === index) continue;
        for (const edge of [start[i], end[i]]) {
          const off = Math.abs(edge - seconds);
          if (off <= reach && (best === null || off < Math.abs(best - seconds))) best = edge;
        }
      }
    }
    return best === null ? this.rounded(seconds) : Math.round(clamp(best, 0, this.state.end) * 1000) / 1000;
  }

  // ---- keys ----------------------------------------------------------------------------------------

  /** The action of a key, or undefined. */
  action(event) {
    if (!this.on) return undefined;
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      if (key === "z") return () => this.ask(event.shiftKey ? "redo" : "undo");
      return key === "y" ? () => this.ask("redo") : undefined;
    }
    return {
      i: () => this.markStart(),
      o: () => this.markEnd(),
      a: () => this.adopt(),
      l: () => this.field.focus(),
      "[": () => this.edgeToPlayhead(0),
      "]": () => this.edgeToPlayhead(1),
      delete: () => this.remove(),
      backspace: () => this.remove(),
    }[key];
  }
}

const EDIT_KEYS = [
  ["drag", "on the ground truth: empty to add, inside to move, an edge to resize (Alt: no snapping)"],
  ["I, O", "mark start, mark end of a new segment at the playhead"],
  ["[, ]", "move the selected segment's start or end to the playhead"],
  ["L", "go to the class field; Enter sets the class"],
  ["A", "make the selected detection an annotation"],
  ["Delete", "delete the selected segment"],
  ["Ctrl Z, Ctrl Shift Z", "undo, redo"],
];
