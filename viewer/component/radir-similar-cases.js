/**
 * `<radir-similar-cases study="1.2.3">`: the cases most like a study, beside whatever viewer shows it.
 *
 * Attributes: `study` (Study Instance UID), `region` (name or key to begin with), `lang`, `base` (what stands before
 * /api and /dicom-web; by default where this module was loaded from), `standalone` (a page of its own).
 * Events: `radir-open`, cancelable, detail {study, series, instance, reference, region}: a case is to be shown beside
 * the current study. A viewer that does so calls preventDefault(); else the component shows both pictures itself.
 *
 * @typedef {import('./types.js').Study} Study
 * @typedef {import('./types.js').Case} Case
 * @typedef {import('./types.js').Head} Head
 */
import { Api, ApiError } from './api.js';
import { CaseCard } from './case-card.js';
import { compareDialog } from './compare.js';
import { h } from './dom.js';
import { addFilters, FilterForm } from './filters.js';
import { failureNotice, isUnderWay, notice, studyNotice } from './notices.js';
import { RegionIndex } from './region-index.js';
import { RegionPicker } from './region-picker.js';
import { languageOf, regionNames, sayIn } from './strings.js';
import { sheet } from './styles.js';

const HERE = new URL('..', import.meta.url).pathname.replace(/\/$/, '');
const PAGE = 10;
const POLL_S = 2;
const LONGEST_PAUSE_S = 32;
const READER = 'radir-reader';

export class RadirSimilarCases extends HTMLElement {
  static observedAttributes = ['study', 'region', 'lang', 'base'];

  constructor() {
    super();
    this.root = this.attachShadow({ mode: 'open' });
    this.root.adoptedStyleSheets = [sheet];
    /** @type {Study | null} */
    this.study = null;
    /** @type {Head | null} */
    this.head = null;
    this.region = 'chest';
    /** @type {string | null} */
    this.finding = null;
    this.kind = '';
    this.limit = PAGE;
    /** @type {Map<number, CaseCard>} */
    this.cards = new Map();
    /** @type {Map<string, {verdict: 'UP' | 'DOWN', reason: string}>} */
    this.judged = new Map();
    this.loading = new AbortController();
    this.asking = new AbortController();
    this.pause_s = POLL_S;
    this.timer = 0;
    this.queued = false;
  }

  connectedCallback() {
    this.restart();
  }

  disconnectedCallback() {
    this.stop();
  }

  attributeChangedCallback() {
    if (!this.isConnected || this.queued) return;
    this.queued = true; // several attributes set at once are one change
    queueMicrotask(() => {
      this.queued = false;
      if (this.isConnected) this.restart();
    });
  }

  get studyUid() {
    return this.getAttribute('study') ?? '';
  }

  stop() {
    clearTimeout(this.timer);
    this.loading.abort();
    this.asking.abort();
  }

  /** Everything anew for the attributes as they are. */
  restart() {
    this.stop();
    const language = languageOf(this.getAttribute('lang'));
    this.say = sayIn(language);
    this.nameOf = regionNames(language);
    this.api = new Api(this.getAttribute('base') ?? HERE);
    this.region = this.getAttribute('region') || 'chest';
    this.finding = null;
    this.study = null;
    this.head = null;
    this.kind = '';
    this.limit = PAGE;
    this.pause_s = POLL_S;
    this.build(language);
    void this.load();
  }

  /** @param {string} language */
  build(language) {
    const say = this.said;
    this.picker = new RegionPicker({
      say,
      nameOf: this.named,
      onPick: (region) => this.choose(region.key, null),
      onTyped: (text) => void this.typed(text),
    });
    this.filters = new FilterForm(say, () => this.again());
    this.who = h('p', { class: 'patient', hidden: true });
    this.kinds = h('div', { class: 'kinds', role: 'group', 'aria-label': say('kind'), hidden: true });
    this.chosen = h('p', { class: 'chosen' });
    this.controls = h('div', { class: 'controls', hidden: true }, this.kinds, this.picker.element, this.chosen, this.filters.element);
    this.state = h('div', { class: 'state' });
    this.count = h('p', { class: 'count', role: 'status', 'aria-live': 'polite' });
    this.notes = h('div', { class: 'messages' });
    this.list = h('ol', { class: 'cases', 'aria-label': say('title') });
    this.foot = h('div', { class: 'foot' });
    this.list.addEventListener('keydown', (event) => this.walk(event));
    this.root.replaceChildren(
      h(
        'section',
        { class: 'panel', lang: language, 'aria-label': say('title') },
        h('header', { class: 'top' }, h('h2', {}, say('title')), h('p', { class: 'quiet' }, say('decision_support'))),
        this.who,
        this.controls,
        this.state,
        this.count,
        this.notes,
        this.list,
        this.foot
      )
    );
  }

