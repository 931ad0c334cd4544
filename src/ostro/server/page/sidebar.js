/* The list of conversations, and what concerns all of them. */

import { h, icon } from "./dom.js";
import { titleOf } from "./conversations.js";
import { t } from "./language.js";
import { isRunning } from "./runs.js";

/** Draw the list; `open(id)` is called for the one that is chosen. The focus stays on the conversation that had it. */
export function drawList(conversations, currentId, open) {
  const list = document.getElementById("conversations");
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
  const items = conversations.map((conversation) => {
    const { id, kind } = conversation;
    const isCompare = kind === "compare";
    const title = titleOf(conversation) || t(isCompare ? "nav.untitledCompare" : "nav.untitled");
    return h(
      "li",
      {},
      h(
        "button",
        {
          type: "button",
          class: "conversation",
          "data-id": id,
          "aria-current": id === currentId ? "page" : null,
          title,
          onclick: () => open(id),
        },
        isCompare && icon("columns"),
        h("span", { class: "conversation-title", dir: "auto" }, title),
        isCompare && h("span", { class: "visually-hidden" }, ` (${t("nav.isCompare")})`),
        isRunning(id) && h("span", { class: "pulse", title: t("nav.running") }),
      ),
    );
  });
  list.replaceChildren(...(items.length ? items : [h("li", { class: "hint" }, t("nav.empty"))]));
  if (focused) list.querySelector(`[data-id="${focused}"]`)?.focus();
}

/** A file for the reader to keep. */
export function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = h("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** A name for an exported file: its date, and the title as far as a file's name can have it. */
export function fileName(title) {
  const date = new Date().toISOString().slice(0, 10);
  const words = title
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 40);
  return `ostro-${date}${words ? `-${words}` : ""}.json`;
}
