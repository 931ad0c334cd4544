/* Which conversations are being answered. One at a time in each; several conversations at once are fine. */

const running = new Map();
const listeners = new Set();

/** Call `listener` with the conversation's id when an answer of it begins or ends. */
export function onRuns(listener) {
  listeners.add(listener);
}

/** Do `work(signal)` as the answering of a conversation. */
export async function runFor(id, work) {
  const controller = new AbortController();
  running.set(id, controller);
  tell(id);
  try {
    await work(controller.signal);
  } finally {
    running.delete(id);
    tell(id);
  }
}

/** Whether an answer of the conversation is under way. */
export function isRunning(id) {
  return running.has(id);
}

/** Stop the answers of the conversation. */
export function stopRun(id) {
  running.get(id)?.abort();
}

function tell(id) {
  for (const listener of listeners) listener(id);
}
