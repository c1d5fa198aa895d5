// Finds the foreground pixel of a photo whose canonical position is nearest, then the place between pixels.
// Pixels are sorted into square buckets of canonical space, a few in each.

const PIXELS_A_BUCKET = 4;

class CanonicalSearch {
  constructor(canonical, mask) {
    this.canonical = canonical;
    this.mask = mask;
    const pixels = new Int32Array(mask.reduce((total, one) => total + one, 0));
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    for (let pixel = 0, i = 0; pixel < mask.length; pixel++) {
      if (!mask[pixel]) continue;
      pixels[i++] = pixel;
      const x = canonical[2 * pixel];
      const y = canonical[2 * pixel + 1];
      if (x < box[0]) box[0] = x;
      if (y < box[1]) box[1] = y;
      if (x > box[2]) box[2] = x;
      if (y > box[3]) box[3] = y;
    }
    this.empty = pixels.length === 0;
    if (this.empty) return;
    [this.left, this.top] = box;
    this.side = Math.max(1, Math.ceil(Math.sqrt(pixels.length / PIXELS_A_BUCKET)));
    this.cellX = Math.max(box[2] - box[0], 1e-9) / this.side;
    this.cellY = Math.max(box[3] - box[1], 1e-9) / this.side;
    this.sort(pixels);
  }

  sort(pixels) {
    this.starts = new Int32Array(this.side * this.side + 1);
    const bucketOf = pixels.map((pixel) => this.bucket(this.canonical[2 * pixel], this.canonical[2 * pixel + 1]));
    for (const bucket of bucketOf) this.starts[bucket + 1]++;
    for (let bucket = 0; bucket < this.side * this.side; bucket++) this.starts[bucket + 1] += this.starts[bucket];
    const next = this.starts.slice();
    this.pixels = new Int32Array(pixels.length);
    for (let i = 0; i < pixels.length; i++) this.pixels[next[bucketOf[i]]++] = pixels[i];
  }

  bucket(x, y) {
    return this.row(y) * this.side + this.column(x);
  }

  column(x) {
    return Math.min(Math.max(Math.floor((x - this.left) / this.cellX), 0), this.side - 1);
  }

  row(y) {
    return Math.min(Math.max(Math.floor((y - this.top) / this.cellY), 0), this.side - 1);
  }

  // {x, y, distance} in pixels and canonical units; null for a photo without foreground.
  nearest([x, y]) {
    if (this.empty) return null;
    const column = this.column(x);
    const row = this.row(y);
    let best = -1;
    let least = Infinity;
    const scan = (bucket) => {
      for (let i = this.starts[bucket]; i < this.starts[bucket + 1]; i++) {
        const pixel = this.pixels[i];
        const across = this.canonical[2 * pixel] - x;
        const along = this.canonical[2 * pixel + 1] - y;
        const squared = across * across + along * along;
        if (squared < least || (squared === least && pixel < best)) {
          least = squared;
          best = pixel;
        }
      }
    };
    for (let reach = 0; reach < this.side; reach++) {
      this.ring(column, row, reach, scan);
      const beyond = this.beyond(x, y, column, row, reach);
      if (best >= 0 && least <= beyond * beyond) break;
    }
    return this.refine(best, x, y);
  }

  // Calls `scan` for the buckets at a distance of exactly `reach` rows or columns.
  ring(column, row, reach, scan) {
    for (let r = Math.max(row - reach, 0); r <= Math.min(row + reach, this.side - 1); r++) {
      const inner = Math.abs(r - row) < reach;
      const step = inner ? Math.max(2 * reach, 1) : 1;
      for (let c = column - reach; c <= column + reach; c += step) {
        if (c >= 0 && c < this.side) scan(r * this.side + c);
      }
    }
  }

  // The least distance to a bucket that no ring up to `reach` holds. A side on the edge has none beyond.
  beyond(x, y, column, row, reach) {
    let least = Infinity;
    if (column - reach > 0) least = Math.min(least, x - (this.left + (column - reach) * this.cellX));
    if (column + reach < this.side - 1) least = Math.min(least, this.left + (column + reach + 1) * this.cellX - x);
    if (row - reach > 0) least = Math.min(least, y - (this.top + (row - reach) * this.cellY));
    if (row + reach < this.side - 1) least = Math.min(least, this.top + (row + reach + 1) * this.cellY - y);
    return Math.max(least - 1e-3 * Math.min(this.cellX, this.cellY), 0);
  }

  // One Newton step from the nearest pixel, half a pixel at most: the map is all but linear within a pixel.
  refine(pixel, x, y) {
    const column = pixel % WIDTH;
    const row = (pixel - column) / WIDTH;
    const [a, c] = this.slope(pixel, column > 0 ? pixel - 1 : -1, column < WIDTH - 1 ? pixel + 1 : -1);
    const [b, d] = this.slope(pixel, row > 0 ? pixel - WIDTH : -1, row < HEIGHT - 1 ? pixel + WIDTH : -1);
    const restX = x - this.canonical[2 * pixel];
    const restY = y - this.canonical[2 * pixel + 1];
    const determinant = a * d - b * c;
    let stepX = 0;
    let stepY = 0;
    if (Math.abs(determinant) > 1e-3 * (a * a + b * b + c * c + d * d)) {
      stepX = Math.min(Math.max((d * restX - b * restY) / determinant, -0.5), 0.5);
      stepY = Math.min(Math.max((a * restY - c * restX) / determinant, -0.5), 0.5);
    }
    const distance = Math.hypot(restX - a * stepX - b * stepY, restY - c * stepX - d * stepY);
    return { x: column + stepX, y: row + stepY, distance };
  }

  // Change of canonical xy a pixel, from the neighbours that are on the foreground.
  slope(pixel, before, after) {
    const first = before >= 0 && this.mask[before] ? before : pixel;
    const last = after >= 0 && this.mask[after] ? after : pixel;
    const steps = (first !== pixel) + (last !== pixel);
    if (steps === 0) return [0, 0];
    return [0, 1].map((k) => (this.canonical[2 * last + k] - this.canonical[2 * first + k]) / steps);
  }

  // Calls `visit` for every foreground pixel whose bucket touches a canonical rectangle.
  within(left, top, right, bottom, visit) {
    if (this.empty) return;
    const [firstColumn, lastColumn] = [this.column(left), this.column(right)];
    for (let row = this.row(top); row <= this.row(bottom); row++) {
      const begin = this.starts[row * this.side + firstColumn];
      const end = this.starts[row * this.side + lastColumn + 1];
      for (let i = begin; i < end; i++) visit(this.pixels[i]);
    }
  }
}
