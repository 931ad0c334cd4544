/* Two models, or one with two settings, side by side: both get every message, and their times are measured. */

import { fillAnswer, newAnswer } from "./answer.js";
import { place, spoken, welcome } from "./chat-view.js";
import { SIDES, TurnView } from "./compare-turn.js";
import { keepFilled, modelSelect, watchConnection } from "./connection.js";
import { saveConversation } from "./conversations.js";
import { askKey } from "./dialogs.js";
import { h, iconButton } from "./dom.js";
import { apiKey } from "./key.js";
import { t } from "./language.js";
import { isRunning, runFor } from "./runs.js";
import { areGood, requestBody, summaryOf } from "./sampling.js";

export class CompareView {
  /** `shell`: as for ChatView, with showBadSettings(side) and openSettings(side). */
  constructor(conversation, thread, shell) {
    Object.assign(this, { conversation, thread, shell, turns: [] });
    this.bar = h("div", { class: "sides" });
    this.drawBar();
  }

  /** The row above the answers, with both models, what is set for them, and the order. */
  drawBar() {
    const { conversation } = this;
    const selects = conversation.sides.map((settings, side) =>
      modelSelect(
        settings,
        () => this.changedSettings(),
        `${t("compare.side", { side: SIDES[side] })}: ${t("model.label")}`,
      ),
    );
    keepFilled(...selects);
    this.summaries = SIDES.map((name) => h("p", { class: "side-summary", id: `summary-${name}` }));
    const sides = SIDES.map((name, side) =>
      h(
        "div",
        { class: `side side-${name}` },
        h("span", { class: "side-name", "aria-hidden": "true" }, name),
        selects[side],
        iconButton("sliders", t("compare.settings", { side: name }), () => this.shell.openSettings(side), {
          "aria-describedby": `summary-${name}`,
        }),
        this.summaries[side],
      ),
    );
    this.bar.replaceChildren(...sides, this.order());
    this.drawSummaries();
  }

  order() {
    const { conversation } = this;
    const option = (together, label) => {
      const input = h("input", {
        type: "radio",
        name: "order",
        checked: conversation.together === together,
        onchange: () => {
          conversation.together = together;
          saveConversation(conversation);
        },
      });
      return h("label", {}, input, h("span", {}, t(label)));
    };
    return h(
      "fieldset",
      { class: "order", title: t("compare.orderHint") },
      h("legend", { class: "visually-hidden" }, t("compare.order")),
      option(false, "compare.oneByOne"),
      option(true, "compare.together"),
    );
  }

  drawSummaries() {
    this.conversation.sides.forEach((settings, side) => {
      const parts = summaryOf(settings);
      if (settings.system.trim()) parts.push(t("compare.hasSystem"));
      if (settings.tools.trim()) parts.push(t("compare.hasTools"));
      this.summaries[side].textContent = parts.length ? parts.join(" · ") : t("compare.defaults");
      this.summaries[side].classList.toggle("is-default", !parts.length);
    });
  }

  changedSettings() {
    this.drawSummaries();
    saveConversation(this.conversation);
  }

  /** Draw the comparison as it is now; turns that stay keep their elements. */
  draw() {
    const { turns, id } = this.conversation;
    turns.forEach((turn, index) => {
      this.turns[index] ??= new TurnView(turn, this);
    });
    this.turns.length = turns.length;
    this.turns.forEach((view, index) => view.update(index === turns.length - 1 && !isRunning(id)));
    place(
      this.thread,
      turns.length
        ? this.turns.map((view) => view.element)
        : [welcome("welcome.compareTitle", "welcome.compareText", this.shell)],
    );
  }

  send(text) {
    if (!this.canAsk()) return false;
    this.conversation.turns.push({
      prompt: text,
      answers: this.conversation.sides.map(({ model }) => newAnswer(model)),
    });
    this.shell.changed(this.conversation);
    this.run(this.conversation.turns.at(-1), [0, 1]);
    return true;
  }

  editLast() {
    const last = this.conversation.turns.at(-1);
    if (last) this.shell.idea(last.prompt);
  }

  again(turn) {
    if (this.canAsk()) this.run(turn, [0, 1]);
  }

  retry(turn, side) {
    if (this.canAsk()) this.run(turn, [side]);
  }

  async enterKey(turn, side) {
    if (await askKey(false)) this.retry(turn, side);
  }

  canAsk() {
    if (isRunning(this.conversation.id)) return false;
    const bad = this.conversation.sides.findIndex((settings) => !areGood(settings));
    if (bad >= 0) this.shell.showBadSettings(bad);
    return bad < 0;
  }

  /** Ask the given sides, at once or one after the other; the second waits for the end of the first, stopped or not. */
  async run(turn, sides) {
    const { conversation } = this;
    for (const side of sides) Object.assign(turn.answers[side], newAnswer(conversation.sides[side].model));
    saveConversation(conversation, true);
    this.shell.composer.focus();
    this.shell.announce(conversation, t("live.answering"));
    await runFor(conversation.id, async (signal) => {
      this.shell.draw(conversation, true);
      const fill = (side) => this.fill(turn, side, signal);
      if (conversation.together) await Promise.all(sides.map(fill));
      else for (const side of sides) await fill(side);
    });
    saveConversation(conversation);
    this.shell.announce(
      conversation,
      sides.map((side) => `${t("compare.side", { side: SIDES[side] })}: ${spoken(turn.answers[side])}`).join(" "),
    );
    this.afterErrors(turn, sides);
  }

  fill(turn, side, signal) {
    const { conversation } = this;
    const messages = conversation.turns
      .slice(0, conversation.turns.indexOf(turn))
      .flatMap(({ prompt, answers }) => [
        { role: "user", content: prompt },
        ...(answers[side].content ? [{ role: "assistant", content: answers[side].content }] : []),
      ]);
    const body = requestBody(conversation.sides[side], [...messages, { role: "user", content: turn.prompt }]);
    const grown = () => this.shell.grew(conversation, turn, side);
    const filled = fillAnswer(turn.answers[side], body, signal, grown);
    grown();
    return filled;
  }

  async afterErrors(turn, sides) {
    const failed = sides.filter((side) => turn.answers[side].error);
    const kinds = failed.map((side) => turn.answers[side].error.kind);
    if (kinds.includes("network")) watchConnection();
    if (kinds.includes("key") && (await askKey(apiKey() !== null)) && this.canAsk()) this.run(turn, failed);
  }

  grew(turn, side) {
    this.turns[this.conversation.turns.indexOf(turn)]?.follow(side, () => this.shell.scroll());
  }
}
