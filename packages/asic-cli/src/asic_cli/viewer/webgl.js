// Photos on their way to canonical space, all drawn by WebGL2 on one canvas that lies over their tiles.

const CORNER_RADIUS_PX = 10; // As tiles have it in style.css.
const MOST_PIXELS = 16e6; // Of the canvas; hundreds of photos are drawn a little coarser.

const VERTEX_SHADER = `#version 300 es
layout(location = 0) in vec2 home;
layout(location = 1) in vec2 place;
uniform vec2 size;
out vec2 photo;
out vec2 tile;
void main() {
  photo = (home + 0.5) / size;
  tile = (place + 0.5) / size;
  gl_Position = vec4(2.0 * tile.x - 1.0, 1.0 - 2.0 * tile.y, 0.0, 1.0);
}`;

// Kind 1 draws the object, kind 0 what lies around it.
const FRAGMENT_SHADER = `#version 300 es
precision highp float;
precision highp sampler2DArray;
uniform sampler2DArray photos;
uniform sampler2DArray masks;
uniform float layer;
uniform float kind;
uniform float opacity;
uniform vec2 box;
uniform float radius;
in vec2 photo;
in vec2 tile;
out vec4 colour;
void main() {
  float object = smoothstep(0.35, 0.65, texture(masks, vec3(photo, layer)).r);
  vec2 corner = abs(tile - 0.5) * box - 0.5 * box + radius;
  float within = clamp(radius + 0.5 - length(max(corner, 0.0)), 0.0, 1.0);
  float alpha = opacity * mix(1.0 - object, object, kind) * within;
  colour = vec4(texture(photos, vec3(photo, layer)).rgb * alpha, alpha);
}`;

class WebglStage {
  // Begins to compile, which goes on beside the page. Throws where there is no WebGL2, or not for so many photos.
  constructor(container, count) {
    this.container = container;
    this.canvas = htmlElement("canvas", { className: "stage", hidden: true });
    this.gl = this.canvas.getContext("webgl2", { antialias: false });
    if (this.gl === null || count > this.gl.getParameter(this.gl.MAX_ARRAY_TEXTURE_LAYERS)) {
      throw new Error("no WebGL2 for these photos");
    }
    this.parallel = this.gl.getExtension("KHR_parallel_shader_compile");
    this.compile();
  }

