/* One message of a comparison: both answers, and the table and the bars of their times. */

import { tokensPerSecond } from "./answer.js";
import { AnswerView } from "./answer-view.js";
import { chart } from "./compare-chart.js";
import { h, textButton } from "./dom.js";
import { languageOf, number, seconds, t } from "./language.js";

export const SIDES = ["A", "B"];

/** A message and its two answers. */
export class TurnView {
  constructor(turn, view) {
    this.turn = turn;
    this.answers = SIDES.map(
      (_, side) => new AnswerView({ retry: () => view.retry(turn, side), enterKey: () => view.enterKey(turn, side) }),
    );
    this.names = SIDES.map(() => h("span", {}));
    this.waits = SIDES.map(() => h("p", { class: "waiting", hidden: true }, t("compare.waits")));
    this.figures = h("div", { class: "figures" });
    const cards = SIDES.map((name, side) =>
      h(
        "section",
        { class: `card side-${name}`, "aria-label": t("compare.side", { side: name }) },
        h("header", {}, h("span", { class: "side-name", "aria-hidden": "true" }, name), this.names[side]),
        this.waits[side],
        this.answers[side].element,
      ),
    );
    this.again = textButton(t("compare.again"), () => view.again(turn), {}, "again");
    this.element = h(
      "article",
      { class: "turn" },
      h(
        "div",
        { class: "message from-user" },
        h(
          "div",
          { class: "message-body" },
          h("div", { class: "plain", dir: "auto", lang: languageOf(turn.prompt) }, turn.prompt),
        ),
      ),
      h("div", { class: "cards" }, cards),
      this.figures,
      h("div", { class: "turn-foot" }, this.again),
    );
  }

  update(canRepeat) {
    this.answers.forEach((view, side) => view.update(this.turn.answers[side]));
    this.again.hidden = !canRepeat;
    this.drawFigures();
  }

  follow(side, after) {
    this.answers[side].follow(this.turn.answers[side], () => {
      this.drawFigures();
      after();
    });
  }

  drawFigures() {
    this.turn.answers.forEach((answer, side) => {
      this.names[side].textContent = answer.model || t("message.model");
      const isQueued = answer.finish === null && answer.startedAt === undefined;
      this.waits[side].hidden = !isQueued;
      this.answers[side].element.hidden = isQueued;
    });
    const isDone = this.turn.answers.some((answer) => answer.finish !== null && answer.stats.first !== null);
    this.figures.replaceChildren(
      ...(isDone ? [figureTable, chart, verdict].map((make) => make(this.turn.answers)).filter(Boolean) : []),
    );
  }
}

function figureTable(answers) {
  const none = t("stats.none");
  const time = (value) => (value === null ? none : t("message.seconds", { n: seconds(value) }));
  const rows = answers.map((answer, side) => {
    const { first, total, completionTokens } = answer.stats;
    const rate = tokensPerSecond(answer.stats);
    return h(
      "tr",
      { class: `side-${SIDES[side]}` },
      h("th", { scope: "row" }, h("span", { class: "side-name" }, SIDES[side])),
      h("td", {}, time(first)),
      h("td", {}, time(total)),
      h("td", {}, completionTokens === null ? none : number(completionTokens)),
      h("td", {}, rate === null ? none : number(rate, 1)),
    );
  });
  const heads = ["compare.first", "compare.total", "compare.tokens", "compare.rate"].map((key) =>
    h("th", { scope: "col" }, t(key)),
  );
  return h("table", {}, h("thead", {}, h("tr", {}, h("td"), heads)), h("tbody", {}, rows));
}

/** Who was sooner, where both came to their end. */
function verdict(answers) {
  if (
    !answers.every((answer) => ["stop", "length", "tool_calls"].includes(answer.finish) && answer.stats.first !== null)
  )
    return null;
  const sooner = (key, values) => {
    const gap = Math.abs(values[0] - values[1]);
    return gap >= 10 ? t(key, { side: SIDES[values[0] <= values[1] ? 0 : 1], n: seconds(gap) }) : null;
  };
  const parts = [
    sooner(
      "compare.verdictFirst",
      answers.map(({ stats }) => stats.first),
    ),
    sooner(
      "compare.verdictTotal",
      answers.map(({ stats }) => stats.total),
    ),
    answers[0].content && answers[0].content === answers[1].content ? t("compare.same") : null,
  ];
  return h("p", { class: "verdict" }, parts.filter(Boolean).join(" · "));
}
