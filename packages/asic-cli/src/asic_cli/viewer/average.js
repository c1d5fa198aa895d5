// The average of the photos that the reader chooses, in the canonical tile.

class ChosenAverage {
  constructor(tiles, canonical, frames, redraw) {
    this.tiles = tiles;
    this.canonical = canonical;
    this.frames = frames;
    this.redraw = redraw;
    this.boxes = tiles.map((tile) => this.offer(tile));
  }

  offer(tile) {
    const label = htmlElement("label", { className: "chosen", title: "Part of the canonical average" });
    const box = htmlElement("input", { type: "checkbox", checked: true, ariaLabel: `Average ${tile.name}` }, label);
    tile.figure.querySelector("figcaption").prepend(label);
    box.addEventListener("change", () => this.update());
    return box;
  }

  choose(all) {
    for (const box of this.boxes) box.checked = all;
    this.update();
  }

  update() {
    const chosen = this.tiles.filter((_, index) => this.boxes[index].checked);
    const key = this;
    if (chosen.length === this.tiles.length) {
      this.frames.add(key, () => this.show(null));
      return;
    }
    const sums = new Float32Array(4 * WIDTH * HEIGHT);
    const next = (index) => {
      if (index < chosen.length) {
        chosen[index].picture.addTo(sums);
        this.frames.add(key, () => next(index + 1));
      } else {
        this.show(pictureOf(sums, chosen.length));
      }
    };
    // A later choice takes this one's place in the queue.
    this.frames.add(key, () => next(0));
  }

  show(canvas) {
    this.canonical.picture.chosen = canvas;
    this.redraw(this.canonical);
  }
}

// What at least a fifth of the photos, and two of them, show.
function pictureOf(sums, count) {
  const needed = Math.max(Math.min(2, count), Math.ceil(count / 5));
  const picture = new ImageData(WIDTH, HEIGHT);
  for (let pixel = 0; pixel < WIDTH * HEIGHT; pixel++) {
    const shown = sums[4 * pixel + 3];
    if (shown < needed || shown === 0) continue;
    for (let k = 0; k < 3; k++) picture.data[4 * pixel + k] = sums[4 * pixel + k] / shown;
    picture.data[4 * pixel + 3] = 255;
  }
  const canvas = htmlElement("canvas", { width: WIDTH, height: HEIGHT });
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}
