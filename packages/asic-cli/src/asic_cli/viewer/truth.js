// Annotated points: where those of one photo are found on the others, and how far that is from where they belong.

const GOOD = 0.05;
const FAIR = 0.1;

// `points[photo][k]` is [x, y] in the photo's own pixels or null; an error is a share of `lengths[photo]`.
class TruthErrors {
  constructor(maps, tiles, viewer) {
    this.maps = maps;
    this.tiles = tiles;
    this.viewer = viewer;
    this.source = byId("truth-source");
    for (const { index, figure } of tiles) {
      htmlElement("option", { value: index, textContent: `${index + 1} · ${captionOf(figure)}` }, this.source);
    }
    this.source.addEventListener("change", () => this.show());
    byId("truth-file").addEventListener("change", (event) => this.load(event.target));
    this.set(data.truth);
  }

  set(truth) {
    this.truth = truth;
    this.source.disabled = truth === null;
    this.show();
  }

  async load(input) {
    const files = [...input.files];
    input.value = "";
    if (files.length === 0) return;
    try {
      const texts = await Promise.all(files.map(async (file) => ({ name: file.name, text: await file.text() })));
      const truth = readTruth(this.maps, texts);
      this.source.value = truth.points.findIndex((points) => points.some((point) => point !== null));
      this.set(truth);
    } catch (error) {
      byId("truth-message").textContent = error.message;
    }
  }

  show() {
    for (const tile of this.tiles) tile.truth.replaceChildren();
    const source = Number(this.source.value);
    const message = byId("truth-message");
    message.textContent = this.truth === null ? "no annotations here" : "";
    if (this.truth === null || source < 0) return;
    let right = 0;
    let asked = 0;
    this.truth.names.forEach((name, k) => {
      const start = this.truth.points[source][k];
      if (start === null) return;
      const from = this.maps[source].toModel(start);
      const { places } = placesOf(this.maps, { tile: source, point: from });
      for (const tile of this.tiles) {
        const truth = this.truth.points[tile.index][k];
        const place = places[tile.index];
        if (truth === null || place === null) continue;
        const belongs = this.maps[tile.index].toModel(truth);
        const [x, y] = this.maps[tile.index].toImage([place.x, place.y]);
        const error = Math.hypot(x - truth[0], y - truth[1]) / this.truth.lengths[tile.index];
        this.mark(tile, name, [place.x, place.y], belongs, tile.index === source ? null : error);
        if (tile.index === source) continue;
        asked++;
        right += error <= FAIR;
      }
    });
    const share = asked === 0 ? "" : ` (${Math.round((100 * right) / asked)} %)`;
    message.textContent = `${right} of ${asked} within ${FAIR.toFixed(2)}${share}`;
  }

  mark(tile, name, found, belongs, error) {
    const kind = error === null ? "given" : error <= GOOD ? "good" : error <= FAIR ? "fair" : "off";
    const group = svgElement("g", { class: `error ${kind}` }, tile.truth);
    const [x1, y1] = tile.shownAt(found, this.viewer.morph);
    const [x2, y2] = tile.shownAt(belongs, this.viewer.morph);
    svgElement("line", { x1, y1, x2, y2 }, group);
    svgElement("circle", { cx: x2, cy: y2, r: 0.014 * WIDTH }, group);
    svgElement("title", {}, group).textContent = error === null ? name : `${name}: ${error.toFixed(3)}`;
  }
}

// Reads one or more files of truth: a collection's truth.json, pins of this page, or SPair-71k's image annotations.
function readTruth(maps, files) {
  const spair = [];
  for (const { name, text } of files) {
    if (!text.trimStart().startsWith("{")) return truthOfPlaces(maps, rowsOfCsv(text), name);
    let document;
    try {
      document = JSON.parse(text);
    } catch (error) {
      throw new Error(`${name}: ${error.message}`);
    }
    if (document.format === "asic-pins") return truthOfPlaces(maps, rowsOfJson(text), name);
    if (document.format === "asic-eval keypoint benchmark") return truthOfBenchmark(maps, document, name);
    if (typeof document.filename !== "string" || typeof document.kps !== "object" || document.kps === null) {
      throw new Error(`${name}: expected truth.json, a file of pins, or image annotations of SPair-71k`);
    }
    spair.push(document);
  }
  return truthOfSpair(maps, spair, files[0].name);
}

function emptyTruth(maps, names) {
  const lengths = maps.map(({ size }) => Math.max(...size));
  return { names, points: maps.map(() => names.map(() => null)), lengths, worst: [] };
}

function checked(truth, file) {
  const points = truth.points.flat().filter((point) => point !== null);
  if (points.length === 0) throw new Error(`${file}: it annotates no photo of this page`);
  if (!points.every((point) => Array.isArray(point) && point.length === 2 && point.every(Number.isFinite))) {
    throw new Error(`${file}: positions must be two numbers`);
  }
  if (!truth.lengths.every((length) => length > 0)) throw new Error(`${file}: boxes must have a size`);
  return truth;
}

// By path, or by the last part of it where only one photo has that.
function photoOf(maps, name) {
  const whole = maps.findIndex(({ path }) => path.toWellFormed() === name.toWellFormed());
  if (whole >= 0) return whole;
  const last = (path) => path.slice(path.lastIndexOf("/") + 1).toWellFormed();
  const alike = maps.flatMap(({ path }, index) => (last(path) === last(name) ? [index] : []));
  return alike.length === 1 ? alike[0] : -1;
}

function truthOfPlaces(maps, rows, file) {
  const names = [...new Set(rows.map(({ pin }) => pin))];
  const truth = emptyTruth(maps, names);
  for (const { pin, photo, x, y } of rows) {
    const index = photo === "" ? -1 : photoOf(maps, photo);
    if (index < 0) continue;
    const points = truth.points[index];
    if (points[names.indexOf(pin)] !== null) throw new Error(`${file}: ${pin} is twice on ${photo}: give each a name of its own`);
    points[names.indexOf(pin)] = [x, y];
  }
  return checked(truth, file);
}

function truthOfBenchmark(maps, document, file) {
  const { keypoint_names: names, images } = document;
  if (!Array.isArray(names) || !Array.isArray(images)) throw new Error(`${file}: expected keypoint_names and images`);
  const truth = emptyTruth(maps, names.map(String));
  for (const image of images) {
    const index = photoOf(maps, String(image.name));
    if (index < 0) continue;
    truth.points[index] = truth.names.map((_, k) => (image.visible?.[k] ? image.points_image?.[k] ?? null : null));
    if (Array.isArray(image.box_xyxy)) truth.lengths[index] = sideOf(image.box_xyxy);
  }
  return checked(truth, file);
}

function truthOfSpair(maps, annotations, file) {
  const ids = Math.max(0, ...annotations.map(({ kps }) => Object.keys(kps).length));
  const named = annotations.find(({ kps_names: names }) => Array.isArray(names) && names.length === ids);
  const truth = emptyTruth(maps, Array.from({ length: ids }, (_, id) => String(named?.kps_names[id] ?? id)));
  for (const { filename, kps, bndbox } of annotations) {
    const index = photoOf(maps, filename);
    if (index < 0) continue;
    truth.points[index] = truth.names.map((_, id) => kps[id] ?? null);
    if (Array.isArray(bndbox)) truth.lengths[index] = sideOf(bndbox);
  }
  return checked(truth, file);
}

function sideOf([left, top, right, bottom]) {
  return Math.max(right - left, bottom - top);
}
