/**
 * The question: the kind of image, a region, optionally a finding there, and which cases may answer.
 * @typedef {import('./types.js').Study} Study
 */
import { ApiError } from './api.js';
import { h } from './dom.js';
import { addFilters, FilterForm } from './filters.js';
import { RegionIndex } from './region-index.js';
import { RegionPicker } from './region-picker.js';

const WHOLE = 'chest';

export class Question {
  /**
   * @param {object} options
   * @param {import('./strings.js').Say} options.say
   * @param {import('./api.js').Api} options.server
   * @param {string} options.region a key, a name, or words, to begin with
   * @param {() => void} options.onChange something else is asked now
   * @param {(error: unknown, text: string) => void} options.onUnread what was typed could not be read
   */
  constructor({ say, server, region, onChange, onUnread }) {
    this.say = say;
    this.server = server;
    this.onChange = onChange;
    this.onUnread = onUnread;
    this.region = region || WHOLE;
    /** @type {string | null} a concept that the cases' reports must affirm */
    this.finding = null;
    this.kind = '';
    this.studyUid = '';
    /** @type {string[]} kinds of image that the study has */
    this.kindsOfStudy = [];
    /** @type {Record<string, string[]>} kind of image: the values of Modality that it has */
    this.modalities = {};
    /** @type {RegionIndex | null} */
    this.index = null;
    this.picker = new RegionPicker({
      say,
      onPick: (picked) => this.picked(picked),
      onTyped: (text) => void this.typed(text),
    });
    this.filters = new FilterForm(say, onChange);
    this.kinds = h('div', { class: 'kinds', role: 'group', 'aria-label': say('kind'), hidden: true });
    this.chosen = h('p', { class: 'chosen' });
    this.element = h('div', { class: 'controls', hidden: true }, this.kinds, this.picker.element, this.chosen, this.filters.element);
  }

  /** Offer what can be asked of a study. @param {Study} study */
  async fit(study) {
    this.studyUid = study.study;
    this.kindsOfStudy = study.kinds;
    this.modalities = study.modalities_of_kinds;
    this.filters.offer(Object.values(this.modalities).flat());
    await this.fitKind(study.kinds.includes(this.kind) ? this.kind : study.kinds[0]);
  }

  /** @param {string} kind */
  async fitKind(kind) {
    this.kind = kind;
    // The findings only serve as suggestions: without them everything else still works.
    const findings = this.server.findings().catch(() => []);
    this.index = new RegionIndex(await this.server.regions(kind, this.studyUid), await findings);
    if (!this.index.byKey.has(this.region)) await this.resolveRegion();
    this.kinds.replaceChildren(
      ...this.kindsOfStudy.map((each) =>
        h(
          'button',
          {
            type: 'button',
            'aria-pressed': String(each === kind),
            onclick: () => void this.fitKind(each).then(this.onChange),
          },
          this.say(each === 'CT' ? 'kind_CT' : 'kind_CXR')
        )
      )
    );
    this.kinds.hidden = this.kindsOfStudy.length < 2;
    this.element.hidden = false;
    this.show();
  }

  /** The region to begin with may be a name, or more: what it means, the server knows. */
  async resolveRegion() {
    try {
      const read = await this.server.typed(this.region, this.kind);
      this.region = read.region;
      this.finding = affirmed(read.finding);
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== 'unknown_region') throw error;
      this.region = WHOLE;
    }
  }

  /** @param {string} text */
  async typed(text) {
    try {
      const read = await this.server.typed(text, this.kind);
      this.choose(read.region, affirmed(read.finding));
    } catch (error) {
      this.onUnread(error, text);
    }
  }

  /** @param {import('./region-index.js').Suggestion} picked */
  picked({ region, finding }) {
    const place = region?.key ?? (finding && this.index?.placeOf(finding, this.region)) ?? this.region;
    this.choose(place, finding?.key ?? null);
  }

  /** @param {string} key @param {string | null} finding */
  choose(key, finding) {
    this.region = key;
    this.finding = finding;
    this.onChange();
  }

  /** @param {number} limit how many cases */
  query(limit) {
    const query = new URLSearchParams({ anatomy: this.region, limit: String(limit) });
    if (this.finding) query.set('finding', this.finding);
    addFilters(this.filters.value, query);
    if (this.kindsOfStudy.length > 1 && !query.has('ModalitiesInStudy')) {
      query.set('ModalitiesInStudy', (this.modalities[this.kind] ?? []).join(','));
    }
    return query;
  }

  /** Draw what is asked. */
  show() {
    const region = this.index?.byKey.get(this.region);
    if (this.index) this.picker.show(this.index, this.region);
    this.chosen.replaceChildren(
      h('b', {}, this.say('region')),
      h('span', { class: 'chip strong' }, region?.name ?? this.region),
      ...(this.finding ? [this.findingChip(this.finding)] : [])
    );
  }

  /** @param {string} finding */
  findingChip(finding) {
    const name = this.index?.findingByKey.get(finding)?.name ?? finding.replaceAll('_', ' ');
    return h(
      'button',
      { type: 'button', class: 'chip', title: this.say('drop_finding'), onclick: () => this.choose(this.region, null) },
      this.say('finding', { finding: name }),
      h('span', { 'aria-hidden': 'true' }, ' ×')
    );
  }
}

/** A finding that was typed as absent asks for nothing. @param {{concept: string, present: boolean} | null} finding */
function affirmed(finding) {
  return finding?.present ? finding.concept : null;
}
