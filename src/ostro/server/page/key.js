/* The API key: kept for this tab, or in this browser if the reader wants it. It is sent to this server only. */

import { readItem, writeItem } from "./storage.js";

const NAME = "ostro.key";

/** The key, or null. */
export function apiKey() {
  try {
    return sessionStorage.getItem(NAME) ?? readItem(NAME);
  } catch {
    return readItem(NAME);
  }
}

/** Keep a key; null forgets it. */
export function setApiKey(key, remember = false) {
  writeItem(NAME, remember ? key : null);
  try {
    if (key === null || remember) sessionStorage.removeItem(NAME);
    else sessionStorage.setItem(NAME, key);
  } catch {
    writeItem(NAME, key); // which keeps it in memory where nothing else is allowed
  }
}

/** Whether a text can be a key at all: it must fit into an HTTP header. */
export function isKey(text) {
  return /^[\x21-\x7e]{1,512}$/.test(text);
}
