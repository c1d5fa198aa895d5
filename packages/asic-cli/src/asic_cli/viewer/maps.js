// Reads the page's data block: the canonical map, confidence and mask of every photo, in pixels of the model's frame.
// A pixel's centre is its integer coordinate.

const data = JSON.parse(document.getElementById("viewer-data").textContent);
const [HEIGHT, WIDTH] = data.size;

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

function shortsOf(base64) {
  const view = new DataView(bytesOf(base64).buffer);
  const shorts = new Uint16Array(view.byteLength / 2);
  for (let i = 0; i < shorts.length; i++) shorts[i] = view.getUint16(2 * i, true);
  return shorts;
}

// Where every pixel of a photo lies in canonical space.
class CanonicalMap {
  constructor(texture, mask) {
    this.mask = mask;
    this.canonical = readMap(texture);
    this.search = new CanonicalSearch(this.canonical, mask);
  }

  // Canonical position of a point, bilinear between pixels, border replicated.
  canonicalAt([x, y]) {
    x = Math.min(Math.max(x, 0), WIDTH - 1);
    y = Math.min(Math.max(y, 0), HEIGHT - 1);
    const column = Math.min(Math.floor(x), WIDTH - 2);
    const row = Math.min(Math.floor(y), HEIGHT - 2);
    const right = x - column;
    const down = y - row;
    const first = 2 * (row * WIDTH + column);
    const at = (k) =>
      (1 - down) * ((1 - right) * this.canonical[first + k] + right * this.canonical[first + 2 + k]) +
      down * ((1 - right) * this.canonical[first + 2 * WIDTH + k] + right * this.canonical[first + 2 * WIDTH + 2 + k]);
    return [at(0), at(1)];
  }

  // How canonical xy changes with a step in x and with a step in y: [ux/x, uy/x, ux/y, uy/y].
  slopeAt([x, y]) {
    const left = this.canonicalAt([x - 1, y]);
    const right = this.canonicalAt([x + 1, y]);
    const above = this.canonicalAt([x, y - 1]);
    const below = this.canonicalAt([x, y + 1]);
    const across = Math.min(x + 1, WIDTH - 1) - Math.max(x - 1, 0);
    const along = Math.min(y + 1, HEIGHT - 1) - Math.max(y - 1, 0);
    return [
      (right[0] - left[0]) / across, (right[1] - left[1]) / across,
      (below[0] - above[0]) / along, (below[1] - above[1]) / along,
    ];
  }
}

// A photo with its own map and, where it shows both sides of its object, a second one of the other mirror flag.
class PhotoMap extends CanonicalMap {
  constructor(record, residualScale = data.residualScale) {
    super(record.map, readRuns(record.mask, HEIGHT * WIDTH));
    this.residualScale = residualScale;
    this.path = record.path;
    this.size = record.size;
    this.scale = record.scale;
    this.offset = record.offset;
    this.mirrored = record.mirrored;
    this.glide = record.glide;
    this.consensus = record.places === undefined ? null : new ConsensusPlaces(record.places);
    this.second = record.second === undefined ? null : new CanonicalMap(record.second, this.mask);
    this.symmetry = record.symmetry ?? 0;
    this.confidenceTexels = bytesOf(record.confidence);
    this.saliencyTokens = record.saliency === undefined ? null : bytesOf(record.saliency);
    this.parts = record.parts === undefined ? null : readParts(record.parts);
  }

  toImage([x, y]) {
    return [(x - this.offset[0]) / this.scale[0], (y - this.offset[1]) / this.scale[1]];
  }

  toModel([x, y]) {
    return [x * this.scale[0] + this.offset[0], y * this.scale[1] + this.offset[1]];
  }

  // How far other photos agree with the map around a point, 0 to 1; nothing away from the object.
  agreementAt([x, y]) {
    const side = data.confidenceSide;
    x = Math.min(Math.max(((x + 0.5) / WIDTH) * side - 0.5, 0), side - 1);
    y = Math.min(Math.max(((y + 0.5) / HEIGHT) * side - 0.5, 0), side - 1);
    const left = Math.min(Math.floor(x), side - 2);
    const top = Math.min(Math.floor(y), side - 2);
    const right = x - left;
    const down = y - top;
    const texels = this.confidenceTexels.subarray(top * side + left);
    const above = (1 - right) * texels[0] + right * texels[1];
    const below = (1 - right) * texels[side] + right * texels[side + 1];
    return ((1 - down) * above + down * below) / 255;
  }

