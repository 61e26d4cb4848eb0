// Around the graph: the head with its buttons, a bar a phase, what is known of the chosen box, the log.

class Head {
  constructor(run) {
    this.run = run;
    this.chip = element("span", { class: "cf-chip" });
    this.facts = element("span", { class: "cf-dim cf-facts" });
    this.retry = button("Retry failed", () => run.order("resume"), { class: "cf-button cf-retry" });
    this.cancel = button("Cancel", () => run.order("cancel"), { class: "cf-button cf-danger cf-cancel" });
    this.log = button("Log", () => run.toggleLog(), { class: "cf-button cf-toggle" });
    this.root = element(
      "div",
      { class: "cf-head" },
      element("b", {}, run.get("name")),
      this.chip,
      element("span", { class: "cf-dim" }, run.get("run")),
      element("span", { class: "cf-grow" }),
      this.facts,
      this.log,
      this.retry,
      this.cancel,
    );
    this.said = element("p", { class: "cf-said", hidden: true });
    // Screen readers hear how the run stands when that changes, and not each figure.
    this.status = element("p", { class: "cf-unseen", role: "status", "aria-live": "polite" });
  }

  paint() {
    const { run } = this;
    const head = run.get("head");
    const status = head.status ?? "pending";
    setAttribute(this.chip, "class", `cf-chip ${status}`);
    setText(this.chip, `${head.sign ?? "○"} ${status}`);
    setText(this.facts, head.facts ?? "");
    const isOver = Boolean(head.is_over);
    setAttribute(this.cancel, "hidden", isOver);
    setAttribute(this.retry, "hidden", !head.can_retry);
    for (const node of [this.cancel, this.retry, this.log]) setAttribute(node, "disabled", run.isDead);
    setAttribute(this.log, "aria-pressed", run.isLogOpen);
    const said = run.said || head.trouble || (isOver ? "" : run.get("hint"));
    setText(this.said, said);
    setAttribute(this.said, "hidden", !said);
    const over = run.get("rows").filter((row) => ["success", "failure", "cancelled"].includes(row.status));
    const ended = over.map((row) => `${row.name}: ${row.status}`).join(", ");
    setText(this.status, `${run.get("name")}: ${status}${ended ? `. ${ended}` : ""}`);
  }
}

class Rows {
  constructor(run) {
    this.run = run;
    this.body = element("tbody");
    this.root = element("table", { class: "cf-rows" }, this.body);
    this.rows = [];
  }

  paint() {
    const told = this.run.get("rows");
    while (this.rows.length < told.length) this.rows.push(new Row());
    this.rows.length = told.length;
    if (this.body.childElementCount !== told.length) this.body.replaceChildren(...this.rows.map((row) => row.root));
    told.forEach((row, at) => this.rows[at].paint(row));
  }
}

class Row {
  constructor() {
    const cell = (name, ...inside) => element("td", { class: name }, ...inside);
    this.sign = element("span", { class: "cf-glyph" });
    this.name = element("span");
    this.parts = ["cf-done", "cf-failed", "cf-other"].map((name) => element("span", { class: name }));
    const values = { role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 };
    this.track = element("div", { class: "cf-track", ...values }, ...this.parts);
    this.note = element("span", { class: "cf-dim" });
    this.trouble = element("span");
    this.count = cell("cf-number");
    this.time = cell("cf-number");
    this.root = element(
      "tr",
      {},
      cell("cf-name", this.sign, this.name),
      cell("cf-bar", this.track),
      cell("cf-trouble", element("small", {}, this.note, " ", this.trouble)),
      this.count,
      this.time,
    );
  }

  paint(row) {
    if (row === this.shown) return;
    this.shown = row;
    setAttribute(this.root, "class", `cf-row ${row.status ?? ""}`);
    setAttribute(this.root, "title", row.status);
    setAttribute(this.track, "hidden", !row.status);
    setText(this.sign, row.sign ?? "");
    setText(this.name, row.name);
    [row.done, row.failed, row.other].forEach((share, at) => {
      this.parts[at].style.width = `${100 * (share ?? 0)}%`;
    });
    setAttribute(this.track, "aria-label", row.name);
    setAttribute(this.track, "aria-valuenow", Math.floor(100 * (row.ended ?? 0)));
    setAttribute(this.track, "aria-valuetext", [row.status, row.count, row.trouble].filter(Boolean).join(", "));
    setText(this.note, row.note ?? "");
    setText(this.trouble, row.trouble ?? "");
    setText(this.count, row.count ?? "");
    setText(this.time, row.time ?? "");
  }
}

class Aside {
  constructor(run) {
    this.run = run;
    this.inside = element("div", { class: "cf-inside" });
    const close = button("×", () => run.select(-1), { class: "cf-close", "aria-label": "Close details" });
    this.close = close;
    this.root = element("div", { class: "cf-aside", role: "region", "aria-label": "details" }, close, this.inside);
    this.inside.addEventListener("click", (event) => {
      const { node, item } = event.target.closest?.(".cf-pick")?.dataset ?? {};
      if (node !== undefined) run.ask({ node: Number(node), item: item ? Number(item) : null });
    });
  }

  // Of a chosen box what the kernel answered, escaped there; else what failed first, and what to type next.
  paint() {
    const { run } = this;
    const isAsked = run.asked !== null;
    const shown = run.details ?? (isAsked ? "<p>…</p>" : run.get("aside"));
    if (shown !== this.shown) {
      this.shown = shown;
      this.inside.innerHTML = shown;
    }
    setAttribute(this.close, "hidden", !isAsked);
    setAttribute(this.root, "hidden", !shown);
    return Boolean(shown);
  }
}

class Log {
  constructor(run) {
    this.run = run;
    this.root = element("pre", { class: "cf-log", role: "log", "aria-label": "log", tabindex: 0, hidden: true });
    this.version = -1;
  }

  paint() {
    const { run } = this;
    setAttribute(this.root, "hidden", !run.isLogOpen);
    if (!run.isLogOpen || this.version === run.logVersion) return;
    this.version = run.logVersion;
    // It follows the end, unless somebody has scrolled up to read.
    const isAtEnd = this.root.scrollHeight - this.root.scrollTop - this.root.clientHeight < 30;
    const lines = run.log.map(([who, text, stream]) =>
      element("div", { class: `cf-${stream}` }, element("span", { class: "cf-dim" }, who ? `${who}  ` : ""), text),
    );
    this.root.replaceChildren(...(lines.length ? lines : ["Nothing was printed yet."]));
    if (isAtEnd) this.root.scrollTop = this.root.scrollHeight;
  }
}
