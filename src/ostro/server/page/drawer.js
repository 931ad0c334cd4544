/* A panel beside the conversation: a column where there is room, else over it, and the rest then is out of reach. */

const open = [];

export class Drawer {
  /** `over`: the media query for which the panel lies over the page; `rest`: the elements that it then covers. */
  constructor(panel, over, rest) {
    this.panel = panel;
    this.over = matchMedia(over);
    this.rest = rest;
    this.isOpen = false;
    this.onClose = () => {};
    this.over.addEventListener("change", () => this.apply());
    document.getElementById("scrim").addEventListener("click", () => this.isOver && this.close());
  }

  get isOver() {
    return this.over.matches && this.isOpen;
  }

  /** Open it and move the focus into it. */
  open() {
    this.opener = document.activeElement;
    this.isOpen = true;
    this.apply();
    if (this.over.matches) this.panel.querySelector("button, input, textarea, select")?.focus();
  }

  /** Close it, and give the focus back to what opened it. */
  close() {
    if (!this.isOpen) return;
    const hadFocus = this.panel.contains(document.activeElement);
    this.isOpen = false;
    this.apply();
    this.onClose();
    if (hadFocus) this.opener?.focus();
  }

  apply() {
    this.panel.classList.toggle("is-open", this.isOpen);
    const at = open.indexOf(this);
    if (this.isOver && at < 0) open.push(this);
    if (!this.isOver && at >= 0) open.splice(at, 1);
    for (const element of this.rest) element.inert = open.some((drawer) => drawer.rest.includes(element));
    document.body.classList.toggle("has-scrim", open.length > 0);
  }
}

/** Close the panel that lies over the page, if one does; true if there was one. */
export function closeTopDrawer() {
  const top = open.at(-1);
  top?.close();
  return top !== undefined;
}
