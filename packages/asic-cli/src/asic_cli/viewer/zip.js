// A ZIP archive of files that need no compression, as PNG pictures do.

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

// `files` are {name, bytes}; names are UTF-8 (flag bit 11), dated 1980-01-01.
function zip(files) {
  const encoder = new TextEncoder();
  const parts = [];
  const directory = [];
  let place = 0;
  for (const { name, bytes } of files) {
    const encoded = encoder.encode(name);
    const shared = [[2, 20], [2, 0x0800], [2, 0], [2, 0], [2, 33], [4, crc32(bytes)], [4, bytes.length],
      [4, bytes.length], [2, encoded.length], [2, 0]];
    const header = numbers([[4, 0x04034b50], ...shared]);
    parts.push(header, encoded, bytes);
    directory.push(numbers([[4, 0x02014b50], [2, 20], ...shared, [2, 0], [2, 0], [2, 0], [4, 0], [4, place]]), encoded);
    place += header.length + encoded.length + bytes.length;
  }
  const length = directory.reduce((total, part) => total + part.length, 0);
  const end = [[4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, length], [4, place], [2, 0]];
  return new Blob([...parts, ...directory, numbers(end)], { type: "application/zip" });
}

// Little-endian numbers of [bytes, value].
function numbers(fields) {
  return Uint8Array.from(fields.flatMap(([size, value]) => Array.from({ length: size }, (_, i) => (value >>> (8 * i)) & 255)));
}