  compile() {
    const { gl } = this;
    this.program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX_SHADER], [gl.FRAGMENT_SHADER, FRAGMENT_SHADER]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(this.program, shader);
    }
    gl.linkProgram(this.program);
    this.sent = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
  }

  // Whether `open` would have to wait for the compiler; asking does not.
  get compiling() {
    const { gl, parallel } = this;
    if (gl.getSyncParameter(this.sent, gl.SYNC_STATUS) !== gl.SIGNALED) return true;
    return parallel !== null && !gl.getProgramParameter(this.program, parallel.COMPLETION_STATUS_KHR);
  }

  // From now on the canvas is part of the page.
  open(tiles) {
    this.tiles = tiles;
    this.container.append(this.canvas);
    // The places of all meshes, and last those of a photo at home.
    this.places = new Float32Array(2 * MESH_POINTS * (tiles.length + 1));
    this.places.set(MESH_HOME, 2 * MESH_POINTS * tiles.length);
    this.share = 0;
    this.prepare();
    this.texture(1, this.gl.R8);
    this.texture(0, this.gl.RGBA8);
    this.known = new Set();
    this.fresh = new Set();
    // Tiles move when the page is resized, and when a caption gets longer.
    this.observer = new ResizeObserver(() => {
      this.measured = false;
      if (!this.canvas.hidden) this.measure();
    });
    this.observer.observe(this.container);
  }

  // Draws what nobody sees, because the first time takes longest.
  rehearse() {
    this.share = 0.2;
    if (this.canvas.hidden) this.measure();
  }

  prepare() {
    const { gl, program } = this;
    gl.useProgram(program);
    this.at = Object.fromEntries(["photos", "masks", "layer", "kind", "opacity", "size", "box", "radius"].map((name) => (
      [name, gl.getUniformLocation(program, name)]
    )));
    gl.uniform2f(this.at.size, WIDTH, HEIGHT);
    gl.uniform1i(this.at.masks, 1);
    gl.enable(gl.BLEND);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, meshTriangles(), gl.STATIC_DRAW);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, MESH_HOME, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    gl.enableVertexAttribArray(1);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, this.places.byteLength, gl.DYNAMIC_DRAW);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  }

  texture(unit, format) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, gl.createTexture());
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, format, WIDTH, HEIGHT, this.tiles.length);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D_ARRAY, name, gl.CLAMP_TO_EDGE);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D_ARRAY, name, gl.LINEAR);
  }

  // Hands a tile's pixels over, unless it has them.
  take(tile) {
    if (this.fresh.has(tile)) return;
    const { gl } = this;
    const layer = this.tiles.indexOf(tile);
    if (!this.known.has(tile)) this.upload(1, layer, gl.RED, tile.map.mask.map((shown) => 255 * shown));
    this.upload(0, layer, gl.RGBA, tile.picture.shown.data);
    this.known.add(tile);
    this.fresh.add(tile);
  }

  upload(unit, layer, format, bytes) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, 0, layer, WIDTH, HEIGHT, 1, format, gl.UNSIGNED_BYTE, bytes);
  }

  // Where the tiles lie on the canvas, in its pixels from the lower left.
  measure() {
    const { gl } = this;
    const whole = this.container.getBoundingClientRect();
    const most = gl.getParameter(gl.MAX_RENDERBUFFER_SIZE);
    const { width: across, height: down } = whole;
    this.density = Math.min(devicePixelRatio, most / across, most / down, Math.sqrt(MOST_PIXELS / (across * down)));
    const [width, height] = [across, down].map((length) => Math.max(1, Math.round(length * this.density)));
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.boxes = this.tiles.map(({ frame }) => {
      const box = frame.getBoundingClientRect();
      const [left, bottom] = [box.left - whole.left, whole.bottom - box.bottom];
      return [left, bottom, box.width, box.height].map((length) => length * this.density);
    });
    this.measured = true;
    this.draw(this.share);
  }

  // A tile's picture has changed.
  renew(tile) {
    this.fresh.delete(tile);
  }

  show(share) {
    this.canvas.hidden = share === 0;
    this.container.classList.toggle("gliding", share > 0);
    this.share = share;
    if (share === 0) return;
    if (this.measured) this.draw(share);
    else this.measure();
  }

  draw(share) {
    const { gl } = this;
    this.tiles.forEach((tile, layer) => {
      this.take(tile);
      tile.picture.glide.mesh(share, this.places, 2 * MESH_POINTS * layer);
    });
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, this.places);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform1f(this.at.radius, CORNER_RADIUS_PX * this.density);
    this.tiles.forEach((tile, layer) => {
      gl.viewport(...this.boxes[layer].map(Math.round));
      gl.uniform2f(this.at.box, this.boxes[layer][2], this.boxes[layer][3]);
      gl.uniform1f(this.at.layer, layer);
      for (const part of glideParts(tile.map.mirrored, share)) this.drawPart(part, layer);
    });
  }

  drawPart({ moved, kind, opacity, added }, layer) {
    const { gl } = this;
    gl.vertexAttribPointer(1, 2, gl.FLOAT, false, 0, 8 * MESH_POINTS * (moved ? layer : this.tiles.length));
    gl.blendFunc(gl.ONE, added ? gl.ONE : gl.ONE_MINUS_SRC_ALPHA);
    gl.uniform1f(this.at.kind, kind);
    gl.uniform1f(this.at.opacity, opacity);
    gl.drawElements(gl.TRIANGLES, 6 * (MESH_COLUMNS - 1) * (MESH_ROWS - 1), gl.UNSIGNED_INT, 0);
  }

  close() {
    this.observer?.disconnect();
    this.canvas.remove();
    this.container.classList.remove("gliding");
  }
}
