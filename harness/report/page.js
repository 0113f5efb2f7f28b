"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const results = all(".r").map((element) => ({ element, status: element.classList[1], text: "" }));
  const byId = new Map(results.map((result) => [result.element.id, result]));
  const box = document.getElementById("q");
  const buttons = all(".counts button");
  const wanted = new Set();

  // What a person would look for; not the tables and sources, where every word would match everywhere.
  function searchable(result) {
    if (!result.text) {
      const parts = all(":scope > summary, .about, h4, .rule, .src > summary", result.element);
      const suite = result.element.closest(".suite").querySelector("h3");
      result.text = [suite, ...parts].map((part) => part.textContent).join("\n").toLowerCase();
    }
    return result.text;
  }

  function filter() {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const result of results) {
      const matches = (!wanted.size || wanted.has(result.status)) && words.every((w) => searchable(result).includes(w));
      result.element.hidden = !matches;
      shown += matches;
    }
    const leadsToShown = (link) => !byId.get(link.hash.slice(1)).element.hidden;
    for (const holder of all(".problems li, .m tbody tr")) {
      holder.hidden = !all("a", holder).some(leadsToShown);
    }
    for (const suite of all(".suite")) suite.hidden = !all(".r, .m tbody tr", suite).some((part) => !part.hidden);
    for (const part of all("#problems, #matrix, #results")) {
      part.hidden = !all(".r, li, .m tbody tr", part).some((item) => !item.hidden);
    }
    const filtering = Boolean(words.length || wanted.size);
    document.getElementById("shown").value = filtering ? `${shown} of ${results.length} shown` : "";
    document.getElementById("all").hidden = !filtering;
    document.getElementById("none").hidden = shown > 0 || !filtering;
  }

  function showAll() {
    wanted.clear();
    box.value = "";
    for (const button of buttons) button.setAttribute("aria-pressed", "false");
    filter();
  }

  function openTarget() {
    const result = byId.get(location.hash.slice(1));
    if (!result) return;
    if (result.element.hidden) showAll();
    result.element.open = true;
    result.element.scrollIntoView();
  }

  for (const button of buttons) {
    button.disabled = false;
    button.addEventListener("click", () => {
      const status = button.dataset.status;
      const pressed = !wanted.delete(status) && Boolean(wanted.add(status));
      button.setAttribute("aria-pressed", String(pressed));
      filter();
    });
  }
  box.addEventListener("input", filter);
  document.getElementById("all").addEventListener("click", showAll);
  window.addEventListener("hashchange", openTarget);
  // A link to where one is already changes no hash.
  document.addEventListener("click", (event) => {
    if (event.target.closest('a[href^="#"]')) setTimeout(openTarget);
  });
  // What scrolls sideways must be reachable by keyboard.
  for (const scroller of all(".wide, pre")) scroller.tabIndex = 0;
  document.querySelector(".bar").hidden = false;
  filter();
  openTarget();
})();
