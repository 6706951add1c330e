// Reader mode: the reader grades first, then sees the model's grade; the service records both.
import { call, send } from "./api.js";
import { find, make, say } from "./dom.js";
import { changed, clear, isOpen, knees, state } from "./knees.js";

export function readingForm(knee) {
  const buttons = state.model.grade_names.map((name, grade) =>
    make("button", { type: "button", text: String(grade), title: name, "aria-label": `Grade ${grade}, ${name}`, onclick: () => record(knee, grade) }));
  return make("div", { class: "body reading" },
    make("fieldset", {}, make("legend", { text: "Your Kellgren-Lawrence grade" }), make("div", { class: "row" }, ...buttons)),
    make("p", { class: "hint", text: "The model's grade follows. Your grade is recorded once and cannot be changed." }));
}

export async function record(knee, grade) {
  if (!state.study || !knee?.answer || knee.reading !== null || knee.sending) return;
  knee.sending = true;
  try {
    const found = await send(`/v1/study/${state.study}/readings`, { id: knee.answer.id, grade });
    knee.answer = { ...found.knee, picture: knee.answer.picture };
    knee.reading = grade;
    const left = knees.filter((each) => each.answer && each.reading === null).length;
    say(`recorded: ${grade}; ${left ? `${left} left` : "all have been read"}`);
    changed();
  } catch (error) {
    say(error.message, true);
  } finally {
    knee.sending = false;
  }
}

export function setUp() {
  const form = find("study-form"), on = state.model.study;
  find("study-start").disabled = find("study-name").disabled = !on;
  if (!on) find("study-hint").append(" Start the service with study=FOLDER to use it.");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    start(find("study-name").value.trim());
  });
  find("study-end").addEventListener("click", end);
}

async function start(name) {
  try {
    const found = await call(`/v1/study/${name}`);
    clear();
    state.study = name;
    find("agreement").hidden = true;
    say(`reader mode: ${found.file} has ${found.n_readings} readings; drop radiographs to continue`);
  } catch (error) {
    say(error.message, true);
  }
  show();
}

async function end() {
  try {
    drawAgreement(await call(`/v1/study/${state.study}/agreement`));
    state.study = null;
    clear();
    say("reader mode ended");
  } catch (error) {
    say(error.message, true);
  }
  show();
}

function show() {
  const on = Boolean(state.study);
  find("study-state").textContent = on ? `on, ${state.study}` : "off";
  find("study-state").classList.toggle("on", on);
  find("study-start").hidden = find("study-name").parentElement.hidden = on;
  find("study-end").hidden = !on;
  changed();
}

function drawAgreement(found) {
  const box = find("agreement"), names = state.model.grade_names;
  const metric = ({ name, value, low, high, note }) => make("tr", {}, make("th", { scope: "row", text: name.replaceAll("_", " ") }),
    make("td", { class: "number", text: value === null ? "undefined" : value.toFixed(3) }),
    make("td", { text: value === null || low === null ? note : `${low.toFixed(3)} to ${high.toFixed(3)}` }));
  const heads = ["", ...names.map((_, grade) => `model ${grade}`)];
  box.replaceChildren(
    make("h2", { id: "agreement-title", text: `Agreement of ${found.study} and the model: ${found.n_readings} readings` }),
    make("table", {}, make("thead", {}, make("tr", {}, ...["metric", "value", "95 % interval"].map((text) => make("th", { scope: "col", text })))),
      make("tbody", {}, ...found.metrics.map(metric))),
    make("h3", { text: "Confusion: your grade by the model's" }),
    make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((text) => make(text ? "th" : "td", { scope: text ? "col" : null, text })))),
      make("tbody", {}, ...found.confusion.map((row, grade) => make("tr", {}, make("th", { scope: "row", text: `reader ${grade}` }),
        ...row.map((count, at) => make("td", { class: at === grade ? "number hit" : "number", text: String(count) })))))),
    make("p", { class: "hint", text: `Recorded in ${found.file}. ${found.note}.` }));
  box.hidden = false;
  box.focus();
}

export const unread = () => knees.find((knee) => knee.answer && !isOpen(knee));
