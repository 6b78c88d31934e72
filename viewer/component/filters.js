/**
 * Which cases may answer. The server applies them inside the search.
 * @typedef {import('./types.js').Filters} Filters
 */
import { h } from './dom.js';

/** @returns {Filters} */
export function noFilters() {
  return { modality: '', from: '', to: '', youngest: '', oldest: '', sex: '', scanner: false, report: false, others: true };
}

/**
 * The filters as QIDO matching keys and our own parameters.
 * @param {Filters} filters
 * @param {URLSearchParams} query
 */
export function addFilters(filters, query) {
  const day = (/** @type {string} */ text) => text.replaceAll('-', '');
  const age = (/** @type {string} */ text) => (text ? `${text.padStart(3, '0')}Y` : '');
  if (filters.modality) query.set('ModalitiesInStudy', filters.modality);
  if (filters.from || filters.to) query.set('StudyDate', `${day(filters.from)}-${day(filters.to)}`);
  if (filters.youngest || filters.oldest) query.set('PatientAge', `${age(filters.youngest)}-${age(filters.oldest)}`);
  if (filters.sex) query.set('PatientSex', filters.sex);
  if (filters.scanner) query.set('samescanner', 'true');
  if (filters.report) query.set('withreport', 'true');
  if (!filters.others) query.set('samepatient', 'true');
}

/** How many filters differ from none. @param {Filters} filters */
export function countFilters(filters) {
  const none = noFilters();
  const dates = filters.from || filters.to ? 1 : 0;
  const ages = filters.youngest || filters.oldest ? 1 : 0;
  const rest = /** @type {(keyof Filters)[]} */ (['modality', 'sex', 'scanner', 'report', 'others']);
  return dates + ages + rest.filter((name) => filters[name] !== none[name]).length;
}

export class FilterForm {
  /**
   * @param {import('./strings.js').Say} say
   * @param {() => void} onChange
   */
  constructor(say, onChange) {
    this.say = say;
    this.onChange = onChange;
    this.badge = h('span', { class: 'badge', hidden: true });
    const option = (/** @type {string} */ value, /** @type {string} */ text) => h('option', { value }, text);
    this.modality = h('select', { name: 'modality' }, option('', say('any')));
    this.form = h(
      'form',
      {
        class: 'filters',
        onchange: () => this.changed(),
        onsubmit: (/** @type {Event} */ event) => event.preventDefault(),
        onreset: () => setTimeout(() => this.changed()), // the fields are empty only after the event
      },
      this.field('modality', this.modality),
      this.field('sex', h('select', { name: 'sex' }, option('', say('any')), option('F', say('sex_F')), option('M', say('sex_M')), option('O', say('sex_O')))),
      this.field('age_from', h('input', { name: 'youngest', type: 'number', min: 0, max: 120, inputmode: 'numeric' })),
      this.field('age_to', h('input', { name: 'oldest', type: 'number', min: 0, max: 120, inputmode: 'numeric' })),
      this.field('date_from', h('input', { name: 'from', type: 'date' })),
      this.field('date_to', h('input', { name: 'to', type: 'date' })),
      this.box('scanner', 'same_scanner', false),
      this.box('report', 'only_with_report', false),
      this.box('others', 'other_patients_only', true),
      h('button', { type: 'reset' }, say('reset'))
    );
    this.element = h('details', { class: 'filterbox' }, h('summary', {}, say('filters'), ' ', this.badge), this.form);
  }

  /** Let one of these values of Modality be chosen. @param {string[]} modalities */
  offer(modalities) {
    const offered = [...this.modality.options].map((option) => option.value);
    const more = modalities.filter((modality) => !offered.includes(modality));
    this.modality.append(...more.map((modality) => h('option', { value: modality }, modality)));
  }

  /** @param {import('./strings.js').Key} key @param {HTMLElement} control */
  field(key, control) {
    return h('label', {}, h('span', {}, this.say(key)), control);
  }

  /** @param {string} name @param {import('./strings.js').Key} key @param {boolean} checked */
  box(name, key, checked) {
    return h('label', { class: 'check' }, h('input', { type: 'checkbox', name, checked }), h('span', {}, this.say(key)));
  }

  /** @returns {Filters} */
  get value() {
    const data = new FormData(this.form);
    const text = (/** @type {string} */ name) => String(data.get(name) ?? '');
    return {
      modality: text('modality'),
      from: text('from'),
      to: text('to'),
      youngest: text('youngest'),
      oldest: text('oldest'),
      sex: text('sex'),
      scanner: data.has('scanner'),
      report: data.has('report'),
      others: data.has('others'),
    };
  }

  /** Removes all filters; null if there are none. */
  get reset() {
    return countFilters(this.value) ? () => this.form.reset() : null;
  }

  changed() {
    if (!this.form.reportValidity()) return;
    const on = countFilters(this.value);
    this.badge.hidden = !on;
    this.badge.textContent = on ? this.say('filters_on', { count: on }) : '';
    this.onChange();
  }
}
