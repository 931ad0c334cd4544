/* What the page tells beside the conversation: a line at the top, and words for screen readers. */

import { h, icon, iconButton } from "./dom.js";
import { onLanguage, t } from "./language.js";

const shown = new Map(); // by name: one line for each thing that can be wrong

/** Say something to a screen reader, once it has finished what it is saying. */
export function announce(text) {
  const region = document.getElementById("announcer");
  region.textContent = "";
  setTimeout(() => {
    region.textContent = text;
  }, 50); // the same words twice are two announcements
}

/** Show a line at the top until `hideBanner(name)`, or for `timeout` milliseconds. `say` makes its words. */
export function showBanner(name, say, { kind = "bad", timeout = null, action = null } = {}) {
  clearTimeout(shown.get(name)?.timer);
  const timer = timeout && setTimeout(() => hideBanner(name), timeout);
  shown.set(name, { say, kind, action, timer });
  draw();
}

/** Take the line away. */
export function hideBanner(name) {
  if (shown.delete(name)) draw();
}

function draw() {
  const lines = [...shown].map(([name, { say, kind, action }]) =>
    h(
      "div",
      { class: `banner banner-${kind}`, "data-name": name },
      icon(kind === "bad" ? "alert" : "check"),
      h("span", {}, say()),
      action && h("button", { type: "button", class: "link-button", onclick: action.run }, action.say()),
      iconButton("close", t("dialog.close"), () => hideBanner(name)),
    ),
  );
  document.getElementById("banners").replaceChildren(...lines);
}

onLanguage(draw);
