"use strict";
(() => {
  const EVERY = 5000;
  let last = Date.now(), paused = false, busy = false;
  const button = document.getElementById("pause"), words = document.getElementById("updated"), silent = document.getElementById("silent");
  const time = (at) => new Date(at).toLocaleTimeString();

  // The reader is at work: nothing may move under selected text, a field being filled in, or a page that nobody sees.
  const occupied = () => {
    const selection = getSelection(), focused = document.activeElement;
    return paused || document.hidden || (selection && !selection.isCollapsed) || (focused && /^(INPUT|SELECT)$/.test(focused.tagName));
  };

  // What a place is remembered by: the topmost visible element that the next page has, too.
  const anchor = () => {
    for (const each of document.querySelectorAll("[data-key]")) {
      const box = each.getBoundingClientRect();
      if (box.bottom > 0 && box.height) return { key: each.dataset.key, top: box.top };
    }
    return null;
  };
  const restore = (place) => {
    if (!place || scrollY === 0) return;
    const found = document.querySelector(`[data-key="${CSS.escape(place.key)}"]`);
    if (found) scrollBy({ top: found.getBoundingClientRect().top - place.top, behavior: "instant" });
  };

  const keepFocus = (part) => {
    const focused = document.activeElement;
    if (!focused || !part.contains(focused)) return () => {};
    const all = (root) => [...root.querySelectorAll("a,summary,[tabindex]")];
    const name = (each) => `${each.tagName} ${each.id} ${each.getAttribute("href")}`;
    const wanted = name(focused);
    return (next) => { const again = all(next).find((each) => name(each) === wanted); if (again) again.focus({ preventScroll: true }); };
  };

  const swap = (fresh) => {
    const place = anchor();
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(part.id);
      if (!next) continue;
      for (const open of part.querySelectorAll("details[open]")) { const same = next.querySelector(`#${CSS.escape(open.id)}`); if (same) same.open = true; }
      if (next.outerHTML === part.outerHTML) continue;
      const scrolled = [...part.querySelectorAll(".scroll")].map((each) => [each.id, each.scrollLeft, each.scrollTop]);
      const refocus = keepFocus(part), kept = document.importNode(next, true);
      part.replaceWith(kept);
      for (const [id, left, top] of scrolled) { const each = document.getElementById(id); if (each) { each.scrollLeft = left; each.scrollTop = top; } }
      refocus(kept);
    }
    restore(place);
    document.title = fresh.title;
    const icon = document.querySelector("link[rel=icon]"), next = fresh.querySelector("link[rel=icon]");
    if (icon && next && icon.href !== next.href) icon.href = next.href;
  };

  const refresh = async () => {
    if (busy || occupied()) return;
    busy = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(`${answer.status}`);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!occupied()) { swap(fresh); last = Date.now(); words.textContent = `Updated ${time(last)}`; }
      silent.hidden = true;
    } catch {
      silent.textContent = `The daemon has not answered since ${time(last)}; this is what it said then.`;
      silent.hidden = false;
    } finally { busy = false; }
  };

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Resume updates" : "Pause updates";
    button.setAttribute("aria-pressed", String(paused));
    if (!paused) refresh();
  });
  words.textContent = `Updated ${time(last)}`;
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, EVERY);
})();
