// A click on a frame opens its panel beside the page; arrow keys go to its neighbours. Without this, links lead to the frame's own page.
(() => {
  const drawer = document.getElementById("frame-drawer");
  let cameFrom = null;

  function open(link) {
    htmx.ajax("GET", `${link.getAttribute("href")}/panel`, { target: "#frame-slot", swap: "innerHTML" });
    if (!drawer.open) {
      cameFrom = link.id;
      drawer.showModal();
    }
  }

  document.addEventListener("click", (event) => {
    if (event.target === drawer || event.target.closest("[data-close-drawer]")) {
      drawer.close();
      return;
    }
    const link = event.target.closest("a[data-frame]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    open(link);
  });

  drawer.addEventListener("keydown", (event) => {
    if (event.target.matches("pre, input")) return; // there, arrow keys scroll
    const id = { ArrowLeft: "panel-before", ArrowRight: "panel-after" }[event.key];
    document.getElementById(id)?.click();
  });

  drawer.addEventListener("close", () => {
    document.getElementById("frame-slot").replaceChildren(); // what is not seen does not poll
    document.getElementById(cameFrom)?.focus();
  });
})();
