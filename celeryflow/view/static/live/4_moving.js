// Choosing boxes, zooming and panning: by mouse and by keyboard.

const ZOOM_STEP = 1.25;
const ZOOM_LEAST = 0.1;
const ZOOM_MOST = 4;
const ALL = null; // the scale at which there is room for all of it
const READABLE = undefined; // the same, but no smaller than can be read: then it scrolls
const READABLE_LEAST = 0.65;
const CLICK_PX = 4; // what moves less is a click, and not a drag

class Moving {
  constructor(run, picture) {
    this.run = run;
    this.picture = picture;
    this.canvas = picture.root;
    this.scale = READABLE;
    this.canvas.addEventListener("click", (event) => this.onClick(event));
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    this.canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    this.buttons = element(
      "div",
      { class: "cf-zoom", role: "group", "aria-label": "Zoom" },
      button("+", () => this.zoom(ZOOM_STEP), { "aria-label": "Zoom in", title: "Zoom in (Ctrl and wheel)" }),
      button("−", () => this.zoom(1 / ZOOM_STEP), { "aria-label": "Zoom out", title: "Zoom out" }),
      button("Fit", () => this.fit(), { "aria-label": "Fit", title: "Show all of it" }),
    );
  }

  // --- choosing

  boxOf(target) {
    const node = target.closest?.("g.node");
    return node ? this.picture.boxes.find((box) => box.node === node) : undefined;
  }

  onClick(event) {
    if (this.wasDragged) return;
    const frame = event.target.closest?.(".phase-name.cf-opened");
    if (frame) return this.run.send("open", { phase: frame.dataset.phase });
    const box = this.boxOf(event.target);
    if (!box) return this.run.select(-1);
    box.node.focus({ preventScroll: true });
    this.choose(box);
  }

  // Shows what a box holds: opens a phase that is drawn as one, else asks for details.
  choose(box) {
    const phase = this.run.get("picture").opens?.[box.at];
    if (phase !== undefined) this.run.send("open", { phase });
    else this.run.select(box.at, true);
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = this.actionOf(event.key, this.boxOf(event.target), event.target);
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  actionOf(key, box, target) {
    if (key === "+" || key === "=") return () => this.zoom(ZOOM_STEP);
    if (key === "-") return () => this.zoom(1 / ZOOM_STEP);
    if (key === "0" || key === "Home") return () => this.fit();
    if (key === "Enter" || key === " ") {
      if (box) return () => this.choose(box);
      if (target.dataset?.phase) return () => this.run.send("open", { phase: target.dataset.phase });
    }
    const next = box && key.startsWith("Arrow") ? this.neighbour(box, key) : undefined;
    if (next) return () => this.focus(next);
    return box && key.startsWith("Arrow") ? () => {} : null;
  }

  focus(box) {
    this.picture.focusable(box.at);
    box.node.focus({ preventScroll: true });
    this.reveal(box);
  }

  // Left and right along the arrows, to the nearest end; up and down among what stands beside.
  neighbour(box, key) {
    const { arrows, boxes } = this.picture;
    const distance = (other) => Math.abs(other.y - box.y) + 2 * Math.abs(other.x - box.x);
    const nearest = (found) => found.sort((a, b) => distance(a) - distance(b))[0];
    if (key === "ArrowRight") return nearest(arrows.filter((a) => a.tail === box.at).map((a) => boxes[a.head]));
    if (key === "ArrowLeft") return nearest(arrows.filter((a) => a.head === box.at).map((a) => boxes[a.tail]));
    const isThere = (other) => (key === "ArrowUp" ? other.y < box.y - 1 : other.y > box.y + 1);
    return nearest(boxes.filter(isThere));
  }

  // --- zooming

  get size() {
    const { width, height } = this.picture.svg.viewBox.baseVal;
    return { width, height };
  }

  // The scale at which it is drawn now.
  get shownScale() {
    return this.picture.svg.getBoundingClientRect().width / this.size.width || 1;
  }

  fit() {
    this.scale = ALL;
    this.resize();
  }

  // Zooms so that what is at this point of the canvas, by default its middle, stays there.
  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    if (!this.picture.svg) return;
    const before = this.shownScale;
    this.scale = Math.min(ZOOM_MOST, Math.max(ZOOM_LEAST, before * factor));
    this.resize();
    const ratio = this.scale / before;
    this.canvas.scrollLeft = (this.canvas.scrollLeft + x) * ratio - x;
    this.canvas.scrollTop = (this.canvas.scrollTop + y) * ratio - y;
  }

  resize() {
    const { svg } = this.picture;
    if (!svg || (this.sized === svg && this.sizedTo === this.scale)) return;
    [this.sized, this.sizedTo] = [svg, this.scale];
    const { width, height } = this.size;
    svg.style.cssText = this.scale
      ? `width:${width * this.scale}px;height:${height * this.scale}px;max-width:none`
      : `width:100%;height:auto;max-width:${width}px;min-width:${this.scale === ALL ? 0 : READABLE_LEAST * width}px`;
  }

  onWheel(event) {
    if (!event.ctrlKey && !event.metaKey) return; // the notebook scrolls
    event.preventDefault();
    const at = this.canvas.getBoundingClientRect();
    this.zoom(Math.exp(-event.deltaY / 300), event.clientX - at.left, event.clientY - at.top);
  }

  // Scrolls the canvas, and not the page, until the box is in sight.
  reveal(box) {
    const [inside, outside] = [box.node.getBoundingClientRect(), this.canvas.getBoundingClientRect()];
    if (inside.left < outside.left) this.canvas.scrollLeft += inside.left - outside.left - 20;
    if (inside.right > outside.right) this.canvas.scrollLeft += inside.right - outside.right + 20;
    if (inside.top < outside.top) this.canvas.scrollTop += inside.top - outside.top - 20;
    if (inside.bottom > outside.bottom) this.canvas.scrollTop += inside.bottom - outside.bottom + 20;
  }

  // --- panning

  onDown(event) {
    this.wasDragged = false;
    if (event.button !== 0 || event.pointerType === "touch") return; // a finger scrolls by itself
    const from = { x: event.clientX, y: event.clientY, left: this.canvas.scrollLeft, top: this.canvas.scrollTop };
    const onMove = (move) => {
      const [dx, dy] = [move.clientX - from.x, move.clientY - from.y];
      if (Math.abs(dx) + Math.abs(dy) > CLICK_PX) this.wasDragged = true;
      if (!this.wasDragged) return;
      setClass(this.canvas, "cf-dragged", true);
      this.canvas.scrollLeft = from.left - dx;
      this.canvas.scrollTop = from.top - dy;
    };
    const onUp = () => {
      setClass(this.canvas, "cf-dragged", false);
      window.removeEventListener("pointermove", onMove);
      window.removeEventListener("pointerup", onUp);
      window.removeEventListener("pointercancel", onUp);
    };
    window.addEventListener("pointermove", onMove);
    window.addEventListener("pointerup", onUp);
    window.addEventListener("pointercancel", onUp);
  }
}