  // Of the token whose centre is nearest, 0 to 1.
  saliencyAt(pixel) {
    const { rows, cols, stride, first } = data.tokens;
    const x = pixel % WIDTH;
    const y = (pixel - x) / WIDTH;
    const column = Math.min(Math.max(Math.round((x - first) / stride), 0), cols - 1);
    const row = Math.min(Math.max(Math.round((y - first) / stride), 0), rows - 1);
    return this.saliencyTokens[row * cols + column] / 255;
  }

  // Where this photo shows a canonical point by one of its maps, or null without any foreground: {x, y, visible,
  // probability}, the last two as Alignment.transfer has them. `agreement` is that of the point where it comes from.
  find(canonical, agreement, map = this) {
    const found = map.search.nearest(canonical);
    return found === null ? null : this.told([found.x, found.y], found.distance, agreement, "canonical");
  }

  // The same of a point with consensus places; its canonical place by the maps says how far the answer is from it.
  findByConsensus(places, trust, canonical, agreement, map) {
    const point = this.consensus.nearest(places, trust);
    if (point === null) return null;
    const [x, y] = map.canonicalAt(point);
    return this.told(point, Math.hypot(x - canonical[0], y - canonical[1]), agreement, "consensus");
  }

  told([x, y], distance, agreement, method) {
    const scale = this.residualScale ** 2;
    const near = scale / (scale + distance ** 2);
    return {
      x,
      y,
      visible: agreement > 0 && distance <= data.visibleDistance[method],
      probability: probabilityOf(near * Math.sqrt(agreement * this.agreementAt([x, y])), method),
    };
  }
}

// The chance that an answer is right, from the agreement around it.
function probabilityOf(agreement, method) {
  const [slope, intercept] = data.calibration[method];
  return 1 / (1 + Math.exp(-slope * agreement - intercept));
}

// The maps by which places travel from a photo to another: both mirrored or both not, wherever there are such.
// The one place for this rule here; asic_flow.sides.SecondMaps.choose is its model. Canonical space knows no sides.
function mapsBetween(source, target) {
  if (source === CANONICAL_FRAME || target === CANONICAL_FRAME || source.mirrored === target.mirrored) return [source, target];
  if (source.second === null && target.second === null) return [source, target];
  const atSource = source.second !== null && (target.second === null || source.symmetry >= target.symmetry);
  return atSource ? [source.second, target] : [source, target.second];
}

// Where a point of one frame, a photo or canonical space, shows in another; see PhotoMap.find. Photos answer each other by
// the places that all agree on, where the page has them.
function carry(source, target, point) {
  const [from, to] = mapsBetween(source, target);
  const [canonical, agreement] = [from.canonicalAt(point), source.agreementAt(point)];
  if (!source.consensus?.centres.length || !target.consensus) return target.find(canonical, agreement, to);
  return target.findByConsensus(source.consensus.at(point), source.consensus.trust, canonical, agreement, to);
}

// A mask from the lengths of its runs, background first.
function readRuns(base64, length) {
  const mask = new Uint8Array(length);
  let place = 0;
  shortsOf(base64).forEach((run, index) => {
    if (index % 2 === 1) mask.fill(1, place, place + run);
    place += run;
  });
  return mask;
}

// Labels of all pixels from the lengths of their runs.
function readParts({ lengths, labels }) {
  const parts = new Uint8Array(HEIGHT * WIDTH);
  const values = bytesOf(labels);
  let place = 0;
  shortsOf(lengths).forEach((length, run) => {
    parts.fill(values[run], place, place + length);
    place += length;
  });
  return parts;
}

// The texture, bilinear, at every pixel.
function readMap(texture) {
  const texels = shortsOf(texture.texels);
  const { side } = texture;
  const values = new Float32Array(2 * HEIGHT * WIDTH);
  const step = [0, 1].map((k) => (texture.high[k] - texture.low[k]) / 65535);
  for (let row = 0; row < HEIGHT; row++) {
    const y = (row * (side - 1)) / (HEIGHT - 1);
    const top = Math.min(Math.floor(y), side - 2);
    const down = y - top;
    for (let column = 0; column < WIDTH; column++) {
      const x = (column * (side - 1)) / (WIDTH - 1);
      const left = Math.min(Math.floor(x), side - 2);
      const right = x - left;
      const first = 2 * (top * side + left);
      for (let k = 0; k < 2; k++) {
        const above = (1 - right) * texels[first + k] + right * texels[first + 2 + k];
        const below = (1 - right) * texels[first + 2 * side + k] + right * texels[first + 2 * side + 2 + k];
        values[2 * (row * WIDTH + column) + k] = texture.low[k] + step[k] * ((1 - down) * above + down * below);
      }
    }
  }
  return values;
}
