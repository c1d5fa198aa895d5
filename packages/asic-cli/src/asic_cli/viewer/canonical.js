// The canonical space on screen: where a tile shows it, and the colour wheel.

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
  agreementAt: () => 1,
  find: (canonical, agreement) => {
    const [x, y] = canonicalToTile(canonical);
    return { x, y, visible: agreement > 0, probability: probabilityOf(agreement, "canonical") };
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
