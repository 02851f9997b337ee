// Uploads: every file in parts, several parts at once, going on where it stopped after a lost connection, a closed tab or a restart.
// Uppy cuts the files and keeps the parts in order; where a part goes, and what is there already, the farm's API says.
(() => {
  const PARTS_AT_ONCE = 4;
  const FILES_AT_ONCE = 4;
  const RETRY_MS = [500, 1500, 4000];
  const PATIENCE_MS = [2000, 5000, 10_000, 20_000, 30_000]; // between tries once Uppy's own are used up; the last one for ever

  /** What the farm answered instead of doing it; `status` 0: there was no answer. */
  class Refusal extends Error {
    constructor(status, message) {
      super(message);
      this.status = status;
      this.source = { status }; // where Uppy looks for it
    }

    /** The same may work later: the connection is gone, the farm is restarting, or its disk is full. */
    get passes() { return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500; }
  }

  async function ask(url, { csrf, ...options }) {
    let answer;
    try {
      answer = await fetch(url, { ...options, headers: { "Content-Type": "application/json", "X-CSRFToken": csrf }, credentials: "same-origin" });
    } catch {
      throw new Refusal(0, "The farm does not answer. Trying again.");
    }
    if (answer.status === 401) throw new Refusal(401, "You were signed out. Sign in and drop it again: it goes on where it stopped.");
    const body = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Refusal(answer.status, body.detail || body.title || `The farm answered ${answer.status}.`);
    return body;
  }

  /** PUT one part. Answers its ETag; null where the browser may not read it. */
  function sendPart(url, body, onProgress, signal) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      const abort = () => request.abort();
      signal?.addEventListener("abort", abort, { once: true });
      request.open("PUT", url);
      request.upload.addEventListener("progress", onProgress);
      request.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
      request.addEventListener("error", () => reject(new Refusal(0, "The connection was lost. Trying again.")));
      request.addEventListener("load", () => {
        if (request.status < 300) resolve(request.getResponseHeader("ETag"));
        else reject(new Refusal(request.status, problemIn(request.responseText) ?? `The farm's store answered ${request.status}.`));
      });
      request.addEventListener("loadend", () => signal?.removeEventListener("abort", abort));
      request.send(body);
    });
  }

  function problemIn(text) {
    try {
      return JSON.parse(text).detail;
    } catch {
      return null;
    }
  }

  /** The uploads of one job. Events: `change` when an item looks different, `landed` when a file is whole. */
  class UploadQueue extends EventTarget {
    items = []; // {path, file, bytes, sent, state: waiting | sending | finishing | done | error | skipped, note}
    #api;
    #csrf;
    #uppy;
    #waiting = [];
    #busy = 0;
    #throughApp = false;
    #paused = false;

    constructor({ api, csrf }) {
      super();
      this.#api = api;
      this.#csrf = csrf;
      this.#uppy = new UppyKiln.Uppy({ autoProceed: true, logger: { debug() {}, warn() {}, error() {} } });
      this.#uppy.use(UppyKiln.AwsS3, {
        limit: PARTS_AT_ONCE,
        retryDelays: RETRY_MS,
        shouldUseMultipart: true,
        getChunkSize: (data) => this.#plans.get(data).part_bytes,
        createMultipartUpload: async (file) => ({ uploadId: this.#itemOf(file).plan.id, key: file.meta.path }),
        listParts: async (file) => [...this.#itemOf(file).etags].map(([PartNumber, ETag]) => ({ PartNumber, ETag })),
        signPart: (file, { partNumber }) => this.#whereTo(this.#itemOf(file), partNumber),
        uploadPartBytes: (part) => this.#sendOrSkip(part),
        completeMultipartUpload: (file, { parts }) => this.#complete(this.#itemOf(file), parts),
        abortMultipartUpload: async () => {}, // what is there stays there: the upload may go on tomorrow
      });
      this.#uppy.on("upload-progress", (file, progress) => {
        const item = this.#itemOf(file);
        if (!item || item.state === "done") return;
        const sent = Math.min(progress.bytesUploaded ?? 0, item.bytes);
        if (sent <= item.sent) return;
        item.sent = sent;
        this.#show(item, sent === item.bytes ? "finishing" : "sending", "");
      });
      this.#uppy.on("upload-error", (file, error) => this.#failed(this.#itemOf(file), error));
      this.#uppy.on("upload-success", (file) => this.#ended(this.#itemOf(file)));
      addEventListener("online", () => { for (const item of this.items) item.wake?.(); });
    }

    #plans = new WeakMap(); // the file's data -> its plan, which says how long a part is

    get paused() { return this.#paused; }

    get running() { return this.items.some((item) => ["waiting", "sending", "finishing"].includes(item.state)); }

    /** Take a file in. One that is on its way already under that path is not taken twice. */
    add(file, path) {
      if (this.items.some((item) => item.path === path && ["waiting", "sending", "finishing"].includes(item.state))) return;
      this.items = this.items.filter((item) => item.path !== path);
      const item = { path, file, bytes: file.size, sent: 0, state: "waiting", note: "", tries: 0, etags: new Map() };
      this.items.push(item);
      if (file.size === 0) {
        this.#show(item, "skipped", "Left out: the file is empty.");
        return;
      }
      this.#waiting.push(item);
      this.#show(item, "waiting", "");
      this.#admit();
    }

    pause(on) {
      this.#paused = on;
      if (on) this.#uppy.pauseAll();
      else this.#uppy.resumeAll();
      if (!on) this.#admit();
      this.dispatchEvent(new CustomEvent("change", { detail: null }));
    }

    #admit() {
      while (this.#busy < FILES_AT_ONCE && this.#waiting.length && !this.#paused) {
        this.#busy++;
        this.#begin(this.#waiting.shift());
      }
    }

    async #begin(item) {
      for (;;) {
        try {
          await this.#plan(item);
          break;
        } catch (error) {
          if (!(error instanceof Refusal) || !error.passes) {
            this.#ended(item, error);
            return;
          }
          this.#show(item, "waiting", error.message);
          await this.#patience(item);
        }
      }
      const id = this.#uppy.addFile({ name: item.path, type: item.file.type, data: item.file, meta: { path: item.path, item } });
      item.uppy = id;
    }

    /** Ask the farm where the parts go. Asking again for the same file goes on with the same upload. */
    async #plan(item) {
      const query = this.#throughApp ? "?through=app" : "";
      const body = JSON.stringify({ path: item.path, bytes: item.bytes, modified_ms: item.file.lastModified });
      const plan = await ask(this.#api + query, { csrf: this.#csrf, method: "POST", body });
      item.plan = plan;
      item.urls = new Map(plan.parts.map((part) => [part.number, part.url]));
      item.etags = new Map(plan.received.map((part) => [part.number, part.etag]));
      item.sent = plan.received.reduce((sum, part) => sum + part.bytes, 0);
      item.isStale = false;
      this.#plans.set(item.file, plan);
    }

    /** The address of a part; of one that is there, its ETag. */
    async #whereTo(item, number) {
      if (item.isStale) {
        item.replanning ??= this.#plan(item).finally(() => { item.replanning = null; });
        await item.replanning;
      }
      if (item.etags.has(number)) return { etag: item.etags.get(number) };
      return { url: item.urls.get(number), item, number };
    }

    async #sendOrSkip({ signature, body, onProgress, onComplete, signal }) {
      if ("etag" in signature) {
        onProgress({ loaded: body.size, lengthComputable: true });
        onComplete(signature.etag);
        return { ETag: signature.etag };
      }
      const { url, item, number } = signature;
      try {
        const etag = (await sendPart(url, body, onProgress, signal)) ?? "";
        item.etags.set(number, etag);
        item.tries = 0;
        onComplete(etag);
        return { ETag: etag };
      } catch (error) {
        throw error instanceof Refusal ? this.#secondThought(error, item, url) : error;
      }
    }

    /** What a failed part tells: the store is out of this browser's reach, or the address is no longer good. Both call for another address. */
    #secondThought(error, item, url) {
      const isForeign = new URL(url, location.href).origin !== location.origin;
      if (error.status === 0 && isForeign && navigator.onLine) this.#throughApp = true;
      if (error.status === 0 || [403, 404].includes(error.status)) item.isStale = true;
      if (error.status === 0) this.#show(item, "waiting", error.message);
      return [403, 404].includes(error.status) ? new Refusal(0, error.message) : error;
    }

    async #complete(item, parts) {
      this.#show(item, "finishing", "");
      let sent = parts.map((part) => ({ number: part.PartNumber, etag: part.ETag }));
      if (sent.some((part) => !part.etag)) {
        await this.#plan(item); // the store does not let the browser read ETags: the farm knows them
        sent = [...item.etags].map(([number, etag]) => ({ number, etag }));
      }
      const url = `${this.#api}/${item.plan.id}/complete`;
      try {
        item.answer = await ask(url, { csrf: this.#csrf, method: "POST", body: JSON.stringify({ parts: sent }) });
      } catch (error) {
        item.isStale = true; // a part that got lost on the way shows in a fresh plan
        throw error;
      }
      return { location: "" };
    }

    async #failed(item, error) {
      if (!item || item.state === "done" || item.state === "error") return;
      const status = error?.source?.status ?? error?.status;
      const isLostPart = status === 422 && item.tries < 3;
      if (error?.name === "AbortError") return;
      if (status !== undefined && !new Refusal(status, "").passes && !isLostPart) {
        this.#ended(item, error);
        return;
      }
      item.isStale = true;
      this.#show(item, "waiting", error.message);
      await this.#patience(item);
      if (this.#uppy.getFile(item.uppy)) this.#uppy.retryUpload(item.uppy).catch(() => {});
    }

    /** Wait before the next try, longer each time, or until the connection is back. */
    #patience(item) {
      const wait = PATIENCE_MS[Math.min(item.tries++, PATIENCE_MS.length - 1)];
      return new Promise((resolve) => {
        const timer = setTimeout(resolve, wait);
        item.wake = () => { clearTimeout(timer); resolve(); };
      });
    }

    #ended(item, error = null) {
      if (!item || item.state === "done" || item.state === "error") return;
      this.#busy--;
      if (item.uppy && this.#uppy.getFile(item.uppy)) this.#uppy.removeFile(item.uppy);
      item.file = null;
      if (error) {
        this.#show(item, "error", error.message);
      } else {
        item.sent = item.bytes;
        this.#show(item, item.answer?.status === "bad" ? "error" : "done", item.answer?.problem ?? "");
        this.dispatchEvent(new CustomEvent("landed", { detail: item }));
      }
      this.#admit();
    }

    #itemOf(file) { return this.#uppy.getFile(file?.id)?.meta.item ?? file?.meta?.item; }

    #show(item, state, note) {
      item.state = state;
      item.note = note;
      this.dispatchEvent(new CustomEvent("change", { detail: item }));
    }
  }

  window.KilnUploadQueue = UploadQueue;
})();
