// How a photo glides into canonical space; asic_cli.viewer.glide says why it does so and finds the numbers.

const CROSSED_BY = 0.35;
const BACKGROUND_FADES_BY = 0.35;
const MESH_CELL = 4;
const MESH_COLUMNS = Math.ceil((WIDTH - 1) / MESH_CELL) + 1;
const MESH_ROWS = Math.ceil((HEIGHT - 1) / MESH_CELL) + 1;
const MESH_POINTS = MESH_COLUMNS * MESH_ROWS;

// The photo's pixel at every point of the mesh, x and y in turn.
const MESH_HOME = Float32Array.from({ length: 2 * MESH_POINTS }, (_, i) => {
  const point = i >> 1;
  const column = point % MESH_COLUMNS;
  return i % 2 === 0 ? Math.min(column * MESH_CELL, WIDTH - 1) : Math.min(((point - column) / MESH_COLUMNS) * MESH_CELL, HEIGHT - 1);
});

// How far a mirrored photo has given way to its mirror image.
function crossed(share) {
  const part = Math.min(share / CROSSED_BY, 1);
  return part * part * (3 - 2 * part);
}

// What is drawn of a photo, one over the other or added: the object (kind 1) or what lies around it (0), moved or at home.
function glideParts(mirrored, share) {
  const background = Math.max(0, 1 - share / BACKGROUND_FADES_BY);
  if (!mirrored) return [{ moved: true, kind: 0, opacity: background }, { moved: true, kind: 1, opacity: 1 }].filter(isSeen);
  const image = crossed(share);
  return [
    { moved: false, kind: 0, opacity: background * (1 - image) },
    { moved: false, kind: 1, opacity: 1 - image },
    { moved: true, kind: 1, opacity: image, added: true },
  ].filter(isSeen);
}

function isSeen({ opacity }) {
  return opacity > 0;
}

class Glide {
  constructor(map) {
    Object.assign(this, map.glide);
    this.facing = map.mirrored ? -1 : 1;
    this.tiles = new Float32Array(2 * MESH_POINTS);
    for (let i = 0; i < 2 * MESH_POINTS; i += 2) {
      const pixel = MESH_HOME[i + 1] * WIDTH + MESH_HOME[i];
      [this.tiles[i], this.tiles[i + 1]] = canonicalToTile([map.canonical[2 * pixel], map.canonical[2 * pixel + 1]]);
    }
  }

  // What is the same for all pixels a share of the way: the similarity so far less its part that the map brings itself.
  way(share) {
    const [size, whole] = [this.growth ** share, share * this.growth];
    return {
      share,
      real: size * Math.cos(share * this.turn) - whole * Math.cos(this.turn),
      imaginary: size * Math.sin(share * this.turn) - whole * Math.sin(this.turn),
    };
  }

  // Where a pixel with a known place in canonical space is shown.
  place({ share, real, imaginary }, x, y, tileX, tileY) {
    const across = this.facing * (x - this.start[0]);
    const along = y - this.start[1];
    return [
      (1 - share) * this.start[0] + share * tileX + real * across - imaginary * along,
      (1 - share) * this.start[1] + share * tileY + imaginary * across + real * along,
    ];
  }

  // Where a point is shown: a mirrored photo's on the photo itself until its mirror image has taken over.
  shownAt(map, point, share) {
    if (map.mirrored && crossed(share) < 0.5) return point;
    return this.place(this.way(share), ...point, ...canonicalToTile(map.canonicalAt(point)));
  }

  // The pixel of the object that is shown nearest to a place.
  pixelAt(map, place, share) {
    if (map.mirrored && crossed(share) < 0.5) return place;
    const { real, imaginary } = this.way(share);
    const [restX, restY] = this.start.map((middle) => (1 - share) * middle);
    let best = place;
    let least = Infinity;
    for (let pixel = 0; pixel < map.mask.length; pixel++) {
      if (!map.mask[pixel]) continue;
      const x = pixel % WIDTH;
      const y = (pixel - x) / WIDTH;
      const across = this.facing * (x - this.start[0]);
      const along = y - this.start[1];
      const tileX = (map.canonical[2 * pixel] - BOX_CENTRE[0]) * TILE_SCALE + (WIDTH - 1) / 2;
      const tileY = (map.canonical[2 * pixel + 1] - BOX_CENTRE[1]) * TILE_SCALE + (HEIGHT - 1) / 2;
      const offX = restX + share * tileX + real * across - imaginary * along - place[0];
      const offY = restY + share * tileY + imaginary * across + real * along - place[1];
      const squared = offX * offX + offY * offY;
      if (squared < least) {
        least = squared;
        best = [x, y];
      }
    }
    return best;
  }

  // All points of the mesh, written into `places` from `first` on.
  mesh(share, places, first = 0) {
    const { real, imaginary } = this.way(share);
    const [startX, startY] = this.start;
    const [restX, restY] = [(1 - share) * startX, (1 - share) * startY];
    for (let i = 0; i < 2 * MESH_POINTS; i += 2) {
      const across = this.facing * (MESH_HOME[i] - startX);
      const along = MESH_HOME[i + 1] - startY;
      places[first + i] = restX + share * this.tiles[i] + real * across - imaginary * along;
      places[first + i + 1] = restY + share * this.tiles[i + 1] + imaginary * across + real * along;
    }
  }
}

// Two triangles a cell, as numbers of mesh points.
function meshTriangles() {
  const triangles = [];
  for (let row = 0; row + 1 < MESH_ROWS; row++) {
    for (let column = 0; column + 1 < MESH_COLUMNS; column++) {
      const corner = row * MESH_COLUMNS + column;
      triangles.push(corner, corner + 1, corner + MESH_COLUMNS, corner + 1, corner + MESH_COLUMNS + 1, corner + MESH_COLUMNS);
    }
  }
  return Uint32Array.from(triangles);
}
