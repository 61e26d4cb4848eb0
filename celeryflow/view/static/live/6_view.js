// One view of a run, and the places where it appears.

class View {
  constructor(run) {
    this.run = run;
    this.head = new Head(run);
    this.picture = new Picture(run);
    this.moving = new Moving(run, this.picture);
    this.rows = new Rows(run);
    this.aside = new Aside(run);
    this.log = new Log(run);
    this.lower = element("div", { class: "cf-lower" }, this.rows.root, this.aside.root);
    const canvas = element("div", { class: "cf-frame" }, this.picture.root, this.moving.buttons);
    // Notebooks leave keys alone inside of an element with this attribute: arrows and Enter are the picture's.
    const keys = { "data-lm-suppress-shortcuts": "true" };
    this.root = element(
      "section",
      { class: "celeryflow cf-live", role: "group", "aria-label": `run of ${run.get("name")}`, ...keys },
      this.head.root,
      this.head.said,
      this.head.status,
      canvas,
      this.lower,
      this.log.root,
    );
    this.root.addEventListener("keydown", (event) => this.onKey(event));
  }

  // A view for a place in the page: one that has lost its place, as it was there, or a new one.
  static of(run) {
    const view = run.spares.pop() ?? new View(run);
    run.views.add(view);
    view.paint();
    // Where the page of a run is shown as it is saved, the live view will find that and take its place.
    run.send("here", { keeps: document.querySelector(".jp-Notebook") !== null });
    return view;
  }

  onKey(event) {
    if (event.key !== "Escape" || this.run.selected < 0) return;
    event.preventDefault();
    event.stopPropagation();
    this.run.select(-1);
  }

  paint() {
    this.openAtFailure();
    this.head.paint();
    this.picture.paint();
    this.moving.resize();
    this.rows.paint();
    setClass(this.lower, "cf-alone", !this.aside.paint());
    this.log.paint();
  }

  // A run that has failed opens at what failed first.
  openAtFailure() {
    const { failed = -1, is_over: isOver } = this.run.get("head");
    if (!isOver) this.run.hasOpened = false;
    if (!isOver || this.run.hasOpened || failed < 0) return;
    this.run.hasOpened = true;
    if (this.run.selected < 0) this.run.selected = failed;
    requestAnimationFrame(() => this.picture.boxes[failed] && this.moving.reveal(this.picture.boxes[failed]));
  }

  // Gives its place up.
  leave() {
    this.root.remove();
    this.run.views.delete(this);
    this.run.spares.push(this);
  }
}

// The document, watched once for all runs in it: anywidget loads a copy of this program for each of them.
const PAGE = (globalThis[Symbol.for(STYLES.id)] ??= watchPage());

function watchPage() {
  const page = { looks: new Set(), slots: document.getElementsByClassName("cf-slot") };
  let isDue = false;
  const watcher = new MutationObserver(() => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      for (const look of page.looks) look();
    });
  });
  watcher.observe(document.body, { childList: true, subtree: true });
  return page;
}

// Static pages of the run in this document, whose places live views take while the kernel lives. What a notebook
// keeps of a finished run is its page and no widget, so that it can be seen where nothing is live.
class Slots {
  constructor(run) {
    this.run = run;
    this.views = new Map(); // by the slot
    this.pages = new WeakMap(); // what stood in the slot
    this.look = () => this.fill();
    PAGE.looks.add(this.look);
    this.look();
  }

  fill() {
    for (const [slot, view] of this.views) {
      if (slot.isConnected) continue;
      this.views.delete(slot);
      view.leave();
    }
    if (this.run.isDead) return;
    for (const slot of [...PAGE.slots]) {
      if (slot.dataset.cfView !== this.run.get("slot") || this.views.has(slot)) continue;
      if (!this.pages.has(slot)) this.pages.set(slot, [...slot.childNodes]);
      const view = View.of(this.run);
      this.views.set(slot, view);
      slot.replaceChildren(view.root);
    }
  }

  // Gives the static pages back.
  release() {
    for (const [slot, view] of this.views) {
      view.leave();
      slot.replaceChildren(...this.pages.get(slot));
    }
    this.views.clear();
  }

  dispose() {
    PAGE.looks.delete(this.look);
    this.release();
  }
}

const RUNS = new Map();

// The styles of all views, once a page.
function dress() {
  if (!document.getElementById(STYLES.id)) document.head.append(element("style", { id: STYLES.id }, STYLES.text));
}

function initialize({ model }) {
  dress();
  const run = new Run(model);
  RUNS.set(model.get("slot"), run);
  run.slots = new Slots(run);
  return () => {
    RUNS.delete(model.get("slot"));
    run.dispose();
  };
}

function render({ model, el }) {
  const view = View.of(RUNS.get(model.get("slot")));
  el.append(view.root);
  return () => view.leave();
}

export default { initialize, render };
