/**
 * Regions of one kind of image and the findings there, ready to be listed, searched and hit by a click.
 * @typedef {import('./types.js').Region} Region
 * @typedef {import('./types.js').Finding} Finding
 * @typedef {{region: Region | null, finding: Finding | null}} Suggestion one of the two, or both
 */

const REGIONS_OFFERED = 6;
const FINDINGS_OFFERED = 4;
const SMALL_WORDS = new Set(['in', 'the', 'of', 'at', 'im', 'am', 'der', 'des', 'den', 'dem']);

export class RegionIndex {
  /** @param {Region[]} regions parents first @param {Finding[]} [findings] */
  constructor(regions, findings = []) {
    this.regions = regions;
    this.findings = findings;
    this.byKey = new Map(regions.map((region) => [region.key, region]));
    this.findingByKey = new Map(findings.map((finding) => [finding.key, finding]));
    this.regionWords = regions.map((region) => wordingsOf(region, [region.key]));
    this.findingWords = findings.map((finding) => wordingsOf(finding, []));
  }

  /** @param {string | null} key */
  childrenOf(key) {
    return this.regions.filter((region) => region.parent === key);
  }

  /**
   * What the words typed so far may become: regions, findings, or a finding in a region.
   * @param {string} typed
   * @returns {Suggestion[]}
   */
  matching(typed) {
    const words = wordsOf(typed);
    if (!words.length) return [];
    const regions = best(this.regionWords, words, REGIONS_OFFERED, (region) => (region.known ? 1 : 0));
    const findings = best(this.findingWords, words, FINDINGS_OFFERED, () => 0);
    if (!regions.length && !findings.length) return this.both(words);
    /** @type {(Suggestion & {weight: number})[]} */
    const offers = [
      ...regions.map(({ found, weight }) => ({ region: found, finding: null, weight })),
      ...findings.map(({ found, weight }) => ({ region: null, finding: found, weight })),
    ];
    return offers.sort((a, b) => a.weight - b.weight);
  }

  /** "consolidation left low", "LLL consol": a finding and a region, in either order. @param {string[]} words @returns {Suggestion[]} */
  both(words) {
    for (let at = words.length - 1; at > 0; at -= 1) {
      for (const [named, placed] of [
        [words.slice(0, at), words.slice(at)],
        [words.slice(at), words.slice(0, at)],
      ]) {
        const [finding] = best(this.findingWords, named, 1, () => 0);
        const regions = best(this.regionWords, placed, REGIONS_OFFERED, (region) => (region.known ? 1 : 0));
        if (finding && regions.length) return regions.map(({ found }) => ({ region: found, finding: finding.found }));
      }
    }
    return [];
  }

  /** The region or finding that is called exactly this. @param {string} text @returns {Suggestion | null} */
  named(text) {
    const wanted = levelled(text);
    const region = this.regions.find((each) => levelled(each.name) === wanted);
    if (region) return { region, finding: null };
    const finding = this.findings.find((each) => levelled(each.name) === wanted);
    return finding ? { region: null, finding } : null;
  }

  /**
   * The region in which to ask for a finding: the current one if the finding can be there, else its usual place.
   * @param {Finding} finding
   * @param {string} current key of a region
   */
  placeOf(finding, current) {
    for (let at = this.byKey.get(current); at; at = at.parent === null ? undefined : this.byKey.get(at.parent)) {
      if (at.key === finding.region) return current;
    }
    return this.byKey.has(finding.region) ? finding.region : (this.regions[0]?.key ?? current);
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

  /** What the picture shows: the whole, and each region that the model knows, and of several with the same outline the widest. */
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

/**
 * The texts by which something is found, starting with its name.
 * @template {{name: string, synonyms: string[]}} T
 * @param {T} found
 * @param {string[]} more
 */
function wordingsOf(found, more) {
  return { found, texts: [found.name, ...more, ...found.synonyms].map(levelled) };
}

/**
 * The rows with a wording that has, for each word typed, a word that begins with it; names before synonyms.
 * @template T
 * @param {{found: T, texts: string[]}[]} rows
 * @param {string[]} words
 * @param {number} most
 * @param {(found: T) => number} bonus
 */
function best(rows, words, most, bonus) {
  /** @type {{found: T, weight: number}[]} */
  const hits = [];
  for (const { found, texts } of rows) {
    const at = texts.findIndex((text) => words.every((word) => beginsIn(text, word)));
    if (at < 0) continue;
    const exact = texts.includes(words.join(' ')) ? -10 : 0;
    hits.push({ found, weight: exact + Math.min(at, 3) - bonus(found) });
  }
  return hits.sort((a, b) => a.weight - b.weight).slice(0, most);
}

/** @param {string} text */
function levelled(text) {
  return text
    .normalize('NFKD')
    .replace(/[\u0300-\u036f]/g, '')
    .toLowerCase()
    .replaceAll('ß', 'ss')
    .replace(/[^a-z0-9]+/g, ' ')
    .trim();
}

/** The words typed, without small ones and, but for the last, without German endings. @param {string} typed */
function wordsOf(typed) {
  const words = levelled(typed).split(' ').filter(Boolean);
  const telling = words.filter((word, i) => i === words.length - 1 || !SMALL_WORDS.has(word));
  return telling.map((word, i) => (i < telling.length - 1 && word.length > 5 ? word.replace(/(en|er|es|em|e)$/, '') : word));
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
