/* What the page keeps in the browser. Where that is not allowed it keeps things until it is closed. */

const memory = new Map();
let kind = null; // of trouble: "full", "none" or null
let told = () => {};

/** Call `listener` with "full", "none" or null when keeping things begins to fail, or works again. */
export function onStorageTrouble(listener) {
  told = listener;
  if (!isAvailable()) report("none");
}

/** The text that is kept as `name`, or null. */
export function readItem(name) {
  if (memory.has(name)) return memory.get(name);
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Keep `text` as `name`; null removes it. */
export function writeItem(name, text) {
  memory.delete(name);
  try {
    if (text === null) localStorage.removeItem(name);
    else localStorage.setItem(name, text);
    report(null);
  } catch {
    if (text !== null) memory.set(name, text);
    report(isAvailable() ? "full" : "none");
  }
}

/** All names that begin with `prefix`. */
export function namesOf(prefix) {
  const names = new Set(memory.keys());
  try {
    for (let at = 0; at < localStorage.length; at += 1) names.add(localStorage.key(at));
  } catch {
    // Not allowed: what is in memory is all there is.
  }
  return [...names].filter((name) => name.startsWith(prefix));
}

function isAvailable() {
  try {
    localStorage.setItem("ostro.probe", "1");
    localStorage.removeItem("ostro.probe");
    return true;
  } catch (error) {
    return error?.name === "QuotaExceededError" && localStorage.length > 0;
  }
}

function report(trouble) {
  if (trouble === kind) return;
  kind = trouble;
  told(trouble);
}
