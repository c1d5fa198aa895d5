// One tile of the viewer: a photo, or canonical space, with what is marked on it.

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
    this.pins = svgElement("g", {}, this.marks);
    this.cross = svgElement("g", { class: "cross", visibility: "hidden" }, this.marks);
    for (const kind of ["halo", "ring"]) svgElement("circle", { class: kind, r: 0.036 * WIDTH }, this.cross);
    svgElement("circle", { class: "dot", r: 0.009 * WIDTH }, this.cross);
    this.readout = htmlElement("output", {}, this.frame);
    this.frame.tabIndex = 0;
    this.inView = true;
    this.stale = true;
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

  // Marks a place, or nothing for null; says in the photo's own pixels where the pointer is, elsewhere how sure that is.
  showCross(place, morph, isSource) {
    this.cross.setAttribute("visibility", place === null ? "hidden" : "visible");
    this.readout.hidden = place === null;
    if (place === null) return;
    const [x, y] = this.shownAt([place.x, place.y], morph);
    const [imageX, imageY] = this.map.toImage([place.x, place.y]);
    this.cross.setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)})`);
    this.cross.style.opacity = isSource ? 1 : Math.min(1, 0.12 + 1.3 * place.confidence);
    this.cross.classList.toggle("source", isSource);
    const digits = this.index < 0 ? 3 : 1;
    const where = `${imageX.toFixed(digits)}, ${imageY.toFixed(digits)}`;
    this.readout.textContent = isSource ? where : `${Math.round(100 * place.confidence)} %`;
    this.readout.title = where;
    Object.assign(this.figure.dataset, {
      x: imageX.toFixed(4), y: imageY.toFixed(4), confidence: place.confidence.toFixed(4),
    });
  }

  showPins(pins, morph) {
    this.pins.replaceChildren();
    pins.forEach((pin, number) => {
      const place = this.index < 0 ? pin.found.canonicalPlace : pin.found.places[this.index];
      if (place === null) return;
      const [x, y] = this.shownAt([place.x, place.y], morph);
      const group = svgElement("g", { class: "pin", transform: `translate(${x.toFixed(2)} ${y.toFixed(2)})` }, this.pins);
      group.style.opacity = pin.tile === this.index ? 1 : Math.min(1, 0.2 + 1.3 * place.confidence);
      svgElement("circle", { r: 0.03 * WIDTH, fill: pinColour(number) }, group);
      svgElement("text", { "font-size": 0.042 * WIDTH, dy: "0.36em" }, group).textContent = number + 1;
    });
  }
}

// Hues a golden angle apart stay distinct however many there are.
function pinColour(number) {
  return `oklch(0.62 0.19 ${(30 + 137.508 * number) % 360})`;
}
