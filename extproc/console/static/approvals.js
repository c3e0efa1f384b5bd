// Approvals: the time left counts down, what is new is notified of, and what has ended cannot be decided any more.
"use strict";
(() => {
  const timed = document.querySelector("[data-now]");
  // The clock of this machine may be wrong; what counts is the console's.
  const skew = Number(timed.dataset.now) - Date.now() / 1000;

  function countDown() {
    document.querySelectorAll("[data-expires]").forEach((one) => {
      const left = Math.max(0, Math.floor(Number(one.dataset.expires) - Date.now() / 1000 - skew));
      const shown = one.querySelector("b") || one.appendChild(document.createElement("b"));
      const seconds = String(left % 60).padStart(2, "0");
      shown.textContent = left ? ` ${Math.floor(left / 60)}:${seconds} left` : " time is up";
      one.classList.toggle("soon", left < 60);
    });
  }
  setInterval(countDown, 1000);
  countDown();

  // --- One approval ---------------------------------------------------------------------------------------------------

  function close() {
    const form = document.querySelector("form.verdict");
    if (!form || !document.querySelector("[data-ended]")) return;
    form.querySelectorAll("button, input, textarea").forEach((one) => { one.disabled = true; });
    form.hidden = true;
  }
  document.addEventListener("live:changed", () => { countDown(); close(); });

  // --- What waits -----------------------------------------------------------------------------------------------------

  const waiting = document.querySelector("[data-waiting]");
  const button = document.querySelector("[data-notify]");
  if (!waiting) return;
  const rows = () => [...waiting.querySelectorAll("[data-approval]")];
  const known = new Set(rows().map((one) => one.dataset.approval));
  const name = document.title.replace(/^\(\d+\) /, "");

  function changed() {
    const shown = rows();
    document.title = shown.length ? `(${shown.length}) ${name}` : name;
    shown.filter((one) => !known.has(one.dataset.approval)).forEach((one) => {
      known.add(one.dataset.approval);
      if (!("Notification" in window) || Notification.permission !== "granted") return;
      const notice = new Notification("An approval waits for you", { body: one.dataset.summary, tag: one.dataset.approval });
      notice.onclick = () => { window.focus(); location.href = one.dataset.href; };
    });
  }
  waiting.addEventListener("live:changed", changed);

  // A page that nobody sees is not kept up to date by console.js; then is when a notification is wanted.
  setInterval(async () => {
    if (!document.hidden || !("Notification" in window) || Notification.permission !== "granted") return;
    try {
      const response = await fetch(waiting.dataset.live, { headers: { "x-fragment": "1" }, redirect: "error" });
      if (!response.ok) return;
      waiting.innerHTML = markup.createHTML(await response.text());
      changed();
    } catch { /* The next time may do. */ }
  }, 5000);

  function offer() {
    button.hidden = !("Notification" in window) || Notification.permission !== "default";
  }
  button.addEventListener("click", async () => { await Notification.requestPermission(); offer(); });
  offer();
})();
