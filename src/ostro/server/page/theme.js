/* Runs before the page is drawn, so that the chosen appearance does not come with a flash of the other. */
(() => {
  try {
    const theme = localStorage.getItem("ostro.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage is not allowed: the system's appearance it is.
  }
})();
