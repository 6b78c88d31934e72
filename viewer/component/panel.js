/**
 * The panel for one study: it looks up the study's state, asks, and shows the answer as it arrives.
 * @typedef {import('./types.js').Study} Study
 * @typedef {import('./types.js').Case} Case
 */
import { Answer } from './answer.js';
import { Api, ApiError } from './api.js';
import { pictured } from './case-card.js';
import { compareDialog } from './compare.js';
import { h } from './dom.js';
import { failureNotice, isUnderWay, notice, studyNotice, unknownRegionNotice } from './notices.js';
import { Question } from './question.js';
import { readerName } from './reader.js';
import { saveReport } from './save.js';
import { languageOf, sayIn } from './strings.js';

const PAGE = 10;
const POLL_S = 2;
const LONGEST_PAUSE_S = 32;

export class Panel {
  /** @param {HTMLElement} host the element whose attributes say what to show, and which dispatches our events @param {string} base */
  constructor(host, base) {
    this.host = host;
    this.studyUid = host.getAttribute('study') ?? '';
    const language = languageOf(host.getAttribute('lang'));
    this.say = sayIn(language);
    this.server = new Api(base, language, host.hasAttribute('link'));
    /** @type {Study | null} */
    this.study = null;
    this.limit = PAGE;
    this.pause_s = POLL_S;
    this.timer = 0;
    this.loading = new AbortController();
    this.asking = new AbortController();
    /** @type {Map<string, import('./answer.js').Verdict>} by case and region */
    this.judged = new Map();
    this.who = h('p', { class: 'patient', hidden: true });
    this.image = h('figure', { class: 'read', hidden: true });
    this.state = h('div', { class: 'state' });
    this.question = new Question({
      say: this.say,
      server: this.server,
      region: host.getAttribute('region') ?? '',
      onChange: () => this.again(),
      onUnread: (error, text) => this.unread(error, text),
    });
    this.answer = new Answer({
      say: this.say,
      url: (path) => this.server.url(path),
      language,
      actions: {
        open: (found) => this.open(found),
        copy: (found) => this.copy(found),
        judge: (found, verdict, reason) => this.judge(found, verdict, reason),
        more: () => this.showMore(),
        ask: (region, finding) => this.question.choose(region, finding),
        reset: () => this.question.filters.reset,
        save: (show) => saveReport(this.server, this.studyUid, this.query, this.say, show),
      },
    });
    const title = this.say('title');
    this.element = h(
      'section',
      { class: host.hasAttribute('standalone') ? 'panel alone' : 'panel', lang: language, 'aria-label': title },
      h('header', { class: 'top' }, h('h2', {}, title), h('p', { class: 'quiet' }, this.say('decision_support'))),
      this.who,
      this.image,
      this.question.element,
      this.state,
      ...this.answer.elements
    );
  }

  stop() {
    clearTimeout(this.timer);
    this.loading.abort();
    this.asking.abort();
  }

  /** The study's state, then its cases or, while it is being processed, another look in a moment. */
  async load() {
    clearTimeout(this.timer);
    this.loading.abort();
    this.loading = new AbortController();
    const { signal } = this.loading;
    if (!this.studyUid) {
      this.put(notice({ tone: 'info', text: this.say('state_no_study') }));
      return;
    }
    if (!this.study) this.put(notice({ tone: 'busy', text: this.say('state_loading') }));
    try {
      const study = await this.server.study(this.studyUid, signal);
      this.pause_s = POLL_S;
      this.study = study;
      this.showPatient(study);
      const why = studyNotice(study, this.say);
      this.put(why);
      if (why && isUnderWay(study)) this.later(POLL_S);
      if (!why) await this.begin(study, signal);
    } catch (error) {
      this.failed(error, () => void this.load());
    }
  }

  /** @param {Study} study @param {AbortSignal} signal */
  async begin(study, signal) {
    await this.question.fit(study);
    const before = await this.server.judged(study.study, readerName()).catch(() => []);
    if (signal.aborted) return;
    this.judged = new Map(before.map((row) => [`${row.case} ${row.region}`, row]));
    await this.ask();
  }

  again() {
    this.limit = PAGE;
    void this.ask();
  }

  showMore() {
    this.limit += PAGE;
    void this.ask();
  }

  get query() {
    return this.question.query(this.limit);
  }

  /** Ask, and show each line of the answer as it arrives. */
  async ask() {
    this.asking.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    const { question, answer, study } = this;
    if (!study) return;
    question.show();
    answer.wait();
    try {
      for await (const line of this.server.similar(this.studyUid, this.query, signal)) {
        if (line.type === 'head') this.begun(line, study);
        else if (line.type === 'case') answer.add(line, study, this.judged.get(`${line.study} ${answer.head?.region_answered.key}`));
        else if (line.type === 'excerpt') answer.cards.get(line.rank)?.showExcerpt(line);
      }
      this.put(null);
      answer.done();
      const cases = [...answer.cards.values()].map(({ found }) => detailOf(found));
      this.host.dispatchEvent(new CustomEvent('radir-answered', { detail: { count: cases.length, cases } }));
    } catch (error) {
      if (signal.aborted) return;
      answer.clear();
      if (error instanceof ApiError && ['not_ready', 'skipped', 'quarantined'].includes(error.code)) void this.load();
      else this.failed(error, () => void this.ask());
    }
  }

