// The pixels of one tile: the photo, an overlay, what is painted, and all of it on its way to canonical space.

const BACKGROUND_FADES_BY = 0.35;
const GRID_CELLS = 6; // A unit of canonical space.
const MESH_CELL = 4;
const PART_COLOURS = [[230, 80, 70], [60, 150, 235], [250, 190, 50], [80, 190, 110], [170, 100, 220], [240, 130, 190], [60, 200, 200], [150, 110, 80]];
const RAMP = [[68, 20, 84], [38, 130, 142], [250, 228, 60]];

class Picture {
  constructor(map, source, canvas, wheel, paint) {
    this.map = map;
    this.source = source;
    this.context = canvas.getContext("2d");
    this.wheel = wheel;
    this.paint = paint;
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
    if (!this.paint.empty) this.repaintAll();
  }

  // Paints anew what lies in a canonical rectangle.
  repaint([left, top, right, bottom]) {
    this.map.search.within(left, top, right, bottom, (pixel) => this.repaintPixel(pixel));
  }

  repaintAll() {
    const { mask } = this.map;
    for (let pixel = 0; pixel < mask.length; pixel++) if (mask[pixel]) this.repaintPixel(pixel);
  }

  repaintPixel(pixel) {
    const { canonical } = this.map;
    const from = this.paint.at(canonical[2 * pixel], canonical[2 * pixel + 1]);
    const share = from < 0 ? 0 : this.paint.pixels[from + 3] / 255;
    for (let k = 0; k < 3; k++) {
      const painted = share === 0 ? 0 : this.paint.pixels[from + k];
      this.shown.data[4 * pixel + k] = (1 - share) * this.base[4 * pixel + k] + share * painted;
    }
  }

  // Shows the photo a share `morph` of the way to canonical space. `cell` is the side of the mesh's squares in pixels.
  draw(morph, cell) {
    if (morph === 0) {
      this.context.putImageData(this.shown, 0, 0);
      return;
    }
    const out = new ImageData(WIDTH, HEIGHT);
    const mesh = this.mesh(morph, cell);
    const background = Math.max(0, 1 - morph / BACKGROUND_FADES_BY);
    if (background > 0) this.rasterise(mesh, out, 0, 255 * background);
    this.rasterise(mesh, out, 1, 255);
    this.context.putImageData(out, 0, 0);
  }

