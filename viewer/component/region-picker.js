/**
 * How a person says where to look: words with suggestions, a picture, or the whole hierarchy.
 * @typedef {import('./types.js').Region} Region
 */
import { chestPicture } from './chest-picture.js';
import { h } from './dom.js';

let count = 0;

export class RegionPicker {
  /**
   * @param {object} options
   * @param {import('./strings.js').Say} options.say
   * @param {(region: Region) => string} options.nameOf
   * @param {(region: Region) => void} options.onPick a region was chosen
   * @param {(text: string) => void} options.onTyped words were entered that name no region of the list
   */
  constructor({ say, nameOf, onPick, onTyped }) {
    Object.assign(this, { say, nameOf, onPick, onTyped });
    this.say = say;
    this.nameOf = nameOf;
    this.onPick = onPick;
    this.onTyped = onTyped;
    /** @type {import('./region-index.js').RegionIndex | null} */
    this.index = null;
    this.chosen = '';
    /** @type {Region[]} */
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
    this.offered = this.index?.matching(this.input.value, this.nameOf) ?? [];
    this.active = -1;
    this.list.replaceChildren(
      ...this.offered.map((region, i) =>
        h(
          'li',
          {
            id: `${this.list.id}-${i}`,
            role: 'option',
            'aria-selected': 'false',
            onpointerdown: (/** @type {Event} */ event) => {
              event.preventDefault();
              this.pick(region);
            },
          },
          h('span', {}, this.nameOf(region)),
          region.synonyms[0] ? h('small', {}, region.synonyms.slice(0, 2).join(', ')) : null
        )
      )
    );
    this.list.hidden = !this.offered.length;
    this.input.setAttribute('aria-expanded', String(!this.list.hidden));
    this.input.removeAttribute('aria-activedescendant');
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
    const chosen = this.offered[this.active] ?? this.index?.named(text, this.nameOf);
    if (chosen) this.pick(chosen);
    else if (text) {
      this.close();
      this.onTyped(text);
    }
  }

  /** @param {Region} region */
  pick(region) {
    this.input.value = '';
    this.close();
    this.onPick(region);
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
    return { chosen: this.chosen, nameOf: this.nameOf, say: this.say, onPick: this.onPick };
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
              onclick: () => this.pick(region),
            },
            this.nameOf(region)
          ),
          this.index?.childrenOf(region.key).length ? this.branch(region.key) : null
        )
      )
    );
  }
}
