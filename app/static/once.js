// A form is sent once: a double click on “New job” makes one job. What htmx sends, it keeps in order itself.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if ("sent" in form.dataset) event.preventDefault();
  form.dataset.sent = "";
});
// Back on a page that the browser kept, its forms can be sent again.
addEventListener("pageshow", () => { for (const form of document.forms) delete form.dataset.sent; });
