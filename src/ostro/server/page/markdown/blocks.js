/* The blocks of an answer: a subset of GitHub's Markdown, the part that models write. HTML is text. */

const MAX_DEPTH = 10; // of lists and quotes in one another; deeper ones are text
const FENCE = /^( {0,3})(`{3,}|~{3,})(.*)$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])( +|$)/;

/**
 * A list of blocks, each with `raw`, the lines that it was made of. One that has the same `raw` is the same block.
 *
 * {type: "heading", level, text}, {type: "paragraph", text}, {type: "code", language, text, closed}, {type: "rule"},
 * {type: "quote", blocks}, {type: "list", start, items} with a number or null for `start` and items {checked, blocks},
 * {type: "table", aligns, rows} with the head as the first row.
 */
export function parseBlocks(text) {
  return parseLines(text.split(/\r\n|\n|\r/).map(withoutTabs), 0);
}

function withoutTabs(line) {
  return line.replace(/^[ \t]+/, (indent) => indent.replaceAll("\t", "    "));
}

function parseLines(lines, depth) {
  const blocks = [];
  for (let at = 0; at < lines.length;) {
    if (isBlank(lines[at])) {
      at += 1;
      continue;
    }
    const [block, end] = parseBlock(lines, at, depth);
    block.raw = lines.slice(at, end).join("\n");
    blocks.push(block);
    at = end;
  }
  return blocks;
}

function parseBlock(lines, at, depth) {
  if (FENCE.test(lines[at]) && isFence(lines[at])) return parseCode(lines, at);
  if (headingLevel(lines[at])) return [parseHeading(lines[at]), at + 1];
  if (isRule(lines[at])) return [{ type: "rule" }, at + 1];
  if (depth < MAX_DEPTH && isQuote(lines[at])) return parseQuote(lines, at, depth);
  if (depth < MAX_DEPTH && isItem(lines[at])) return parseList(lines, at, depth);
  if (isTable(lines, at)) return parseTable(lines, at);
  return parseParagraph(lines, at, depth);
}

const isBlank = (line) => line.trim() === "";
const isQuote = (line) => /^ {0,3}>/.test(line);
const isItem = (line) => ITEM.test(line) && ITEM.exec(line)[1].length < 4;
const indentOf = (line) => line.length - line.trimStart().length;

function isFence(line) {
  const [, , marks, info] = FENCE.exec(line);
  return marks[0] === "~" || !info.includes("`");
}

