// Fills the boxes of a page with figures, in the theme's colors, and switches the theme.
// A box is first given the sketch that comes with its data; Plotly's large script is run when every
// box in sight has one, and then makes figures of them that one can point at and zoom.
"use strict";

const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Map(); // box → figure as it came

const tone = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

function scale(name) {
  if (name === "heat") return [[0, tone("heat-0")], [1, tone("heat-1")]];
  if (name === "signed") return [[0, tone("down")], [0.5, tone("surface")], [1, tone("up")]];
  return [[0, tone("surface")], [1, tone("ink")]];
}

function themed(value) {
  if (typeof value === "string" && value.startsWith("role:")) {
    const role = value.slice(5);
    return ["heat", "signed", "gray"].includes(role) ? scale(role) : tone(role);
  }
  if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(themed);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v)]));
  }
  return value;
}

function axis(own) {
  const title = own.title ? { text: own.title, standoff: 8 } : undefined;
  return {
    gridcolor: tone("line"), linecolor: tone("line"), zerolinecolor: tone("line"),
    automargin: true, ...own, title,
  };
}

function draw(box) {
  const figure = drawn.get(box);
  const own = themed(figure.layout);
  const layout = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: tone("ink") },
    hoverlabel: { bgcolor: tone("surface"), bordercolor: tone("line"), font: { color: tone("ink") } },
    dragmode: innerWidth < 700 ? false : "zoom",
    ...own, margin: { l: 48, r: 12, t: 10, b: 40, ...own.margin },
  };
  for (const key of Object.keys(layout)) {
    if (!/^[xy]axis/.test(key)) continue;
    layout[key] = axis(layout[key]);
    if (layout[key].tickangle && innerWidth < 700) layout[key].tickangle = -90; // no room to lean
  }
  for (const key of ["xaxis", "yaxis"]) layout[key] ??= axis({});
  return Plotly.react(box, themed(figure.data), layout, { responsive: true, displayModeBar: false });
}

function tell(box, text) {
  box.textContent = "";
  const notice = document.createElement("div");
  notice.className = "notice";
  notice.setAttribute("role", "status");
  notice.textContent = text;
  box.append(notice);
  box.dataset.state = "notice";
}

async function fill(box) {
  const begun = performance.now();
  try {
    const answer = await fetch(box.dataset.src, { credentials: "same-origin" });
    const found = await answer.json();
    if (found.notice) return tell(box, found.notice);
    drawn.set(box, found);
    box.innerHTML = found.sketch;
    box.dataset.state = "sketched";
    box.dataset.ms = Math.round(performance.now() - begun);
    box.dataset.seen = Math.round(performance.now()); // since the page was asked for
    box.parentElement.querySelector(".summary").textContent = found.summary;
    await new Promise((next) => setTimeout(next)); // the sketch is painted before the script runs
    await enliven(box);
  } catch (error) {
    tell(box, `The figure could not be loaded (${error.message}). Reload the page; if it stays so, ` +
      "the dashboard has stopped or the login has run out.");
  }
}

async function enliven(box) {
  try {
    await plotly();
  } catch { return; } // without the script the sketch and its summary stay
  box.textContent = "";
  await draw(box);
  box.dataset.state = "drawn";
  box.dataset.drawn = Math.round(performance.now());
}

let script; // the promise of Plotly, made when the boxes in sight have their sketches
function plotly() {
  script ??= inSight().then(() => new Promise((done, failed) => {
    const tag = document.createElement("script");
    tag.src = document.body.dataset.plotly;
    tag.onload = done;
    tag.onerror = failed;
    document.head.append(tag);
  }));
  return script;
}

async function inSight() {
  const near = [...document.querySelectorAll(".plot")].filter((box) => {
    const place = box.getBoundingClientRect();
    return place.top < innerHeight && place.bottom > 0;
  });
  const limit = performance.now() + 3000;
  while (near.some((box) => !box.dataset.state) && performance.now() < limit) {
    await new Promise((next) => setTimeout(next, 30));
  }
  await new Promise((next) => requestAnimationFrame(() => setTimeout(next)));
}

// Into the browser's cache, without running it; a preload link would warn where data come late.
function fetchAhead() {
  fetch(document.body.dataset.plotly, { priority: "low" }).then((answer) => answer.blob()).catch(() => {});
}

function watchBoxes() {
  const boxes = document.querySelectorAll(".plot");
  if (!boxes.length) return addEventListener("load", fetchAhead);
  fetchAhead();
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      fill(entry.target);
    }
  }, { rootMargin: "400px" });
  for (const box of boxes) seen.observe(box);
}

function redraw() {
  for (const box of drawn.keys()) if (box.dataset.state === "drawn") draw(box);
}

function label(button) {
  const chosen = root.dataset.theme;
  button.firstElementChild.textContent = { light: "☀", dark: "☾" }[chosen] ?? "◐";
  button.setAttribute("aria-label", `Color theme: ${chosen ?? "as the system"}`);
  button.title = button.getAttribute("aria-label");
}

function watchTheme() {
  const button = document.getElementById("theme");
  label(button);
  button.addEventListener("click", () => {
    const order = [undefined, "light", "dark"];
    const next = order[(order.indexOf(root.dataset.theme) + 1) % order.length];
    if (next) root.dataset.theme = next; else delete root.dataset.theme;
    try {
      if (next) localStorage.setItem("atlas-theme", next); else localStorage.removeItem("atlas-theme");
    } catch { /* storage may be off */ }
    label(button);
    redraw();
  });
  dark.addEventListener("change", redraw);
}

function watchForms() {
  // a symbol of another market is none of this one
  for (const choice of document.querySelectorAll(".filters select[name=market]")) {
    choice.addEventListener("change", () => {
      const symbol = choice.form.elements.symbol;
      if (symbol) symbol.value = "";
      choice.form.requestSubmit();
    });
  }
}

watchTheme();
watchForms();
watchBoxes();
