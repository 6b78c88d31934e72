/**
 * Two pictures side by side, where no viewer stands ready to do it: the other patient's is loudly framed.
 * @typedef {import('./types.js').Case} Case
 */
import { pictured } from './case-card.js';
import { h } from './dom.js';

/**
 * @param {object} options
 * @param {Case} options.found
 * @param {import('./types.js').Pictures} options.current the current study's
 * @param {string} options.region name
 * @param {(path: string | null) => string} options.url
 * @param {string | null} options.viewer URL that opens both studies in a viewer
 * @param {import('./strings.js').Say} options.say
 */
export function compareDialog({ found, current, region, url, viewer, say }) {
  const banner = say('other_patient_banner', { reference: found.reference });
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
        pictured(url(current.picture), current.outlines, say('picture_of_study'), say)
      ),
      h(
        'section',
        { class: 'side other' },
        h('h2', { class: 'banner' }, banner),
        pictured(url(found.picture), found.outlines, say('picture_of_case', { rank: found.rank, region }), say),
        h('p', { class: 'banner', 'aria-hidden': 'true' }, say('other_patient'))
      )
    )
  );
  dialog.addEventListener('close', () => dialog.remove());
  return dialog;
}
