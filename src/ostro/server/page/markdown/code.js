/* Code: its frame with the button that copies it, and a modest colouring of comments, strings, numbers and keywords. */

import { copyText, h, icon } from "../dom.js";

const MAX_COLOURED = 20000; // characters; longer code is shown plain

const C_WORDS =
  "break case catch class const continue default delete do else enum export extends false finally for from " +
  "function if implements import in instanceof interface let new null of private protected public return static struct " +
  "super switch this throw true try type typeof undefined union unsigned using var void volatile while with yield async await " +
  "auto bool boolean byte char constexpr double final float fn func go impl int long match mod mut namespace nil nullptr " +
  "override package pub range short signed sizeof string template trait typedef unsafe use val virtual where";
const PYTHON_WORDS =
  "and as assert async await break class continue def del elif else except False finally for from global if " +
  "import in is lambda match case None nonlocal not or pass raise return True try while with yield self";
const SHELL_WORDS =
  "if then else elif fi for in do done while until case esac function return export local sudo cd echo exit set";
const SQL_WORDS =
  "select from where and or not in is null like between join left right inner outer full on group by order having " +
  "limit offset insert into values update set delete create table view index drop alter primary key foreign references as " +
  "distinct union all case when then else end exists with asc desc count sum avg min max";

const C_LIKE = { words: C_WORDS, line: "//", block: true };
const LANGUAGES = new Map();
for (const [names, language] of [
  [
    "c cpp c++ h hpp cs csharp java js javascript jsx mjs ts typescript tsx go rust rs kotlin kt swift scala php dart css scss",
    C_LIKE,
  ],
  ["python py ruby rb r julia toml yaml yml ini", { words: PYTHON_WORDS, line: "#" }],
  ["bash sh shell zsh console dockerfile makefile make", { words: SHELL_WORDS, line: "#" }],
  ["sql", { words: SQL_WORDS, line: "--", block: true, anyCase: true }],
  ["json jsonc json5", { words: "true false null", line: "//" }],
]) {
  for (const name of names.split(" ")) LANGUAGES.set(name, language);
}

/** The element of a block of code. `labels.copy` and `labels.copied` are the words of its button, `labels.code` its name. */
export function codeBlock(block, labels) {
  const code = h("code", {}, coloured(block.text, block.language.toLowerCase()));
  const button = h("button", { type: "button", class: "copy-code" }, icon("copy"), h("span", {}, labels.copy));
  button.addEventListener("click", async () => {
    if (!(await copyText(block.text))) return;
    button.replaceChildren(icon("check"), h("span", {}, labels.copied));
    labels.announce(labels.copied);
    setTimeout(() => button.replaceChildren(icon("copy"), h("span", {}, labels.copy)), 1600);
  });
  return h(
    "div",
    { class: "code-block" },
    h("div", { class: "code-head" }, h("span", { class: "code-language" }, block.language || labels.code), button),
    h("pre", { tabindex: "0" }, code),
  );
}

function coloured(text, name) {
  const language = LANGUAGES.get(name);
  if (!language || text.length > MAX_COLOURED) return [text];
  const words = new Set(language.words.split(" "));
  const parts = [];
  let plain = "";
  for (const match of text.matchAll(patternOf(language))) {
    const kind = kindOf(match, words, language);
    if (!kind) {
      plain += match[0];
      continue;
    }
    parts.push(plain, h("span", { class: `tok-${kind}` }, match[0]));
    plain = "";
  }
  parts.push(plain);
  return parts.filter((part) => part !== "");
}

/** Every alternative runs to a fixed mark, and the last takes one character: nothing is read twice. */
function patternOf(language) {
  const comment = language.line.replace(/[/]/g, "\\/") + "[^\\n]*" + (language.block ? "|\\/\\*[^]*?(?:\\*\\/|$)" : "");
  return new RegExp(
    `(?<comment>${comment})|(?<string>"(?:[^"\\\\\\n]|\\\\.)*"?|'(?:[^'\\\\\\n]|\\\\.)*'?|\`(?:[^\`\\\\]|\\\\.)*\`?)` +
      "|(?<number>\\b\\d[\\w.]*)|(?<word>[A-Za-z_$][\\w$]*)|[^]",
    "gu",
  );
}

function kindOf(match, words, language) {
  const { comment, string, number, word } = match.groups;
  if (comment) return "comment";
  if (string) return string.length > 1 ? "string" : null;
  if (number) return "number";
  if (word) return words.has(language.anyCase ? word.toLowerCase() : word) ? "keyword" : null;
  return null;
}
