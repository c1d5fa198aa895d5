// Pins in SPair-71k's layout: one annotation an image, one a pair, and the list of pairs.

const SPAIR_CATEGORY = "pins";

function pinsToSpair(maps, pins) {
  const places = pins.map((pin) => placesOf(maps, pin).places);
  const images = maps.map((map, index) => ({
    name: map.path.toWellFormed(),
    size: [map.size[1], map.size[0], 3],
    box: boxOf(map),
    points: places.map((own) => (own[index] === null ? null : map.toImage([own[index].x, own[index].y]))),
  }));
  const names = pins.map((pin) => pin.name);
  const stems = images.map(({ name }) => name.replace(/\.[^./]*$/, ""));
  const twice = stems.find((stem, index) => stems.indexOf(stem) !== index);
  if (twice !== undefined) throw new Error(`SPair-71k's layout has one annotation a stem, but two photos are ${twice}`);
  const files = images.map((image, index) => [`ImageAnnotation/${SPAIR_CATEGORY}/${stems[index]}.json`, annotationOf(image, names)]);
  const listed = [];
  images.forEach((source, first) => images.forEach((target, second) => {
    if (first === second) return;
    listed.push(`${String(listed.length + 1).padStart(6, "0")}-${first}-${second}:${SPAIR_CATEGORY}`);
    files.push([`PairAnnotation/test/${listed.at(-1)}.json`, pairOf(source, target, listed.length, listed.at(-1))]);
  }));
  const encoder = new TextEncoder();
  const texts = files.map(([name, document]) => [name, JSON.stringify(document)]);
  texts.push(["Layout/large/test.txt", listed.map((line) => `${line}\n`).join("")]);
  return zip(texts.map(([name, text]) => ({ name, bytes: encoder.encode(text) })));
}

function annotationOf({ name, size, box, points }, names) {
  return {
    filename: name, image_width: size[0], image_height: size[1], image_depth: 3, category: SPAIR_CATEGORY, bndbox: box,
    kps: Object.fromEntries(points.map((point, id) => [id, point])), kps_names: names,
  };
}

function pairOf(source, target, number, filename) {
  const ids = source.points.flatMap((point, id) => (point === null || target.points[id] === null ? [] : [id]));
  return {
    pair_id: number, filename, category: SPAIR_CATEGORY,
    src_imname: source.name, src_imsize: source.size, src_bndbox: source.box, src_kps: ids.map((id) => source.points[id]),
    trg_imname: target.name, trg_imsize: target.size, trg_bndbox: target.box, trg_kps: ids.map((id) => target.points[id]),
    kps_ids: ids.map(String), mirror: 0, viewpoint_variation: 0, scale_variation: 0, truncation: 0, occlusion: 0,
  };
}

// The box round the object in the photo's own pixels; the whole photo where there is none.
function boxOf(map) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  map.mask.forEach((shown, pixel) => {
    if (!shown) return;
    const x = pixel % WIDTH;
    const y = (pixel - x) / WIDTH;
    box[0] = Math.min(box[0], x);
    box[1] = Math.min(box[1], y);
    box[2] = Math.max(box[2], x + 1);
    box[3] = Math.max(box[3], y + 1);
  });
  const [height, width] = map.size;
  if (map.search.empty) return [0, 0, width, height];
  const [left, top] = map.toImage([box[0], box[1]]);
  const [right, bottom] = map.toImage([box[2], box[3]]);
  const low = [Math.max(0, Math.floor(left)), Math.max(0, Math.floor(top))];
  return [...low, Math.max(low[0] + 1, Math.min(width, Math.ceil(right))), Math.max(low[1] + 1, Math.min(height, Math.ceil(bottom)))];
}
