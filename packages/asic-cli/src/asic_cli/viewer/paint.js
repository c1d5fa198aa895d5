// What is painted lies on sheets of canonical space, and every photo reads them through its maps.

const PAINT_SIDE = 768;
const PAINT_MARGIN = 0.5;
const UNDO_STEPS = 12;

class PaintSheet {
  constructor() {
    const half = (Math.max(BOX_RIGHT - BOX_LEFT, BOX_BOTTOM - BOX_TOP) / 2) * (1 + PAINT_MARGIN);
    this.left = BOX_CENTRE[0] - half;
    this.top = BOX_CENTRE[1] - half;
    this.scale = PAINT_SIDE / (2 * half);
    this.canvas = htmlElement("canvas", { width: PAINT_SIDE, height: PAINT_SIDE });
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.pixels = new Uint8ClampedArray(4 * PAINT_SIDE * PAINT_SIDE);
  }

  // Byte offset into `pixels` of a canonical position; -1 outside the sheet.
  at(x, y) {
    const column = Math.floor((x - this.left) * this.scale);
    const row = Math.floor((y - this.top) * this.scale);
    if (column < 0 || row < 0 || column >= PAINT_SIDE || row >= PAINT_SIDE) return -1;
    return 4 * (row * PAINT_SIDE + column);
  }

  // Draws with `draw(context)` around a point, in the pixels of its photo from there, at most `reach` far.
  // Returns the canonical rectangle that changed.
  drawAt(map, point, reach, draw) {
    const [x, y] = map.canonicalAt(point);
    const slope = map.slopeAt(point).map((value) => value * this.scale);
    const column = (x - this.left) * this.scale;
    const row = (y - this.top) * this.scale;
    this.context.setTransform(...slope, column, row);
    draw(this.context);
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

  copy() {
    return this.context.getImageData(0, 0, PAINT_SIDE, PAINT_SIDE);
  }

  put(picture) {
    this.context.putImageData(picture, 0, 0);
    this.pixels.set(picture.data);
  }
}

// Photos that reach all others by the same maps share a layer. A layer has a sheet for what its photos paint through
// their own maps and, where some photos see that through the painter's second map, a sheet for it as well.
class Paint {
  constructor(maps) {
    this.maps = maps;
    this.layers = new Map();
    this.history = [];
  }

  layerOf(frame) {
    const routes = this.maps.map((map) => mapsBetween(frame, map));
    const key = routes.map(([from, to], i) => `${Number(from !== frame)}${Number(to !== this.maps[i])}`).join("");
    if (!this.layers.has(key)) {
      const sheets = [new PaintSheet()];
      if (routes.some(([from]) => from !== frame)) sheets.push(new PaintSheet());
      this.layers.set(key, { sheets, readings: routes.map(([from, to]) => ({ sheet: sheets[Number(from !== frame)], map: to })) });
    }
    return this.layers.get(key);
  }

  // What a photo shows: sheets, each with the photo's map onto it.
  readingsOf(map) {
    const index = this.maps.indexOf(map);
    return [...this.layers.values()].map(({ readings }) => readings[index]);
  }

  get sheets() {
    return [...this.layers.values()].flatMap(({ sheets }) => sheets);
  }

  // What was painted through photos' own maps, as the canonical tile shows it.
  get ownSheets() {
    return [...this.layers.values()].map(({ sheets }) => sheets[0]);
  }

  // Draws around a point of a frame; see PaintSheet. Returns what changed: sheets and rectangles on them.
  drawAt(frame, point, reach, draw) {
    const maps = [frame, frame.second];
    return this.layerOf(frame).sheets.map((sheet, i) => ({ sheet, box: sheet.drawAt(maps[i], point, reach, draw) }));
  }

  // Remembers sheets as they are, for `undo`.
  remember(sheets) {
    this.history.push(sheets.map((sheet) => ({ sheet, picture: sheet.copy() })));
    if (this.history.length > UNDO_STEPS) this.history.shift();
  }

  undo() {
    const last = this.history.pop() ?? [];
    for (const { sheet, picture } of last) sheet.put(picture);
    return last.length > 0;
  }

  clear() {
    this.remember(this.sheets);
    for (const sheet of this.sheets) sheet.put(new ImageData(PAINT_SIDE, PAINT_SIDE));
  }
}
