// The picture of a knee: window and level, zoom, heat map; both side by side if a patient has two.
import { find, make, say } from "./dom.js";
import { heat, isOpen, knees, state, together } from "./knees.js";
import { readingForm } from "./study.js";
import { verdict } from "./verdict.js";

const filters = document.createElementNS("http://www.w3.org/2000/svg", "svg");
filters.setAttribute("width", "0");
filters.setAttribute("height", "0");
filters.setAttribute("aria-hidden", "true");
document.body.append(filters);
const SIDES = { L: "left knee", R: "right knee" };
let shown = "";

export function shownKnees() {
  if (!state.current) return [];
  return state.pair ? together(state.current) : [state.current];
}

export function draw() {
  const viewer = find("viewer"), list = shownKnees();
  const key = list.map((knee) => [knees.indexOf(knee), Boolean(knee.answer), knee.error, knee.reading, knee === state.current]).join("|");
  viewer.hidden = !list.length;
  if (key === shown && viewer.childElementCount === list.length) return;
  shown = key;
  viewer.classList.toggle("pair", list.length === 2);
  filters.replaceChildren();
  viewer.replaceChildren(...list.map(panel));
}

function panel(knee, at) {
  const whose = [SIDES[knee.answer?.side], knee.answer?.patient && `patient ${knee.answer.patient}`].filter(Boolean);
  const head = make("header", {}, make("h2", { text: knee.name }), make("span", { class: "whose", text: whose.join(", ") }));
  const box = make("article", { class: knee === state.current ? "knee current" : "knee", "aria-label": knee.name }, head);
  if (knee.error) {
    box.append(make("div", { class: "body" }, make("p", { class: "alert bad", role: "note", text: knee.error })));
    return box;
  }
  if (!knee.answer) {
    box.append(make("div", { class: "body" }, make("p", { class: "hint", text: "being graded …" })));
    return box;
  }
  const layers = stage(knee, at);
  box.append(layers.box, tools(knee, layers), isOpen(knee) ? verdict(knee) : readingForm(knee));
  layers.update();
  return box;
}

function stage(knee, at) {
  const filter = linearFilter(`window-${at}`);
  const picture = make("img", { class: "picture", alt: `Radiograph ${knee.name}`, src: `data:image/png;base64,${knee.answer.picture}`, draggable: "false" });
  const colours = make("img", { class: "heat", alt: "", hidden: true, draggable: "false" });
  const both = make("div", { class: "layers" }, picture, colours);
  const scale = make("span", { class: "scale" });
  const buttons = make("div", { class: "zoom" },
    make("button", { type: "button", "aria-label": "Zoom out", text: "−", onclick: () => zoom(knee, 1 / 1.4) }),
    make("button", { type: "button", "aria-label": "Zoom in", text: "+", onclick: () => zoom(knee, 1.4) }),
    make("button", { type: "button", text: "Reset", onclick: () => reset(knee) }));
  const letter = knee.answer.side ? make("span", { class: "letter", text: knee.answer.side }) : null;
  const box = make("div", { class: "stage" }, both, letter, scale, buttons);
  const update = () => {
    const { view } = knee;
    const slope = 255 / view.window;
    filter.forEach((part) => {
      part.setAttribute("slope", slope);
      part.setAttribute("intercept", 0.5 - (view.level / 255) * slope);
    });
    picture.style.filter = `url(#window-${at})`;
    colours.style.opacity = view.strength;
    both.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
    box.classList.toggle("zoomed", view.zoom > 1);
    scale.textContent = `${Math.round(100 * view.zoom)} %`;
  };
  knee.update = update;
  knee.stage = box;
  move(knee, box);
  return { box, colours, update };
}

function linearFilter(id) {
  const make = (tag) => document.createElementNS("http://www.w3.org/2000/svg", tag);
  const filter = make("filter"), transfer = make("feComponentTransfer");
  filter.id = id;
  filter.setAttribute("color-interpolation-filters", "sRGB");
  const parts = ["feFuncR", "feFuncG", "feFuncB"].map(make);
  parts.forEach((part) => part.setAttribute("type", "linear"));
  transfer.append(...parts);
  filter.append(transfer);
  filters.append(filter);
  return parts;
}

