// A click on a frame opens its panel beside the page; arrow keys go to its neighbours, in the panel and in the grid, which is one stop for
// the tabulator and not hundreds. Without this, links lead to the frame's own page.
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

  let at = ""; // id of the cell of the grid that the tabulator comes to
  const cells = () => [...document.querySelectorAll(".cells .cell")];

  function rove() {
    const all = cells();
    const kept = all.find((cell) => cell.id === at) ?? all[0];
    for (const cell of all) cell.tabIndex = cell === kept ? 0 : -1;
  }

  document.addEventListener("focusin", (event) => {
    if (!event.target.matches(".cells .cell")) return;
    at = event.target.id;
    rove();
  });

  document.addEventListener("keydown", (event) => {
    if (!event.target.matches(".cells .cell") || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = cells();
    const columns = all.filter((cell) => cell.offsetTop === all[0].offsetTop).length;
    const here = all.indexOf(event.target);
    const to = { ArrowLeft: here - 1, ArrowRight: here + 1, ArrowUp: here - columns, ArrowDown: here + columns, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    all[to]?.focus();
  });

  document.addEventListener("htmx:afterSwap", rove);
  rove();

  drawer.addEventListener("close", () => {
    document.getElementById("frame-slot").replaceChildren(); // what is not seen does not poll
    // the browser gives the focus back by itself, unless what had it was written anew meanwhile
    if (document.activeElement === document.body) document.getElementById(cameFrom)?.focus();
  });
})();
