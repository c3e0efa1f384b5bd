// What every page does: live parts, the theme, the keyboard. No page needs it to be read.
"use strict";

// The only way to markup (Trusted Types): what our own server rendered, with everything escaped in it.
const markup = window.trustedTypes
  ? trustedTypes.createPolicy("console", { createHTML: (html) => html })
  : { createHTML: (html) => html };

// --- Live parts: <section data-live="/url" data-every="2000"> is fetched again and again, as a part of its page ---------

function keep(part) {
  const every = Number(part.dataset.every || 3000);
  let last = null;
  async function fetchOnce() {
    if (!part.isConnected) return;
    const busy = part.contains(document.activeElement) && document.activeElement.matches("input, textarea, select, a, button, tr");
    if (!document.hidden && !busy && !part.hasAttribute("data-paused")) {
      try {
        const response = await fetch(part.dataset.live, { headers: { "x-fragment": "1" }, redirect: "error" });
        if (response.ok) {
          const html = await response.text();
          if (html !== last) {
            last = html;
            part.innerHTML = markup.createHTML(html);
            part.dispatchEvent(new CustomEvent("live:changed", { bubbles: true }));
          }
          part.removeAttribute("data-stale");
        } else {
          stale(part, response.status === 401 ? "You are signed out: load the page again." : "Not up to date: the console does not answer.");
          if (response.status === 401) return;
        }
      } catch {
        stale(part, "Not up to date: the console does not answer.");
      }
    }
    setTimeout(fetchOnce, every);
  }
  setTimeout(fetchOnce, every);
}

function stale(part, text) {
  if (part.dataset.stale === text) return;
  part.dataset.stale = text;
  const note = document.createElement("p");
  note.className = "notice bad";
  note.setAttribute("role", "status");
  note.textContent = text;
  part.prepend(note);
}

document.querySelectorAll("[data-live]").forEach(keep);

// --- The theme: as the system says, or as chosen here -------------------------------------------------------------------

const chosen = localStorage.getItem("theme");
if (chosen) document.documentElement.dataset.theme = chosen;
document.querySelector("[data-theme-switch]")?.addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
});

// --- The keyboard -------------------------------------------------------------------------------------------------------

const places = { o: "/", s: "/sessions", a: "/approvals", f: "/findings", t: "/trace" };
let afterG = 0;

function move(step) {
  const rows = [...document.querySelectorAll("tr[data-href]")];
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.classList.contains("current"));
  const next = rows[Math.min(Math.max(at + step, 0), rows.length - 1)];
  rows.forEach((row) => row.classList.toggle("current", row === next));
  next.querySelector("a")?.focus();
  next.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
  if (Date.now() < afterG && places[event.key]) {
    location.href = places[event.key];
  } else if (event.key === "g") {
    afterG = Date.now() + 1500;
  } else if (event.key === "/") {
    const search = document.querySelector("[data-search]");
    if (search) { search.focus(); event.preventDefault(); }
  } else if (event.key === "j") {
    move(1);
  } else if (event.key === "k") {
    move(-1);
  } else if (event.key === "?") {
    document.getElementById("help").showModal();
  }
});
document.querySelector("[data-help-open]")?.addEventListener("click", () => document.getElementById("help").showModal());
document.addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-href]");
  if (row && !event.target.closest("a, button, input, summary") && !getSelection().toString()) location.href = row.dataset.href;
});
