// What a front end knows of a run: one for all views of a model.

const ANSWER_MS = 1500;
const LOG_LEASE_MS = 10000;
const LOG_LINES = 1000;

class Run {
  constructor(model) {
    this.model = model;
    this.views = new Set(); // that stand in the page
    this.spares = []; // that have stood there
    this.selected = -1; // the chosen box
    this.details = null; // what the kernel told of it
    this.asked = null; // the click that it answers
    this.said = "";
    this.isDead = false;
    this.isLogOpen = false;
    this.log = [];
    this.logVersion = 0;
    this.hasOpened = false; // at what failed first
    this.seed = Math.random().toString(36).slice(2);
    this.clicks = 0;
    this.readAll(model.get("boxes"));
    model.on("change:boxes", () => this.readAll(model.get("boxes")));
    model.on("change:change", () => this.merge(model.get("change")));
    model.on("change:picture", () => this.select(-1));
    model.on("change:states", () => this.askAgain());
    model.on("change", () => this.refresh());
    model.on("msg:custom", (message) => this.hear(message));
    model.on("comm_live_update", () => this.die());
    this.watchKernel();
  }

  get(name) {
    return this.model.get(name);
  }

  // --- what the kernel says

  readAll({ seq, marks }) {
    this.seq = seq;
    this.marks = [...marks];
    this.refresh();
  }

  // Takes in what is new of some boxes. Where a message is missing, all is asked for.
  merge({ seq, count, marks }) {
    if (!seq || seq <= this.seq) return;
    if (seq > this.seq + 1 && Object.keys(marks).length < count) this.send("all");
    this.seq = seq;
    this.marks.length = count;
    for (const [at, mark] of Object.entries(marks)) this.marks[at] = mark;
  }

  hear(message) {
    if (message.what === "details" && message.id === this.asked) this.details = message.html;
    else if (message.what === "said") this.said = message.text;
    else if (message.what === "heard" && message.id === this.waitsFor) this.waitsFor = null;
    else if (message.what === "all") this.readAll(message.boxes);
    else if (message.what === "log") this.addLog(message);
    this.refresh();
  }

  addLog({ is_first: isFirst, left_out: leftOut, lines }) {
    if (isFirst) this.log = [];
    if (leftOut) this.log.push(["", `… ${leftOut} lines are left out: run.logs()`, "note"]);
    this.log = [...this.log, ...lines].slice(-LOG_LINES);
    this.logVersion += 1;
  }

  // Draws at the browser's next frame, and then only what is latest: messages never pile up.
  refresh() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      for (const view of this.views) view.paint();
    });
  }

  // --- what the user wants

  send(what, more = {}) {
    const id = `${this.seed}-${(this.clicks += 1)}`;
    try {
      if (!this.isDead) this.model.send({ do: what, id, ...more });
    } catch {
      this.die();
    }
    return id;
  }

  // For a click whose effect may be long in coming: says so if the kernel does not hear it.
  order(what) {
    this.said = "";
    const id = (this.waitsFor = this.send(what));
    setTimeout(() => {
      if (this.waitsFor !== id) return;
      this.said = "The kernel has not heard this yet. To stop the run at once, interrupt the kernel (■).";
      this.refresh();
    }, ANSWER_MS);
    this.refresh();
  }

  select(at, isAsking = false) {
    this.selected = at;
    this.details = null;
    this.asked = null;
    if (isAsking && at >= 0) this.ask({ box: at });
    this.refresh();
  }

  ask(about) {
    this.about = about;
    this.askedIn = this.get("states")[this.selected];
    this.asked = this.send("details", about);
  }

  // What is shown of a box was so when it was asked for: when its state changes, it is asked for once more.
  askAgain() {
    if (this.details !== null && this.get("states")[this.selected] !== this.askedIn) this.ask(this.about);
  }

  toggleLog() {
    this.isLogOpen = !this.isLogOpen;
    this.send("log", { on: this.isLogOpen, is_new: true });
    clearInterval(this.logLease);
    // A tab that is gone reads no log: the kernel is told now and then that this one still does.
    if (this.isLogOpen) this.logLease = setInterval(() => this.send("log", { on: true }), LOG_LEASE_MS);
    this.refresh();
  }

  // --- its end

  watchKernel() {
    const gone = ["restarting", "autorestarting", "terminating", "dead"];
    this.onStatus = (_, status) => gone.includes(status) && this.die();
    this.kernel = this.model.widget_manager?.kernel;
    this.kernel?.statusChanged?.connect?.(this.onStatus);
  }

  // The kernel that knew the run is gone: nothing here is heard any more.
  die() {
    if (this.isDead) return;
    this.isDead = true;
    clearInterval(this.logLease);
    this.said = `The kernel that showed this run is gone. How it stands: cf.attach("${this.get("run")}")`;
    this.slots?.release();
    this.refresh();
  }

  dispose() {
    clearInterval(this.logLease);
    this.kernel?.statusChanged?.disconnect?.(this.onStatus);
    this.slots?.dispose();
  }
}
