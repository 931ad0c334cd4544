/* The language of the page: chosen from the browser's, or by the reader, and changed without loading the page again. */

import { readItem, writeItem } from "./storage.js";
import { EN } from "./words-en.js";
import { KO } from "./words-ko.js";

export const LANGUAGES = { en: "English", ko: "한국어" };
const WORDS = { en: EN, ko: KO };
const listeners = new Set();
let current = "en";

/** The words for `key`, with `{name}` replaced by the values; numbers among them are written as the language does. */
export function t(key, values = {}) {
  const shown = Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, typeof value === "number" ? number(value) : String(value)]),
  );
  const words = WORDS[current][key];
  if (typeof words === "function") return words(shown);
  return words.replace(/\{(\w+)\}/g, (whole, name) => shown[name] ?? whole);
}

/** A number as the language writes it, with `digits` decimal places. */
export function number(value, digits = 0) {
  const formed = {
    minimumFractionDigits: digits,
    maximumFractionDigits: Math.max(digits, Number.isInteger(value) ? 0 : digits),
  };
  return new Intl.NumberFormat(current, formed).format(value);
}

/** Seconds, from milliseconds: two places below ten seconds, one above. */
export function seconds(milliseconds) {
  const value = milliseconds / 1000;
  return number(value, value < 10 ? 2 : 1);
}

/** The language that is shown: "en" or "ko". */
export function language() {
  return current;
}

/** Begin with the reader's earlier choice, or with the first of the browser's languages that is known. */
export function startLanguage() {
  const wanted = [readItem("ostro.language"), ...navigator.languages].filter(Boolean);
  const known = wanted.map((tag) => tag.toLowerCase().split("-")[0]).find((tag) => tag in WORDS);
  show(known ?? "en");
}

/** Change the language and keep the choice. */
export function chooseLanguage(tag) {
  writeItem("ostro.language", tag);
  show(tag);
}

/** Call `listener` whenever the language changes. */
export function onLanguage(listener) {
  listeners.add(listener);
}

function show(tag) {
  current = tag;
  document.documentElement.lang = tag;
  document.title = t("page.title");
  translate(document);
  for (const listener of listeners) listener();
}

/** Put words in everything that names them: data-t for the text, data-t-label for screen readers and hovering. */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
    if (element.matches("button, a")) element.title = t(element.dataset.tLabel);
  }
  for (const element of root.querySelectorAll("[data-t-placeholder]"))
    element.placeholder = t(element.dataset.tPlaceholder);
}

/** The language of a text, if its letters tell: Korean is then read aloud and broken into lines as it should be. */
export function languageOf(text) {
  return /[\uac00-\ud7a3]/.test(text) ? "ko" : null;
}
