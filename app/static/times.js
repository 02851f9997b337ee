// Times in the reader's own time zone, and “5 min ago” that goes on being true.
(() => {
  const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const hour = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });

  function ago(then) {
    const seconds = (Date.now() - then) / 1000;
    if (seconds < 45) return "just now";
    if (seconds < 5400) return `${Math.max(1, Math.round(seconds / 60))} min ago`;
    if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h ago`;
    const days = Math.round(seconds / 86400);
    return days < 60 ? `${days} days ago` : new Date(then).toLocaleDateString(undefined, { dateStyle: "long" });
  }

  function write(root) {
    for (const each of root.querySelectorAll("time[data-ago], time[data-moment], time[data-hour]")) {
      const then = Date.parse(each.dateTime);
      if (!("moment" in each.dataset)) each.title = moment.format(then);
      each.textContent = "ago" in each.dataset ? ago(then) : ("hour" in each.dataset ? hour : moment).format(then);
    }
  }

  document.addEventListener("DOMContentLoaded", () => write(document));
  document.addEventListener("htmx:afterSwap", () => write(document));
  setInterval(() => { if (!document.hidden) write(document); }, 20_000);
})();
