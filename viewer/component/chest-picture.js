/**
 * A picture of a chest on which a click picks the region there.
 * @typedef {import('./types.js').Region} Region
 */
import { h, pointsOf, svg } from './dom.js';

/** Regions that are always drawn, for orientation; the others appear under the pointer. */
const LANDMARKS = new Set([
  ...['right_upper_lobe', 'right_middle_lobe', 'right_lower_lobe', 'left_upper_lobe', 'left_lower_lobe', 'lungs'],
  ...['right_lung', 'left_lung', 'heart', 'aorta', 'trachea', 'spine', 'vertebrae', 'pleura', 'liver'],
]);

/** How far apart, as a fraction of the picture, two clicks may be and still count as one place. */
const SAME_PLACE = 0.03;

/**
 * The picture is for pointers; the same regions can be reached by keyboard in the list beside it.
 * @param {object} options
 * @param {import('./region-index.js').RegionIndex} options.index
 * @param {string} options.chosen key
 * @param {import('./strings.js').Say} options.say
 * @param {(region: Region) => void} options.onPick
 */
export function chestPicture({ index, chosen, say, onPick }) {
  const classOf = (/** @type {string} */ key) =>
    ['shape', LANDMARKS.has(key) && 'landmark', key === chosen && 'chosen'].filter(Boolean).join(' ');
  const shapes = new Map(
    index.drawn().map((region) => [
      region.key,
      svg('polygon', { points: pointsOf(region.outline), class: classOf(region.key) }),
    ])
  );
  const caption = h('figcaption', {}, say('picture_hint'));
  const drawing = svg(
    'svg',
    { viewBox: '0 0 100 100', class: 'chest', role: 'img', 'aria-label': say('picture_label') },
    torso(),
    ...shapes.values(),
    svg('text', { x: 3, y: 8, class: 'side' }, say('right_side')),
    svg('text', { x: 97, y: 8, class: 'side', 'text-anchor': 'end' }, say('left_side'))
  );
  /** @type {string | null} */
  let lit = null;
  /** The last click here: where it was and which region it chose. @type {{x: number, y: number, key: string} | null} */
  let last = null;

  /** @param {MouseEvent} event */
  const placeOf = (event) => {
    const box = drawing.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  };
  /** Whether a place is the one that was clicked last, give or take an unsteady hand. @param {{x: number, y: number}} at */
  const isLast = (at) => last !== null && Math.hypot(at.x - last.x, at.y - last.y) < SAME_PLACE;
  /** @param {import('./types.js').Region | undefined} region */
  const light = (region) => {
    if (lit) shapes.get(lit)?.classList.remove('lit');
    lit = region?.key ?? null;
    if (lit) shapes.get(lit)?.classList.add('lit');
    caption.textContent = region ? region.name : say('picture_hint');
  };
  drawing.addEventListener('pointermove', (event) => {
    const at = placeOf(event);
    if (isLast(at)) return; // keep naming what was just chosen
    const region = index.at(at.x, at.y)[0];
    if (region?.key !== lit) light(region);
  });
  drawing.addEventListener('click', (event) => {
    const at = placeOf(event);
    const here = index.at(at.x, at.y);
    if (!here.length) return;
    // The first click chooses what the pointer named, whatever was asked before; another click in one place widens it.
    const again = last && isLast(at) ? here.findIndex((region) => region.key === last?.key) : -1;
    const region = here[(again + 1) % here.length];
    for (const shape of shapes.values()) shape.classList.remove('chosen');
    shapes.get(region.key)?.classList.add('chosen');
    last = { ...(last && again >= 0 ? last : at), key: region.key };
    light(region);
    onPick(region);
  });
  return h('figure', { class: 'picture' }, drawing, caption);
}

/** Shoulders and trunk behind the outlines of a frontal view. */
function torso() {
  return svg('path', {
    class: 'body',
    d: 'M40 0 Q41 6 30 9 Q10 13 4 26 L1 60 Q5 68 7 100 L93 100 Q95 68 99 60 L96 26 Q90 13 70 9 Q59 6 60 0 Z',
  });
}
