// The pixels of one tile: the photo, an overlay, what is painted, and all of it on its way to canonical space.

const GRID_CELLS = 6; // A unit of canonical space.
const GRID_COLOURS = [[255, 216, 74], [95, 211, 255]];
const PART_COLOURS = [[230, 80, 70], [60, 150, 235], [250, 190, 50], [80, 190, 110], [170, 100, 220], [240, 130, 190], [60, 200, 200], [150, 110, 80]];
const RAMP = [[68, 20, 84], [38, 130, 142], [250, 228, 60]];

class Picture {
  constructor(map, source, canvas, wheel, paint) {
    this.map = map;
    this.source = source;
    // Written pixel by pixel, so it is kept where pixels are.
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.wheel = wheel;
    this.paint = paint;
    this.glide = new Glide(map);
    this.base = new Uint8ClampedArray(source.data);
    this.shown = new ImageData(new Uint8ClampedArray(source.data), WIDTH, HEIGHT);
  }

  setOverlay(kind) {
    this.base.set(this.source.data);
    const colour = OVERLAYS[kind];
    if (colour) {
      for (let pixel = 0; pixel < this.map.mask.length; pixel++) colour(this, pixel, 4 * pixel);
    }
    this.shown.data.set(this.base);
    if (this.paint.sheets.length > 0) this.repaintAll();
  }

  // Paints anew what lies in rectangles of sheets.
  repaint(changes) {
    const readings = this.paint.readingsOf(this.map);
    for (const { sheet, box } of changes) {
      for (const { map } of readings.filter((reading) => reading.sheet === sheet)) {
        map.search.within(...box, (pixel) => this.repaintPixel(pixel, readings));
      }
    }
  }

  repaintAll() {
    const readings = this.paint.readingsOf(this.map);
    const { mask } = this.map;
    for (let pixel = 0; pixel < mask.length; pixel++) if (mask[pixel]) this.repaintPixel(pixel, readings);
  }

  repaintPixel(pixel, readings) {
    const [to, { data: shown }] = [4 * pixel, this.shown];
    for (let k = 0; k < 3; k++) shown[to + k] = this.base[to + k];
    for (const { sheet, map } of readings) {
      const from = sheet.at(map.canonical[2 * pixel], map.canonical[2 * pixel + 1]);
      const share = from < 0 ? 0 : sheet.pixels[from + 3] / 255;
      if (share > 0) mix(shown, to, share, sheet.pixels[from], sheet.pixels[from + 1], sheet.pixels[from + 2]);
    }
  }

  // Shows the photo a share of the way to canonical space.
  draw(share) {
    if (share === 0) {
      this.context.putImageData(this.shown, 0, 0);
      return;
    }
    const places = new Float32Array(2 * MESH_POINTS);
    this.glide.mesh(share, places);
    const out = new ImageData(WIDTH, HEIGHT);
    for (const { moved, kind, opacity, added } of glideParts(this.map.mirrored, share)) {
      const part = moved ? this.rasterise(places, kind, this.shown.data) : this.cutOut(kind);
      layOver(out.data, part, opacity, added);
    }
    this.context.putImageData(out, 0, 0);
  }

  // Adds the object in canonical space, without overlay and paint, to sums of its colours and of how often it shows.
  addTo(sums) {
    const places = new Float32Array(2 * MESH_POINTS);
    this.glide.mesh(1, places);
    const part = this.rasterise(places, 1, this.source.data);
    for (let at = 0; at < sums.length; at += 4) {
      if (part[at + 3] === 0) continue;
      for (let k = 0; k < 3; k++) sums[at + k] += part[at + k];
      sums[at + 3]++;
    }
  }

  // Pixels of one kind where they are.
  cutOut(kind) {
    const part = new Uint8ClampedArray(this.shown.data);
    for (let pixel = 0; pixel < this.map.mask.length; pixel++) if (this.map.mask[pixel] !== kind) part[4 * pixel + 3] = 0;
    return part;
  }

  // Pixels of one kind, object (1) or not (0), where the mesh takes them.
  rasterise(places, kind, from) {
    const out = new Uint8ClampedArray(4 * WIDTH * HEIGHT);
    for (const corner of this.cellsOf(kind)) {
      const [a, b, c, d] = [corner, corner + 1, corner + MESH_COLUMNS, corner + MESH_COLUMNS + 1];
      this.triangle(places, a, b, c, kind, from, out);
      this.triangle(places, d, c, b, kind, from, out);
    }
    return out;
  }

  // The cells, by their first corners, that hold pixels of one kind.
  cellsOf(kind) {
    this.cells ??= [0, 1].map((one) => {
      const cells = [];
      for (let corner = 0; corner < MESH_POINTS - MESH_COLUMNS; corner++) {
        if ((corner + 1) % MESH_COLUMNS !== 0 && this.holds(corner, one)) cells.push(corner);
      }
      return cells;
    });
    return this.cells[kind];
  }