  mesh(morph, cell) {
    const columns = Math.ceil((WIDTH - 1) / cell) + 1;
    const rows = Math.ceil((HEIGHT - 1) / cell) + 1;
    const points = new Float32Array(2 * rows * columns);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const x = Math.min(column * cell, WIDTH - 1);
        const y = Math.min(row * cell, HEIGHT - 1);
        const pixel = y * WIDTH + x;
        const [tileX, tileY] = canonicalToTile([this.map.canonical[2 * pixel], this.map.canonical[2 * pixel + 1]]);
        points[2 * (row * columns + column)] = (1 - morph) * x + morph * tileX;
        points[2 * (row * columns + column) + 1] = (1 - morph) * y + morph * tileY;
      }
    }
    return { points, columns, rows, cell };
  }

  // Adds the object in canonical space, without overlay and paint, to sums of its colours and of how often it shows.
  addTo(sums) {
    const out = new ImageData(WIDTH, HEIGHT);
    this.rasterise(this.mesh(1, MESH_CELL), out, 1, 255, this.source.data);
    for (let at = 0; at < sums.length; at += 4) {
      if (out.data[at + 3] === 0) continue;
      for (let k = 0; k < 3; k++) sums[at + k] += out.data[at + k];
      sums[at + 3]++;
    }
  }

  // Draws the mesh's pixels of one kind, foreground (1) or background (0).
  rasterise({ points, columns, rows, cell }, out, kind, alpha, from = this.shown.data) {
    for (let row = 0; row + 1 < rows; row++) {
      for (let column = 0; column + 1 < columns; column++) {
        const corner = row * columns + column;
        const left = column * cell;
        const top = row * cell;
        const right = Math.min(left + cell, WIDTH - 1);
        const bottom = Math.min(top + cell, HEIGHT - 1);
        if (!this.touches(left, top, right, bottom, kind)) continue;
        const a = [points[2 * corner], points[2 * corner + 1], left, top];
        const b = [points[2 * corner + 2], points[2 * corner + 3], right, top];
        const c = [points[2 * (corner + columns)], points[2 * (corner + columns) + 1], left, bottom];
        const d = [points[2 * (corner + columns) + 2], points[2 * (corner + columns) + 3], right, bottom];
        this.triangle(a, b, c, out, kind, alpha, from);
        this.triangle(b, d, c, out, kind, alpha, from);
      }
    }
  }

  touches(left, top, right, bottom, kind) {
    const { mask } = this.map;
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++) if (mask[y * WIDTH + x] === kind) return true;
    }
    return false;
  }

  // Corners are [x, y on screen, x, y in the photo].
  triangle(a, b, c, out, kind, alpha, from) {
    const area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]);
    if (Math.abs(area) < 1e-6) return;
    const { mask } = this.map;
    const firstX = Math.max(0, Math.ceil(Math.min(a[0], b[0], c[0])));
    const lastX = Math.min(WIDTH - 1, Math.floor(Math.max(a[0], b[0], c[0])));
    const firstY = Math.max(0, Math.ceil(Math.min(a[1], b[1], c[1])));
    const lastY = Math.min(HEIGHT - 1, Math.floor(Math.max(a[1], b[1], c[1])));
    for (let y = firstY; y <= lastY; y++) {
      for (let x = firstX; x <= lastX; x++) {
        const toB = ((x - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (y - a[1])) / area;
        const toC = ((b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1])) / area;
        if (toB < -1e-4 || toC < -1e-4 || toB + toC > 1.0001) continue;
        const photoX = Math.round(a[2] + toB * (b[2] - a[2]) + toC * (c[2] - a[2]));
        const photoY = Math.round(a[3] + toB * (b[3] - a[3]) + toC * (c[3] - a[3]));
        const pixel = photoY * WIDTH + photoX;
        if (mask[pixel] !== kind) continue;
        const to = 4 * (y * WIDTH + x);
        out.data[to] = from[4 * pixel];
        out.data[to + 1] = from[4 * pixel + 1];
        out.data[to + 2] = from[4 * pixel + 2];
        out.data[to + 3] = alpha;
      }
    }
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
    if (crossesGrid(canonical, pixel, 0)) return mix(picture.base, at, 1, 255, 216, 74);
    if (crossesGrid(canonical, pixel, 1)) return mix(picture.base, at, 1, 95, 211, 255);
    return undefined;
  },
  confidence(picture, pixel, at) {
    if (!picture.map.mask[pixel]) return fade(picture, at);
    return mix(picture.base, at, 0.72, ...rampAt(picture.map.pixelConfidence(pixel % WIDTH, Math.floor(pixel / WIDTH))));
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
    if (this.overlay === "wheel") this.tint();
    const [x, y] = canonicalToTile([this.paint.left, this.paint.top]);
    const side = (PAINT_SIDE / this.paint.scale) * TILE_SCALE;
    context.drawImage(this.paint.context.canvas, x + 0.5, y + 0.5, side, side);
  }

  tint() {
    const pixels = this.context.getImageData(0, 0, WIDTH, HEIGHT);
    for (let pixel = 0; pixel < WIDTH * HEIGHT; pixel++) {
      const from = this.wheel.at(...CANONICAL_FRAME.canonicalAt([pixel % WIDTH, Math.floor(pixel / WIDTH)]));
      const bytes = this.wheel.pixels.data;
      mix(pixels.data, 4 * pixel, 0.72, bytes[from], bytes[from + 1], bytes[from + 2]);
    }
    this.context.putImageData(pixels, 0, 0);
  }
}
