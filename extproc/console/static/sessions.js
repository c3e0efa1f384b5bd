// A URL that is shared says only what was asked for: empty fields are not sent.
"use strict";

document.querySelectorAll("form[data-tidy]").forEach((form) => {
  form.addEventListener("submit", () => {
    const empty = [...form.elements].filter((field) => field.name && !field.value.trim());
    empty.forEach((field) => { field.disabled = true; });
    // Who comes back to this page finds them as they were.
    addEventListener("pagehide", () => empty.forEach((field) => { field.disabled = false; }), { once: true });
  });
});
