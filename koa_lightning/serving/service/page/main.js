// The page for readers: dropped files, the current knee, keyboard.
import { find, say } from "./dom.js";
import { add, changed, clear, isImage, isOpen, knees, loadModel, onChange, state } from "./knees.js";
import * as study from "./study.js";
import * as table from "./table.js";
import * as viewer from "./viewer.js";

function select(knee, focus = false) {
  state.current = knee;
  changed();
  if (focus) find("viewer").scrollIntoView({ block: "nearest" });
}

onChange(() => {
  document.body.classList.toggle("has-knees", knees.length > 0);
  viewer.draw();
  table.draw((knee) => select(knee, true));
});

// Files and folders.
function intake() {
  const drop = find("drop");
  find("choose-files").addEventListener("click", () => find("files").click());
  find("choose-folder").addEventListener("click", () => find("folder").click());
  for (const id of ["files", "folder"]) {
    find(id).addEventListener("change", ({ target }) => {
      const chosen = [...target.files];
      add(id === "folder" ? chosen.filter((file) => isImage(file.name)) : chosen);
      target.value = "";
    });
  }
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    });
  }
  document.addEventListener("drop", async ({ dataTransfer }) => {
    const entries = [...dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    add(entries.length ? (await Promise.all(entries.map((entry) => below(entry, true)))).flat() : dataTransfer.files);
  });
}

async function below(entry, dropped = false) {
  if (entry.isFile) {
    if (!dropped && !isImage(entry.name)) return [];
    return [await new Promise((done, failed) => entry.file(done, failed))];
  }
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) break;
    found.push(...some);
  }
  const files = await Promise.all(found.map((each) => below(each)));
  return files.flat().sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
}

// Keys; fields that take letters or arrows keep them.
const STEP = 8;
const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  b: () => {
    state.pair = !state.pair;
    changed();
  },
  h: () => shown((knee) => isOpen(knee) && viewer.change(knee, { strength: knee.view.strength ? 0 : 0.7 })),
  "+": () => shown((knee) => viewer.zoom(knee, 1.4)),
  "=": () => shown((knee) => viewer.zoom(knee, 1.4)),
  "-": () => shown((knee) => viewer.zoom(knee, 1 / 1.4)),
  w: () => shown((knee) => viewer.change(knee, { window: knee.view.window - STEP })),
  s: () => shown((knee) => viewer.change(knee, { window: knee.view.window + STEP })),
  a: () => shown((knee) => viewer.change(knee, { level: knee.view.level - STEP })),
  d: () => shown((knee) => viewer.change(knee, { level: knee.view.level + STEP })),
  r: () => shown(viewer.reset),
};
for (const grade of [0, 1, 2, 3, 4]) KEYS[grade] = () => study.record(state.current, grade);

const shown = (work) => viewer.shownKnees().filter((knee) => knee.answer).forEach(work);

function step(by) {
  const list = table.sorted(), at = list.indexOf(state.current) + by;
  if (list.length) select(list[Math.min(list.length - 1, Math.max(0, at))]);
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=range]), select, textarea, dialog");
  const work = KEYS[event.key.toLowerCase()];
  if (typing || !work || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  work();
});

// Light and dark.
function theme() {
  const button = find("theme"), wish = matchMedia("(prefers-color-scheme: dark)");
  let dark = wish.matches;
  const show = () => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.setAttribute("aria-pressed", String(dark));
  };
  button.addEventListener("click", () => {
    dark = !dark;
    show();
  });
  wish.addEventListener("change", () => {
    dark = wish.matches;
    show();
  });
  show();
}

async function start() {
  theme();
  intake();
  find("csv").addEventListener("click", table.save);
  find("clear").addEventListener("click", clear);
  const model = await loadModel();
  find("model").textContent = model.models.length > 1 ? `ensemble of ${model.models.length}` : model.models[0];
  find("limits").textContent = `At most ${model.max_bytes >> 20} MB and ${Math.round(model.max_pixels / 1e6)} megapixels per image.`;
  find("caveats").textContent = `Not a result: ${model.caveats.join(", ")}`;
  find("caveats").hidden = !model.caveats.length;
  study.setUp();
  document.body.dataset.ready = "true";
}

start().catch((error) => say(error.message, true));
