// Ask before doing harm, in the page's own dialog instead of the browser's.
document.addEventListener("htmx:confirm", (event) => {
  const { question, elt, issueRequest } = event.detail;
  if (!question) return;
  event.preventDefault();
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-text").textContent = question;
  document.getElementById("confirm-yes").textContent = elt.dataset.yes ?? "Yes, do it";
  dialog.returnValue = "no";
  dialog.onclose = () => { if (dialog.returnValue === "yes") issueRequest(true); };
  dialog.showModal();
});
