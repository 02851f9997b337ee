// The drop zone: dropped files, folders and picked ones go into the upload queue, each with its relative path.
(() => {
  const JUNK = /(^|\/)(\.DS_Store|Thumbs\.db|desktop\.ini|__MACOSX|\.git)(\/|$)|\.blend\d+$/i;
  const zone = document.getElementById("drop");
  const queue = new KilnUploadQueue({ api: zone.dataset.api, csrf: document.querySelector("meta[name=csrf-token]").content });
  const rows = new KilnUploadRows(queue);

  let lookAgain = 0;
  queue.addEventListener("landed", () => {
    // one look for many small files that land at once
    lookAgain ||= setTimeout(() => {
      lookAgain = 0;
      htmx.trigger(document.body, "job-changed");
    }, 250);
  });

  let isBegun = false;
  queue.addEventListener("change", () => {
    // the first of many has begun: the page learns that files are on their way, and looks by itself from then on
    if (isBegun || !queue.items.some((item) => item.plan)) return;
    isBegun = true;
    htmx.trigger(document.body, "job-changed");
  });

  function take(files) {
    for (const file of files) {
      const path = (file.relativePath || file.webkitRelativePath || file.name).replace(/^\/+/, "");
      if (!JUNK.test(path)) queue.add(file, path);
    }
  }

  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("is-over");
  });
  zone.addEventListener("dragleave", (event) => { if (!zone.contains(event.relatedTarget)) zone.classList.remove("is-over"); });
  zone.addEventListener("drop", async (event) => {
    event.preventDefault();
    zone.classList.remove("is-over");
    take(await UppyKiln.getDroppedFiles(event.dataTransfer));
  });
  // a file dropped beside the zone would make the browser leave the page and lose the uploads
  for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());

  for (const id of ["pick-files", "pick-folder"]) {
    const input = document.getElementById(id);
    input.addEventListener("change", () => {
      take([...input.files]);
      input.value = "";
    });
  }

  addEventListener("beforeunload", (event) => { if (queue.running) event.preventDefault(); });
  rows.box.dataset.ready = "";
})();
