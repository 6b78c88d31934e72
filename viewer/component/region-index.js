/**
 * Regions of one kind of image, ready to be listed, searched and hit by a click.
 * @typedef {import('./types.js').Region} Region
 */

export class RegionIndex {
  /** @param {Region[]} regions parents first */
  constructor(regions) {
    this.regions = regions;
    this.byKey = new Map(regions.map((region) => [region.key, region]));
    this.wordings = regions.map((region) => ({
      region,
      texts: [region.name, region.key, ...region.synonyms].map(levelled),
    }));
  }

  /** @param {string | null} key */
  childrenOf(key) {
    return this.regions.filter((region) => region.parent === key);
  }

  /**
   * Regions whose name, or a synonym, has a word that begins as each word typed; names first.
   * @param {string} typed
   * @param {(region: Region) => string} nameOf the name in the reader's language
   * @param {number} [most]
   * @returns {Region[]}
   */
  matching(typed, nameOf, most = 8) {
    const words = levelled(typed).split(' ').filter(Boolean);
    if (!words.length) return [];
    /** @type {{region: Region, weight: number}[]} */
    const found = [];
    for (const { region, texts } of this.wordings) {
      const all = [levelled(nameOf(region)), ...texts];
      const at = all.findIndex((text) => words.every((word) => beginsIn(text, word)));
      if (at < 0) continue;
      const exact = all.includes(words.join(' ')) ? -10 : 0;
      found.push({ region, weight: exact + Math.min(at, 3) - (region.known ? 1 : 0) });
    }
    return found
      .sort((a, b) => a.weight - b.weight)
      .slice(0, most)
      .map(({ region }) => region);
  }

  /** The region that has exactly this name in the reader's language. @param {string} text @param {(region: Region) => string} nameOf */
  named(text, nameOf) {
    const wanted = levelled(text);
    return this.regions.find((region) => levelled(nameOf(region)) === wanted);
  }

  /**
   * The regions under a point of the picture that the model knows, smallest first.
   * @param {number} x from 0 to 1
   * @param {number} y from 0 to 1
   */
  at(x, y) {
    return this.drawn()
      .filter((region) => holds(region.outline, x, y))
      .sort((a, b) => areaOf(a.outline) - areaOf(b.outline));
  }

  /** What the picture shows: the whole, and each region that the model knows, of those with one outline the widest. */
  drawn() {
    /** @type {Map<string, Region>} */
    const shapes = new Map();
    for (const region of this.regions) {
      const shape = String(region.outline);
      if ((region.known || region.parent === null) && !shapes.has(shape)) shapes.set(shape, region);
    }
    return [...shapes.values()];
  }
}

/** @param {string} text */
function levelled(text) {
  return text
    .normalize('NFKD')
    .replace(/[\u0300-\u036f]/g, '')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, ' ')
    .trim();
}

/** @param {string} text @param {string} word */
function beginsIn(text, word) {
  return text.startsWith(word) || text.includes(` ${word}`);
}

/** The even-odd rule. @param {[number, number][]} outline @param {number} x @param {number} y */
function holds(outline, x, y) {
  let inside = false;
  outline.forEach(([x1, y1], i) => {
    const [x0, y0] = outline[(i || outline.length) - 1];
    if (y1 > y !== y0 > y && x < ((x0 - x1) * (y - y1)) / (y0 - y1) + x1) inside = !inside;
  });
  return inside;
}

/** The shoelace formula. @param {[number, number][]} outline */
function areaOf(outline) {
  const twice = outline.reduce((sum, [x1, y1], i) => {
    const [x0, y0] = outline[(i || outline.length) - 1];
    return sum + x0 * y1 - x1 * y0;
  }, 0);
  return Math.abs(twice) / 2;
}
