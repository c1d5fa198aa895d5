// Two runs side by side: a place touched on one photo is found on all others by both.

const HEAT = [[20, 30, 60], [200, 60, 90], [255, 210, 70]];

// A photo, with how far apart the runs' answers from each of its places are, if asked for.
class HeatPicture {
  constructor(image, texels, canvas) {
    this.image = image;
    this.context = canvas.getContext("2d");
    this.heat = heatOf(texels);
  }

  draw(showHeat) {
    this.context.globalAlpha = 1;
    this.context.drawImage(this.image, 0, 0, WIDTH, HEIGHT);
    if (!showHeat) return;
    this.context.globalAlpha = 0.75;
    this.context.drawImage(this.heat, 0, 0, WIDTH, HEIGHT);
  }
}

function heatOf(texels) {
  const canvas = htmlElement("canvas", { width: data.differenceSide, height: data.differenceSide });
  const picture = new ImageData(data.differenceSide, data.differenceSide);
  texels.forEach((texel, i) => {
    const value = 2 * Math.min(texel / 254, 0.9999);
    const [low, high] = [HEAT[Math.floor(value)], HEAT[Math.min(Math.floor(value) + 1, 2)]];
    const share = value % 1;
    low.forEach((channel, k) => { picture.data[4 * i + k] = (1 - share) * channel + share * high[k]; });
    picture.data[4 * i + 3] = texel === 255 ? 0 : 255;
  });
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

class Comparison {
  // `sides` are two of {maps, tiles}, the tiles in the order of the photos.
  constructor(sides, frames) {
    this.sides = sides;
    this.frames = frames;
    this.pins = [];
    this.source = null; // The tile on which a place is marked.
    for (const { tiles } of sides) for (const tile of tiles) this.listen(tile);
    byId("heat").addEventListener("change", () => this.drawAll());
    byId("pins-clear").addEventListener("click", () => this.setPins([]));
    byId("pins-file").addEventListener("change", (event) => this.loadPins(event.target));
    showRamp(byId("ramp"), HEAT);
    this.drawAll();
  }

  listen(tile) {
    const { frame } = tile;
    frame.addEventListener("pointermove", (event) => {
      const point = tile.pointOf(event);
      this.frames.add("hover", () => this.showCross(tile, point));
    });
    for (const kind of ["pointercancel", "blur"]) frame.addEventListener(kind, () => this.leave(tile));
    // A finger leaves whenever it is lifted.
    frame.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") this.leave(tile); });
    frame.addEventListener("click", (event) => this.addPin(tile, tile.pointOf(event)));
    frame.addEventListener("keydown", (event) => this.key(tile, event));
  }

  key(tile, event) {
    const point = tile.pointByKey(event, 0);
    if (point !== null) this.showCross(tile, point);
    else if (event.key === "Enter") this.addPin(tile, tile.keyed.point);
    else return;
    event.preventDefault();
  }

  // Takes the marks away, unless they are another tile's by now.
  leave(tile) {
    this.frames.add("leave", () => { if (this.source === tile) this.showCross(null, null); });
  }

  // Marks a photo's point on both sides and what either run finds on the others; nothing for a null tile.
  showCross(source, point) {
    this.source = source;
    if (source === null) {
      for (const { tiles } of this.sides) {
        for (const tile of tiles) {
          tile.showCross(null, 0, false);
          tile.apart.setAttribute("visibility", "hidden");
        }
      }
      return;
    }
    const photo = source.index;
    const found = this.sides.map(({ maps }) => placesOf(maps, { tile: photo, point }).places);
    const isOff = source.isOff(point);
    this.sides.forEach(({ tiles }, side) => {
      tiles.forEach((tile, index) => {
        const [place, other] = [side, 1 - side].map((run) => (isOff && index !== photo ? null : found[run][index]));
        tile.showCross(place, 0, index === photo);
        const both = place !== null && other !== null && index !== photo;
        tile.apart.setAttribute("visibility", both ? "visible" : "hidden");
        if (both) {
          for (const [name, value] of [["x1", place.x], ["y1", place.y], ["x2", other.x], ["y2", other.y]]) {
            tile.apart.setAttribute(name, value.toFixed(2));
          }
        }
      });
    });
  }

  addPin(tile, point) {
    this.showCross(tile, point);
    if (!tile.isOff(point)) this.setPins([...this.pins, makePin(newName(this.pins), tile.index, point)]);
  }

  setPins(pins) {
    this.pins = pins;
    for (const { maps, tiles } of this.sides) {
      const own = pins.map((pin) => ({ ...pin, found: placesOf(maps, pin) }));
      for (const tile of tiles) tile.showPins(own, 0);
    }
  }

  async loadPins(input) {
    const [file] = input.files;
    if (file === undefined) return;
    try {
      // A place in one run's canonical space says nothing about the other's.
      const pins = readPins(this.sides[0].maps, await file.text()).filter((pin) => pin.tile >= 0);
      this.setPins(pins);
      byId("message").textContent = `${pins.length} pins read from ${file.name}`;
    } catch (error) {
      byId("message").textContent = `${file.name}: ${error.message}`;
    }
    input.value = "";
  }

  drawAll() {
    const showHeat = byId("heat").checked;
    for (const { tiles } of this.sides) {
      for (const tile of tiles) this.frames.add(tile, () => tile.picture.draw(showHeat));
    }
  }
}

async function start() {
  const frames = new FrameQueue();
  const figures = [...document.querySelectorAll(".double")];
  for (const figure of figures) figure.querySelectorAll(".picture")[1].append(figure.querySelector("img").cloneNode());
  await Promise.all([...document.querySelectorAll(".double img")].map((image) => image.decode()));
  const runs = [{ photos: data.photos, scale: data.residualScale }, { photos: data.other.photos, scale: data.other.residualScale }];
  const sides = runs.map(() => ({ maps: [], tiles: [] }));
  figures.forEach((figure) => {
    const photo = Number(figure.dataset.photo);
    const texels = bytesOf(data.differences[photo]);
    figure.querySelectorAll(".side").forEach((half, side) => {
      frames.add(half, () => {
        const map = new PhotoMap(runs[side].photos[photo], runs[side].scale);
        const image = half.querySelector("img");
        const tile = new Tile(half, photo, map, (canvas) => new HeatPicture(image, texels, canvas));
        tile.apart = svgElement("line", { class: "apart", visibility: "hidden" }, tile.marks);
        sides[side].maps[photo] = map;
        sides[side].tiles[photo] = tile;
      });
    });
  });
  frames.add("ready", () => {
    new Comparison(sides, frames);
    byId("tools").hidden = false;
    byId("viewer").classList.add("live");
    frames.finished().then(() => {
      frames.opened();
      byId("viewer").dataset.ready = "true";
    });
  });
}

start();
