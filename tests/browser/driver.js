// What the tests ask of a page, in JupyterLab and in Notebook 7 alike: window.jupyterapp is Jupyter's own application.
window.driver = {
  async app() {
    while (!window.jupyterapp) await new Promise((wake) => setTimeout(wake, 10));
    await window.jupyterapp.restored;
    return window.jupyterapp;
  },

  // The notebook in front, or the one to open.
  async open(path) {
    const app = await this.app();
    const isLab = app.name === "JupyterLab";
    let panel = isLab ? await app.commands.execute("docmanager:open", { path, factory: "Notebook" }) : null;
    while (!panel?.context) {
      panel = app.shell.currentWidget;
      if (!panel?.context) await new Promise((wake) => setTimeout(wake, 10));
    }
    await panel.context.ready;
    await panel.revealed;
    await panel.sessionContext.ready;
    this.panel = panel;
    return panel.sessionContext.session.kernel.id;
  },

  // Waits until its kernel answers.
  async ready() {
    await this.kernel.info;
  },

  get kernel() {
    return this.panel.sessionContext.session.kernel;
  },

  cell(at) {
    return this.panel.content.widgets[at];
  },

  // Adds a cell at the end and gives its place.
  add(source) {
    const cells = this.panel.content.model.sharedModel;
    const at = cells.cells.length;
    cells.insertCell(at, { cell_type: "code", source, metadata: { trusted: true } });
    return at;
  },

  // Brings a cell into view (others may not be in the page) and marks it for selectors.
  async show([at, mark]) {
    const notebook = this.panel.content;
    notebook.activeCellIndex = at;
    notebook.deselectAll();
    await notebook.scrollToItem(at, "start");
    this.cell(at).node.dataset.testCell = mark;
  },

  // Runs a cell as a person does; the second promise is kept when the kernel has done it.
  async start([at, mark]) {
    await this.show([at, mark]);
    const app = await this.app();
    this.running = (this.running ?? 0) + 1;
    this.done = app.commands.execute("notebook:run-cell").finally(() => (this.running -= 1));
  },

  async run(cell) {
    await this.start(cell);
    await this.done;
  },

  outputs(at) {
    return this.cell(at).model.outputs.toJSON();
  },

  async theme(name) {
    const app = await this.app();
    await app.commands.execute("apputils:change-theme", { theme: name });
    while (document.body.dataset.jpThemeName !== name) await new Promise((wake) => setTimeout(wake, 10));
  },

  async save() {
    await this.panel.context.save();
  },

  async restart() {
    await this.panel.sessionContext.session.kernel.restart();
    await this.kernel.info;
  },

  // A kernel whose widgets are heard while a cell runs is called idle.
  async clear() {
    if (this.running || this.kernel.status !== "idle") await this.kernel.interrupt();
    const cells = this.panel.content.model.sharedModel;
    cells.deleteCellRange(0, cells.cells.length);
  },

  async close() {
    await this.panel.sessionContext.shutdown();
    this.panel.dispose();
  },

  // --- measuring ---------------------------------------------------------------------------

  // When the selector first matches in the page, in milliseconds since 1970.
  appears(selector) {
    this.appeared = new Promise((tell) => {
      const known = new Set(document.querySelectorAll(selector));
      const look = () => {
        for (const found of document.querySelectorAll(selector)) {
          if (known.has(found)) continue;
          watcher.disconnect();
          requestAnimationFrame(() => tell(performance.timeOrigin + performance.now()));
          return;
        }
      };
      const watcher = new MutationObserver(look);
      watcher.observe(document.body, { childList: true, subtree: true });
    });
  },

  // Notes each message of a kernel to its widgets, and each task of over 50 ms of the page's main thread.
  listen() {
    const heard = { updates: [], long: [] };
    this.kernel.iopubMessage.connect((_, message) => {
      if (message.header.msg_type !== "comm_msg") return;
      const buffers = (message.buffers ?? []).reduce((sum, buffer) => sum + buffer.byteLength, 0);
      heard.updates.push({ at: performance.now(), bytes: JSON.stringify(message.content).length + buffers });
    });
    const observer = new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) heard.long.push(entry.duration);
    });
    observer.observe({ type: "longtask" });
    this.heard = heard;
  },

  // --- harm ------------------------------------------------------------------------------------

  // What could do something in an element that is made of foreign text.
  harms(root) {
    const isHarmless = (name, value) =>
      !name.startsWith("on") &&
      name !== "srcdoc" &&
      (!["src", "href", "xlink:href", "action", "formaction"].includes(name) || /^(data:image\/|#)/.test(value));
    const found = [...root.querySelectorAll("script, iframe, object, embed, foreignObject, form, link, base, a, use")];
    return [
      ...found.map((element) => element.outerHTML.slice(0, 200)),
      ...[...root.querySelectorAll("*")].flatMap((element) =>
        [...element.attributes]
          .filter((attribute) => !isHarmless(attribute.name, attribute.value))
          .map((attribute) => `${element.tagName} ${attribute.name}=${attribute.value}`.slice(0, 200)),
      ),
    ];
  },

  // --- colours -----------------------------------------------------------------------------

  // Each piece of visible text in an element with its contrast to what is behind it, 1 to 21.
  contrasts(root) {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const parse = (colour) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      return [r, g, b, a / 255];
    };
    const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3]));
    const luminance = (rgb) => {
      const [r, g, b] = rgb.map((c) => ((c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
      const layers = [];
      for (let at = element; at; at = at.parentElement) {
        const style = getComputedStyle(at);
        const box = at.matches("g.node") ? at.querySelector(".box") : null;
        if (box) {
          const fill = parse(getComputedStyle(box).fill);
          layers.push([...fill.slice(0, 3), fill[3] * Number(getComputedStyle(box).fillOpacity)]);
        }
        layers.push(parse(style.backgroundColor));
      }
      return layers.reduceRight((below, layer) => over(layer, below), [255, 255, 255]);
    };
    const opacity = (element) => {
      let product = 1;
      for (let at = element; at && at !== root.parentElement; at = at.parentElement) {
        product *= Number(getComputedStyle(at).opacity);
      }
      return product;
    };
    const isShown = (element) => element.checkVisibility() && element.getClientRects().length > 0 && opacity(element) > 0;
    const found = [];
    for (const element of root.querySelectorAll("*")) {
      const text = [...element.childNodes].filter((n) => n.nodeType === Node.TEXT_NODE).map((n) => n.data).join("").trim();
      if (!text || element.closest("title, style, script, :disabled") || !isShown(element)) continue;
      const style = getComputedStyle(element);
      const colour = parse(element instanceof SVGElement ? style.fill : style.color);
      const below = behind(element);
      const above = over([...colour.slice(0, 3), colour[3] * opacity(element)], below);
      const [light, dark] = [luminance(above), luminance(below)].sort((a, b) => b - a);
      found.push({ text: text.slice(0, 40), contrast: (light + 0.05) / (dark + 0.05) });
    }
    return found;
  },
};
