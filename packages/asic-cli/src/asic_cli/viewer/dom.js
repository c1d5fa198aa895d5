// Small pieces of page: elements, files in, files out.

const SVG = new DOMParser().parseFromString("<svg></svg>", "text/html").body.firstChild.namespaceURI;

function svgElement(name, attributes = {}, parent = null) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
}

function htmlElement(name, properties = {}, parent = null) {
  const element = Object.assign(document.createElement(name), properties);
  parent?.append(element);
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

function offerFile(name, blob) {
  const link = htmlElement("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function pngOf(canvas) {
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
}

// A photo's name as it stands below its picture.
function captionOf(element) {
  return element.closest("figure").querySelector(".name").textContent;
}

// Fills a legend with the colours of a ramp, and its ends with words where they are not there yet.
function showRamp(legend, colours, ends = []) {
  const [low, bar, high] = legend.children;
  bar.style.background = `linear-gradient(to right, ${colours.map((colour) => `rgb(${colour.join(" ")})`).join(", ")})`;
  ends.forEach((words, end) => { [low, high][end].textContent = words; });
  legend.hidden = false;
}
