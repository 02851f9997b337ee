// Light or dark: the system's wish, until a person chooses otherwise. Runs before the first paint, so nothing flashes.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  function apply() {
    const chosen = localStorage.getItem("kiln-theme");
    if (chosen) root.dataset.theme = chosen;
    else delete root.dataset.theme;
    root.toggleAttribute("data-dark", chosen ? chosen === "dark" : system.matches);
  }

  apply();
  system.addEventListener("change", apply);
  addEventListener("storage", apply);
  addEventListener("DOMContentLoaded", () => {
    const toggle = document.getElementById("theme-toggle");
    toggle.hidden = false;
    toggle.addEventListener("click", () => {
      const dark = !root.hasAttribute("data-dark");
      // choosing what the system wants anyway is choosing to follow it
      if (dark === system.matches) localStorage.removeItem("kiln-theme");
      else localStorage.setItem("kiln-theme", dark ? "dark" : "light");
      apply();
    });
  });
})();