function headingLevel(line) {
  return /^ {0,3}(#{1,6})(?:\s|$)/.exec(line)?.[1].length ?? 0;
}

function isRule(line) {
  const marks = line.replaceAll(" ", "");
  return indentOf(line) < 4 && marks.length >= 3 && "-*_".includes(marks[0]) && marks === marks[0].repeat(marks.length);
}

function parseHeading(line) {
  let text = line.trim().slice(headingLevel(line)).trim();
  const end = text.length - /#*$/.exec(text.slice(-8))[0].length;
  if (end === 0 || text[end - 1] === " ") text = text.slice(0, end).trimEnd();
  return { type: "heading", level: headingLevel(line), text };
}

function parseCode(lines, at) {
  const [, indent, marks, info] = FENCE.exec(lines[at]);
  const inside = [];
  let end = at + 1;
  let closed = false;
  for (; end < lines.length && !closed; end += 1) {
    const line = lines[end].trim();
    closed =
      line.length >= marks.length && line === marks[0].repeat(line.length) && indentOf(lines[end]) < 4 + indent.length;
    if (!closed) inside.push(lines[end].slice(Math.min(indentOf(lines[end]), indent.length)));
  }
  return [{ type: "code", language: info.trim().split(/[\s{]/)[0].slice(0, 40), text: inside.join("\n"), closed }, end];
}

function parseQuote(lines, at, depth) {
  const inside = [];
  let end = at;
  for (; end < lines.length && !isBlank(lines[end]); end += 1) {
    if (!isQuote(lines[end]) && startsBlock(lines, end, depth)) break;
    inside.push(lines[end].replace(/^ {0,3}> ?/, ""));
  }
  return [{ type: "quote", blocks: parseLines(inside, depth + 1) }, end];
}

/** Whether a line that could go on with a paragraph begins a block of its own instead. */
function startsBlock(lines, at, depth) {
  const line = lines[at];
  if (headingLevel(line) || isRule(line) || (FENCE.test(line) && isFence(line)) || isTable(lines, at)) return true;
  if (depth >= MAX_DEPTH) return false;
  // A number in running text may come to stand at the head of a line; a list that interrupts begins with 1.
  return isQuote(line) || (isItem(line) && /^ *(?:[-*+]|1[.)]) +\S/.test(line));
}

function parseParagraph(lines, at, depth) {
  let end = at + 1;
  while (end < lines.length && !isBlank(lines[end]) && !startsBlock(lines, end, depth)) end += 1;
  return [
    {
      type: "paragraph",
      text: lines
        .slice(at, end)
        .map((line) => line.trimStart())
        .join("\n")
        .trimEnd(),
    },
    end,
  ];
}

function parseList(lines, at, depth) {
  const kind = ITEM.exec(lines[at])[2].at(-1); // - * + . or ): another one begins another list
  const number = parseInt(lines[at].trimStart(), 10);
  const items = [];
  let end = at;
  while (end < lines.length && isItem(lines[end]) && ITEM.exec(lines[end])[2].at(-1) === kind && !isRule(lines[end])) {
    const [item, next] = parseItem(lines, end, depth);
    items.push(item);
    end = next;
    while (end < lines.length && isBlank(lines[end])) end += 1;
  }
  while (isBlank(lines[end - 1])) end -= 1;
  return [{ type: "list", start: Number.isNaN(number) ? null : number, items }, end];
}

/**
 * One item and what is indented below it. Models indent less than CommonMark asks for, so a list that is indented by
 * two columns more than the item's own mark lies in the item, whatever the width of the mark.
 */
function parseItem(lines, at, depth) {
  const [whole, indent, mark, space] = ITEM.exec(lines[at]);
  const width = indent.length + mark.length + (space.length > 4 ? 1 : Math.max(1, space.length));
  const inside = [lines[at].slice(Math.min(whole.length, width))];
  let end = at + 1;
  for (; end < lines.length; end += 1) {
    const line = lines[end];
    const depthOfLine = indentOf(line);
    const isInside = depthOfLine >= width || (depthOfLine >= indent.length + 2 && ITEM.test(line));
    const goesOn = !isBlank(lines[end - 1]) && !isItem(line) && !startsBlock(lines, end, depth);
    if (!isBlank(line) && !isInside && !goesOn) break;
    inside.push(line.slice(Math.min(depthOfLine, width)));
  }
  const task = /^\[([ xX])\] +(?=\S)/.exec(inside[0]);
  if (task) inside[0] = inside[0].slice(task[0].length);
  return [{ checked: task ? task[1] !== " " : null, blocks: parseLines(inside, depth + 1) }, end];
}

function isTable(lines, at) {
  if (at + 1 >= lines.length || !lines[at].includes("|") || !lines[at + 1].includes("-")) return false;
  const rule = cellsOf(lines[at + 1]);
  return rule.every((cell) => /^:?-+:?$/.test(cell)) && rule.length === cellsOf(lines[at]).length;
}

function parseTable(lines, at) {
  const aligns = cellsOf(lines[at + 1]).map((cell) => {
    const ends = (cell.startsWith(":") ? 1 : 0) + (cell.endsWith(":") ? 2 : 0);
    return [null, "left", "right", "center"][ends];
  });
  const rows = [cellsOf(lines[at])];
  let end = at + 2;
  for (; end < lines.length && !isBlank(lines[end]) && lines[end].includes("|"); end += 1) {
    rows.push(cellsOf(lines[end]).slice(0, aligns.length));
  }
  return [{ type: "table", aligns, rows }, end];
}

/** The cells of a row. A | that is escaped or lies in code is part of its cell. */
function cellsOf(line) {
  const cells = [""];
  let inCode = false;
  const row = line.trim();
  const closesCode = row.split("`").length % 2 === 1;
  for (let at = row.startsWith("|") ? 1 : 0; at < row.length; at += 1) {
    if (row[at] === "\\" && row[at + 1] === "|") cells[cells.length - 1] += row[++at];
    else if (row[at] === "|" && !inCode) cells.push("");
    else {
      if (row[at] === "`" && closesCode) inCode = !inCode;
      cells[cells.length - 1] += row[at];
    }
  }
  if (cells.length > 1 && cells.at(-1).trim() === "") cells.pop();
  return cells.map((cell) => cell.trim());
}
