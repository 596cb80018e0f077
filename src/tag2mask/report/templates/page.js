"use strict";
// Seeds of the pictures at any threshold. A map's pixel is worth the place of its colour in data.ramp, 0..255; maps are
// resized to the photo bilinearly (corners not aligned), and a pixel is of the class whose map is largest, the first of
// equal ones, where that is above 255 x threshold. A class that is switched off takes no part.
(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const place = new Map(data.ramp.map((colour, index) => [colour, index]));
  const tiles = {};
  for (const name in data.patterns) tiles[name] = Array.from(data.patterns[name], Number);

  async function read(image) {
    const copy = new Image();
    copy.src = image.src;
    await copy.decode();
    const canvas = document.createElement("canvas");
    const width = canvas.width = copy.naturalWidth, height = canvas.height = copy.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(copy, 0, 0);
    const pixels = context.getImageData(0, 0, width, height).data;
    const values = new Uint8Array(width * height);
    for (let i = 0; i < values.length; i++) {
      values[i] = place.get(pixels[4 * i] << 16 | pixels[4 * i + 1] << 8 | pixels[4 * i + 2]) || 0;
    }
    return { width, height, values };
  }

  // For each pixel of an axis: the two cells it lies between, and how far it is from the first one.
  function steps(cells, pixels) {
    return Array.from({ length: pixels }, (_, i) => {
      const at = Math.max(0, (i + 0.5) * cells / pixels - 0.5), low = Math.min(Math.floor(at), cells - 1);
      return [low, Math.min(low + 1, cells - 1), at - low];
    });
  }

  function cut(maps, width, height, threshold) {
    const labels = new Int16Array(width * height).fill(-1), best = new Float64Array(width * height);
    for (const { column, width: w, height: h, values } of maps) {
      const across = steps(w, width), down = steps(h, height);
      for (let y = 0; y < height; y++) {
        const [y0, y1, dy] = down[y];
        for (let x = 0; x < width; x++) {
          const [x0, x1, dx] = across[x];
          const a = values[y0 * w + x0], b = values[y0 * w + x1], c = values[y1 * w + x0], d = values[y1 * w + x1];
          const upper = a + (b - a) * dx, lower = c + (d - c) * dx;
          const value = upper + (lower - upper) * dy, i = y * width + x;
          if (value > best[i] && value > 255 * threshold) { best[i] = value; labels[i] = column; }
        }
      }
    }
    return labels;
  }

  function paint(canvas, labels, width, height) {
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d"), image = context.createImageData(width, height), out = image.data;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const i = y * width + x, own = labels[i];
        const edge = x > 0 && labels[i - 1] !== own || x + 1 < width && labels[i + 1] !== own ||
          y > 0 && labels[i - width] !== own || y + 1 < height && labels[i + width] !== own;
        let colour = [0, 0, 0, 0];
        if (edge) colour = own < 0 ? data.rim : data.edge;
        else if (own >= 0) {
          const look = data.classes[own];
          const strong = tiles[look.pattern][(y % data.tile) * data.tile + x % data.tile];
          colour = [...look.rgb, strong ? data.strong : data.weak];
        }
        out.set(colour, 4 * i);
      }
    }
    context.putImageData(image, 0, 0);
  }

  function shares(labels, names) {
    const counts = new Map();
    for (const label of labels) if (label >= 0) counts.set(label, (counts.get(label) || 0) + 1);
    const found = [...counts.keys()].sort((a, b) => a - b);
    return found.map(c => `${names[c]} ${(100 * counts.get(c) / labels.length).toFixed(1)} %`).join(", ") || "nothing";
  }

  function start(section) {
    const run = data.runs[Number(section.dataset.run)], tools = section.querySelector(".tools");
    const boxes = section.querySelectorAll(".classes input");
    const at = { ...run.thresholds }, off = new Set(), dirty = new Set(), seen = new Set();
    const slider = tools.querySelector("input[type=range]"), stage = tools.querySelector("select");
    const shown = tools.querySelector("output");
    let waiting = false;

    async function maps(figure) {
      if (!figure.maps) {
        const images = figure.closest(".shown").querySelectorAll("figure[data-what=map] img");
        const mine = [...images].filter(i => i.closest("figure").dataset.stage === figure.dataset.stage);
        figure.maps = Promise.all(mine.map(async i => ({
          column: Number(i.closest("figure").dataset.class), ...await read(i) })));
      }
      return figure.maps;
    }

    async function draw(figure) {
      const name = figure.dataset.stage, pic = figure.querySelector(".pic"), found = await maps(figure);
      const threshold = at[name], width = Number(pic.dataset.width), height = Number(pic.dataset.height);
      const labels = cut(found.filter(m => !off.has(m.column)), width, height, threshold);
      let canvas = pic.querySelector("canvas");
      if (!canvas) {
        for (const image of pic.querySelectorAll("img")) image.remove();
        canvas = pic.appendChild(document.createElement("canvas"));
      }
      paint(canvas, labels, width, height);
      const text = shares(labels, run.names);
      figure.querySelector(".at").textContent = threshold.toFixed(2);
      figure.querySelector(".share").textContent = text;
      figure.querySelector(".note").hidden = threshold !== run.thresholds[name] || off.size > 0;
      pic.setAttribute("aria-label", `seeds of ${name} at ${threshold.toFixed(2)}: ${text}`);
    }

    function later() {
      if (waiting) return;
      waiting = true;
      setTimeout(() => {  // at most once a frame, however fast the slider moves
        waiting = false;
        for (const figure of [...dirty]) {
          if (!seen.has(figure.closest(".shown"))) continue;
          dirty.delete(figure);
          draw(figure);
        }
      }, 16);
    }

    function mark(name) {
      for (const figure of section.querySelectorAll("figure[data-what=seeds]")) {
        if (name === undefined || figure.dataset.stage === name) dirty.add(figure);
      }
      later();
    }

    function tell() {
      if (!stage) return;
      const name = stage.value;
      slider.value = at[name];
      const measured = at[name] === run.thresholds[name];
      shown.textContent = at[name].toFixed(2) +
        (measured ? ", as measured" : `, measured ${run.thresholds[name].toFixed(2)}`);
      slider.setAttribute("aria-valuetext", shown.textContent);
    }

    function switched() {
      for (const part of section.querySelectorAll("[data-class]")) {
        if (part.tagName !== "INPUT") part.hidden = off.has(Number(part.dataset.class));
      }
      mark();
    }

    // Of a page with many images most are kept as text until they are near: then it opens at once.
    function unpack(article) {
      const kept = article.querySelector("script.kept");
      if (!kept) return;
      kept.outerHTML = kept.textContent;
      for (const part of article.querySelectorAll("[data-class]")) part.hidden = off.has(Number(part.dataset.class));
      for (const figure of article.querySelectorAll("figure[data-what=seeds]")) {
        if (off.size || at[figure.dataset.stage] !== run.thresholds[figure.dataset.stage]) dirty.add(figure);
      }
    }

    const watch = new IntersectionObserver(entries => {
      for (const entry of entries) {
        if (entry.isIntersecting) unpack(entry.target);
        seen[entry.isIntersecting ? "add" : "delete"](entry.target);
      }
      later();
    }, { rootMargin: "600px" });
    addEventListener("beforeprint", () => section.querySelectorAll(".shown").forEach(unpack));
    for (const article of section.querySelectorAll(".shown")) watch.observe(article);

    tools.hidden = false;
    for (const box of boxes) {
      box.hidden = false;
      box.checked = true;
      box.addEventListener("change", () => {
        off[box.checked ? "delete" : "add"](Number(box.dataset.class));
        switched();
      });
    }
    if (stage) {
      stage.addEventListener("change", tell);
      slider.addEventListener("input", () => {
        at[stage.value] = Number(slider.value);
        tell();
        mark(stage.value);
      });
      tell();
    }
    tools.querySelector("button").addEventListener("click", () => {
      Object.assign(at, run.thresholds);
      off.clear();
      for (const box of boxes) box.checked = true;
      tell();
      switched();
    });
  }

  for (const section of document.querySelectorAll("section.pictures")) start(section);
  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details.print")) part.open = true;
  });
})();
