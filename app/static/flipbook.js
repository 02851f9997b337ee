// The viewer: the received frames as a flip-book. Which there are stands on the polled region of previews; this only shows them.
(() => {
  const viewer = document.getElementById("viewer");
  const picture = document.getElementById("viewer-picture");
  const label = document.getElementById("viewer-frame");
  const slider = document.getElementById("viewer-slider");
  const playButton = document.getElementById("viewer-play");
  const followButton = document.getElementById("viewer-follow");
  const FPS = Math.min(Math.max(Number(viewer.dataset.fps), 1), 60);
  const AHEAD = 12; // pictures fetched before they are due
  const loaded = new Map(); // address -> Image, the newest AHEAD * 8 of them

  let frames = []; // [number, attempt], by number
  let base = "";
  let newest = null;
  let shown = null; // number of the frame that is shown
  let timer = 0;

  function parse(runs) {
    const list = [];
    for (const group of runs ? runs.split(";") : []) {
      const [attempt, spec] = group.split(/:(.*)/s);
      for (const part of spec.split(",")) {
        const [, first, last, step] = part.match(/^(-?\d+)(?:-(-?\d+)x(\d+))?$/);
        for (let n = +first; n <= +(last ?? first); n += +(step ?? 1)) list.push([n, attempt]);
      }
    }
    return list.sort((a, b) => a[0] - b[0]);
  }

  const address = ([number, attempt]) => `${base}${number}/preview?attempt=${attempt}`;

  function fetchPicture(frame) {
    const url = address(frame);
    let image = loaded.get(url);
    if (!image) {
      image = new Image();
      image.src = url;
      loaded.set(url, image);
      if (loaded.size > AHEAD * 8) loaded.delete(loaded.keys().next().value);
    }
    return image;
  }

  function show(index) {
    const frame = frames[index];
    if (!frame) return;
    shown = frame[0];
    slider.value = index;
    slider.setAttribute("aria-valuetext", `Frame ${shown}`);
    label.textContent = `Frame ${shown}`;
    picture.alt = `Frame ${shown}`;
    const image = fetchPicture(frame);
    const place = () => { if (shown === frame[0]) picture.src = image.src; };
    if (image.complete) place();
    else image.addEventListener("load", place, { once: true });
  }

  function follow(on) {
    followButton.setAttribute("aria-pressed", String(on));
    if (on) {
      play(false);
      show(frames.findIndex(([number]) => number === newest));
    }
  }

  function play(on) {
    clearTimeout(timer);
    timer = 0;
    playButton.setAttribute("aria-pressed", String(on));
    playButton.setAttribute("aria-label", on ? "Stop" : "Play");
    if (on) {
      followButton.setAttribute("aria-pressed", "false");
      step();
    }
  }

  function step() {
    const next = (Number(slider.value) + 1) % frames.length;
    for (let i = 0; i < AHEAD; i++) fetchPicture(frames[(next + i) % frames.length]);
    if (fetchPicture(frames[next]).complete) show(next); // else wait for it: better slow than torn
    timer = setTimeout(step, 1000 / FPS);
  }

  function read() {
    const source = document.querySelector("[data-previews]");
    frames = parse(source.dataset.runs);
    base = source.dataset.base;
    newest = Number(source.dataset.newest);
    viewer.hidden = frames.length === 0;
    slider.max = Math.max(0, frames.length - 1);
    playButton.disabled = frames.length < 2;
    if (followButton.getAttribute("aria-pressed") === "true") follow(true);
    else slider.value = Math.max(0, frames.findIndex(([number]) => number === shown));
  }

  slider.addEventListener("input", () => {
    play(false);
    follow(false);
    show(Number(slider.value));
  });
  playButton.addEventListener("click", () => play(!timer));
  followButton.addEventListener("click", () => follow(followButton.getAttribute("aria-pressed") !== "true"));
  document.addEventListener("htmx:afterSwap", (event) => { if (event.target.matches("[data-previews]")) read(); });
  document.addEventListener("visibilitychange", () => { if (document.hidden) play(false); });
  read();
})();