  /** The study's state, then the cases or, while it is on its way, another look in a moment. */
  async load() {
    clearTimeout(this.timer);
    this.loading.abort();
    this.loading = new AbortController();
    const { signal } = this.loading;
    const say = this.said;
    if (!this.studyUid) {
      this.put(notice({ tone: 'info', text: say('state_no_study') }));
      return;
    }
    if (!this.study) this.put(notice({ tone: 'busy', text: say('state_loading') }));
    try {
      const study = await this.server.study(this.studyUid, signal);
      this.pause_s = POLL_S;
      this.study = study;
      this.showPatient(study);
      const why = studyNotice(study, say);
      this.put(why);
      if (why && isUnderWay(study)) this.later(POLL_S);
      if (!why) await this.begin(study, signal);
    } catch (error) {
      this.failed(error, () => void this.load());
    }
  }

  /** @param {Study} study @param {AbortSignal} signal */
  async begin(study, signal) {
    this.kind = study.kinds.includes(this.kind) ? this.kind : study.kinds[0];
    await this.showKind(study);
    const before = await this.server.judged(study.study, readerName()).catch(() => []);
    if (signal.aborted) return;
    this.judged = new Map(before.map((row) => [`${row.case} ${row.region}`, row]));
    await this.ask();
  }

  /** @param {Study} study */
  async showKind(study) {
    const index = new RegionIndex(await this.server.regions(this.kind));
    this.index = index;
    if (!index.byKey.has(this.region)) await this.resolveRegion();
    this.kinds?.replaceChildren(
      ...study.kinds.map((kind) =>
        h(
          'button',
          {
            type: 'button',
            'aria-pressed': String(kind === this.kind),
            onclick: () => {
              this.kind = kind;
              void this.showKind(study).then(() => this.again());
            },
          },
          this.said(kind === 'CT' ? 'kind_CT' : 'kind_CXR')
        )
      )
    );
    if (this.kinds) this.kinds.hidden = study.kinds.length < 2;
    if (this.controls) this.controls.hidden = false;
    this.picker?.show(index, this.kind, this.region);
  }

