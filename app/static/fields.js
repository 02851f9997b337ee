// Fields say themselves what is wrong with them: at once where a draft's check names them, and no longer once they are right.
(() => {
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.target.matches(".check")) mark(event.target);
    // a form came back refused: what is wrong with it may be far from the button
    if (event.detail.xhr?.status !== 422) return;
    const wrong = event.target.querySelector("[aria-invalid=true], [role=alert]");
    wrong?.focus();
    wrong?.scrollIntoView({ block: "center" });
  });

  function mark(check) {
    for (const input of document.getElementById("settings")?.elements ?? []) {
      if (!input.name || input.type === "hidden") continue;
      const said = check.querySelector(`#check-${input.name}-error`);
      if (said) {
        input.setAttribute("aria-invalid", "true");
        input.setAttribute("aria-errormessage", said.id);
      } else {
        input.removeAttribute("aria-invalid");
        input.removeAttribute("aria-errormessage");
      }
      document.getElementById(`${input.name}-error`)?.remove(); // what the form said when it was sent
    }
  }
})();
