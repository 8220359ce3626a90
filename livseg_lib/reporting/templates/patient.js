// Leafs through the slices of one patient. Pictures, outlines and surfaces come from files beside the
// page, as images and scripts when they are wanted: nothing is fetched, so it works from file:// too.
const at = (id) => document.getElementById(id);
const data = JSON.parse(at("data").textContent);
const [stage, layer, picture, drawing, slider] = ["stage", "layer", "picture", "drawing", "slider"].map(at);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const all = (selector) => [...document.querySelectorAll(selector)];

const paths = []; // of each outline, once its file has come
const takers = { outline: takeOutline, surface: takeSurface, plotly: takeLibrary };

const livseg = {
  // Every file calls this with its name, such as "outline-3", and base64 of gzip of what it holds.
  async take(name, base64) {
    const packed = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const text = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const [kind, number] = name.split("-");
    takers[kind](await new Response(text).text(), number);
  },
};

function load(file, missing) {
  if (document.querySelector(`script[src="${CSS.escape(file)}"]`)) return;
  const script = document.createElement("script");
  script.src = file;
  script.onerror = () => missing?.(file);
  document.head.append(script);
}

function takeOutline(text, number) {
  paths[number] = JSON.parse(text);
  draw();
}

// Slices

const index = () => Number(slider.value);
const pictureFile = (k) => `${data.files}/${String(k).padStart(3, "0")}.jpg`;
const chosen = () => all("[data-outline]").filter((box) => box.checked).map((box) => Number(box.dataset.outline));
const structures = () => all("[data-structure]").filter((box) => box.checked).map((box) => box.dataset.structure);

function show(k) {
  slider.value = clamp(k, 0, data.count - 1);
  picture.src = pictureFile(index());
  [index() + 1, index() - 1].filter((near) => near >= 0 && near < data.count).forEach((near) => {
    new Image().src = pictureFile(near);
  });
  draw();
  at("now").setAttribute("d", `M${index() + 0.5} 0V20`);
  const slice = `Slice ${data.first + index()}`;
  slider.setAttribute("aria-valuetext", slice);
  at("where").textContent = `${slice} (${data.first} to ${data.first + data.count - 1}, feet to head)${contents()}`;
}

function contents() {
  const words = chosen().map((number) => {
    const { name, pixels } = data.outlines[number];
    const kinds = [pixels.liver[index()] && "liver", pixels.tumor[index()] && "tumour"].filter(Boolean);
    return `${name}: ${kinds.join(" and ") || "nothing"}`;
  });
  return words.map((each) => ` · ${each}`).join("");
}

function draw() {
  drawing.replaceChildren();
  for (const number of chosen()) {
    if (!paths[number]) load(`${data.files}/outline-${number}.js`);
    for (const structure of structures()) {
      const line = paths[number]?.[structure]?.[index()];
      if (line) drawing.append(...outline(line, data.outlines[number].style, structure));
    }
  }
}

function outline(line, style, structure) {
  const width = structure === "tumor" ? 2.4 : 1.3;
  const halo = svgPath({ d: line, class: "halo", "stroke-width": width + 1.6, "stroke-dasharray": style.dash });
  const stroke = { stroke: style[structure], "stroke-width": width, "stroke-dasharray": style.dash };
  const drawn = svgPath({ d: line, ...stroke });
  if (at("fill").checked) drawn.style.cssText = `fill: ${style[structure]}; fill-opacity: ${structure === "tumor" ? 0.35 : 0.1}`;
  return [halo, drawn];
}

function svgPath(attributes) {
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  Object.entries(attributes).forEach(([name, value]) => path.setAttribute(name, value));
  return path;
}

// Above the slider: how much tumour each slice has, or how much liver where there is none.

function drawProfile() {
  const structure = data.outlines.some(({ pixels }) => pixels.tumor.some(Boolean)) ? "tumor" : "liver";
  const shown = chosen().map((number) => data.outlines[number]);
  const most = Math.max(1, ...shown.flatMap(({ pixels }) => pixels[structure]));
  const lines = shown.map(({ style, pixels }) => {
    const steps = pixels[structure].map((count, k) => `L${k} ${20 - (19 * count) / most}H${k + 1}`).join("");
    const solid = style.dash === "";
    const path = svgPath({ d: `M0 20${steps}V20`, stroke: solid ? style[structure] : "currentColor" });
    path.style.fill = solid ? style[structure] : "none";
    path.style.fillOpacity = 0.45;
    path.setAttribute("stroke-dasharray", style.dash);
    return path;
  });
  at("profile").replaceChildren(...lines, Object.assign(svgPath({ d: "", stroke: "currentColor" }), { id: "now" }));
}

// Window: the browser stretches grey levels. For black at l and white at u (0 to 1), l >= 0, a brightness of
// 1 / (u + l) and then a contrast of (u + l) / (u - l) is exactly the straight line between the two.

function applyWindow() {
  const title = document.querySelector("[name=window]:checked").value;
  const [low, high] = data.stored;
  const [l, u] = data.presets[title].map((hu) => (hu - low) / (high - low));
  picture.style.filter = `brightness(${1 / (u + l)}) contrast(${(u + l) / (u - l)})`;
}

function nextWindow() {
  const radios = all("[name=window]");
  radios[(radios.findIndex((radio) => radio.checked) + 1) % radios.length].checked = true;
  applyWindow();
}

// Zoom

let view = { scale: 1, x: 0, y: 0 };

function zoomTo(scale, [x, y] = [stage.clientWidth / 2, stage.clientHeight / 2]) {
  const next = clamp(scale, 1, 12);
  const factor = next / view.scale;
  moveTo(next, x - (x - view.x) * factor, y - (y - view.y) * factor);
}

