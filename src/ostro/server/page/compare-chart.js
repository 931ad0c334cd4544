/* The times of two answers as two bars on one scale: pale to the first token, full from there to the end. */

import { h } from "./dom.js";
import { seconds, t } from "./language.js";

/** The drawing; its numbers stand in the table beside it, so a screen reader is told only what it is. */
export function chart(answers) {
  const longest = Math.max(...answers.map(({ stats }) => stats.total ?? stats.last ?? 0), 1);
  const bars = answers.map(({ stats }, side) => {
    const end = stats.total ?? stats.last ?? 0;
    const first = Math.min(stats.first ?? end, end);
    return h(
      "div",
      { class: `bar side-${"AB"[side]}` },
      part("bar-first", first / longest),
      part("bar-rest", (end - first) / longest),
    );
  });
  const legend = h(
    "p",
    { class: "legend" },
    h("span", { class: "swatch bar-first" }),
    t("compare.legendFirst"),
    h("span", { class: "swatch bar-rest" }),
    t("compare.legendRest"),
    h("span", { class: "scale" }, t("message.seconds", { n: seconds(longest) })),
  );
  return h("div", { class: "chart", role: "img", "aria-label": t("compare.chart") }, bars, legend);
}

function part(name, share) {
  const element = h("span", { class: name });
  element.style.width = `${(share * 100).toFixed(2)}%`;
  return element;
}
