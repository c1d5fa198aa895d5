// The matches of a pair that the reader chooses, as in the drawings above it.

const AGREES_WITHIN = 0.15;
const PAIR_GAP = 12;

// Two photos side by side; pixels' centres have their integer coordinates, those of the second after its width and gap.
function drawPair(svg, images) {
  svg.setAttribute("viewBox", `-0.5 -0.5 ${2 * WIDTH + PAIR_GAP} ${HEIGHT}`);
  svg.replaceChildren();
  images.forEach((image, place) => {
    const x = place * (WIDTH + PAIR_GAP) - 0.5;
    svgElement("image", { x, y: -0.5, width: WIDTH, height: HEIGHT, href: image.src }, svg);
  });
}

class PairLines {
  constructor(maps, images, wheel) {
    this.maps = maps;
    this.images = images;
    this.wheel = wheel;
    this.choices = ["pair-first", "pair-second"].map(byId);
    this.threshold = byId("pair-threshold");
    for (const [place, choice] of this.choices.entries()) {
      images.forEach((image, index) => {
        htmlElement("option", { value: index, textContent: `${index + 1} · ${captionOf(image)}` }, choice);
      });
      choice.value = Math.min(place, maps.length - 1);
      choice.addEventListener("change", () => this.show(null));
    }
    this.threshold.addEventListener("input", () => this.draw());
    byId("pair-chooser").hidden = false;
    this.show(null);
  }

  // Opens a pair with one of its transfers marked.
  open(miss) {
    [this.choices[0].value, this.choices[1].value] = [miss.source, miss.target];
    this.show(miss);
    byId("pair-chooser").scrollIntoView({ block: "center" });
  }

  // Shows the chosen pair, with a transfer between its photos or null.
  show(miss) {
    this.miss = miss;
    this.draw();
  }

  draw() {
    const [first, second] = this.choices.map((choice) => Number(choice.value));
    const least = Number(this.threshold.value);
    const svg = byId("pair-lines");
    drawPair(svg, [this.images[first], this.images[second]]);
    const matches = this.matches(first, second);
    const shown = matches.filter((match) => match.score >= least).sort((one, other) => one.agrees - other.agrees);
    for (const match of shown) this.line(svg, match);
    if (this.miss !== null) drawMiss(svg, this.maps, this.miss);
    const agreeing = shown.filter((match) => match.agrees).length;
    byId("pair-count").textContent = `${shown.length} of ${matches.length} matches, ${agreeing} agree with the alignment`;
  }

  matches(first, second) {
    const swapped = first > second;
    const pair = data.pairs.find(([a, b]) => (swapped ? a === second && b === first : a === first && b === second));
    if (pair === undefined) return [];
    const bytes = bytesOf(pair[2]);
    const maps = mapsBetween(this.maps[first], this.maps[second]);
    const point = (at) => [(bytes[at] * (WIDTH - 1)) / 255, (bytes[at + 1] * (HEIGHT - 1)) / 255];
    return Array.from({ length: bytes.length / 5 }, (_, i) => {
      const ends = [point(5 * i), point(5 * i + 2)];
      if (swapped) ends.reverse();
      const canonical = ends.map((end, place) => maps[place].canonicalAt(end));
      const apart = Math.hypot(canonical[0][0] - canonical[1][0], canonical[0][1] - canonical[1][1]);
      const middle = [0, 1].map((k) => (canonical[0][k] + canonical[1][k]) / 2);
      return { ends, middle, score: bytes[5 * i + 4] / 255, agrees: apart <= AGREES_WITHIN };
    });
  }

  line(svg, { ends: [[x1, y1], [rawX2, y2]], middle, agrees }) {
    const x2 = rawX2 + WIDTH + PAIR_GAP;
    const from = this.wheel.at(...middle);
    const colour = `rgb(${this.wheel.pixels.data.slice(from, from + 3).join(" ")})`;
    const group = svgElement("g", agrees ? { stroke: colour, fill: colour } : { class: "weak" }, svg);
    svgElement("line", { x1, y1, x2, y2 }, group);
    for (const [cx, cy] of [[x1, y1], [x2, y2]]) svgElement("circle", { cx, cy, r: 2.2 }, group);
  }
}
