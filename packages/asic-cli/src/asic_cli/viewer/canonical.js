// The canonical space on screen: where a tile shows it, the colour wheel, and the layer that is painted on.

const PAINT_SIDE = 768;
const PAINT_MARGIN = 0.5;

const [BOX_LEFT, BOX_TOP, BOX_RIGHT, BOX_BOTTOM] = data.box;
const BOX_CENTRE = [(BOX_LEFT + BOX_RIGHT) / 2, (BOX_TOP + BOX_BOTTOM) / 2];
const TILE_SCALE = Math.min((WIDTH - 1) / (BOX_RIGHT - BOX_LEFT), (HEIGHT - 1) / (BOX_BOTTOM - BOX_TOP));

function canonicalToTile([x, y]) {
  return [(x - BOX_CENTRE[0]) * TILE_SCALE + (WIDTH - 1) / 2, (y - BOX_CENTRE[1]) * TILE_SCALE + (HEIGHT - 1) / 2];
}

// The canonical tile seen as a photo that shows everything: its map is a mere change of units.
const CANONICAL_FRAME = {
  canonicalAt: ([x, y]) => [
    (x - (WIDTH - 1) / 2) / TILE_SCALE + BOX_CENTRE[0],
    (y - (HEIGHT - 1) / 2) / TILE_SCALE + BOX_CENTRE[1],
  ],
  slopeAt: () => [1 / TILE_SCALE, 0, 0, 1 / TILE_SCALE],
  confidenceAt: () => 1,
  find: (canonical, confidence) => {
    const [x, y] = canonicalToTile(canonical);
    return { x, y, confidence };
  },
  toImage: (point) => CANONICAL_FRAME.canonicalAt(point),
  toModel: (point) => canonicalToTile(point),
};

function pixelsOf(image, width = image.naturalWidth, height = image.naturalHeight) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

class ColourWheel {
  constructor(image) {
    this.pixels = pixelsOf(image);
    this.middle = (this.pixels.width - 1) / 2;
  }

  // Byte offset into `pixels.data` of a canonical position's colour.
  at(x, y) {
    const distance = Math.sqrt(x * x + y * y) / data.wheelRadius;
    // The rim is half transparent, so stay within it.
    const scale = (this.middle / data.wheelRadius) * (distance > 0.98 ? 0.98 / distance : 1);
    return 4 * (Math.round(this.middle + y * scale) * this.pixels.width + Math.round(this.middle + x * scale));
  }
}

// What is painted, once, on canonical space; every photo reads it through its map.
class PaintLayer {
  constructor() {
    const half = (Math.max(BOX_RIGHT - BOX_LEFT, BOX_BOTTOM - BOX_TOP) / 2) * (1 + PAINT_MARGIN);
    this.left = BOX_CENTRE[0] - half;
    this.top = BOX_CENTRE[1] - half;
    this.scale = PAINT_SIDE / (2 * half);
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = PAINT_SIDE;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.pixels = new Uint8ClampedArray(4 * PAINT_SIDE * PAINT_SIDE);
    this.history = [];
    this.empty = true;
  }

  // Byte offset into `pixels` of a canonical position; -1 outside the layer.
  at(x, y) {
    const column = Math.floor((x - this.left) * this.scale);
    const row = Math.floor((y - this.top) * this.scale);
    if (column < 0 || row < 0 || column >= PAINT_SIDE || row >= PAINT_SIDE) return -1;
    return 4 * (row * PAINT_SIDE + column);
  }

  // Draws with `draw(context)` around a point of a photo, in that photo's pixels from the point, at most `reach` far.
  // Returns the canonical rectangle that changed.
  drawAt(map, point, reach, draw) {
    const [x, y] = map.canonicalAt(point);
    const slope = map.slopeAt(point).map((value) => value * this.scale);
    const column = (x - this.left) * this.scale;
    const row = (y - this.top) * this.scale;
    this.context.setTransform(...slope, column, row);
    draw(this.context);
    this.empty = false;
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    const width = reach * Math.hypot(slope[0], slope[2]) + 2;
    const height = reach * Math.hypot(slope[1], slope[3]) + 2;
    return this.read(column - width, row - height, column + width, row + height);
  }

  read(left, top, right, bottom) {
    left = Math.min(Math.max(Math.floor(left), 0), PAINT_SIDE - 1);
    top = Math.min(Math.max(Math.floor(top), 0), PAINT_SIDE - 1);
    right = Math.min(Math.max(Math.ceil(right), left + 1), PAINT_SIDE);
    bottom = Math.min(Math.max(Math.ceil(bottom), top + 1), PAINT_SIDE);
    const part = this.context.getImageData(left, top, right - left, bottom - top);
    for (let row = 0; row < part.height; row++) {
      const line = part.data.subarray(4 * row * part.width, 4 * (row + 1) * part.width);
      this.pixels.set(line, 4 * ((top + row) * PAINT_SIDE + left));
    }
    return [left, top, right, bottom].map((edge, i) => edge / this.scale + (i % 2 ? this.top : this.left));
  }

  // Remembers the layer as it is, for `undo`.
  remember() {
    this.history.push(this.context.getImageData(0, 0, PAINT_SIDE, PAINT_SIDE));
    if (this.history.length > 12) this.history.shift();
  }

  undo() {
    const last = this.history.pop();
    if (last === undefined) return false;
    this.context.putImageData(last, 0, 0);
    this.pixels.set(last.data);
    this.empty = false;
    return true;
  }

  clear() {
    this.context.clearRect(0, 0, PAINT_SIDE, PAINT_SIDE);
    this.pixels.fill(0);
    this.empty = true;
  }
}
