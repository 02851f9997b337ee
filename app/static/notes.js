// Passing notes: refusals that the farm sends as toasts, and the line that says the farm does not answer.
(() => {
  const SHOWN_MS = 12_000;
  const offline = () => document.getElementById("offline");

  document.addEventListener("htmx:beforeSwap", (event) => {
    // the error handler says where its answer belongs; a proxy's error page says nothing and is not shown
    if (event.detail.xhr.getResponseHeader("HX-Retarget")) event.detail.shouldSwap = true;
  });
  document.addEventListener("htmx:sendError", () => { offline().hidden = false; });
  document.addEventListener("htmx:timeout", () => { offline().hidden = false; });
  document.addEventListener("htmx:afterRequest", (event) => {
    const status = event.detail.xhr.status;
    if (status) offline().hidden = ![502, 503, 504].includes(status);
  });
  document.addEventListener("click", (event) => event.target.closest("[data-dismiss]")?.closest("[data-passing]").remove());

  document.addEventListener("DOMContentLoaded", () => {
    const toasts = document.getElementById("toasts");
    new MutationObserver((changes) => {
      for (const note of changes.flatMap((change) => [...change.addedNodes])) {
        if (note instanceof HTMLElement) setTimeout(() => note.remove(), SHOWN_MS);
      }
      while (toasts.childElementCount > 4) toasts.firstElementChild.remove();
    }).observe(toasts, { childList: true });
  });
})();
