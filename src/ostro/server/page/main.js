/* Where the page begins: the controls that are always there, and the first conversation. */

import { Composer } from "./composer.js";
import { loadModels } from "./connection.js";
import { hasContent, idOfKey, isSame, saveConversation, setLeaving, titleOf } from "./conversations.js";
import { askName, confirmDeletion } from "./dialogs.js";
import { h, icon, newId } from "./dom.js";
import { closeTopDrawer, Drawer } from "./drawer.js";
import { chooseLanguage, language, LANGUAGES, onLanguage, startLanguage, t } from "./language.js";
import { hideBanner, showBanner } from "./notices.js";
import { isRunning, onRuns, stopRun } from "./runs.js";
import { Shell } from "./shell.js";
import { download, fileName } from "./sidebar.js";
import { onStorageTrouble, readItem, writeItem } from "./storage.js";
import { exportText, ImportProblem, readExport } from "./transfer.js";

const at = (id) => document.getElementById(id);

function start() {
  for (const place of document.querySelectorAll("[data-icon]")) place.prepend(icon(place.dataset.icon));
  startLanguage();
  const shell = new Shell();
  makeDrawers(shell);
  shell.composer = new Composer({
    send: (text) => shell.view.send(text),
    stop: () => stop(shell),
    editLast: () => shell.view.editLast(),
  });
  connectButtons(shell);
  connectMore(shell);
  connectChoices(shell);
  connectBrowser(shell);
  onRuns((id) => {
    if (id === shell.current.id) shell.draw(shell.current);
    shell.update();
  });
  onStorageTrouble((trouble) => {
    if (trouble) showBanner("storage", () => t(trouble === "full" ? "banner.full" : "banner.noStorage"));
    else hideBanner("storage");
  });
  shell.open(location.hash.slice(1));
  shell.composer.focus();
  loadModels();
}

function stop(shell) {
  stopRun(shell.current.id);
  shell.composer.focus();
}

function makeDrawers(shell) {
  const [nav, main, settings] = [at("nav"), at("main"), at("settings")];
  shell.nav = new Drawer(nav, "(max-width: 900px)", [main, settings]);
  shell.settings = new Drawer(settings, "(max-width: 1180px)", [nav, main]);
  const button = at("open-settings");
  shell.settings.onClose = () => button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => {
    if (shell.settings.isOpen) shell.settings.close();
    else shell.openSettings();
    button.setAttribute("aria-expanded", String(shell.settings.isOpen));
  });
}

function connectButtons(shell) {
  at("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the part of the address behind # names a conversation
    at("prompt").focus();
  });
  at("open-nav").addEventListener("click", () => shell.nav.open());
  at("close-nav").addEventListener("click", () => shell.nav.close());
  at("close-settings").addEventListener("click", () => shell.settings.close());
  at("new-chat").addEventListener("click", () => shell.begin("chat"));
  at("new-compare").addEventListener("click", () => shell.begin("compare"));
  at("latest").addEventListener("click", () => shell.scroll(true));
  at("export").addEventListener("click", () => download(fileName(""), exportText(shell.list.filter(hasContent))));
  at("import").addEventListener("click", () => at("import-file").click());
  at("import-file").addEventListener("change", () => importFile(shell, at("import-file")));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.isComposing || event.defaultPrevented) return;
    if (document.querySelector("dialog[open], [popover]:popover-open") || closeTopDrawer()) return;
    if (isRunning(shell.current.id)) stop(shell);
    else if (shell.settings.isOpen && at("settings").contains(event.target)) shell.settings.close();
  });
}

async function importFile(shell, input) {
  const [file] = input.files;
  input.value = "";
  if (!file) return;
  try {
    const added = (await readExport(file)).filter((conversation) => adopt(shell, conversation));
    showBanner("import", () => (added.length ? t("import.done", { n: added.length }) : t("import.none")), {
      kind: "good",
      timeout: 8000,
    });
  } catch (error) {
    if (!(error instanceof ImportProblem)) throw error;
    showBanner("import", () => t("import.bad", { problem: t(error.key, error.values) }));
  }
  shell.update();
}

/** Take over an imported conversation, unless it is here already. A different one with the same id gets another. */
function adopt(shell, conversation) {
  const here = shell.conversations.get(conversation.id);
  if (here && isSame(here, conversation)) return false;
  if (here) conversation.id = newId();
  shell.conversations.set(conversation.id, conversation);
  saveConversation(conversation);
  return true;
}

function connectMore(shell) {
  const [menu, button] = [at("more"), at("more-button")];
  menu.addEventListener("beforetoggle", () => {
    const { bottom, right } = button.getBoundingClientRect();
    menu.style.top = `${bottom + 6}px`;
    menu.style.right = `${document.documentElement.clientWidth - right}px`;
  });
  const item = (id, action) =>
    at(id).addEventListener("click", () => {
      menu.hidePopover();
      action(shell.current);
    });
  item("rename", async (conversation) => {
    const name = await askName(titleOf(conversation));
    if (name === null) return;
    conversation.title = name;
    saveConversation(conversation);
    shell.update();
  });
  item("export-one", (conversation) => download(fileName(titleOf(conversation)), exportText([conversation])));
  item("delete", async (conversation) => {
    if (await confirmDeletion(titleOf(conversation))) shell.remove(conversation);
  });
}

function connectChoices(shell) {
  const [languages, themes] = [at("language"), at("theme")];
  languages.append(...Object.entries(LANGUAGES).map(([tag, name]) => h("option", { value: tag, lang: tag }, name)));
  languages.value = language();
  languages.addEventListener("change", () => chooseLanguage(languages.value));
  const fillThemes = () => {
    const chosen = document.documentElement.dataset.theme ?? "auto";
    themes.replaceChildren(
      ...["auto", "light", "dark"].map((name) => h("option", { value: name }, t(`theme.${name}`))),
    );
    themes.value = chosen;
  };
  fillThemes();
  themes.addEventListener("change", () => {
    if (themes.value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = themes.value;
    writeItem("ostro.theme", themes.value === "auto" ? null : themes.value);
  });
  onLanguage(() => {
    fillThemes();
    shell.redraw();
  });
}

/** Other tabs, the back button, and the end of the page. */
function connectBrowser(shell) {
  addEventListener("storage", (event) => {
    const id = idOfKey(event.key);
    if (id) shell.reload(id);
    if (event.key === "ostro.language" && event.newValue) chooseLanguage(readItem("ostro.language"));
  });
  addEventListener("popstate", () => {
    if (location.hash.slice(1) !== shell.current.id) shell.open(location.hash.slice(1));
  });
  addEventListener("pagehide", () => {
    shell.conversations.forEach((each) => isRunning(each.id) && saveConversation(each));
    setLeaving(true);
  });
  addEventListener("pageshow", () => setLeaving(false));
}

start();
