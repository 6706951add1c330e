// The model's result for one knee: grade, set, bars, and whether to refer it to a reader.
import { make, percent } from "./dom.js";
import { state } from "./knees.js";

export function verdict(knee) {
  const answer = knee.answer;
  const facts = [
    ["Prediction set", answer.prediction_set ? answer.prediction_set.words : "not available for this model"],
    ["Expected grade", answer.expected_grade.toFixed(2)],
    ["Median grade", String(answer.median_grade)],
  ];
  if (knee.reading !== null) facts.unshift(["Your grade", `${knee.reading} (${state.model.grade_names[knee.reading]})`]);
  return make("div", { class: "body" },
    make("div", { class: "verdict" },
      make("p", { class: "grade" },
        make("b", { text: String(answer.grade), "aria-label": `Grade ${answer.grade}` }),
        make("span", {}, make("span", { class: "name", text: answer.name }), make("br"),
          make("span", { class: "hint", text: `Kellgren-Lawrence grade, ${percent(answer.probabilities[answer.grade])}` }))),
      ...alerts(answer),
      make("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [make("dt", { text: name }), make("dd", { text: value })]))),
    bars(answer));
}

// The reason for the referral, without the words that the page itself shows.
export const referral = (answer) => answer.refer_why.replace(/^refer to a reader: /, "");

function alerts(answer) {
  const out = answer.out_of_distribution, why = referral(answer);
  const found = [];
  if (out?.flagged) {
    const reason = /\(([^)]*)\)/.exec(why)?.[1];
    found.push(make("p", { class: "alert bad", role: "note",
      text: `Out of distribution${reason ? `: ${reason}` : ""} (score ${out.score.toFixed(2)}, flagged above 1). ` +
        "The grade means nothing; refer to a reader." }));
  }
  if (answer.acquisition && answer.acquisition !== "as trained") {
    found.push(make("p", { class: "alert", role: "note",
      text: `Another acquisition: ${answer.acquisition}. The probabilities may not be calibrated for it.` }));
  }
  if (answer.refer && !(out?.flagged && why.endsWith(")"))) {
    found.push(make("p", { class: "alert", role: "note", text: `Refer to a reader: ${why}` }));
  }
  if (out && !out.flagged && !answer.refer) found.push(make("p", { class: "fine", text: "In distribution, not referred" }));
  if (!out) found.push(make("p", { class: "hint", text: "This model cannot tell whether an image is out of distribution." }));
  return found;
}

function bars(answer) {
  const set = answer.prediction_set;
  return make("ul", { class: "bars", "aria-label": "Probability of each grade" },
    ...answer.probabilities.map((share, grade) => {
      const fill = make("div", { class: "fill" });
      fill.style.width = percent(share).replace(" ", "");
      const kinds = [grade === answer.grade && "top-grade", set && grade >= set.low && grade <= set.high && "in-set"];
      return make("li", { class: kinds.filter(Boolean).join(" ") },
        make("span", { text: `${grade} ${state.model.grade_names[grade]}` }),
        make("div", { class: "track" }, fill),
        make("span", { class: "value", text: percent(share) }));
    }));
}
