/* Server-sent events, as far as chat completions use them: the data of every event. */

/**
 * The data of the events in `bytes`, a stream of chunks that may be cut anywhere. Comments and other fields are read
 * over; lines may end with LF, CRLF or CR.
 */
export async function* eventData(bytes) {
  // Not piped through a TextDecoderStream: when the connection breaks, a pipe drops what had arrived before.
  const reader = bytes.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield* parser.feed(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export class EventParser {
  constructor() {
    this.rest = ""; // of a line that is not complete
    this.data = [];
  }

  /** The data of the events that `text` completes. */
  feed(text) {
    const events = [];
    // A CR at the end waits: the LF that would belong to it may come with the next text.
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (this.data.length) events.push(this.data.join("\n"));
        this.data = [];
      } else if (line.startsWith("data:")) this.data.push(line.slice(line[5] === " " ? 6 : 5));
    }
    return events;
  }
}
