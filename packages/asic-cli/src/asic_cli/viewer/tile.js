// One tile of the viewer: a photo, or canonical space, with what is marked on it.

const KEY_STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const MIDDLE = [(WIDTH - 1) / 2, (HEIGHT - 1) / 2];
const MARK_SHARE = 0.03;
const MARK_LEAST_PX = 7;
const SAVED_SIDE = 512; // At least, so that marks are sharp.

class Tile {
  constructor(figure, index, map, makePicture) {
    this.figure = figure;
    this.index = index;
    this.map = map;
    this.frame = figure.querySelector(".picture");
    this.canvas = htmlElement("canvas", { width: WIDTH, height: HEIGHT }, this.frame);
    this.picture = makePicture(this.canvas);
    // In this box a pixel's centre has its integer coordinate.
    this.marks = svgElement("svg", { viewBox: `-0.5 -0.5 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" }, this.frame);
    this.truth = svgElement("g", {}, this.marks);
    this.cross = svgElement("g", { class: "cross", visibility: "hidden" }, this.marks);
    this.pins = svgElement("g", {}, this.marks);
    for (const kind of ["halo", "ring", "dot"]) svgElement("circle", { class: kind }, this.cross);
    this.readout = htmlElement("output", {}, this.frame);
    this.frame.tabIndex = 0;
    this.frame.setAttribute("role", "application");
    this.frame.ariaLabel = `${this.name}: arrow keys mark a place, Enter uses the tool there`;
    this.marked = null;
    // Where the keys have brought the mark: the photo's point, and where that was shown.
    this.keyed = { point: MIDDLE, place: MIDDLE, morph: 0 };
    this.inView = true;
    this.stale = true;
    new ResizeObserver(() => this.marks.style.setProperty("--mark", `${this.markRadius}px`)).observe(this.frame);
  }

  // Pixels of the model's frame in a pixel of the page.
  get scale() {
    return WIDTH / this.frame.clientWidth;
  }

  // Of a pin, in pixels of the model's frame: a share of them, and on the page never too small to read and to grab.
  get markRadius() {
    return Math.max(MARK_SHARE * WIDTH, MARK_LEAST_PX * this.scale);
  }

  get name() {
    return this.index < 0 ? "canonical" : this.map.path.slice(this.map.path.lastIndexOf("/") + 1);
  }

  // A pointer's place in pixels of the model's frame, as shown.
  pointOf(event) {
    const box = this.frame.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * WIDTH - 0.5,
      ((event.clientY - box.top) / box.height) * HEIGHT - 0.5,
    ];
  }

  // Where a point of the photo is shown, a share `morph` of the way to canonical space.
  shownAt(point, morph) {
    return this.index < 0 || morph === 0 ? point : this.picture.glide.shownAt(this.map, point, morph);
  }

  // The photo's point that is shown at a place.
  photoPoint(place, morph) {
    return this.index < 0 || morph === 0 ? place : this.picture.glide.pixelAt(this.map, place, morph);
  }

  // The photo's point after a step by an arrow key, as the arrow points on screen; null for another key.
  pointByKey(event, morph) {
    const step = KEY_STEPS[event.key];
    if (step === undefined) return null;
    const { point, place, morph: then } = this.keyed;
    const from = then === morph ? place : this.shownAt(point, morph);
    const length = event.shiftKey ? 10 : 1;
    const to = [WIDTH, HEIGHT].map((side, k) => Math.min(Math.max(from[k] + length * step[k], 0), side - 1));
    this.keyed = { point: this.photoPoint(to, morph), place: to, morph };
    return this.keyed.point;
  }

  // Whether a point of the photo is away from its object: it has no counterparts.
  isOff(point) {
    return this.map.agreementAt(point) === 0;
  }

  // Marks a place, or nothing for null. Says where the pointer is, and elsewhere how likely the place is right.
  showCross(place, morph, isSource) {
    this.marked = place;
    this.cross.setAttribute("visibility", place === null ? "hidden" : "visible");
    this.readout.hidden = place === null || (this.index < 0 && !isSource);
    if (place === null) return;
    this.moveCross(morph);
    const [imageX, imageY] = this.map.toImage([place.x, place.y]);
    const digits = this.index < 0 ? 3 : 1;
    const chance = `${Math.round(100 * place.probability)} %`;
    this.cross.style.opacity = isSource ? 1 : clearness(place);
    this.cross.classList.toggle("source", isSource);
    this.cross.classList.toggle("unseen", !isSource && !place.visible);
    this.readout.textContent = isSource
      ? `${imageX.toFixed(digits)}, ${imageY.toFixed(digits)}${this.isOff([place.x, place.y]) ? " · off the object" : ""}`
      : place.visible ? chance : "not seen";
    Object.assign(this.figure.dataset, {
      x: imageX.toFixed(4), y: imageY.toFixed(4), probability: place.probability.toFixed(4), visible: place.visible,
    });
  }

  // Puts the cross where its place is shown.
  moveCross(morph) {
    if (this.marked === null) return;
    const [x, y] = this.shownAt([this.marked.x, this.marked.y], morph);
    this.cross.setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)})`);
  }

  placeOf({ found }) {
    return this.index < 0 ? found.canonical : found.places[this.index];
  }

  showPins(pins, morph) {
    this.pins.replaceChildren();
    pins.forEach((pin, number) => {
      const place = this.placeOf(pin);
      if (place === null) return;
      const [x, y] = this.shownAt([place.x, place.y], morph);
      const group = svgElement("g", { class: "pin", transform: `translate(${x.toFixed(2)} ${y.toFixed(2)})` }, this.pins);
      group.classList.toggle("unseen", !place.visible);
      group.style.opacity = place.visible ? 0.5 + 0.5 * clearness(place) : 1;
      group.style.setProperty("--pin", pinColour(number));
      svgElement("circle", {}, group);
      svgElement("text", { dy: "0.36em" }, group).textContent = number + 1;
    });
  }

  // What is shown, with its marks, as a canvas of its own.
  async still() {
    const scale = Math.max(1, SAVED_SIDE / Math.max(WIDTH, HEIGHT));
    const [width, height] = [WIDTH, HEIGHT].map((side) => Math.round(scale * side));
    const canvas = htmlElement("canvas", { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(this.canvas, 0, 0, width, height);
    context.drawImage(await this.pictureOfMarks(width, height), 0, 0);
    return canvas;
  }

  // A picture stands alone, so the page's style goes with it; titles may hold what XML cannot.
  async pictureOfMarks(width, height) {
    const marks = this.marks.cloneNode(true);
    for (const title of marks.querySelectorAll("title")) title.remove();
    marks.dataset.tool = byId("viewer").dataset.tool;
    marks.setAttribute("width", width);
    marks.setAttribute("height", height);
    marks.append(document.querySelector("style").cloneNode(true));
    const picture = new Image();
    picture.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(marks))}`;
    await picture.decode();
    return picture;
  }
}

// How strongly a place is marked. With nothing to go by, about three in ten answers are right.
function clearness({ visible, probability }) {
  return visible ? Math.min(Math.max((probability - 0.15) / 0.6, 0.25), 1) : 0.35;
}

// Hues a golden angle apart stay distinct however many there are.
function pinColour(number) {
  return `oklch(0.62 0.19 ${(30 + 137.508 * number) % 360})`;
}
