// Turns the still page into the viewer, photo by photo, without holding the page up.

async function start() {
  const figures = [...document.querySelectorAll("#viewer .tile")];
  const images = figures.map((figure) => figure.querySelector("img"));
  const average = byId("average");
  await Promise.all([...images, average, byId("wheel")].map((image) => image.decode()));
  const wheel = new ColourWheel(byId("wheel"));
  const frames = new FrameQueue();
  const maps = [];
  const paint = new Paint(maps);
  const tiles = [canonicalTile(average, wheel, paint)];
  data.photos.forEach((record, index) => {
    frames.add(record, () => { maps[index] = new PhotoMap(record); });
    frames.add(figures[index], () => {
      const source = pixelsOf(images[index], WIDTH, HEIGHT);
      const make = (canvas) => new Picture(maps[index], source, canvas, wheel, paint);
      tiles.push(new Tile(figures[index], index, maps[index], make));
    });
  });
  frames.add("ready", () => {
    const viewer = new Viewer(maps, tiles, paint, frames);
    viewer.drawAll();
    for (const id of ["tools", "pin-tools", "truth-tools"]) byId(id).hidden = false;
    for (const kind of ["saliency", "parts"]) {
      if (!(kind in data.photos[0])) byId("overlay").querySelector(`[value=${kind}]`).remove();
    }
    byId("viewer").classList.add("live");
    frames.add("lines", () => {
      const lines = new PairLines(maps, images, wheel);
      listWorst(maps, images, (miss) => lines.open(miss));
    });
    frames.finished().then(() => {
      frames.opened();
      byId("viewer").dataset.ready = "true";
      frames.addLate("stage", () => viewer.beginStage());
    });
  });
}

function canonicalTile(average, wheel, paint) {
  const figure = htmlElement("figure", { className: "tile canonical" });
  htmlElement("div", { className: "picture" }, figure);
  htmlElement("span", { className: "name", textContent: "canonical" }, htmlElement("figcaption", {}, figure));
  document.querySelector("#viewer .tiles").prepend(figure);
  return new Tile(figure, -1, CANONICAL_FRAME, (canvas) => new AveragePicture(average, canvas, wheel, paint));
}

start();
