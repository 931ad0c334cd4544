/* The panel with the system prompt, sampling and tools of a conversation, or of one side of a comparison. */

import { growWithText } from "./composer.js";
import { h, textButton } from "./dom.js";
import { apiKey, setApiKey } from "./key.js";
import { t } from "./language.js";
import { announce } from "./notices.js";
import { EXAMPLE_TOOLS, FIELDS, problemOf, readTools, TOOL_CHOICES } from "./sampling.js";

/** The form for `settings`, which it changes as the reader types; `onChange` is called after each change. */
export function settingsForm(settings, onChange) {
  const form = h(
    "form",
    { class: "settings-form", onsubmit: (event) => event.preventDefault() },
    systemSection(settings, onChange),
    samplingSection(settings, onChange),
    toolsSection(settings, onChange),
    keySection(),
  );
  return form;
}

function systemSection(settings, onChange) {
  const area = h("textarea", {
    class: "field",
    rows: "4",
    id: "set-system",
    value: settings.system,
    dir: "auto",
    "aria-describedby": "set-system-hint",
    oninput: () => {
      settings.system = area.value;
      onChange();
    },
  });
  growWithText(area);
  return h(
    "section",
    {},
    h("label", { class: "section-title", for: "set-system" }, t("settings.system")),
    area,
    h("p", { class: "hint", id: "set-system-hint" }, t("settings.systemHint")),
  );
}

function samplingSection(settings, onChange) {
  const fields = FIELDS.map((field) => numberField(field, settings, onChange));
  const stop = h("textarea", {
    class: "field mono",
    rows: "2",
    id: "set-stop",
    value: settings.stop,
    spellcheck: "false",
    "aria-describedby": "set-stop-hint",
    oninput: () => {
      settings.stop = stop.value;
      onChange();
    },
  });
  const reset = textButton(
    t("settings.reset"),
    () => {
      settings.sampling = {};
      settings.stop = stop.value = "";
      fields.forEach((field) => field.clear());
      onChange();
    },
    { class: "link-button" },
  );
  return h(
    "fieldset",
    {},
    h("legend", { class: "section-title" }, t("settings.sampling")),
    h("div", { class: "hint-row" }, h("p", { class: "hint" }, t("settings.samplingHint")), reset),
    h("div", { class: "number-fields" }, fields),
    h("label", { for: "set-stop" }, t("sampling.stop")),
    stop,
    h("p", { class: "hint", id: "set-stop-hint" }, t("sampling.stop.hint")),
  );
}

function numberField(field, settings, onChange) {
  const { name } = field;
  const problem = h("p", { class: "problem", id: `set-${name}-problem`, "aria-live": "polite" });
  const hint = field.hint && h("p", { class: "hint", id: `set-${name}-hint` }, t(`sampling.${name}.hint`));
  // Not type=number: it hides what it does not understand, and a wheel that turns over it changes it.
  const input = h("input", {
    type: "text",
    inputmode: field.min < 0 ? "text" : field.integer ? "numeric" : "decimal",
    class: "field",
    id: `set-${name}`,
    autocomplete: "off",
    value: settings.sampling[name] ?? "",
    placeholder: t("settings.default"),
    "aria-describedby": `set-${name}-hint set-${name}-problem`,
  });
  const check = () => {
    const wrong = problemOf(field, input.value);
    input.setAttribute("aria-invalid", String(wrong !== null));
    problem.textContent = wrong ? t(wrong.key, wrong.values) : "";
  };
  const take = (text) => {
    settings.sampling = { ...settings.sampling, [name]: text };
    check();
    onChange();
  };
  input.addEventListener("input", () => take(input.value));
  input.addEventListener("keydown", (event) => {
    const direction = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!direction) return;
    event.preventDefault();
    input.value = stepped(field, input.value, direction);
    take(input.value);
  });
  check();
  const element = h(
    "div",
    { class: "number-field" },
    h("label", { for: `set-${name}` }, t(`sampling.${name}`)),
    input,
    problem,
    hint,
  );
  element.clear = () => {
    input.value = "";
    check();
  };
  return element;
}

/** The value one step further, from the lower bound (or 1, where that means off) if there was none. */
function stepped(field, text, direction) {
  const value =
    text.trim() === "" || Number.isNaN(Number(text))
      ? Math.max(field.min, Math.min(field.max ?? 1, 1))
      : Number(text) + direction * field.step;
  const bounded = Math.min(field.max ?? Infinity, Math.max(field.min, value));
  return String(Number(bounded.toFixed(4)));
}

function toolsSection(settings, onChange) {
  const problem = h("p", { class: "problem", id: "set-tools-problem", "aria-live": "polite" });
  const area = h("textarea", {
    class: "field mono",
    rows: "4",
    id: "set-tools",
    value: settings.tools,
    spellcheck: "false",
    "aria-describedby": "set-tools-hint set-tools-problem",
  });
  growWithText(area);
  const take = () => {
    settings.tools = area.value;
    const wrong = readTools(area.value).problem;
    area.setAttribute("aria-invalid", String(Boolean(wrong)));
    problem.textContent = wrong ? t("bad.tools", { problem: wrong.text ?? t(wrong.key, wrong.values) }) : "";
  };
  area.addEventListener("input", () => {
    take();
    onChange();
  });
  take();
  const example = textButton(
    t("settings.toolsExample"),
    () => {
      area.value = EXAMPLE_TOOLS;
      area.dispatchEvent(new Event("input"));
      area.focus();
    },
    { class: "link-button" },
  );
  const choice = h(
    "select",
    {
      class: "field",
      id: "set-tool-choice",
      onchange: () => {
        settings.toolChoice = choice.value;
        onChange();
      },
    },
    TOOL_CHOICES.map((name) => h("option", { value: name }, t(`settings.toolChoice.${name}`))),
  );
  choice.value = settings.toolChoice;
  return h(
    "fieldset",
    {},
    h("legend", { class: "section-title" }, t("settings.tools")),
    h("div", { class: "hint-row" }, h("label", { for: "set-tools" }, t("settings.toolsField")), example),
    area,
    problem,
    h("p", { class: "hint", id: "set-tools-hint" }, t("settings.toolsHint")),
    h("label", { for: "set-tool-choice" }, t("settings.toolChoice")),
    choice,
  );
}

function keySection() {
  if (apiKey() === null) return null;
  const section = h(
    "section",
    {},
    textButton(
      t("key.forget"),
      () => {
        setApiKey(null);
        announce(t("key.forgotten"));
        section.replaceChildren(h("p", { class: "hint" }, t("key.forgotten")));
      },
      {},
      "key",
    ),
  );
  return section;
}
