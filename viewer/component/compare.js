/**
 * The current study and a case side by side, where no viewer does it; a conspicuous frame marks the other patient.
 * @typedef {import('./types.js').Case} Case
 * @typedef {import('./types.js').Pictures} Pictures
 * @typedef {import('./types.js').Slices} Slices
 */
import { pictured } from './case-card.js';
import { h } from './dom.js';

/**
 * @param {object} options
 * @param {Case} options.found
 * @param {(path: string | null) => string} options.url
 * @param {(side: 'current' | 'other') => Promise<Slices>} options.slices
 * @param {string | null} options.viewer URL that opens both studies in a viewer
 * @param {import('./strings.js').Say} options.say
 */
export function compareDialog({ found, url, slices, viewer, say }) {
  const banner = say('other_patient_banner', { reference: found.reference });
  const region = found.region.name;
  const dialog = h(
    'dialog',
    { class: 'compare', 'aria-label': say('compare') },
    h(
      'header',
      {},
      h(
        'label',
        { class: 'check' },
        h('input', {
          type: 'checkbox',
          checked: true,
          onchange: (/** @type {Event & {target: HTMLInputElement}} */ event) =>
            dialog.classList.toggle('plain', !event.target.checked),
        }),
        h('span', {}, say('outline'))
      ),
      viewer ? h('a', { href: viewer, target: '_blank', rel: 'noopener' }, say('in_ohif')) : null,
      h('button', { type: 'button', onclick: () => dialog.close() }, say('close'))
    ),
    h(
      'div',
      { class: 'sides' },
      h(
        'section',
        { class: 'side current' },
        h('h2', {}, say('current_study')),
        stack(found.query, { url, slices: () => slices('current'), label: say('picture_of_study'), say })
      ),
      h(
        'section',
        { class: 'side other' },
        h('h2', { class: 'banner' }, banner),
        stack(found, { url, slices: () => slices('other'), label: say('picture_of_case', { rank: found.rank, region }), say }),
        h('p', { class: 'banner', 'aria-hidden': 'true' }, say('other_patient'))
      )
    )
  );
  dialog.addEventListener('close', () => dialog.remove());
  return dialog;
}

/**
 * A picture. A CT can be scrolled through with the wheel, by dragging the slider or with its arrow keys.
 * @param {Pictures} shown
 * @param {object} options
 * @param {(path: string | null) => string} options.url
 * @param {() => Promise<Slices>} options.slices
 * @param {string} options.label
 * @param {import('./strings.js').Say} options.say
 */
function stack(shown, { url, slices, label, say }) {
  const frame = pictured(url(shown.picture), shown.outlines, label, say);
  const element = h('div', { class: 'stack' }, frame);
  if (shown.kind === 'CT') {
    slices()
      .then((found) => scrollable(element, frame, shown, found, { url, say }))
      .catch(() => {}); // the slice that was found is there
  }
  return element;
}

/**
 * @param {HTMLElement} element
 * @param {HTMLElement} frame
 * @param {Pictures} shown
 * @param {Slices} slices
 * @param {{url: (path: string | null) => string, say: import('./strings.js').Say}} options
 */
function scrollable(element, frame, shown, { instances, base, rendering }, { url, say }) {
  const image = frame.querySelector('img');
  const start = instances.indexOf(shown.instance ?? '');
  if (!image || start < 0 || instances.length < 2) return;
  const count = instances.length;
  const place = h('output', {});
  const slider = h('input', {
    type: 'range',
    min: 0,
    max: count - 1,
    value: start,
    'aria-label': say('slice'),
    oninput: () => show(),
  });
  const show = () => {
    const at = Number(slider.value);
    const words = say('slice_of', { number: at + 1, count });
    place.textContent = words;
    slider.setAttribute('aria-valuetext', words);
    frame.classList.toggle('elsewhere', at !== start); // the outline belongs to one slice
    const source = at === start ? url(shown.picture) : url(`${base}/${instances[at]}/rendered?${rendering}`);
    if (image.getAttribute('src') !== source) image.setAttribute('src', source);
  };
  let turned = 0;
  element.addEventListener(
    'wheel',
    (event) => {
      event.preventDefault();
      turned += event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY / WHEEL_PX : Math.sign(event.deltaY);
      const steps = Math.trunc(turned);
      if (!steps) return;
      turned -= steps;
      slider.value = String(Number(slider.value) + steps);
      show();
    },
    { passive: false }
  );
  element.append(h('div', { class: 'scroll' }, slider, place));
  show();
}

/** How far the wheel turns for one slice; touch pads send many small steps. */
const WHEEL_PX = 100;
