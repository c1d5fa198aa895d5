// How far a place comes back from itself after a way to another photo that shows it and home again, by canonical maps.

const CYCLE_STRIDE = 4;
const CYCLE_PARTNERS = 6;
const CYCLE_SHOWN = 0.08; // The share of the frame's width that the heat map shows at its brightest.

class CycleErrors {
  constructor(maps, index) {
    this.map = maps[index];
    const others = maps.filter((map, other) => other !== index && !map.search.empty);
    const count = Math.min(CYCLE_PARTNERS, others.length);
    this.partners = Array.from({ length: count }, (_, i) => others[Math.floor((i * others.length) / count)]);
    this.columns = Math.ceil(WIDTH / CYCLE_STRIDE);
    this.rows = Math.ceil(HEIGHT / CYCLE_STRIDE);
    this.values = new Float32Array(this.rows * this.columns).fill(NaN);
    this.row = 0;
  }

  get done() {
    return this.row >= this.rows;
  }

  // Measures one more row of cells, each at its first pixel on the object.
  step() {
    for (let column = 0; column < this.columns; column++) {
      const place = this.firstShown(column * CYCLE_STRIDE, this.row * CYCLE_STRIDE);
      if (place !== null) this.values[this.row * this.columns + column] = this.errorAt(...place);
    }
    this.row++;
  }

  firstShown(left, top) {
    for (let y = top; y < Math.min(top + CYCLE_STRIDE, HEIGHT); y++) {
      for (let x = left; x < Math.min(left + CYCLE_STRIDE, WIDTH); x++) if (this.map.mask[y * WIDTH + x]) return [x, y];
    }
    return null;
  }

  // The mean over the partners that show the place, in shares of the frame's width; NaN where none does.
  errorAt(x, y) {
    let total = 0;
    let count = 0;
    for (const partner of this.partners) {
      const [from, to] = mapsBetween(this.map, partner);
      const there = to.search.nearest(from.canonicalAt([x, y]));
      if (there.distance > data.visibleDistance.canonical) continue;
      const [outward, homeward] = mapsBetween(partner, this.map);
      const home = homeward.search.nearest(outward.canonicalAt([there.x, there.y]));
      total += Math.hypot(home.x - x, home.y - y);
      count++;
    }
    return total / count / WIDTH;
  }

  at(pixel) {
    const x = pixel % WIDTH;
    const y = (pixel - x) / WIDTH;
    return this.values[Math.floor(y / CYCLE_STRIDE) * this.columns + Math.floor(x / CYCLE_STRIDE)];
  }
}
