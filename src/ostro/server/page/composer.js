/* The box in which messages are written. */

import { icon, relabel, wellFormed } from "./dom.js";
import { onLanguage, t } from "./language.js";

const touch = matchMedia("(pointer: coarse)");

/** Whether the reader types on glass: Enter then begins a new line, and the keyboard is not opened unasked. */
export function isTouch() {
  return touch.matches;
}

/**
 * Call `send` on Enter, but not on Shift + Enter, and not on an Enter that ends the composition of a syllable. Safari
 * tells of that Enter after the composition, with the key code 229 as all browsers have it during one.
 */
export function sendOnEnter(area, send) {
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    if (isTouch() && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    send();
  });
}

/** Let a box grow with its text where the style sheet alone cannot (`field-sizing`). */
export function growWithText(area) {
  const grow = () => {
    if (CSS.supports("field-sizing", "content")) return;
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight + 2}px`;
  };
  area.addEventListener("input", grow);
  return grow;
}

export class Composer {
  /** `actions`: send(text), stop(), editLast(). */
  constructor(actions) {
    this.actions = actions;
    this.isBusy = false;
    this.area = document.getElementById("prompt");
    this.button = document.getElementById("send");
    this.grow = growWithText(this.area);
    sendOnEnter(this.area, () => this.send());
    this.area.addEventListener("keydown", (event) => this.onArrow(event));
    this.area.addEventListener("input", () => this.draw());
    document.getElementById("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.isBusy) this.actions.stop();
      else this.send();
    });
    onLanguage(() => this.draw());
    touch.addEventListener("change", () => this.draw());
    this.draw();
  }

  /** What is written and not sent. */
  get text() {
    return this.area.value;
  }

  set text(text) {
    this.area.value = text;
    this.grow();
    this.draw();
  }

  /** While an answer is under way, the button stops it, and Enter sends nothing. */
  setBusy(isBusy) {
    this.isBusy = isBusy;
    this.draw();
  }

  /** Put the cursor into the box, unless that would open the keyboard of a phone. */
  focus() {
    if (!isTouch()) this.area.focus();
  }

  send() {
    const text = wellFormed(this.area.value).trim();
    if (this.isBusy || !text) return;
    if (this.actions.send(text) !== false) this.text = "";
  }

  /** Up in an empty box edits the last message, as in most programs to chat with. */
  onArrow(event) {
    if (event.key !== "ArrowUp" || this.area.value || event.isComposing || this.isBusy) return;
    event.preventDefault();
    this.actions.editLast();
  }

  draw() {
    const hint = document.getElementById("composer-hint");
    hint.textContent = t(isTouch() ? "composer.hintTouch" : "composer.hint");
    const label = t(this.isBusy ? "composer.stop" : "composer.send");
    if (this.button.title !== label) relabel(this.button, this.isBusy ? "stop" : "send", label);
    this.button.classList.toggle("is-stop", this.isBusy);
    // Not `disabled`: that would take the focus from whoever has just pressed it.
    this.button.setAttribute("aria-disabled", String(!this.isBusy && !this.area.value.trim()));
  }
}

/** A drawing and words: what a box to write in has when it is empty. */
export function ideaButton(text, onclick) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "idea";
  button.append(icon("text"), text);
  button.addEventListener("click", onclick);
  return button;
}
