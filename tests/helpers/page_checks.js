/* What tests of the page look at in the browser. Each test runs this text with a call behind it. */

/** Text whose contrast with what is painted below it is less than WCAG asks for: [element, text, ratio]. */
function lowContrast() {
  const hidden = "[aria-disabled=true], .visually-hidden, .skip, option";
  const seen = { opacityProperty: true, visibilityProperty: true };
  return [...document.querySelectorAll("body *")]
    .filter((e) => [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .filter((e) => e.checkVisibility(seen) && !e.closest(hidden))
    .map((e) => [e.className || e.localName, e.textContent.slice(0, 30), contrast(e)])
    .filter(([, , ratio]) => ratio < 4.5);
}

function contrast(element) {
  const ink = luminance(pixel(getComputedStyle(element).color));
  const paper = luminance(paintedBelow(element));
  return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
}

function pixel(colour) {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data];
}

function luminance([red, green, blue]) {
  const linear = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
}

function paintedBelow(element) {
  const layers = [];
  for (let e = element; e && layers.at(-1)?.[3] !== 255; e = e.parentElement) {
    layers.push(pixel(getComputedStyle(e).backgroundColor));
  }
  let colour = layers.pop();
  for (const [red, green, blue, alpha] of layers.reverse()) {
    const share = alpha / 255;
    colour = [red, green, blue].map((value, place) => value * share + colour[place] * (1 - share));
  }
  return colour;
}

/** Controls that a screen reader has no name for. */
function unnamed() {
  return [...document.querySelectorAll("button, input, select, textarea, a[href]")]
    .filter((e) => e.checkVisibility())
    .filter((e) => !e.getAttribute("aria-label") && !e.innerText?.trim())
    .filter((e) => ![...(e.labels ?? [])].some((label) => label.innerText.trim()))
    .map((e) => e.outerHTML);
}

/** Whether something makes the page, or the conversation in it, wider than it is. */
function isTooWide() {
  const scroll = document.getElementById("scroll");
  return document.documentElement.scrollWidth > innerWidth || scroll.scrollWidth > scroll.clientWidth;
}

/** What has the focus: [its name, whether that is drawn, whether it is nothing]. */
function focusStop() {
  const e = document.activeElement;
  const drawn = (shown) => {
    const style = shown && getComputedStyle(shown);
    return Boolean(style) && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
  };
  const frame = e.matches(".order input") ? e.nextElementSibling : e.closest("form#composer");
  const name = e.id || e.getAttribute("aria-label") || e.innerText || e.localName;
  return [name.trim(), drawn(e) || drawn(frame), e === document.body];
}

/** Keep what is announced to screen readers in `window.told`. */
function listen() {
  const region = document.getElementById("announcer");
  window.told = [];
  new MutationObserver(() => region.textContent && window.told.push(region.textContent)).observe(region, {
    childList: true,
    characterData: true,
    subtree: true,
  });
}

/** Keep the text of the next saved file in `window.saved`. */
function catchFile() {
  const make = URL.createObjectURL;
  window.saved = null;
  URL.createObjectURL = (blob) => {
    blob.text().then((text) => {
      window.saved = text;
    });
    return make.call(URL, blob);
  };
}

/** The shares of the whole that the bars of a comparison take. */
function barWidths() {
  return [...document.querySelectorAll(".bar")].map((bar) =>
    [...bar.children].reduce((sum, part) => sum + parseFloat(part.style.width), 0),
  );
}

/** What the page makes of Markdown: `texts` are shown one after the other in the same element. */
function rendered(view, texts) {
  const element = document.createElement("div");
  const shown = new view.MarkdownView(element);
  for (const text of texts) shown.update(text, { copy: "copy", copied: "copied", code: "code", announce: () => {} });
  const nodes = [...element.querySelectorAll("*")];
  const links = [...element.querySelectorAll("a")];
  return {
    html: element.innerHTML,
    text: element.textContent,
    elements: [...new Set(nodes.map((node) => node.localName))],
    attributes: [...new Set(nodes.flatMap((node) => [...node.attributes].map(({ name }) => name)))],
    protocols: links.map((link) => link.protocol),
    links: links.map((a) => [a.getAttribute("href"), a.textContent, a.rel, a.target, a.title]),
    depth: Math.max(0, ...nodes.slice(0, 3000).map(depthOf)),
  };
}

function depthOf(node) {
  let depth = 0;
  for (let at = node; at; at = at.parentNode) depth += 1;
  return depth;
}
