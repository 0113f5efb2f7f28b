"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const results = all(".r").map((element) => ({ element, status: element.classList[1], text: "" }));
  const byId = new Map(results.map((result) => [result.element.id, result]));
  const box = document.getElementById("q");
  const buttons = all(".counts button");
  const wanted = new Set();

  // Text for the search, without tables and sources, in which common words would match everywhere.
  function searchable(result) {
    if (!result.text) {
      const parts = all(":scope > summary, .about, h4, .rule, .src > summary", result.element);
      const suite = result.element.closest(".suite").querySelector("h3");
      const texts = [suite, ...parts].map((part) => part.textContent);
      result.text = [...texts, result.element.dataset.q].join("\n").toLowerCase();
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
    for (const holder of all(".problems li, .broken li, #matrix .m tbody tr")) {
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

  // Passed tests are compressed, because the page would open slowly with a thousand of them.
  let unpacked;
  function bodies() {
    unpacked ??= (async () => {
      const packed = Uint8Array.from(atob(document.getElementById("packed").textContent), (c) => c.charCodeAt(0));
      const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
      return new Response(stream).json();
    })();
    return unpacked;
  }

  async function unpack(element) {
    if (!("packed" in element.dataset)) return;
    delete element.dataset.packed;
    element.insertAdjacentHTML("beforeend", (await bodies())[element.id]);
    makeReachable(element);
  }

  // Show the numbers of a time-line at the step under the pointer; a range "from A to B" is interpolated for the step.
  const readout = document.createElement("output");
  readout.className = "readout";
  readout.hidden = true;
  document.body.append(readout);

  function textAt(part, x) {
    const box = part.getBoundingClientRect();
    const text = part.querySelector("title").textContent;
    const range = text.match(/^steps (\d+) to (\d+)/);
    if (!range) return text;
    const [first, last] = range.slice(1).map(Number);
    const offset = Math.min(last - first, Math.floor(((x - box.left) / box.width) * (last - first + 1)));
    const [head, ...rest] = text.replace(range[0], `step ${first + offset}`).split("\n");
    const at = (line) => line.replace(/(\d+) to (\d+)/g, (_, a, b) => +a + Math.sign(b - a) * Math.min(offset, Math.abs(b - a)));
    return [head, ...rest].map(at).join("\n");
  }

  document.addEventListener("pointermove", (event) => {
    const part = event.target.closest?.(".timeline .hover, .tokens .hover");
    readout.hidden = !part;
    if (!part) return;
    readout.value = textAt(part, event.clientX);
    const left = Math.min(event.clientX + 14, innerWidth - readout.offsetWidth - 8);
    const below = event.clientY + 18 + readout.offsetHeight < innerHeight;
    readout.style.left = `${Math.max(4, left)}px`;
    readout.style.top = `${below ? event.clientY + 18 : event.clientY - readout.offsetHeight - 8}px`;
  });

  // Links use the name of a test, so that they also work on the page of another run.
  function named(test) {
    const [file, name] = test.split("::");
    return results.find(({ element }) => {
      if (element.closest(".suite").dataset.file !== file) return false;
      const [code, configuration] = all(":scope > summary > code, :scope > summary > .c", element);
      return (configuration ? `${code.textContent}[${configuration.textContent}]` : code.textContent) === name;
    });
  }

  function target() {
    const hash = location.hash.slice(1);
    if (byId.has(hash) || !hash.includes("::") && !hash.includes("%3A%3A")) return byId.get(hash);
    try {
      return named(decodeURIComponent(hash));
    } catch {
      return undefined; // an invalid hash
    }
  }

  async function openTarget() {
    const result = target();
    if (!result) return;
    if (result.element.hidden) showAll();
    result.element.open = true;
    result.element.scrollIntoView();
    await unpack(result.element); // before scrolling, because unpacking changes the height of the page
    result.element.scrollIntoView();
  }

  // n and p: go to the next and previous failed test among the visible ones.
  const problems = new Set(["failed", "error", "flaky", "xpassed"]);
  let at = -1;
  function toProblem(step) {
    const shown = results.filter(({ element, status }) => problems.has(status) && !element.hidden);
    if (!shown.length) return;
    at = (at + step + shown.length + (at < 0 && step < 0 ? 1 : 0)) % shown.length;
    const { element } = shown[at];
    element.open = true;
    element.scrollIntoView();
    element.querySelector("summary").focus({ preventScroll: true });
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
  document.addEventListener("toggle", (event) => event.target.open && unpack(event.target), true);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input")) {
      event.preventDefault();
      box.focus();
    } else if (event.key === "Escape" && event.target === box) {
      showAll();
    } else if ((event.key === "n" || event.key === "p") && !event.target.closest("input") && !event.ctrlKey && !event.metaKey) {
      toProblem(event.key === "n" ? 1 : -1);
    }
  });
  document.getElementById("all").addEventListener("click", showAll);
  window.addEventListener("hashchange", openTarget);
  // A link to the current hash triggers no hashchange event.
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!link) return;
    if (link.dataset.find) {
      showAll();
      box.value = link.dataset.find;
      filter();
    }
    setTimeout(openTarget);
  });
  // Horizontally scrolling elements must be reachable by keyboard.
  function makeReachable(root) {
    for (const scroller of all(".wide, figure, .legend, pre:not([aria-hidden])", root)) scroller.tabIndex = 0;
  }
  makeReachable(document);
  document.querySelector(".bar").hidden = false;
  filter();
  openTarget();
})();
