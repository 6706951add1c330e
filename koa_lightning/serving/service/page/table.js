// The table of all radiographs: sorted by any column, and saved as CSV.
import { find, make, percent, say } from "./dom.js";
import { isOpen, knees, state } from "./knees.js";
import { referral } from "./verdict.js";

const shown = (read) => (knee) => (isOpen(knee) ? read(knee.answer) : null);
const COLUMNS = [
  { name: "File", read: (knee) => knee.name },
  { name: "Patient", read: (knee) => knee.answer?.patient ?? "" },
  { name: "Side", read: (knee) => knee.answer?.side ?? "" },
  { name: "Your grade", read: (knee) => knee.reading, number: true, study: true },
  { name: "Grade", read: (knee) => (knee.error ? "none" : shown((answer) => answer.grade)(knee)), number: true },
  { name: "Set", read: shown((answer) => answer.prediction_set?.words ?? "") },
  { name: "Probability", read: shown((answer) => answer.probabilities[answer.grade]), words: percent, number: true },
  { name: "Expected", read: shown((answer) => answer.expected_grade), words: (value) => value.toFixed(2), number: true },
  { name: "Out of distribution", read: shown((answer) => flag(answer.out_of_distribution)) },
  { name: "Refer", read: (knee) => knee.error ?? shown(referral)(knee), wide: true },
];
const order = { column: null, down: false };

const flag = (out) => (out ? (out.flagged ? "yes" : "no") : "");
const visible = () => COLUMNS.filter((column) => !column.study || state.study);

export function sorted() {
  if (!order.column) return [...knees];
  const sign = order.down ? -1 : 1;
  const compare = (a, b) => {
    const [x, y] = [order.column.read(a), order.column.read(b)];
    if (x === null || y === null) return (x === null) - (y === null);  // unknown values come last
    const by = typeof x === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
    return sign * by;
  };
  return [...knees].sort(compare);
}

export function draw(select) {
  find("results").hidden = !knees.length;
  find("count").textContent = `(${knees.length})`;
  const table = find("table");
  table.tHead.replaceChildren(make("tr", {}, ...visible().map((column) => heading(column, select))));
  table.tBodies[0].replaceChildren(...sorted().map((knee) => row(knee, select)));
}

function heading(column, select) {
  const direction = order.column === column ? (order.down ? "descending" : "ascending") : null;
  const sort = () => {
    order.down = order.column === column && !order.down;
    order.column = column;
    draw(select);
    [...find("table").tHead.querySelectorAll("button")].find((button) => button.textContent === column.name).focus();
  };
  return make("th", { scope: "col", "aria-sort": direction }, make("button", { type: "button", text: column.name, onclick: sort }));
}

function row(knee, select) {
  const cells = visible().map((column, at) => {
    const value = column.read(knee);
    const words = value === null ? "" : column.words ? column.words(value) : String(value);
    const classes = [column.number && "number", column.wide && "wide"].filter(Boolean).join(" ");
    if (at === 0) return make("td", {}, make("button", { type: "button", text: words, title: words, onclick: () => select(knee) }));
    return make("td", { class: classes || null, text: words });
  });
  const line = make("tr", { "aria-current": knee === state.current ? "true" : null }, ...cells);
  line.addEventListener("click", (event) => event.target.closest("button") ?? select(knee));
  return line;
}

const CSV = ["file", "error", "patient", "side", "reader", "grade", "name", "p0", "p1", "p2", "p3", "p4", "expected_grade",
  "median_grade", "set_low", "set_high", "out_of_distribution", "score", "acquisition", "refer_why", "note"];

export function csv() {
  const lines = sorted().map((knee) => {
    const answer = isOpen(knee) ? knee.answer : {};
    const { prediction_set: set, out_of_distribution: out } = answer;
    return [knee.name, knee.error ?? "", knee.answer?.patient, knee.answer?.side, knee.reading, answer.grade, answer.name,
      ...(answer.probabilities ?? Array(5).fill("")), answer.expected_grade, answer.median_grade, set?.low, set?.high,
      out?.flagged, out?.score, answer.acquisition, answer.refer_why, [state.model.note, ...state.model.caveats].join(", ")];
  });
  return [CSV, ...lines].map((cells) => cells.map(field).join(",")).join("\r\n") + "\r\n";
}

// A leading = + - @ would be a formula in a spreadsheet, and file names are not under our control.
function field(value) {
  const text = value === null || value === undefined ? "" : String(value);
  const safe = typeof value === "string" && /^[=+\-@\t]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function save() {
  const address = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  make("a", { href: address, download: "knee-grades.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
  say("saved as knee-grades.csv");
}