function tools(knee, layers) {
  const { view } = knee;
  const slider = (name, key, low, high, step, words) => {
    const value = make("output", { text: words(view[key]) });
    const input = make("input", { type: "range", min: low, max: high, step, value: view[key], "data-key": key });
    const label = make("label", {}, make("span", {}, `${name} `, value), input);
    input.addEventListener("input", () => {
      view[key] = Number(input.value);
      layers.update();
      value.textContent = words(view[key]);
    });
    label.refresh = () => {
      input.value = view[key];
      value.textContent = words(view[key]);
    };
    return label;
  };
  const sliders = [
    slider("Window", "window", 8, 255, 1, String),
    slider("Level", "level", 0, 255, 1, String),
  ];
  const box = make("div", { class: "tools" }, ...sliders);
  const methods = Object.entries(state.model.methods);
  if (isOpen(knee) && methods.length) {
    view.method ??= methods.some(([name]) => name === "gradcam") ? "gradcam" : methods[0][0];
    sliders.push(slider("Heat map", "strength", 0, 1, 0.05, (value) => (value ? `${Math.round(100 * value)} %` : "off")));
    const select = make("select", { "aria-label": "Method of the heat map" },
      ...methods.map(([name, title]) => make("option", { value: name, text: title, selected: name === view.method })));
    select.addEventListener("change", () => {
      view.method = select.value;
      showHeat(knee, layers);
    });
    box.append(sliders.at(-1), make("label", {}, "Method", select));
    showHeat(knee, layers);
  }
  knee.refresh = () => sliders.forEach((label) => label.refresh());
  return box;
}

async function showHeat(knee, layers) {
  const method = knee.view.method;
  try {
    const found = await heat(knee, method);
    if (knee.view.method !== method) return;
    layers.colours.src = `data:image/png;base64,${found}`;
    layers.colours.hidden = false;
  } catch (error) {
    layers.colours.hidden = true;
    say(error.message, true);
  }
}

function move(knee, box) {
  let from = null;
  box.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && knee.view.zoom === 1 && event.deltaY > 0) return;
    event.preventDefault();
    const frame = box.getBoundingClientRect();
    zoom(knee, event.deltaY < 0 ? 1.15 : 1 / 1.15, event.clientX - frame.left, event.clientY - frame.top);
  }, { passive: false });
  box.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button")) return;
    from = { x: event.clientX, y: event.clientY, view: { ...knee.view }, contrast: event.shiftKey };
    box.setPointerCapture(event.pointerId);
    box.classList.add("dragged");
  });
  box.addEventListener("pointermove", (event) => {
    if (!from) return;
    const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
    if (from.contrast) change(knee, { window: from.view.window + dx, level: from.view.level + dy });
    else change(knee, { x: from.view.x + dx, y: from.view.y + dy });
  });
  for (const end of ["pointerup", "pointercancel"]) {
    box.addEventListener(end, () => {
      from = null;
      box.classList.remove("dragged");
    });
  }
}

const within = (value, low, high) => Math.min(high, Math.max(low, value));

// Change the view of a knee, clamped to valid values.
export function change(knee, more) {
  const view = Object.assign(knee.view, more), size = knee.stage?.getBoundingClientRect() ?? { width: 0, height: 0 };
  view.window = within(view.window, 8, 255);
  view.level = within(view.level, 0, 255);
  view.zoom = within(view.zoom, 1, 12);
  view.x = within(view.x, size.width * (1 - view.zoom), 0);
  view.y = within(view.y, size.height * (1 - view.zoom), 0);
  knee.update?.();
  knee.refresh?.();
}

export function zoom(knee, factor, x, y) {
  const { view } = knee, size = knee.stage.getBoundingClientRect();
  const [atX, atY] = [x ?? size.width / 2, y ?? size.height / 2];
  const next = within(view.zoom * factor, 1, 12), share = next / view.zoom;
  change(knee, { zoom: next, x: atX - (atX - view.x) * share, y: atY - (atY - view.y) * share });
}

export const reset = (knee) => change(knee, { zoom: 1, x: 0, y: 0, window: 255, level: 128 });