function moveTo(scale, x, y) {
  const least = 1 - scale;
  view = { scale, x: clamp(x, stage.clientWidth * least, 0), y: clamp(y, stage.clientHeight * least, 0) };
  layer.style.transform = `translate(${view.x}px, ${view.y}px) scale(${scale})`;
  stage.classList.toggle("zoomed", scale > 1);
}

// What a reader does

const actions = {
  first: () => show(0),
  last: () => show(data.count - 1),
  previous: () => show(index() - 1),
  next: () => show(index() + 1),
  back: () => show(index() - 5),
  on: () => show(index() + 5),
  most: () => show(data.start),
  larger: () => zoomTo(view.scale * 1.4),
  smaller: () => zoomTo(view.scale / 1.4),
  whole: () => moveTo(1, 0, 0),
  fill: () => at("fill")?.click(),
  window: nextWindow,
  outlines: () => drawing.toggleAttribute("hidden"),
};

const moves = {
  ...{ ArrowUp: "next", ArrowRight: "next", ArrowDown: "previous", ArrowLeft: "previous" },
  ...{ PageUp: "on", PageDown: "back", Home: "first", End: "last" },
};
const letters = { t: "most", o: "outlines", f: "fill", w: "window", "+": "larger", "=": "larger", "-": "smaller", 0: "whole" };

document.querySelector(".viewer").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const handlesMoves = event.target.matches("input[type=range], input[type=radio]"); // by itself
  const action = letters[event.key.toLowerCase()] ?? (handlesMoves ? undefined : moves[event.key]);
  if (!action) return;
  event.preventDefault();
  actions[action]();
});
all("[data-do]").forEach((button) => button.addEventListener("click", actions[button.dataset.do]));
slider.addEventListener("input", () => show(index()));
all("[data-outline]").forEach((box) => box.addEventListener("change", () => (drawProfile(), show(index()))));
all("[data-structure], #fill").forEach((box) => box.addEventListener("change", draw));
all("[name=window]").forEach((radio) => radio.addEventListener("change", applyWindow));
addEventListener("resize", () => moveTo(view.scale, view.x, view.y));

let turned = 0; // of the wheel, in pixels, not yet a slice
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const pixels = event.deltaY * (event.deltaMode === 1 ? 33 : 1);
  if (event.ctrlKey) return zoomTo(view.scale * Math.exp(-pixels / 300), [event.offsetX, event.offsetY]);
  turned += pixels;
  const slices = Math.trunc(turned / 33);
  turned -= slices * 33;
  if (slices) show(index() - slices);
}, { passive: false });

const fingers = new Map(); // pointers that are down
const STEP = 14; // pixels of a swipe that turn one slice
const place = ({ clientX, clientY }) => {
  const box = stage.getBoundingClientRect();
  return [clientX - box.left, clientY - box.top];
};

stage.addEventListener("pointerdown", (event) => {
  stage.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, place(event));
});
for (const end of ["pointerup", "pointercancel"]) {
  stage.addEventListener(end, (event) => fingers.delete(event.pointerId));
}
stage.addEventListener("pointermove", (event) => {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const now = place(event);
  const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
  if (other) {
    const apart = (point) => Math.max(1, Math.hypot(point[0] - other[0], point[1] - other[1]));
    zoomTo(view.scale * (apart(now) / apart(before)), other);
  } else if (view.scale > 1) {
    moveTo(view.scale, view.x + now[0] - before[0], view.y + now[1] - before[1]);
  } else {
    const slices = Math.trunc((now[0] - before[0]) / STEP);
    if (slices) show(index() + slices);
    now[0] -= (now[0] - before[0]) % STEP; // what is left counts towards the next slice
  }
  fingers.set(event.pointerId, now);
});

// 3D

function tell(text) {
  at("surface-message").textContent = text;
  at("surface-message").hidden = false;
}

function openSurface() {
  const canvas = document.createElement("canvas");
  if (!canvas.getContext("webgl2") && !canvas.getContext("webgl")) {
    return tell("This browser cannot draw in 3D (WebGL is missing or switched off). The slices above show the same outlines.");
  }
  const missing = (file) => tell(`${file} is missing: copy the folders "patients" and "assets" along with this page.`);
  at("open-surface").hidden = true;
  tell("Loading …");
  document.querySelector(".surface").classList.add("opened");
  load(data.library, missing);
  load(`${data.files}/surface.js`, missing);
}

let surface = null; // what is to be drawn, as soon as the library has come, too

function takeSurface(text) {
  surface = JSON.parse(text);
  drawSurface();
}

function takeLibrary(text) {
  document.head.append(Object.assign(document.createElement("script"), { textContent: text }));
  drawSurface();
}

function drawSurface() {
  if (!surface || !window.Plotly) return;
  at("surface-message").hidden = true;
  at("surface").hidden = false;
  const modeBarButtons = [["orbitRotation", "tableRotation", "zoom3d", "pan3d", "resetCameraDefault3d", "toImage"]];
  const { data: traces, layout } = surface;
  Plotly.newPlot(at("surface"), traces, layout, { responsive: true, displaylogo: false, modeBarButtons });
}

at("open-surface")?.addEventListener("click", openSurface);
drawProfile();
applyWindow();
const wanted = Number(location.hash.match(/^#slice-(\d+)$/)?.[1] ?? NaN) - data.first;
show(Number.isNaN(wanted) ? data.start : wanted);
stage.focus({ preventScroll: true });
