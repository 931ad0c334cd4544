/* The inside of a paragraph: emphasis, code, links and breaks, read in one pass and in time linear in the text. */

const MAX_DEPTH = 16; // of emphasis within emphasis; what lies deeper keeps its text and loses its dress
const MAX_LOOK_BACK = 8; // runs that are tried as the beginning of an emphasis that ends
const MAX_URL = 2000;
const PUNCTUATION = /[\p{P}\p{S}]/u;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const ANGLE_LINK = new RegExp(`<((?:https?://|mailto:)[^\\s<>]{1,${MAX_URL}})>`, "iy");
const LINE_BREAK = /<br ?\/?>/iy;
// Not in an address: what ends one in running text. Hangul, kana and Han follow an address without a space (particles
// do), so they belong to it only as the beginning of a part of its path: .../wiki/온돌, but not .../page에서.
const BARE_LINK = new RegExp(
  `https?://[^\\s<>"\`|\\\\\\u1100-\\u11ff\\u3000-\\u9fff\\uac00-\\ud7af\\uff00-\\uffef]{1,${MAX_URL}}`,
  "iy",
);
const CJK = /[\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af]/;

/**
 * A list of nodes: {type: "text", value}, {type: "code", value}, {type: "break"},
 * {type: "strong" | "em" | "del", children} and {type: "link", href, children}. HTML is text, but for <br>.
 */
export function parseInline(text) {
  return resolveEmphasis(new Scanner(text).scan());
}

