// The viewer: every tile answers the pointer, the keys and the controls.

// In pixels of the page.
const FINGER_REACH_PX = 16;
const SMALLEST_TILE_PX = 100;
const LARGEST_TILE_PX = 560;

const RAMP_ENDS = {
  confidence: ["no other photo agrees", "all do"],
  saliency: ["low", "high"],
  cycle: ["0", `${100 * CYCLE_SHOWN} % of the width`],
};

class Viewer {
  constructor(maps, tiles, paint, frames) {
    this.maps = maps;
    this.tiles = tiles;
    this.paint = paint;
    this.frames = frames;
    this.pins = [];
    this.morph = 0;
    this.dragged = null;
    this.lastPoint = null;
    this.hasPainted = false; // In the stroke that is under way.
    this.tapped = null;
    this.source = null; // The tile on which a place is marked.
    this.stampImage = null;
    this.overlay = "none";
    this.stage = null;
    const photos = tiles.filter(({ index }) => index >= 0);
    this.average = new ChosenAverage(photos, tiles[0], frames, (tile) => this.draw(tile));
    this.truth = new TruthErrors(maps, photos, this);
    for (const tile of tiles) this.offerPicture(tile);
    for (const tile of tiles) this.listen(tile);
    this.listenToControls();
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries) this.sawTile(entry);
    });
    for (const tile of tiles) observer.observe(tile.figure);
  }

  get tool() {
    return document.querySelector("input[name=tool]:checked").value;
  }

  sawTile(entry) {
    const tile = this.tiles.find(({ figure }) => figure === entry.target);
    tile.inView = entry.isIntersecting;
    if (tile.inView && tile.stale) this.draw(tile);
  }

  listen(tile) {
    const { frame } = tile;
    frame.addEventListener("pointerdown", (event) => this.press(tile, event));
    frame.addEventListener("pointermove", (event) => this.move(tile, event));
    frame.addEventListener("pointerup", (event) => this.release(tile, event));
    frame.addEventListener("pointercancel", () => {
      this.dragged = this.lastPoint = this.tapped = null;
      this.leave(tile);
    });
    // A finger that has hold of a pin does not scroll.
    frame.addEventListener("touchstart", (event) => { if (this.dragged !== null) event.preventDefault(); }, { passive: false });
    frame.addEventListener("blur", () => this.leave(tile));
    // A finger leaves whenever it is lifted.
    frame.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") this.leave(tile); });
    frame.addEventListener("keydown", (event) => this.key(tile, event));
  }

  press(tile, event) {
    if (event.button !== 0) return;
    const place = tile.pointOf(event);
    const point = tile.photoPoint(place, this.morph);
    const near = this.tool === "look" ? this.pinNear(tile, place, reachOf(tile, event)) : null;
    // A finger that looks around or scrolls begins like one that taps.
    if (this.tool === "look" && near === null && event.pointerType === "touch") {
      this.tapped = place;
      this.showCross(tile, point);
      return;
    }
    const pin = near ?? this.use(tile, point);
    if (this.tool === "look") this.dragged = pin;
    else this.lastPoint = point;
    tile.frame.setPointerCapture(event.pointerId);
  }

  // Pins a point, or begins to paint there, as the tool says. Returns the new pin, if any.
  use(tile, point) {
    this.showCross(tile, point);
    if (this.tool === "look") return this.addPin(tile, point);
    this.hasPainted = false;
    this.apply(tile, [point]);
    return null;
  }

  move(tile, event) {
    const place = tile.pointOf(event);
    if (this.tapped !== null && distance(place, this.tapped) > reachOf(tile, event)) this.tapped = null;
    this.frames.add("hover", () => {
      const point = tile.photoPoint(place, this.morph);
      this.showCross(tile, point);
      if (this.dragged !== null && !tile.isOff(point)) this.movePin(this.dragged, tile.index, point);
      if (this.lastPoint !== null && this.tool === "brush") this.strokeTo(tile, point);
    });
  }

  // What a tap marks stays: it can be read once the finger is gone.
  release(tile, event) {
    if (this.tapped !== null) this.addPin(tile, tile.photoPoint(this.tapped, this.morph));
    else if (event.pointerType === "touch") this.leave(tile);
    this.tapped = null;
    this.frames.add("release", () => {
      this.dragged = null;
      this.lastPoint = null;
    });
  }

  key(tile, event) {
    const point = tile.pointByKey(event, this.morph);
    if (point !== null) this.showCross(tile, point);
    else if (event.key === "Enter") this.use(tile, tile.keyed.point);
    else return;
    event.preventDefault();
  }

  // Takes the marks away, unless they are another tile's by now.
  leave(tile) {
    this.frames.add("leave", () => { if (this.source === tile) this.showCross(null, null); });
  }

  // Marks a point of one tile and its counterparts on all others; nothing for a null tile.
  showCross(source, point) {
    this.source = source;
    if (source === null) {
      for (const tile of this.tiles) tile.showCross(null, this.morph, false);
      return;
    }
    const here = { x: point[0], y: point[1], visible: true, probability: 1 };
    const isOff = source.isOff(point);
    for (const tile of this.tiles) {
      const isSource = tile === source;
      const found = isSource ? here : isOff ? null : carry(source.map, tile.map, point);
      tile.showCross(found, this.morph, isSource);
    }
  }

  // Pins

  addPin(tile, point) {
    if (tile.isOff(point)) return null;
    const pin = makePin(newName(this.pins), tile.index, point);
    this.setPins([...this.pins, pin]);
    return pin;
  }

  movePin(pin, tileIndex, point) {
    pin.tile = tileIndex;
    pin.point = point;
    pin.found = placesOf(this.maps, pin);
    this.showPins();
  }

  setPins(pins) {
    this.pins = pins;
    for (const pin of pins) pin.found = placesOf(this.maps, pin);
    this.showPins();
    this.listPins();
  }

  showPins() {
    for (const tile of this.tiles) tile.showPins(this.pins, this.morph);
  }

  listPins() {
    const list = byId("pin-list");
    byId("pin-tools").classList.toggle("empty", this.pins.length === 0);
    list.replaceChildren();
    this.pins.forEach((pin, number) => {
      const item = htmlElement("li", {}, list);
      const dot = htmlElement("span", { className: "dot", textContent: number + 1 }, item);
      dot.style.background = pinColour(number);
      const name = htmlElement("input", { value: pin.name, ariaLabel: `Name of pin ${number + 1}` }, item);
      const remove = htmlElement("button", { type: "button", textContent: "×", ariaLabel: `Remove pin ${number + 1}` }, item);
      name.addEventListener("change", () => this.rename(pin, name));
      remove.addEventListener("click", () => this.removePin(number));
    });
  }

  rename(pin, input) {
    if (this.pins.some((other) => other !== pin && other.name === input.value)) {
      this.say(`another pin is named ${input.value}`);
      input.value = pin.name;
    }
    pin.name = input.value;
  }

  // The button of the pin that takes its place has the focus then.
  removePin(number) {
    this.setPins(this.pins.filter((_, other) => other !== number));
    const buttons = document.querySelectorAll("#pin-list button");
    (buttons[Math.min(number, buttons.length - 1)] ?? byId("pins-file")).focus();
  }

  // The pin that is shown nearest to a place of a tile, if within reach.
  pinNear(tile, place, reach) {
    let [nearest, least] = [null, reach];
    for (const pin of this.pins) {
      const found = tile.placeOf(pin);
      if (found === null) continue;
      const apart = distance(tile.shownAt([found.x, found.y], this.morph), place);
      if (apart < least) [nearest, least] = [pin, apart];
    }
    return nearest;
  }

  // Paint

  strokeTo(tile, point) {
    const [fromX, fromY] = this.lastPoint;
    const [toX, toY] = point;
    const length = distance(this.lastPoint, point);
    // Browsers send moves of a pointer that stands still; a second dab would harden the first one's soft edge.
    if (length === 0) return;
    const steps = Math.ceil(length / (this.radius / 3));
    const points = Array.from({ length: steps }, (_, i) => [
      fromX + ((toX - fromX) * (i + 1)) / steps,
      fromY + ((toY - fromY) * (i + 1)) / steps,
    ]);
    this.lastPoint = point;
    this.apply(tile, points);
  }

  undo() {
    if (this.paint.undo()) this.repaintAll();
  }

  get radius() {
    return (Number(byId("brush-size").value) / 100) * WIDTH;
  }

  // Brushes or stamps at those of a stroke's points that are on the object, and shows it on all.
  apply(tile, stroke) {
    const points = stroke.filter((point) => !tile.isOff(point));
    if (points.length === 0) return;
    if (!this.hasPainted) this.paint.remember(this.paint.layerOf(tile.map).sheets);
    this.hasPainted = true;
    const { radius } = this;
    const draw = this.tool === "brush" ? brush(byId("colour").value, radius) : this.stamp(radius);
    for (const point of points) {
      const changes = this.paint.drawAt(tile.map, point, 2 * radius, draw);
      for (const { picture } of this.tiles) picture.repaint(changes);
    }
    this.drawAll();
  }

  stamp(radius) {
    if (this.stampImage !== null) return imageStamp(this.stampImage, radius);
    return textStamp(byId("stamp-text").value, byId("colour").value, radius);
  }

  // Drawing

  // Lets WebGL2 draw photos on their way, where there is any, once its programs are compiled.
  beginStage() {
    let stage;
    try {
      stage = new WebglStage(document.querySelector("#viewer .tiles"), this.maps.length);
    } catch {
      return;
    }
    this.openStage(stage);
  }

  openStage(stage) {
    if (stage.compiling) {
      setTimeout(() => this.openStage(stage), 50);
      return;
    }
    const photos = this.tiles.filter(({ index }) => index >= 0);
    this.frames.addLate("stage", () => {
      stage.open(photos);
      this.stage = stage;
    });
    for (const tile of photos) this.frames.addLate([tile], () => this.stage?.take(tile));
    this.frames.addLate("rehearsal", () => this.stage?.rehearse());
    stage.canvas.addEventListener("webglcontextlost", () => {
      stage.close();
      this.stage = null;
      this.drawAll();
    });
  }

  // Tiles that the reader sees come first.
  draw(tile) {
    tile.stale = true;
    if (this.stage !== null && tile.index >= 0) {
      this.stage.renew(tile);
      if (this.morph > 0) {
        this.frames.add(this.stage, () => this.stage?.show(this.morph));
        return;
      }
    }
    const job = () => {
      tile.picture.draw(this.morph);
      tile.stale = false;
    };
    if (tile.inView) this.frames.add(tile, job);
    else this.frames.addLate(tile, job);
  }

  drawAll() {
    for (const tile of this.tiles) this.draw(tile);
  }

  repaintAll() {
    for (const tile of this.tiles) this.frames.add(tile.picture, () => tile.picture.repaintAll());
    this.drawAll();
  }

  setOverlay(kind) {
    this.overlay = kind;
    byId("ramp").hidden = true;
    if (kind in RAMP_ENDS) showRamp(byId("ramp"), RAMP, RAMP_ENDS[kind]);
    const measured = kind === "cycle" ? this.tiles.filter(({ index }) => index >= 0) : [];
    for (const tile of this.tiles) {
      if (!measured.includes(tile)) this.frames.add(tile.picture, () => tile.picture.setOverlay(kind));
    }
    this.drawAll();
    // Another overlay takes the place of what is still to be measured.
    this.frames.add("cycles", () => this.measureCycles(measured.sort((one, other) => other.inView - one.inView)));
  }

  // Photo by photo and row by row, so that no frame is held up and what is in view shows soon.
  measureCycles([tile, ...others]) {
    if (tile === undefined) return;
    const errors = (tile.picture.cycles ??= new CycleErrors(this.maps, tile.index));
    if (!errors.done) {
      errors.step();
      this.frames.add("cycles", () => this.measureCycles([tile, ...others]));
      return;
    }
    tile.picture.setOverlay("cycle");
    this.draw(tile);
    this.frames.add("cycles", () => this.measureCycles(others));
  }

  setMorph(share) {
    this.morph = share;
    this.frames.add("marks", () => {
      for (const tile of this.tiles) tile.moveCross(share);
      this.showPins();
      this.truth.show();
    });
    if (this.stage === null) {
      this.drawAll();
      return;
    }
    this.frames.add(this.stage, () => this.stage?.show(share));
    if (share === 0) for (const tile of this.tiles) if (tile.stale) this.draw(tile);
  }

  // Waits until tiles hold on their own canvases what is shown of them.
  async settle(tiles) {
    if (this.stage !== null && this.morph > 0) {
      for (const tile of tiles) {
        tile.stale = true;
        this.frames.add(tile, () => tile.picture.draw(this.morph));
      }
    }
    await this.frames.finished();
  }

  // Controls

  listenToControls() {
    const on = (id, event, action) => byId(id).addEventListener(event, action);
    on("overlay", "change", (event) => this.setOverlay(event.target.value));
    on("morph", "input", (event) => this.setMorph(Number(event.target.value)));
    this.offerSizes(byId("tile-size"), document.querySelector("#viewer .tiles"));
    on("undo", "click", () => this.undo());
    document.addEventListener("keydown", (event) => {
      const writing = event.target instanceof HTMLInputElement && event.target.type === "text";
      if (event.key === "z" && (event.ctrlKey || event.metaKey) && !writing) this.undo();
    });
    on("clear", "click", () => {
      this.paint.clear();
      this.repaintAll();
    });
    on("save-photos", "click", () => this.savePhotos());
    on("stamp-image", "change", (event) => this.loadStamp(event.target));
    // Who writes wants words again.
    on("stamp-text", "input", () => this.setStamp(null));
    on("pins-csv", "click", () => this.savePins("pins.csv", "text/csv", pinsToCsv));
    on("pins-json", "click", () => this.savePins("pins.json", "application/json", pinsToJson));
    on("pins-spair", "click", () => this.savePinsAsSpair());
    on("average-all", "click", () => this.average.choose(true));
    on("average-none", "click", () => this.average.choose(false));
    on("pins-clear", "click", () => this.setPins([]));
    on("pins-file", "change", (event) => this.loadPins(event.target));
    for (const choice of document.querySelectorAll("input[name=tool]")) {
      choice.addEventListener("change", () => { byId("viewer").dataset.tool = this.tool; });
    }
    byId("viewer").dataset.tool = this.tool;
  }

  // Tiles fill their rows, so that a size is a number of tiles in a row, negative so that the largest comes last.
  offerSizes(slider, tiles) {
    const style = getComputedStyle(tiles);
    new ResizeObserver(() => {
      const gap = Number.parseFloat(style.columnGap);
      const inRow = (side) => Math.max(1, Math.floor((tiles.clientWidth + gap) / (side + gap)));
      const columns = style.gridTemplateColumns.split(" ").length;
      slider.min = -inRow(SMALLEST_TILE_PX);
      slider.max = -inRow(LARGEST_TILE_PX);
      slider.value = -columns;
      slider.ariaValueText = `${columns} in a row`;
    }).observe(tiles);
    slider.addEventListener("input", () => {
      const gap = style.columnGap;
      // A little less than that share of a row, so that it is not missed by rounding.
      tiles.style.setProperty("--tile", `max(${SMALLEST_TILE_PX}px, (100% + ${gap}) / ${-slider.value} - ${gap} - 1px)`);
    });
  }

  async loadStamp(input) {
    const [file] = input.files;
    input.value = "";
    if (file === undefined) return;
    try {
      this.setStamp(await createImageBitmap(file));
    } catch {
      this.say(`${file.name}: no picture that the browser can read`);
    }
  }

  setStamp(image) {
    this.stampImage = image;
    byId("stamp-image").parentElement.classList.toggle("chosen", image !== null);
  }

  savePins(name, type, format) {
    offerFile(name, new Blob([format(this.maps, this.pins)], { type }));
  }

  savePinsAsSpair() {
    try {
      offerFile("pins-spair.zip", pinsToSpair(this.maps, this.pins));
    } catch (error) {
      this.say(error.message);
    }
  }

  async loadPins(input) {
    const [file] = input.files;
    if (file === undefined) return;
    try {
      this.setPins(readPins(this.maps, await file.text()));
      this.say(`${this.pins.length} pins read from ${file.name}`);
    } catch (error) {
      this.say(`${file.name}: ${error.message}`);
    }
    input.value = "";
  }

  // A button on a tile that saves it as it is shown, marks included.
  offerPicture(tile) {
    const options = { type: "button", className: "save", textContent: "↓", title: "Save as it is shown", ariaLabel: `Save ${tile.name}` };
    htmlElement("button", options, tile.figure.querySelector("figcaption")).addEventListener("click", async () => {
      await this.settle([tile]);
      offerFile(this.fileName(tile), await pngOf(await tile.still()));
    });
  }

  fileName({ index }) {
    if (index < 0) return "canonical.png";
    const stem = this.maps[index].path.replace(/\.[^./]*$/, "").replace(/[^\w.-]+/g, "_").slice(-60);
    return `${String(index + 1).padStart(3, "0")}-${stem}.png`;
  }

  async savePhotos() {
    await this.settle(this.tiles);
    const files = [];
    for (const tile of this.tiles) {
      const picture = await pngOf(await tile.still());
      files.push({ name: this.fileName(tile), bytes: new Uint8Array(await picture.arrayBuffer()) });
    }
    offerFile("painted-photos.zip", zip(files));
  }

  say(message) {
    byId("message").textContent = message;
  }
}

function distance([fromX, fromY], [toX, toY]) {
  return Math.hypot(toX - fromX, toY - fromY);
}

// How far from a pin it is taken hold of, in pixels of the model's frame.
function reachOf(tile, { pointerType }) {
  return pointerType === "touch" ? FINGER_REACH_PX * tile.scale : 1.3 * tile.markRadius;
}

function brush(colour, radius) {
  return (context) => {
    context.fillStyle = colour;
    context.beginPath();
    context.arc(0, 0, radius, 0, 2 * Math.PI);
    context.fill();
  };
}

function textStamp(text, colour, radius) {
  return (context) => {
    context.fillStyle = colour;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.font = "600 100px system-ui, sans-serif";
    const scale = (2 * radius) / Math.max(context.measureText(text).width, 100);
    context.scale(scale, scale);
    context.fillText(text, 0, 0);
  };
}

function imageStamp(image, radius) {
  const scale = (2 * radius) / Math.max(image.width, image.height);
  return (context) => {
    const [width, height] = [image.width * scale, image.height * scale];
    context.drawImage(image, -width / 2, -height / 2, width, height);
  };
}
