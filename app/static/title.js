// The tab says how far the job is, for whoever looks at another one.
(() => {
  const write = () => {
    const head = document.querySelector("[data-title]");
    if (head) document.title = head.dataset.title;
  };
  document.addEventListener("htmx:afterSwap", write);
  write();
})();
