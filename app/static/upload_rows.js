// What a person sees of the uploads: a line and a bar for all, a row for each that is on its way or has a problem.
(() => {
  const ROWS = 60; // of thousands of files, so many are shown
  const STATES = { sending: 0, finishing: 1, waiting: 2, error: 3, skipped: 4 };

  const size = (bytes) => {
    const units = ["B", "KB", "MB", "GB", "TB"];
    let unit = 0;
    while (bytes >= 1000 && unit < units.length - 1) { bytes /= 1000; unit++; }
    return `${unit && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
  };

  const left = (seconds) => {
    if (seconds < 60) return "less than a minute left";
    return seconds < 5400 ? `about ${Math.round(seconds / 60)} min left` : `about ${Math.round(seconds / 1800) / 2} h left`;
  };

  class UploadRows {
    #queue;
    #rows = new Map(); // item -> its row
    #timer = 0;
    #samples = []; // [ms, bytes sent], of the last seconds

    constructor(queue) {
      this.#queue = queue;
      this.box = document.getElementById("uploads");
      this.text = document.getElementById("uploads-text");
      this.bar = document.getElementById("uploads-bar");
      this.list = document.getElementById("uploads-rows");
      this.pause = document.getElementById("uploads-pause");
      this.pause.addEventListener("click", () => queue.pause(!queue.paused));
      queue.addEventListener("change", () => { this.#timer ||= setTimeout(() => this.#draw(), 120); });
    }

    #draw() {
      this.#timer = 0;
      const items = this.#queue.items;
      const counted = items.filter((item) => item.state !== "skipped" && item.state !== "error");
      const total = counted.reduce((sum, item) => sum + item.bytes, 0);
      const sent = counted.reduce((sum, item) => sum + item.sent, 0);
      const done = counted.filter((item) => item.state === "done").length;
      const running = this.#queue.running;
      this.box.hidden = !running && !items.some((item) => item.note);
      this.bar.max = Math.max(total, 1);
      this.bar.value = sent;
      this.bar.hidden = !running;
      this.pause.hidden = !running;
      this.pause.textContent = this.#queue.paused ? "Go on" : "Pause";
      this.pause.setAttribute("aria-pressed", String(this.#queue.paused));
      this.text.textContent = this.#headline(counted.length, done, sent, total, running);
      this.#drawRows(items);
    }

    #headline(files, done, sent, total, running) {
      if (!running) return done ? `${done} ${done === 1 ? "file" : "files"} uploaded` : "";
      if (this.#queue.paused) return `Paused: ${size(sent)} of ${size(total)}`;
      const now = performance.now();
      this.#samples.push([now, sent]);
      while (this.#samples[0][0] < now - 8000) this.#samples.shift();
      const [then, before] = this.#samples[0];
      const speed = now - then > 1500 ? Math.max(0, (sent - before) / (now - then) * 1000) : 0;
      const rest = speed > 1000 ? `, ${size(speed)}/s, ${left((total - sent) / speed)}` : "";
      return `Uploading ${files - done} of ${files} ${files === 1 ? "file" : "files"}: ${size(sent)} of ${size(total)}${rest}`;
    }

    #drawRows(items) {
      const shown = items.filter((item) => item.state in STATES).sort((a, b) => STATES[a.state] - STATES[b.state]).slice(0, ROWS);
      const wanted = new Set(shown);
      for (const [item, row] of this.#rows) {
        if (!wanted.has(item)) {
          row.remove();
          this.#rows.delete(item);
        }
      }
      for (const item of shown) {
        let row = this.#rows.get(item);
        if (!row) {
          row = this.#newRow(item);
          this.#rows.set(item, row);
          this.list.append(row);
        }
        this.#fill(row, item);
      }
    }

    #newRow(item) {
      const row = document.createElement("li");
      row.className = "upload";
      row.append(document.createElement("span"), document.createElement("span"), document.createElement("progress"), document.createElement("span"));
      const [name, amount, bar, note] = row.children;
      name.className = "upload-name";
      name.textContent = item.path;
      amount.className = "small muted num";
      bar.className = "thin";
      bar.max = Math.max(item.bytes, 1);
      bar.setAttribute("aria-label", item.path);
      note.className = "upload-note";
      return row;
    }

    #fill(row, item) {
      const [, amount, bar, note] = row.children;
      row.dataset.state = item.state;
      amount.textContent = item.state === "skipped" ? "" : `${size(item.sent)} of ${size(item.bytes)}`;
      bar.hidden = item.state === "error" || item.state === "skipped";
      bar.value = item.sent;
      note.textContent = item.note || (item.state === "finishing" ? "Being looked through…" : "");
      note.hidden = !note.textContent;
    }
  }

  window.KilnUploadRows = UploadRows;
})();
