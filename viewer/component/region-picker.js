/**
 * How a person says what to look for and where: words with suggestions, a picture, or the whole hierarchy.
 * @typedef {import('./types.js').Region} Region
 * @typedef {import('./region-index.js').Suggestion} Suggestion
 */
import { chestPicture } from './chest-picture.js';
import { h } from './dom.js';

let count = 0;

export class RegionPicker {
  /**
   * @param {object} options
   * @param {import('./strings.js').Say} options.say
   * @param {(picked: Suggestion) => void} options.onPick a region, a finding or both were chosen
   * @param {(text: string) => void} options.onTyped words were entered that are no name of the list
   */
  constructor({ say, onPick, onTyped }) {
    this.say = say;
    this.onPick = onPick;
    this.onTyped = onTyped;
    /** @type {import('./region-index.js').RegionIndex | null} */
    this.index = null;
    this.chosen = '';
    /** @type {Suggestion[]} */
    this.offered = [];
    this.active = -1;
    const id = `regions-${(count += 1)}`;
    this.list = h('ul', { id, class: 'offers', role: 'listbox', 'aria-label': say('suggestions'), hidden: true });
    this.input = h('input', {
      type: 'text',
      role: 'combobox',
      'aria-label': say('ask'),
      'aria-expanded': 'false',
      'aria-autocomplete': 'list',
      'aria-controls': id,
      placeholder: `${say('ask')}, ${say('ask_example')}`,
      autocomplete: 'off',
      spellcheck: 'false',
      maxlength: 200,
      oninput: () => this.offer(),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event),
      onblur: () => this.close(),
    });
    this.pictureButton = h(
      'button',
      { type: 'button', 'aria-expanded': 'false', onclick: () => this.togglePicture() },
      say('picture')
    );
    this.pictureBox = h('div', { hidden: true });
    this.tree = h('details', { class: 'tree' }, h('summary', {}, say('all_regions')));
    this.tree.addEventListener('toggle', () => this.tree.open && this.drawTree());
    this.element = h(
      'form',
      { class: 'ask', role: 'search', onsubmit: (/** @type {Event} */ event) => this.submit(event) },
      h(
        'div',
        { class: 'askline' },
        h('div', { class: 'combobox' }, this.input, this.list),
        h('button', { type: 'submit', class: 'primary' }, say('search')),
        this.pictureButton
      ),
      this.pictureBox,
      this.tree
    );
  }

  /** @param {import('./region-index.js').RegionIndex} index @param {string} chosen key */
  show(index, chosen) {
    const same = this.index === index && this.chosen === chosen;
    this.index = index;
    this.chosen = chosen;
    if (same) return;
    if (!this.pictureBox.hidden && !this.pictureBox.matches(':hover')) this.drawPicture();
    if (this.tree.open) this.drawTree();
  }

  offer() {
    this.offered = this.index?.matching(this.input.value) ?? [];
    this.active = -1;
    this.list.replaceChildren(
      ...this.offered.map((offer, i) =>
        h(
          'li',
          {
            id: `${this.list.id}-${i}`,
            role: 'option',
            'aria-selected': 'false',
            onpointerdown: (/** @type {Event} */ event) => {
              event.preventDefault();
              this.pick(offer);
            },
          },
          h('span', {}, [offer.finding?.name, offer.region?.name].filter(Boolean).join(' · ')),
          h('small', {}, this.about(offer))
        )
      )
    );
    this.list.hidden = !this.offered.length;
    this.input.setAttribute('aria-expanded', String(!this.list.hidden));
    this.input.removeAttribute('aria-activedescendant');
  }

  /** What an offer is, and how else it is called. @param {Suggestion} offer */
  about({ region, finding }) {
    if (region && finding) return '';
    const kind = this.say(finding ? 'a_finding' : 'a_region');
    const others = (finding ?? region)?.synonyms.slice(0, 2) ?? [];
    return [kind, ...others].join(', ');
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.key === 'Escape' && !this.list.hidden) {
      event.stopPropagation();
      this.close();
    } else if ((event.key === 'ArrowDown' || event.key === 'ArrowUp') && this.offered.length) {
      event.preventDefault();
      if (this.list.hidden) this.list.hidden = false;
      const step = event.key === 'ArrowDown' ? 1 : -1;
      this.active = (this.active + step + this.offered.length) % this.offered.length;
      [...this.list.children].forEach((child, i) => child.setAttribute('aria-selected', String(i === this.active)));
      this.input.setAttribute('aria-activedescendant', `${this.list.id}-${this.active}`);
      this.list.children[this.active].scrollIntoView({ block: 'nearest' });
    }
  }

  /** @param {Event} event */
  submit(event) {
    event.preventDefault();
    const text = this.input.value.trim();
    const chosen = this.offered[this.active] ?? this.index?.named(text);
    if (chosen) this.pick(chosen);
    else if (text) {
      this.close();
      this.onTyped(text);
    }
  }

  /** @param {Suggestion} picked */
  pick(picked) {
    this.input.value = '';
    this.close();
    this.onPick(picked);
  }

  close() {
    this.offered = [];
    this.active = -1;
    this.list.hidden = true;
    this.input.setAttribute('aria-expanded', 'false');
    this.input.removeAttribute('aria-activedescendant');
  }

  togglePicture() {
    this.pictureBox.hidden = !this.pictureBox.hidden;
    this.pictureButton.setAttribute('aria-expanded', String(!this.pictureBox.hidden));
    if (!this.pictureBox.hidden) this.drawPicture();
  }

  drawPicture() {
    if (!this.index) return;
    this.pictureBox.replaceChildren(chestPicture({ ...this.drawingOptions(), index: this.index }));
  }

  drawingOptions() {
    const onPick = (/** @type {Region} */ region) => this.onPick({ region, finding: null });
    return { chosen: this.chosen, say: this.say, onPick };
  }

  drawTree() {
    const summary = this.tree.firstElementChild;
    this.tree.replaceChildren(...(summary ? [summary] : []), this.branch(null));
  }

  /** @param {string | null} parent @returns {HTMLElement} */
  branch(parent) {
    return h(
      'ul',
      {},
      ...(this.index?.childrenOf(parent) ?? []).map((region) =>
        h(
          'li',
          {},
          h(
            'button',
            {
              type: 'button',
              class: region.known ? 'region' : 'region coarser',
              title: region.known ? null : this.say('coarser'),
              'aria-current': region.key === this.chosen ? 'true' : null,
              onclick: () => this.pick({ region, finding: null }),
            },
            region.name
          ),
          this.index?.childrenOf(region.key).length ? this.branch(region.key) : null
        )
      )
    );
  }
}
