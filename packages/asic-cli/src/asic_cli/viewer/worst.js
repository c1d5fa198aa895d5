// The transfers that miss most, as thumbnails that open their pair.

// Marks a transfer on a drawn pair: where it starts, where it went, where it belongs.
function drawMiss(svg, maps, miss) {
  const group = svgElement("g", { class: "miss" }, svg);
  const [startX, startY] = maps[miss.source].toModel(miss.from);
  const [[foundX, foundY], [truthX, truthY]] = [miss.found, miss.truth].map((point) => {
    const [x, y] = maps[miss.target].toModel(point);
    return [x + WIDTH + PAIR_GAP, y];
  });
  const reach = 0.035 * WIDTH;
  const cross = `M${foundX - reach} ${foundY - reach}l${2 * reach} ${2 * reach}m${-2 * reach} 0l${2 * reach} ${-2 * reach}`;
  for (const [kind, width] of [["halo", 0.032], ["off", 0.016]]) {
    svgElement("path", { class: kind, d: cross, "stroke-width": width * WIDTH }, group);
  }
  for (const [kind, width] of [["halo", 0.032], ["truth", 0.016]]) {
    svgElement("circle", { class: kind, cx: truthX, cy: truthY, r: 1.3 * reach, "stroke-width": width * WIDTH }, group);
  }
  svgElement("circle", { class: "from", cx: startX, cy: startY, r: reach, "stroke-width": 0.01 * WIDTH }, group);
}

function listWorst(maps, images, open) {
  if (data.truth === null || data.truth.worst.length === 0) return;
  byId("worst").hidden = false;
  const list = document.querySelector("#worst .worst-list");
  for (const miss of data.truth.worst) {
    const button = htmlElement("button", { type: "button" }, list);
    const svg = svgElement("svg", { "aria-hidden": "true" }, button);
    drawPair(svg, [images[miss.source], images[miss.target]]);
    drawMiss(svg, maps, miss);
    const name = data.truth.names[miss.keypoint];
    htmlElement("span", { textContent: `${name} · ${(10 * miss.error).toFixed(1)}` }, button);
    button.title = `${maps[miss.source].path} to ${maps[miss.target].path}: ${name}`;
    button.addEventListener("click", () => open(miss));
  }
}
