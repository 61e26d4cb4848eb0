// The graph: an SVG that the kernel has drawn once, whose boxes take on the states of now.

const BOX_INSET = 4;
const FEW = 60; // so many boxes can be gone through with Tab; of more, Tab reaches one, and the arrow keys the others
const OVER = ["s", "f", "k", "c"];

class Picture {
  constructor(run) {
    this.run = run;
    this.root = element("div", { class: "cf-canvas" });
    this.boxes = [];
  }

  // Draws the states and notes that are others than those drawn.
  paint() {
    const picture = this.run.get("picture");
    if (picture !== this.drawn) this.build(picture);
    if (!this.svg) return setText(this.outline, this.run.get("outline"));
    const states = this.run.get("states");
    let isMoved = false;
    this.boxes.forEach((box, at) => {
      if (box.byte !== states[at] && states[at]) isMoved = this.paintState(box, states[at]) || true;
      if (box.mark !== this.run.marks[at] && this.run.marks[at]) this.paintMark(box, this.run.marks[at]);
    });
    if (isMoved) this.paintArrows(states);
    if (this.shownSelection !== this.run.selected) this.paintSelection(this.run.selected);
    // What the user chose stands out from the rest; what the view opened at leaves all as well to be read.
    setClass(this.svg, "cf-chosen", this.run.selected >= 0 && this.run.asked !== null);
  }

  build(picture) {
    this.drawn = picture;
    this.svg = parseSvg(picture.svg);
    this.boxes = [];
    this.shownSelection = -1;
    if (!this.svg) {
      this.outline = element("pre", {}, "");
      this.root.replaceChildren(this.outline);
      return;
    }
    setAttribute(this.svg, "role", "group"); // what is inside of an image cannot be reached
    setClass(this.root, "cf-large", this.svg.viewBox.baseVal.width > 900 || this.svg.viewBox.baseVal.height > 440);
    const nodes = [...this.svg.querySelectorAll("g.node")];
    this.boxes = nodes.map((node, at) => readBox(node, at));
    this.arrows = picture.arrows.map(([tail, head], at) => ({ tail, head, path: this.svg.querySelector(`#e${at}`) }));
    for (const box of this.boxes) {
      setAttribute(box.node, "role", "button");
      setAttribute(box.node, "aria-pressed", "false");
      setAttribute(box.node, "aria-expanded", picture.opens?.[box.at] ? "false" : null);
    }
    this.nameFrames(picture);
    this.focusable(0);
    const remark = picture.remark ? [element("p", { class: "cf-dim cf-remark" }, picture.remark)] : [];
    this.root.replaceChildren(this.svg, ...remark);
  }

  // The name over an opened phase closes it again.
  nameFrames({ frames = [], opened = [] }) {
    this.svg.querySelectorAll(".phase-name").forEach((name, at) => {
      if (!opened.includes(frames[at])) return;
      setAttribute(name, "role", "button");
      setAttribute(name, "tabindex", "0");
      setAttribute(name, "aria-expanded", "true");
      name.classList.add("cf-opened");
      name.dataset.phase = frames[at];
    });
  }

  paintState(box, byte) {
    const [state, sign] = this.run.get("signs")[byte];
    box.node.classList.remove(box.state);
    box.node.classList.add(state);
    box.byte = byte;
    box.state = state;
    setText(box.glyph, sign);
  }

  paintMark(box, mark) {
    const [label, note, title, done, failed] = (box.mark = mark);
    setText(box.label, label);
    setText(box.note, note);
    setText(box.title, title);
    setAttribute(box.label, "y", note ? 16 : 22);
    setAttribute(box.node, "aria-label", title);
    if (!box.bars) return;
    const room = box.width - 2 * BOX_INSET;
    const bad = failed ? Math.max(3, room * failed) : 0; // one failure in a thousand is to be seen too
    const good = Math.min(room * done, room - bad);
    setAttribute(box.bars[0], "width", good.toFixed(1));
    setAttribute(box.bars[1], "x", (BOX_INSET + good).toFixed(1));
    setAttribute(box.bars[1], "width", bad.toFixed(1));
  }

  // Values are on their way from what runs, and from what is done to what has not begun.
  paintArrows(states) {
    for (const { tail, head, path } of this.arrows) {
      const isOver = OVER.includes(states[head]);
      const flows = !isOver && (states[tail] === "x" || (states[tail] === "s" && states[head] !== "."));
      if (path) setClass(path, "flow", flows);
    }
  }

  paintSelection(chosen) {
    this.shownSelection = chosen;
    const related = chosen < 0 ? new Set() : relatives(chosen, this.arrows);
    for (const box of this.boxes) {
      setClass(box.node, "selected", box.at === chosen);
      setClass(box.node, "related", related.has(box.at) && box.at !== chosen);
      setAttribute(box.node, "aria-pressed", box.at === chosen);
    }
    for (const { tail, head, path } of this.arrows) {
      if (path) setClass(path, "related", related.has(tail) && related.has(head));
    }
    if (chosen >= 0) this.focusable(chosen);
  }

  // Which box Tab comes to.
  focusable(at) {
    for (const box of this.boxes) setAttribute(box.node, "tabindex", this.boxes.length <= FEW || box.at === at ? 0 : -1);
  }
}

function parseSvg(source) {
  if (!source) return null;
  const root = new DOMParser().parseFromString(source, "image/svg+xml").documentElement;
  return root.namespaceURI === SVG && root.localName === "svg" ? document.importNode(root, true) : null;
}

function readBox(node, at) {
  const [x, y] = node.getAttribute("transform").match(/-?[\d.]+/g).map(Number);
  const width = Number(node.querySelector(".box").getAttribute("width"));
  const find = (name) => node.querySelector(name);
  const bars = [...node.querySelectorAll(".bar")];
  const state = [...node.classList].find((name) => name !== "node");
  const parts = { title: find("title"), glyph: find(".glyph"), label: find(".label"), note: find(".note") };
  return { node, at, x: x + width / 2, y, width, state, bars: bars.length ? bars : null, ...parts };
}

// All that a box needs, directly or not, all that needs it, and itself.
function relatives(chosen, arrows) {
  const found = new Set([chosen]);
  for (const [from, to] of [["head", "tail"], ["tail", "head"]]) {
    const next = new Map();
    for (const arrow of arrows) next.set(arrow[from], [...(next.get(arrow[from]) ?? []), arrow[to]]);
    const left = [chosen];
    const seen = new Set(left);
    while (left.length) {
      for (const at of next.get(left.pop()) ?? []) {
        if (seen.has(at)) continue;
        seen.add(at);
        left.push(at);
      }
    }
    for (const at of seen) found.add(at);
  }
  return found;
}