  /** The `region` attribute may be a name, or more: what it means, the server knows. */
  async resolveRegion() {
    try {
      const read = await this.server.typed(this.region, this.kind);
      this.region = read.region;
      this.finding = affirmed(read.finding);
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== 'unknown_region') throw error;
      this.region = 'chest';
    }
  }

  /** @param {string} text */
  async typed(text) {
    try {
      const read = await this.server.typed(text, this.kind);
      this.choose(read.region, affirmed(read.finding));
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== 'unknown_region') {
        this.failed(error, () => void this.typed(text));
        return;
      }
      this.clearAnswer();
      const offers = error.nearest.map((name) =>
        h('button', { type: 'button', class: 'chip', onclick: () => void this.typed(name) }, name)
      );
      const more = offers.length ? [h('p', {}, this.said('did_you_mean'), ' ', ...offers)] : [];
      this.put(notice({ tone: 'warning', text: this.said('unknown_region', { text }), more }));
    }
  }

  /** @param {string} key @param {string | null} finding a concept that the cases' reports must affirm */
  choose(key, finding) {
    this.region = key;
    this.finding = finding;
    this.again();
  }

  again() {
    this.limit = PAGE;
    void this.ask();
  }

  get query() {
    const query = new URLSearchParams({ anatomy: this.region, limit: String(this.limit) });
    if (this.finding) query.set('finding', this.finding);
    if (this.filters) addFilters(this.filters.value, query);
    if (this.study && this.study.kinds.length > 1 && !query.has('ModalitiesInStudy')) {
      query.set('ModalitiesInStudy', this.kind === 'CT' ? 'CT' : 'DX,CR');
    }
    return query;
  }

  /** Ask, and show each line of the answer as it comes. */
  async ask() {
    this.asking.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    this.showChosen();
    if (this.index) this.picker?.show(this.index, this.kind, this.region);
    this.list?.setAttribute('aria-busy', 'true');
    if (this.count) this.count.textContent = this.said('searching');
    try {
      let fresh = true;
      for await (const line of this.server.similar(this.studyUid, this.query, signal)) {
        if (fresh) this.clearAnswer(); // the old answer stays until the new one begins
        fresh = false;
        if (line.type === 'head') this.showHead(line);
        else if (line.type === 'case') this.showCase(line);
        else if (line.type === 'excerpt') this.cards.get(line.rank)?.showExcerpt(line);
      }
      this.put(null);
      this.list?.setAttribute('aria-busy', 'false');
      this.dispatchEvent(new CustomEvent('radir-answered', { detail: { count: this.cards.size } }));
    } catch (error) {
      if (signal.aborted) return;
      this.clearAnswer();
      if (error instanceof ApiError && ['not_ready', 'skipped', 'quarantined'].includes(error.code)) void this.load();
      else this.failed(error, () => void this.ask());
    }
  }

  clearAnswer() {
    this.cards.clear();
    this.head = null;
    this.list?.replaceChildren();
    this.notes?.replaceChildren();
    this.foot?.replaceChildren();
    if (this.count) this.count.textContent = '';
  }

  /** @param {Head} head */
  showHead(head) {
    this.head = head;
    const say = this.said;
    const values = { count: head.count, candidates: head.candidates };
    if (this.count) this.count.textContent = head.count ? say(head.finding === null ? 'found' : 'found_with_finding', values) : '';
    const messages = [];
    if (head.region_answered.key !== head.region_asked.key) {
      const names = { asked: this.named(head.region_asked), answered: this.named(head.region_answered) };
      const known = this.index?.byKey.get(head.region_asked.key)?.trained;
      messages.push(notice({ tone: 'warning', text: say(known ? 'fallback' : 'fallback_unknown', names) }));
    } else {
      messages.push(...head.warnings.map((text) => notice({ tone: 'warning', text })));
    }
    if (!this.study?.report) messages.push(notice({ tone: 'info', text: say('no_query_report') }));
    if (!head.count) {
      const text = say(head.finding === null ? 'nothing' : 'nothing_with_finding');
      messages.push(notice({ tone: 'info', text, hint: say('nothing_hint') }));
    }
    this.notes?.replaceChildren(...messages);
    this.showFoot(head);
  }

  /** @param {Head} head */
  showFoot(head) {
    const say = this.said;
    const method = say(head.exact ? 'exact' : 'approximate');
    const time = new Date(head.as_of).toLocaleString(this.getAttribute('lang') ?? undefined);
    const saved = h('p', { class: 'said', role: 'status' });
    const save = h('button', { type: 'button', class: 'save', onclick: () => void this.save(save, saved) }, say('save'));
    const more = h('button', { type: 'button', onclick: () => this.showMore() }, say('more'));
    this.foot?.replaceChildren(
      ...(head.count && head.count < head.candidates ? [more] : []),
      ...(head.count ? [save, saved] : []),
      h(
        'details',
        { class: 'meaning' },
        h('summary', {}, say('score_help')),
        h('p', {}, say('score_meaning')),
        h('p', { class: 'quiet' }, say('score_provenance', { model: head.model, method, time }))
      )
    );
  }

  showMore() {
    this.limit += PAGE;
    void this.ask();
  }

  /** @param {Case} found */
  showCase(found) {
    const head = this.head;
    if (!head || !this.list) return;
    const card = new CaseCard(found, {
      say: this.said,
      region: this.named(head.region_answered),
      url: (path) => this.server.url(path),
      reports: this.study?.shows.includes('report') ?? false,
      judged: this.judged.get(`${found.study} ${head.region_answered.key}`),
      actions: {
        open: () => this.open(found),
        copy: () => this.copy(found),
        judge: (verdict, reason) => this.judge(found, head, verdict, reason),
      },
    });
    this.cards.set(found.rank, card);
    this.list.append(card.element);
    if (this.cards.size === 1) card.element.tabIndex = 0;
  }

  /** @param {Case} found */
  open(found) {
    const region = this.head ? this.named(this.head.region_answered) : '';
    const { study, series, instance, reference } = found;
    const asked = new CustomEvent('radir-open', {
      detail: { study, series, instance, reference, region },
      bubbles: true,
      composed: true,
      cancelable: true,
    });
    if (!this.dispatchEvent(asked) || !this.head) return;
    const both = `StudyInstanceUIDs=${this.studyUid}&StudyInstanceUIDs=${study}`;
    const dialog = compareDialog({
      found,
      region,
      say: this.said,
      url: (path) => this.server.url(path),
      current: this.head.query,
      viewer: this.study?.ohif ? this.server.url(`/ohif/viewer?${both}`) : null,
    });
    this.root.append(dialog);
    dialog.showModal();
  }

  /** @param {Case} found */
  async copy(found) {
    const text = [found.reference, this.head?.region_answered.name, found.score.toFixed(3), this.head?.model].join(' · ');
    await navigator.clipboard?.writeText(text).catch(() => {}); // refused: the text is shown, and can be selected
    return text;
  }

  /** @param {Case} found @param {Head} head @param {'UP' | 'DOWN' | ''} verdict @param {string} reason */
  async judge(found, head, verdict, reason) {
    await this.server.judge(this.studyUid, {
      case: found.study,
      region: head.region_answered.key,
      model: head.model,
      generation: head.generation,
      rank: found.rank,
      score: found.score,
      verdict,
      reason,
      reader: readerName(),
    });
    const key = `${found.study} ${head.region_answered.key}`;
    if (verdict) this.judged.set(key, { verdict, reason });
    else this.judged.delete(key);
  }

  /** @param {HTMLButtonElement} button @param {HTMLElement} said */
  async save(button, said) {
    const say = this.said;
    button.disabled = true;
    said.textContent = say('saving');
    try {
      const { destination, sent, status, error } = await this.server.save(this.studyUid, this.query);
      if (!destination) said.textContent = say('saved_here');
      else if (sent) said.textContent = say('saved_sent', { destination, status: status ?? '' });
      else said.textContent = say('saved_not_sent', { error: error ?? '' });
    } catch (error) {
      said.textContent = say('save_failed', { error: error instanceof Error ? error.message : '' });
    }
    button.disabled = false;
  }

  /** Arrow keys go from case to case, Home and End to the ends, Enter opens. @param {KeyboardEvent} event */
  walk(event) {
    const cards = [...this.cards.values()].map((card) => card.element);
    const path = event.composedPath();
    const at = cards.findIndex((card) => path.includes(card));
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === 'Enter' && path[0] === cards[at]) {
      event.preventDefault();
      this.cards.get(at + 1)?.actions.open();
      return;
    }
    const last = cards.length - 1;
    /** @type {Record<string, number>} */
    const targets = { ArrowDown: Math.min(at + 1, last), ArrowUp: Math.max(at - 1, 0), Home: 0, End: last };
    if (!(event.key in targets) || path[0] instanceof HTMLInputElement) return;
    event.preventDefault();
    cards.forEach((card, i) => (card.tabIndex = i === targets[event.key] ? 0 : -1));
    cards[targets[event.key]].focus();
  }

  /** @param {Study} study */
  showPatient(study) {
    if (!this.who || !this.hasAttribute('standalone')) return;
    this.who.hidden = !study.patient;
    this.who.replaceChildren(h('b', {}, this.said('patient')), ' ', h('bdi', {}, written(study.patient ?? '')));
  }

  showChosen() {
    const region = this.index?.byKey.get(this.region);
    const finding = this.finding;
    this.chosen?.replaceChildren(
      h('b', {}, this.said('region')),
      h('span', { class: 'chip strong' }, region ? this.named(region) : this.region),
      ...(finding
        ? [
            h(
              'button',
              { type: 'button', class: 'chip', title: this.said('drop_finding'), onclick: () => this.choose(this.region, null) },
              this.said('finding', { finding: finding.replaceAll('_', ' ') }),
              h('span', { 'aria-hidden': 'true' }, ' ×')
            ),
          ]
        : [])
    );
  }

  /** @param {HTMLElement | null} shown */
  put(shown) {
    this.state?.replaceChildren(...(shown ? [shown] : []));
  }

  /** @param {number} seconds */
  later(seconds) {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.load(), seconds * 1000);
  }

  /** @param {unknown} error @param {() => void} retry */
  failed(error, retry) {
    if (error instanceof DOMException && error.name === 'AbortError') return;
    const known = error instanceof ApiError ? error : new ApiError('failed', String(error));
    this.clearAnswer();
    this.list?.setAttribute('aria-busy', 'false');
    if (this.controls && known.code !== 'unknown_region') this.controls.hidden = true;
    this.put(failureNotice(known, this.said, { retry, seconds: this.pause_s }));
    if (known.code === 'down') {
      this.later(this.pause_s);
      this.pause_s = Math.min(this.pause_s * 2, LONGEST_PAUSE_S);
    }
  }

  get said() {
    if (!this.say) throw new Error('the panel is not connected');
    return this.say;
  }

  get named() {
    if (!this.nameOf) throw new Error('the panel is not connected');
    return this.nameOf;
  }

  get server() {
    if (!this.api) throw new Error('the panel is not connected');
    return this.api;
  }
}

/** A person name (PS3.5 6.2.1.2) as people write it: family name, then the rest. @param {string} name */
function written(name) {
  const [family, ...rest] = name.split('=')[0].split('^');
  const given = rest.filter(Boolean).join(' ');
  return given ? `${family}, ${given}` : name;
}

/** A finding that was typed as absent asks for nothing. @param {{concept: string, present: boolean} | null} finding */
function affirmed(finding) {
  return finding?.present ? finding.concept : null;
}

/** A random name for this browser, so that a reader's second thought replaces the first. */
function readerName() {
  try {
    const known = localStorage.getItem(READER) ?? crypto.randomUUID();
    localStorage.setItem(READER, known);
    return known;
  } catch {
    return 'anonymous'; // storage is switched off
  }
}

if (!customElements.get('radir-similar-cases')) customElements.define('radir-similar-cases', RadirSimilarCases);