  /** @param {import('./types.js').Head} head @param {Study} study */
  begun(head, study) {
    this.answer.begin(head, study);
    this.showImage(head);
    const { region_asked: asked, query } = head;
    this.host.dispatchEvent(new CustomEvent('radir-asked', { detail: { region: asked, study: study.study, ...query } }));
  }

  /** On the stand-alone page nothing else shows the study that is being read. @param {import('./types.js').Head} head */
  showImage(head) {
    if (!this.host.hasAttribute('standalone')) return;
    this.image.hidden = !head.query.picture;
    this.image.replaceChildren(
      pictured(this.server.url(head.query.picture), head.query.outlines, this.say('picture_of_study'), this.say),
      h('figcaption', {}, this.say('current_study'))
    );
  }

  /** What was typed names nothing: the nearest names are offered. @param {unknown} error @param {string} text */
  unread(error, text) {
    if (!(error instanceof ApiError) || error.code !== 'unknown_region') {
      this.failed(error, () => void this.question.typed(text));
      return;
    }
    this.answer.clear();
    this.put(unknownRegionNotice(text, error.nearest, this.say, (name) => void this.question.typed(name)));
  }

  /** @param {Case} found */
  open(found) {
    const { head } = this.answer;
    if (!head) return;
    const { study, series, instance, reference, region } = found;
    const asked = new CustomEvent('radir-open', { detail: detailOf(found), bubbles: true, composed: true, cancelable: true });
    if (!this.host.dispatchEvent(asked)) return;
    const both = new URLSearchParams({
      StudyInstanceUIDs: this.studyUid,
      beside: [study, series, instance, reference, head.region_asked.key].join(),
    });
    const sides = {
      current: { case: this.studyUid, series: head.query.series, region: region.key },
      other: { case: study, series, region: region.key },
    };
    const dialog = compareDialog({
      found,
      say: this.say,
      url: (path) => this.server.url(path),
      slices: (side) => this.server.slices(this.studyUid, sides[side]),
      viewer: this.study?.ohif ? this.server.url(`/ohif/viewer?${both}`) : null,
    });
    this.element.append(dialog);
    dialog.showModal();
  }

  /** @param {Case} found @returns {Promise<string>} */
  async copy(found) {
    const { head } = this.answer;
    const text = [found.reference, head?.region_answered.name, found.score.toFixed(3), head?.model].join(' · ');
    await navigator.clipboard?.writeText(text).catch(() => {}); // refused: the text is shown, and can be selected
    return text;
  }

  /** @param {Case} found @param {'UP' | 'DOWN' | ''} verdict @param {string} reason */
  async judge(found, verdict, reason) {
    const { head } = this.answer;
    if (!head) return;
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

  /** @param {Study} study */
  showPatient(study) {
    if (!this.host.hasAttribute('standalone')) return;
    this.who.hidden = !study.patient;
    this.who.replaceChildren(h('b', {}, this.say('patient')), ' ', h('bdi', {}, written(study.patient ?? '')));
  }

  /** The study may be out of scope: whoever may open it with a reason is led to the page that asks for one. */
  async offerEmergency() {
    const may = await this.server.mayAskInEmergency().catch(() => false);
    if (!may || this.loading.signal.aborted) return;
    const href = `${this.server.url('/emergency')}?${new URLSearchParams({ study: this.studyUid })}`;
    const link = h('a', { href, target: '_blank', rel: 'noopener' }, this.say('emergency_open'));
    this.state.append(notice({ tone: 'info', text: this.say('emergency'), more: [link] }));
  }

  /** @param {HTMLElement | null} shown */
  put(shown) {
    this.state.replaceChildren(...(shown ? [shown] : []));
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
    this.answer.clear();
    this.answer.done();
    this.question.element.hidden = true;
    this.put(failureNotice(known, this.say, { retry, seconds: this.pause_s }));
    if (known.code === 'not_found') void this.offerEmergency();
    if (known.code === 'down') {
      this.later(this.pause_s);
      this.pause_s = Math.min(this.pause_s * 2, LONGEST_PAUSE_S);
    }
  }
}

/** What a viewer is told of a case: the image that shows the region, its window and outlines, and the current study's. @param {Case} found */
function detailOf({ study, series, instance, reference, region, window, stored_outlines, query }) {
  return { study, series, instance, reference, region: region.name, window, outlines: stored_outlines, current: query };
}

/** A person name (PS3.5 6.2.1.2) as people write it: family name, then the rest. @param {string} name */
function written(name) {
  const [family, ...rest] = name.split('=')[0].split('^');
  const given = rest.filter(Boolean).join(' ');
  return given ? `${family}, ${given}` : name;
}