/** The address of a link as the browser will follow it, or null where it is not one to the web or to a mailbox. */
export function safeUrl(address) {
  try {
    const url = new URL(address);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

class Scanner {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.tokens = [];
    this.plain = "";
    this.brackets = []; // where in `tokens` a [ stands that a link may still begin at
    this.codeEnds = backtickRuns(text);
  }

  scan() {
    while (this.at < this.text.length) {
      const read = READERS[this.text[this.at]];
      if (!read?.(this)) this.plain += this.text[this.at++];
    }
    this.flush();
    return this.tokens;
  }

  flush() {
    if (this.plain) this.tokens.push({ type: "text", value: this.plain });
    this.plain = "";
  }

  /** Add a token and go on behind it. */
  push(token, end) {
    this.flush();
    this.tokens.push(token);
    this.at = end;
    return true;
  }
}

const READERS = {
  "\\": readEscape,
  "`": readCode,
  "<": readAngle,
  "!": readImage,
  "[": readBracket,
  "]": readLink,
  "*": readDelimiters,
  _: readDelimiters,
  "~": readDelimiters,
  h: readBareLink,
  H: readBareLink,
  "\n": readNewline,
};

function readEscape(scanner) {
  const next = scanner.text[scanner.at + 1];
  if (next === "\n") {
    scanner.at += 1;
    return readNewline(scanner);
  }
  if (next === undefined || !ESCAPABLE.test(next)) return false;
  scanner.plain += next;
  scanner.at += 2;
  return true;
}

/** The places of all runs of backticks, by their length. */
function backtickRuns(text) {
  const runs = new Map();
  for (let at = text.indexOf("`"); at >= 0;) {
    const end = endOfRun(text, at);
    const places = runs.get(end - at) ?? { starts: [], next: 0 };
    places.starts.push(at);
    runs.set(end - at, places);
    at = text.indexOf("`", end);
  }
  return runs;
}

function endOfRun(text, start) {
  let end = start;
  while (text[end] === text[start]) end += 1;
  return end;
}

function readCode(scanner) {
  const start = endOfRun(scanner.text, scanner.at);
  const length = start - scanner.at;
  const places = scanner.codeEnds.get(length) ?? { starts: [], next: 0 };
  while (places.starts[places.next] < start) places.next += 1;
  const end = places.starts[places.next];
  if (end === undefined) {
    scanner.plain += scanner.text.slice(scanner.at, start);
    scanner.at = start;
    return true;
  }
  let value = scanner.text.slice(start, end).replaceAll("\n", " ");
  if (value.startsWith(" ") && value.endsWith(" ") && value.trim()) value = value.slice(1, -1);
  return scanner.push({ type: "code", value }, end + length);
}

function readAngle(scanner) {
  LINE_BREAK.lastIndex = scanner.at;
  const lineBreak = LINE_BREAK.exec(scanner.text);
  if (lineBreak) return scanner.push({ type: "break" }, LINE_BREAK.lastIndex);
  ANGLE_LINK.lastIndex = scanner.at;
  const match = ANGLE_LINK.exec(scanner.text);
  const href = match && safeUrl(match[1]);
  if (!href) return false;
  return scanner.push({ type: "link", href, children: [{ type: "text", value: match[1] }] }, ANGLE_LINK.lastIndex);
}

function readNewline(scanner) {
  scanner.plain = scanner.plain.trimEnd();
  let end = scanner.at + 1;
  while (scanner.text[end] === " ") end += 1;
  return scanner.push({ type: "break" }, end);
}

/** A picture becomes a link to it: to load it would tell its server who reads this. */
function readImage(scanner) {
  if (scanner.text[scanner.at + 1] !== "[") return false;
  scanner.at += 1;
  return readBracket(scanner, "![");
}

function readBracket(scanner, value = "[") {
  scanner.push({ type: "text", value }, scanner.at + 1);
  scanner.brackets.push(scanner.tokens.length - 1);
  return true;
}

function readLink(scanner) {
  const opener = scanner.brackets.pop();
  if (opener === undefined) return false;
  scanner.flush();
  const target = scanner.text[scanner.at + 1] === "(" && linkTarget(scanner.text, scanner.at + 2);
  const href = target && safeUrl(target.address);
  if (!href) return false;
  const inside = scanner.tokens.splice(opener).slice(1);
  scanner.brackets.length = 0; // no links in links
  const children = inside.length ? resolveEmphasis(inside) : [{ type: "text", value: target.address }];
  return scanner.push({ type: "link", href, children }, target.end);
}

/** What stands in the parentheses of a link: {address, end}, or null. A title is read over: links show their address. */
function linkTarget(text, start) {
  const part = text.slice(start, start + MAX_URL + 200);
  const match = /^\s?(?:<([^<>\n]*)>|((?:[^\s()]|\([^\s()]*\))*))(?:\s+(?:"[^"]*"|'[^']*'))?\s?\)/.exec(part);
  const address = match && (match[1] ?? match[2]);
  return address ? { address, end: start + match[0].length } : null;
}

function readBareLink(scanner) {
  if (/[\p{L}\p{N}]/u.test(scanner.text[scanner.at - 1] ?? "") && !CJK.test(scanner.text[scanner.at - 1])) return false;
  BARE_LINK.lastIndex = scanner.at;
  const match = BARE_LINK.exec(scanner.text);
  const address = match && withoutTail(match[0] + foreignTail(scanner.text, scanner.at, match[0]));
  const href = address && safeUrl(address);
  if (!href) return false;
  const child = { type: "text", value: address };
  return scanner.push({ type: "link", href, children: [child] }, scanner.at + address.length);
}

function foreignTail(text, start, address) {
  if (!/^https?:\/\/[^/]+\/.*[/=_#&-]$/i.test(address) || /^https?:\/\/[^/]+\/$/i.test(address)) return "";
  const rest = text.slice(start + address.length, start + address.length + MAX_URL);
  return CJK.test(rest[0] ?? "") ? /^[^\s<>"`|\\]*/.exec(rest)[0] : "";
}

/** An address without the punctuation of the sentence that it ends; a ) stays where it closes one of its own. */
function withoutTail(address) {
  let end = address.length;
  let surplus = address.split(")").length - address.split("(").length;
  while (end > 0 && /[.,;:!?)\]}'*_~]/.test(address[end - 1])) {
    if (address[end - 1] === ")") {
      if (surplus <= 0) break;
      surplus -= 1;
    }
    end -= 1;
  }
  return address.slice(0, end);
}

/**
 * A run of * _ or ~ and whether it may begin or end emphasis. CommonMark's rule, but for one thing: next to a letter of
 * Korean, Chinese or Japanese a run may also end behind punctuation, since particles follow without a space:
 * **"word"**은, **단어(뜻)**는.
 */
function readDelimiters(scanner) {
  const { text, at } = scanner;
  const end = endOfRun(text, at);
  const mark = text[at];
  if (mark === "~" && end - at !== 2) {
    scanner.plain += text.slice(at, end);
    scanner.at = end;
    return true;
  }
  const before = text[at - 1] ?? " ";
  const after = text[end] ?? " ";
  const opens = canBegin(before, after);
  const closes = canBegin(after, before);
  return scanner.push(
    {
      type: "run",
      mark,
      count: end - at,
      begins: [],
      ends: [],
      canOpen: opens && (mark !== "_" || !closes || PUNCTUATION.test(before)),
      canClose: closes && (mark !== "_" || !opens || PUNCTUATION.test(after)),
    },
    end,
  );
}

function canBegin(outside, inside) {
  if (/\s/.test(inside)) return false;
  return !PUNCTUATION.test(inside) || /\s/.test(outside) || PUNCTUATION.test(outside) || CJK.test(outside);
}

/** Pair the runs among the tokens, and make a tree of what lies between them. */
function resolveEmphasis(tokens) {
  const open = { "*": [], _: [], "~": [] };
  tokens.forEach((token, index) => {
    if (token.type !== "run") return;
    while (token.canClose && token.count > 0) {
      const place = open[token.mark].slice(-MAX_LOOK_BACK).findLast((at) => fit(tokens[at], token));
      if (place === undefined) break;
      pair(place, token);
    }
    if (token.canOpen && token.count > 0) open[token.mark].push(index);
  });
  return tree(tokens);

  function pair(place, closer) {
    const opener = tokens[place];
    const size = Math.min(2, opener.count, closer.count);
    const type = opener.mark === "~" ? "del" : size === 2 ? "strong" : "em";
    opener.begins.push(type);
    closer.ends.push(type);
    opener.count -= size;
    closer.count -= size;
    for (const places of Object.values(open)) {
      while (places.at(-1) > place) places.pop(); // what began inside and did not end there is text
    }
    if (opener.count === 0) open[opener.mark].pop();
  }
}

/** CommonMark's rule of three: `*a**b*` is one emphasis with two stars in it. */
function fit(opener, closer) {
  const isTwoFaced = opener.canClose || closer.canOpen;
  const sum = opener.count + closer.count;
  return !(isTwoFaced && sum % 3 === 0 && (opener.count % 3 || closer.count % 3));
}

function tree(tokens) {
  const levels = [[]];
  let skipped = 0; // levels that are too deep to be shown
  const add = (node) => levels.at(-1).push(node);
  for (const token of tokens) {
    if (token.type !== "run") {
      add(token);
      continue;
    }
    for (const _ of token.ends) {
      if (skipped > 0) skipped -= 1;
      else levels.pop();
    }
    if (token.count > 0) add({ type: "text", value: token.mark.repeat(token.count) });
    for (const type of token.begins.reverse()) {
      if (levels.length > MAX_DEPTH) {
        skipped += 1;
        continue;
      }
      const node = { type, children: [] };
      add(node);
      levels.push(node.children);
    }
  }
  return levels[0];
}