  holds(corner, kind) {
    const last = corner + MESH_COLUMNS + 1;
    for (let y = MESH_HOME[2 * corner + 1]; y <= MESH_HOME[2 * last + 1]; y++) {
      for (let x = MESH_HOME[2 * corner]; x <= MESH_HOME[2 * last]; x++) if (this.map.mask[y * WIDTH + x] === kind) return true;
    }
    return false;
  }

  // A right-angled triangle of the mesh: its corner, the next one in x and the next one in y.
  triangle(places, corner, inX, inY, kind, from, out) {
    const [x0, y0] = [places[2 * corner], places[2 * corner + 1]];
    const [x1, y1, x2, y2] = [places[2 * inX], places[2 * inX + 1], places[2 * inY], places[2 * inY + 1]];
    const area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0);
    if (Math.abs(area) < 1e-6) return;
    const lastX = Math.min(WIDTH - 1, Math.floor(Math.max(x0, x1, x2)));
    const lastY = Math.min(HEIGHT - 1, Math.floor(Math.max(y0, y1, y2)));
    const firstX = Math.max(0, Math.ceil(Math.min(x0, x1, x2)));
    const homeX = MESH_HOME[2 * corner];
    const homeY = MESH_HOME[2 * corner + 1];
    const [width, height] = [MESH_HOME[2 * inX] - homeX, MESH_HOME[2 * inY + 1] - homeY];
    const { mask } = this.map;
    for (let y = Math.max(0, Math.ceil(Math.min(y0, y1, y2))); y <= lastY; y++) {
      for (let x = firstX; x <= lastX; x++) {
        const across = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area;
        const along = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area;
        if (across < -1e-4 || along < -1e-4 || across + along > 1.0001) continue;
        const pixel = Math.round(homeY + along * height) * WIDTH + Math.round(homeX + across * width);
        if (mask[pixel] !== kind) continue;
        const to = 4 * (y * WIDTH + x);
        out[to] = from[4 * pixel];
        out[to + 1] = from[4 * pixel + 1];
        out[to + 2] = from[4 * pixel + 2];
        out[to + 3] = 255;
      }
    }
  }
}

// Lays cut-out pixels over others, or adds them where both are parts of a whole.
function layOver(below, part, opacity, added = false) {
  for (let at = 0; at < part.length; at += 4) {
    if (part[at + 3] === 0) continue;
    const under = (below[at + 3] / 255) * (added ? 1 : 1 - opacity);
    const share = opacity / (opacity + under);
    mix(below, at, share, part[at], part[at + 1], part[at + 2]);
    below[at + 3] = 255 * (opacity + under);
  }
}

function mix(bytes, at, share, red, green, blue) {
  bytes[at] = (1 - share) * bytes[at] + share * red;
  bytes[at + 1] = (1 - share) * bytes[at + 1] + share * green;
  bytes[at + 2] = (1 - share) * bytes[at + 2] + share * blue;
}

function fade(picture, at) {
  const luma = 0.3 * picture.base[at] + 0.59 * picture.base[at + 1] + 0.11 * picture.base[at + 2];
  const grey = 150 + 0.2 * luma;
  mix(picture.base, at, 1, grey, grey, grey);
}

// The colour of a share from 0 to 1.
function rampAt(share) {
  const value = (RAMP.length - 1) * Math.min(Math.max(share, 0), 0.9999);
  const step = Math.floor(value);
  return RAMP[step].map((channel, k) => (1 - value + step) * channel + (value - step) * RAMP[step + 1][k]);
}

// Whether a pixel is the first beyond a line of the grid: the next one, right or below, lies in another cell.
function crossesGrid(canonical, pixel, k) {
  const cell = Math.floor(canonical[2 * pixel + k] * GRID_CELLS);
  const right = Math.floor((canonical[2 * pixel + 2 + k] ?? 0) * GRID_CELLS);
  const below = Math.floor((canonical[2 * (pixel + WIDTH) + k] ?? 0) * GRID_CELLS);
  return cell !== right || cell !== below;
}

