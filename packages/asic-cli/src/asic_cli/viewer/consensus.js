// The places of a photo's tokens in canonical space that all photos agree on, on maps of either mirror flag, and what is
// found by them alone; asic_flow.consensus.ConsensusTokens is its model.

class ConsensusPlaces {
  constructor({ shown, steps, low, high, trust }) {
    const { rows, cols, stride, first } = data.tokens;
    const texels = shortsOf(steps);
    this.trust = trust;
    this.places = Float32Array.from(texels, (step, i) => low[i % 4] + ((high[i % 4] - low[i % 4]) * step) / 65535);
    this.row = new Int32Array(rows * cols).fill(-1);
    this.centres = [];
    readRuns(shown, rows * cols).forEach((one, token) => {
      if (!one) return;
      this.row[token] = this.centres.length;
      this.centres.push([first + stride * (token % cols), first + stride * Math.floor(token / cols)]);
    });
  }

  // The row of the token in a row and column of the grid, -1 for background and beyond.
  rowAt(row, column) {
    const { rows, cols } = data.tokens;
    return row < 0 || column < 0 || row >= rows || column >= cols ? -1 : this.row[row * cols + column];
  }

  // The four numbers of a point, bilinear between the tokens around that show the object, else those of the nearest.
  at([x, y]) {
    const { rows, cols, stride, first } = data.tokens;
    const across = Math.min(Math.max((x - first) / stride, 0), cols - 1);
    const along = Math.min(Math.max((y - first) / stride, 0), rows - 1);
    const [column, row] = [Math.floor(across), Math.floor(along)];
    const corners = [0, 1].flatMap((down) => [0, 1].map((right) => ({
      token: this.rowAt(row + down, column + right),
      weight: Math.abs(1 - down - (along - row)) * Math.abs(1 - right - (across - column)),
    }))).filter(({ token }) => token >= 0);
    const total = corners.reduce((sum, { weight }) => sum + weight, 0);
    if (total < 0.05) return this.placesOf(this.nearestToken([x, y]));
    return [0, 1, 2, 3].map((k) => corners.reduce((sum, { token, weight }) => sum + weight * this.places[4 * token + k], 0) / total);
  }

  placesOf(token) {
    return this.places.subarray(4 * token, 4 * token + 4);
  }

  nearestToken([x, y]) {
    const away = this.centres.map(([left, top]) => (left - x) ** 2 + (top - y) ** 2);
    return away.indexOf(Math.min(...away));
  }

  // The point of this photo that lies nearest to another's places, by flags as far as both are trusted: the best token
  // and those around it, averaged. Null without any.
  nearest(places, trust) {
    if (this.centres.length === 0) return null;
    const { weight, scale, temperature } = data.consensus;
    const flags = flagWeights(trust, this.trust);
    const score = (token) => {
      let total = 0;
      for (let flag = 0; flag < 2; flag++) {
        if (flags[flag] === 0) continue;
        const across = this.places[4 * token + 2 * flag] - places[2 * flag];
        const along = this.places[4 * token + 2 * flag + 1] - places[2 * flag + 1];
        total -= flags[flag] * Math.log1p((across * across + along * along) / scale);
      }
      return weight * total;
    };
    let best = 0;
    let most = -Infinity;
    for (let token = 0; token < this.centres.length; token++) {
      const found = score(token);
      if (found > most) [best, most] = [token, found];
    }
    const { stride, first } = data.tokens;
    const [column, row] = this.centres[best].map((centre) => Math.round((centre - first) / stride));
    let [x, y, total] = [0, 0, 0];
    for (let down = -1; down <= 1; down++) {
      for (let right = -1; right <= 1; right++) {
        const token = this.rowAt(row + down, column + right);
        if (token < 0) continue;
        const share = Math.exp((score(token) - most) / temperature);
        x += share * this.centres[token][0];
        y += share * this.centres[token][1];
        total += share;
      }
    }
    return [x / total, y / total];
  }
}

// What places of either flag count between two photos, 1 in all.
function flagWeights(mine, theirs) {
  const both = [0, 1].map((flag) => mine[flag] * theirs[flag]);
  const heard = both.map((one) => (one / (both[0] + both[1]) < data.consensus.leastFlagWeight ? 0 : one));
  return heard.map((one) => one / (heard[0] + heard[1]));
}
