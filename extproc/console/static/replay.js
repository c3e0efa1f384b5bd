// Play a session with its rhythm. Without this everything is simply there to be read.
"use strict";

(() => {
  const articles = [...document.querySelectorAll("article.exchange")];
  // For each article: when it starts and ends in the replay, and [time, text] for all that its answer grows by.
  const scenes = JSON.parse(document.getElementById("played").textContent);
  const total = scenes.length ? scenes[scenes.length - 1][1] : 0;
  const SPEEDS = [1, 2, 4, 8, 16];
  const player = document.querySelector("[data-player]");
  const control = (name) => player.querySelector(`[data-${name}]`);
  const progress = control("progress");

  // Milliseconds in the replay; null: everything is shown, as it is when the page is loaded.
  let at = null;
  let running = false;
  let speed = 0;
  let last = 0;
  let follows = true;
  let jumped = -1;
  const done = scenes.map(() => null);

  function clock(milliseconds) {
    const seconds = Math.floor(milliseconds / 1000);
    const two = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(seconds / 3600);
    const rest = `${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
    return hours ? `${hours}:${rest}` : rest;
  }

  // How many steps of an answer are shown: -1 for an exchange that has not begun, Infinity for one that has ended.
  function stepsOf([start, end, steps]) {
    if (at === null || at >= end) return Infinity;
    if (at < start) return -1;
    let count = 0;
    while (count < steps.length && steps[count][0] <= at) count += 1;
    return count;
  }

  function show(index) {
    const steps = stepsOf(scenes[index]);
    if (steps === done[index]) return false;
    const playing = articles[index].querySelector("[data-playing]");
    const inMiddle = steps >= 0 && steps !== Infinity;
    articles[index].hidden = steps < 0;
    playing.hidden = !inMiddle;
    articles[index].querySelector("[data-rendered]").hidden = inMiddle;
    playing.textContent = inMiddle ? scenes[index][2].slice(0, steps).map(([, text]) => text).join("") || "…" : "";
    done[index] = steps;
    return steps >= 0;
  }

  function current() {
    let found = -1;
    scenes.forEach(([start], index) => { if (at !== null && start <= at) found = index; });
    return found;
  }

  function paint() {
    let changed = false;
    articles.forEach((_, index) => { changed = show(index) || changed; });
    const told = at === null ? total : at;
    progress.value = String(told);
    progress.setAttribute("aria-valuetext", `${clock(told)} of ${clock(total)}`);
    control("time").textContent = `${clock(told)} / ${clock(total)}`;
    control("play").textContent = running ? "❚❚ Pause" : "▶ Play";
    control("speed").textContent = `${SPEEDS[speed]}×`;
    if (changed && running && follows) articles[current()]?.scrollIntoView({ block: "end" });
  }

  function tick(now) {
    if (!running) return;
    at += (now - last) * SPEEDS[speed];
    last = now;
    if (at >= total) {
      running = false;
      at = null;
    }
    paint();
    if (running) requestAnimationFrame(tick);
  }

  function play() {
    running = !running;
    if (running) {
      if (at === null) at = 0;
      follows = true;
      last = performance.now();
      requestAnimationFrame(tick);
    }
    paint();
  }

  function faster(step) {
    speed = Math.min(Math.max(speed + step, 0), SPEEDS.length - 1);
    paint();
  }

  function end() {
    running = false;
    at = null;
    paint();
  }

  function jump(kind) {
    const fitting = articles.map((article, index) => (article.hasAttribute(`data-${kind}`) ? index : -1)).filter((index) => index >= 0);
    const told = control("told");
    if (!fitting.length) {
      told.textContent = `No ${kind} here.`;
      return;
    }
    const next = fitting.find((index) => index > jumped) ?? fitting[0];
    told.textContent = `${kind} ${fitting.indexOf(next) + 1} of ${fitting.length}`;
    jumped = next;
    running = false;
    if (at !== null) at = Math.max(scenes[next][1], scenes[next][0]);
    paint();
    const mark = kind === "finding" ? articles[next].querySelector("mark.finding:not(.unknown)") : null;
    for (let around = mark?.closest("details"); around; around = around.parentElement.closest("details")) around.open = true;
    (mark || articles[next]).focus({ focusVisible: true });
    (mark || articles[next]).scrollIntoView({ block: mark ? "center" : "start" });
  }

  player.hidden = false;
  progress.max = String(Math.ceil(total));
  paint();
  control("play").addEventListener("click", play);
  control("slower").addEventListener("click", () => faster(-1));
  control("faster").addEventListener("click", () => faster(1));
  control("end").addEventListener("click", end);
  progress.addEventListener("input", () => {
    at = Number(progress.value) >= total ? null : Number(progress.value);
    last = performance.now();
    if (at === null) running = false;
    paint();
  });
  player.querySelectorAll("[data-jump]").forEach((button) => button.addEventListener("click", () => jump(button.dataset.jump)));
  // Who scrolls away wants to read there.
  ["wheel", "touchmove"].forEach((name) => addEventListener(name, () => { follows = false; }, { passive: true }));

  const keys = { "+": () => faster(1), "=": () => faster(1), "-": () => faster(-1), n: () => jump("finding"), w: () => jump("approval"), e: () => jump("error") };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.matches("input:not([type=range]), textarea, select")) return;
    if (event.key === " " && !event.target.matches("button, a, summary")) {
      event.preventDefault();
      play();
    } else if (event.key === "End" && at !== null) {
      event.preventDefault();
      end();
    } else if (keys[event.key]) {
      keys[event.key]();
    }
  });

  // --- Proofs, in place; without this the form leads to a page of its own -----------------------------------------------

  function refused(place, text) {
    const note = document.createElement("p");
    note.className = "notice bad";
    note.setAttribute("role", "alert");
    note.textContent = text;
    place.replaceChildren(note);
  }

  document.querySelectorAll("form[data-prove]").forEach((form) => form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const place = form.closest("article").querySelector("[data-proof]");
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      const body = new URLSearchParams(new FormData(form));
      const response = await fetch(form.action, { method: "POST", headers: { "x-fragment": "1" }, body, redirect: "error" });
      const text = await response.text();
      if (response.ok) place.innerHTML = markup.createHTML(text);
      else refused(place, text);
    } catch {
      refused(place, "The console does not answer; this proves nothing.");
    } finally {
      button.disabled = false;
      button.focus();
    }
  }));
})();
