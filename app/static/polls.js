// Polls behave: they rest in hidden tabs, and never pull something out from under a person's hands.
(() => {
  let pressed = null; // what the pointer is down on
  const opened = new Map(); // <details> of a region that is being replaced, and how far its logs were scrolled

  let focused = ""; // selector of what had the focus in it, where that has no id for htmx to find it by
  let missed = false; // a swap was put off until the person is done

  const isPoll = (detail) => detail.requestConfig.verb === "get" && !detail.requestConfig.triggeringEvent;

  document.addEventListener("pointerdown", (event) => { pressed = event.target; }, true);
  for (const end of ["pointerup", "pointercancel", "dragend"]) {
    // the click comes after pointerup: let it land first
    document.addEventListener(end, () => setTimeout(() => {
      pressed = null;
      catchUp();
    }), true);
  }
  document.addEventListener("focusout", () => setTimeout(catchUp));

  function catchUp() {
    if (!missed || pressed) return;
    missed = false;
    htmx.trigger(document.body, "job-changed");
  }

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && isPoll(event.detail)) event.preventDefault();
  });

  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target, xhr, shouldSwap } = event.detail;
    if (!shouldSwap || xhr.getResponseHeader("HX-Retarget")) return;
    const typing = document.activeElement?.matches("input, select, textarea") && target.contains(document.activeElement);
    const looksAgain = event.detail.requestConfig.verb === "get" && event.detail.requestConfig.elt === target;
    if ((pressed && target.contains(pressed)) || (typing && looksAgain)) {
      event.detail.shouldSwap = false; // the version seen stays the old one: the next look brings it
      missed = true;
      return;
    }
    focused = target.contains(document.activeElement) ? selectorOf(document.activeElement) : "";
    opened.clear();
    for (const each of target.querySelectorAll("details[id]")) opened.set(each.id, each.open);
    for (const each of target.querySelectorAll("pre[id]")) {
      const atEnd = each.scrollTop + each.clientHeight >= each.scrollHeight - 4;
      opened.set(each.id, atEnd ? Infinity : each.scrollTop);
    }
  });

  document.addEventListener("htmx:afterSwap", () => {
    for (const [id, state] of opened) {
      const element = document.getElementById(id);
      if (element instanceof HTMLDetailsElement) element.open = state;
      else if (element) element.scrollTop = state === Infinity ? element.scrollHeight : state;
    }
    opened.clear();
    if (focused) document.querySelector(focused)?.focus({ preventScroll: true });
    focused = "";
  });

  /** How to find its like in what takes its place: a keyboard would begin at the top of the page again, every two seconds. */
  function selectorOf(element) {
    if (element.id) return "";
    const details = element.matches("summary") && element.parentElement.id;
    if (details) return `#${CSS.escape(details)} > summary`;
    if (element.dataset.copy) return `[data-copy="${CSS.escape(element.dataset.copy)}"]`;
    if (element.matches("a[href]")) return `a[href="${CSS.escape(element.getAttribute("href"))}"]`;
    const form = element.closest("form[action]");
    return form ? `form[action="${CSS.escape(form.getAttribute("action"))}"] ${element.localName}` : "";
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) htmx.trigger(document.body, "job-changed"); // what happened meanwhile is shown at once
  });
})();
