/**
 * A picture of a chest on which a click picks the region there.
 * @typedef {import('./types.js').Region} Region
 */
import { h, pointsOf, svg } from './dom.js';

/** What is always drawn, so that one finds one's way; everything else shows itself under the pointer. */
const LANDMARKS = new Set([
  ...['right_upper_lobe', 'right_middle_lobe', 'right_lower_lobe', 'left_upper_lobe', 'left_lower_lobe', 'lungs'],
  ...['right_lung', 'left_lung', 'heart', 'aorta', 'trachea', 'spine', 'vertebrae', 'pleura', 'liver'],
]);

/**
 * The same list of regions is reached by keyboard beside it, so the picture itself is for pointers.
 * @param {object} options
 * @param {import('./region-index.js').RegionIndex} options.index
 * @param {string} options.chosen key
 * @param {(region: Region) => string} options.nameOf
 * @param {import('./strings.js').Say} options.say
 * @param {(region: Region) => void} options.onPick
 */
export function chestPicture({ index, chosen, nameOf, say, onPick }) {
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
  let previous = chosen;

  /** @param {MouseEvent} event */
  const under = (event) => {
    const box = drawing.getBoundingClientRect();
    return index.at((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  };
  drawing.addEventListener('pointermove', (event) => {
    const region = under(event)[0];
    if (region?.key === lit) return;
    if (lit) shapes.get(lit)?.classList.remove('lit');
    lit = region?.key ?? null;
    if (lit) shapes.get(lit)?.classList.add('lit');
    caption.textContent = region ? nameOf(region) : say('picture_hint');
  });
  drawing.addEventListener('click', (event) => {
    const here = under(event);
    if (!here.length) return;
    const again = here.findIndex((region) => region.key === previous);
    const region = here[(again + 1) % here.length];
    shapes.get(previous)?.classList.remove('chosen');
    shapes.get(region.key)?.classList.add('chosen');
    previous = region.key;
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
