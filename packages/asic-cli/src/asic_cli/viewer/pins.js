// Pins: places set by hand on one photo and seen on all. Files hold them in the photos' own pixels.

const PIN_COLUMNS = ["pin", "photo", "x", "y", "probability", "visible", "placed"];

// `tile` is the photo's index, or -1 for canonical space; `point` is in pixels of the model's frame.
function makePin(name, tile, point) {
  return { name, tile, point };
}

// A name that no pin has: files tell pins apart by their names.
function newName(pins) {
  let number = pins.length + 1;
  while (pins.some(({ name }) => name === `pin ${number}`)) number++;
  return `pin ${number}`;
}

function frameOf(maps, tile) {
  return tile < 0 ? CANONICAL_FRAME : maps[tile];
}

// Where a pin is in canonical space and on every photo, in pixels of the model's frame; see PhotoMap.find.
function placesOf(maps, pin) {
  const frame = frameOf(maps, pin.tile);
  const [x, y] = pin.point;
  const here = { x, y, visible: true, probability: 1 };
  const places = maps.map((map, index) => (index === pin.tile ? here : carry(frame, map, pin.point)));
  return { canonical: pin.tile < 0 ? here : carry(frame, CANONICAL_FRAME, pin.point), places };
}

function rowsOf(maps, pins) {
  return pins.flatMap((pin) => {
    const { canonical, places } = placesOf(maps, pin);
    return [...places, canonical].flatMap((place, index) => {
      if (place === null) return [];
      const photo = index < maps.length ? maps[index] : null;
      const [x, y] = (photo ?? CANONICAL_FRAME).toImage([place.x, place.y]);
      const { visible, probability } = place;
      return [{ pin: pin.name, photo: photo?.path ?? "", x, y, probability, visible, placed: index === (pin.tile < 0 ? maps.length : pin.tile) }];
    });
  });
}

function pinsToJson(maps, pins) {
  return JSON.stringify({ format: "asic-pins", version: 1, places: rowsOf(maps, pins) }, null, 1);
}

function pinsToCsv(maps, pins) {
  const quote = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const lines = rowsOf(maps, pins).map((row) => [
    quote(row.pin), quote(row.photo), row.x.toFixed(6), row.y.toFixed(6), row.probability.toFixed(4),
    Number(row.visible), Number(row.placed),
  ]);
  return [PIN_COLUMNS, ...lines].map((line) => `${line.join(",")}\r\n`).join("");
}

// Reads either file; places that were found and not set by hand are found again. Throws Error with the reason.
function readPins(maps, text) {
  const rows = text.trimStart().startsWith("{") ? rowsOfJson(text) : rowsOfCsv(text);
  // A file of text cannot hold names that are not Unicode, so they are compared as it would hold them.
  const known = new Map(maps.map((map, index) => [map.path.toWellFormed(), index]));
  const pins = rows.filter((row) => row.placed).map((row) => {
    if (!Number.isFinite(row.x) || !Number.isFinite(row.y)) throw new Error(`pin ${row.pin}: x and y must be numbers`);
    if (row.photo === "") return makePin(row.pin, -1, CANONICAL_FRAME.toModel([row.x, row.y]));
    const tile = known.get(row.photo.toWellFormed());
    if (tile === undefined) throw new Error(`pin ${row.pin}: no photo ${row.photo} here`);
    return makePin(row.pin, tile, maps[tile].toModel([row.x, row.y]));
  });
  const names = pins.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new Error(`two pins are named ${twice}: give each a name of its own`);
  return pins;
}

function rowsOfJson(text) {
  const { format, version, places } = JSON.parse(text);
  if (format !== "asic-pins" || version !== 1 || !Array.isArray(places)) {
    throw new Error("expected a file of pins, format asic-pins, version 1");
  }
  return places.map((row) => ({ ...row, pin: String(row.pin), photo: String(row.photo) }));
}

function rowsOfCsv(text) {
  const [header, ...lines] = splitCsv(text);
  if (header === undefined || header.join() !== PIN_COLUMNS.join()) {
    throw new Error(`expected a file of pins with the columns ${PIN_COLUMNS.join(", ")}`);
  }
  return lines.map(([pin, photo, x, y, , , placed]) => (
    { pin, photo, x: Number.parseFloat(x), y: Number.parseFloat(y), placed: placed === "1" }
  ));
}

// Lines of fields by RFC 4180: quoted fields may hold commas, doubled quotes and line ends.
function splitCsv(text) {
  const lines = [];
  let line = [];
  for (const match of text.matchAll(/("(?:[^"]|"")*"|[^,\r\n"]*)(,|\r?\n|$)/g)) {
    const [whole, field, end] = match;
    if (whole === "" && line.length === 0) continue;
    line.push(field.startsWith('"') ? field.slice(1, -1).replaceAll('""', '"') : field);
    if (end !== ",") {
      lines.push(line);
      line = [];
    }
  }
  return lines;
}