// Each paints one pixel of a picture's base; `at` is the pixel's first byte.
const OVERLAYS = {
  mask(picture, pixel, at) {
    if (!picture.map.mask[pixel]) fade(picture, at);
  },
  wheel(picture, pixel, at) {
    if (!picture.map.mask[pixel]) return fade(picture, at);
    const { canonical } = picture.map;
    const from = picture.wheel.at(canonical[2 * pixel], canonical[2 * pixel + 1]);
    const bytes = picture.wheel.pixels.data;
    return mix(picture.base, at, 0.72, bytes[from], bytes[from + 1], bytes[from + 2]);
  },
  grid(picture, pixel, at) {
    const { canonical, mask } = picture.map;
    if (!mask[pixel]) return fade(picture, at);
    if (crossesGrid(canonical, pixel, 0)) return mix(picture.base, at, 1, ...GRID_COLOURS[0]);
    if (crossesGrid(canonical, pixel, 1)) return mix(picture.base, at, 1, ...GRID_COLOURS[1]);
    return undefined;
  },
  confidence(picture, pixel, at) {
    if (!picture.map.mask[pixel]) return fade(picture, at);
    return mix(picture.base, at, 0.72, ...rampAt(picture.map.agreementAt([pixel % WIDTH, Math.floor(pixel / WIDTH)])));
  },
  saliency(picture, pixel, at) {
    mix(picture.base, at, 0.72, ...rampAt(picture.map.saliencyAt(pixel)));
  },
  parts(picture, pixel, at) {
    const part = picture.map.parts[pixel];
    return part === 0 ? fade(picture, at) : mix(picture.base, at, 0.62, ...PART_COLOURS[(part - 1) % PART_COLOURS.length]);
  },
  cycle(picture, pixel, at) {
    const error = picture.cycles.at(pixel);
    if (!picture.map.mask[pixel] || Number.isNaN(error)) return fade(picture, at);
    return mix(picture.base, at, 0.72, ...rampAt(error / CYCLE_SHOWN));
  },
};

// The canonical tile: the average photo under the same paint.
class AveragePicture {
  constructor(image, canvas, wheel, paint) {
    this.context = canvas.getContext("2d");
    this.image = image;
    this.wheel = wheel;
    this.paint = paint;
    this.overlay = "none";
    this.chosen = null;
  }

  setOverlay(kind) {
    this.overlay = kind;
  }

  repaint() {}

  repaintAll() {}

  draw() {
    const { context } = this;
    // A canvas counts from a pixel's corner, everything else here from its centre.
    const [left, top] = canonicalToTile([BOX_LEFT, BOX_TOP]);
    const pixel = ((BOX_RIGHT - BOX_LEFT) * TILE_SCALE) / (this.image.naturalWidth - 1);
    const width = pixel * this.image.naturalWidth;
    const height = pixel * this.image.naturalHeight;
    context.clearRect(0, 0, WIDTH, HEIGHT);
    if (this.chosen !== null) context.drawImage(this.chosen, 0, 0);
    else context.drawImage(this.image, left + 0.5 - pixel / 2, top + 0.5 - pixel / 2, width, height);
    if (this.overlay === "wheel" || this.overlay === "grid") this.tint();
    for (const sheet of this.paint.ownSheets) {
      const [x, y] = canonicalToTile([sheet.left, sheet.top]);
      const side = (PAINT_SIDE / sheet.scale) * TILE_SCALE;
      context.drawImage(sheet.canvas, x + 0.5, y + 0.5, side, side);
    }
  }

  // Lays the colour wheel or the grid over what is there.
  tint() {
    const { context } = this;
    context.save();
    context.globalCompositeOperation = "source-atop";
    if (this.overlay === "wheel") {
      context.globalAlpha = 0.72;
      context.drawImage((this.wheelPicture ??= wheelPicture(this.wheel)), 0, 0);
    } else {
      this.drawGrid();
    }
    context.restore();
  }

  drawGrid() {
    const { context } = this;
    const [low, high] = [CANONICAL_FRAME.canonicalAt([0, 0]), CANONICAL_FRAME.canonicalAt([WIDTH - 1, HEIGHT - 1])];
    context.lineWidth = 1.4;
    for (const k of [0, 1]) {
      context.strokeStyle = `rgb(${GRID_COLOURS[k].join(" ")})`;
      context.beginPath();
      for (let line = Math.ceil(low[k] * GRID_CELLS); line <= high[k] * GRID_CELLS; line++) {
        const at = canonicalToTile([line / GRID_CELLS, line / GRID_CELLS])[k] + 0.5;
        context.moveTo(...(k === 0 ? [at, 0] : [0, at]));
        context.lineTo(...(k === 0 ? [at, HEIGHT] : [WIDTH, at]));
      }
      context.stroke();
    }
  }
}

// The wheel's colours all over the canonical tile.
function wheelPicture(wheel) {
  const picture = new ImageData(WIDTH, HEIGHT);
  for (let pixel = 0; pixel < WIDTH * HEIGHT; pixel++) {
    const from = wheel.at(...CANONICAL_FRAME.canonicalAt([pixel % WIDTH, Math.floor(pixel / WIDTH)]));
    picture.data.set(wheel.pixels.data.subarray(from, from + 3), 4 * pixel);
    picture.data[4 * pixel + 3] = 255;
  }
  const canvas = htmlElement("canvas", { width: WIDTH, height: HEIGHT });
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}
