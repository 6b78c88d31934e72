/**
 * The answer as it arrives: the number of cases, notices about them, the list, and the actions below it.
 * @typedef {import('./types.js').Head} Head
 * @typedef {import('./types.js').Case} Case
 * @typedef {import('./types.js').Study} Study
 * @typedef {{verdict: 'UP' | 'DOWN', reason: string}} Verdict
 */
import { CaseCard } from './case-card.js';
import { h } from './dom.js';
import { answerNotices } from './notices.js';

/**
 * @typedef {object} Actions
 * @property {(found: Case) => void} open
 * @property {(found: Case) => Promise<string>} copy
 * @property {(found: Case, verdict: 'UP' | 'DOWN' | '', reason: string) => Promise<void>} judge
 * @property {() => void} more
 * @property {(region: string, finding: string | null) => void} ask something else, by keys
 * @property {() => (() => void) | null} reset takes the filters away; null where there are none
 * @property {(show: (words: string) => boolean) => Promise<string>} save resolves to what happened, in words
 */

export class Answer {
  /**
   * @param {object} options
   * @param {import('./strings.js').Say} options.say
   * @param {(path: string | null) => string} options.url
   * @param {string} options.language
   * @param {Actions} options.actions
   */
  constructor({ say, url, language, actions }) {
    this.say = say;
    this.url = url;
    this.language = language;
    this.actions = actions;
    /** @type {Head | null} */
    this.head = null;
    /** @type {Map<number, CaseCard>} by rank */
    this.cards = new Map();
    this.count = h('p', { class: 'count', role: 'status', 'aria-live': 'polite' });
    this.notes = h('div', { class: 'messages' });
    this.list = h('ol', { class: 'cases', 'aria-label': say('title') });
    this.foot = h('div', { class: 'foot' });
    this.list.addEventListener('keydown', (event) => this.walk(event));
  }

  get elements() {
    return [this.count, this.notes, this.list, this.foot];
  }

  /** The old answer stays until the new one begins. */
  wait() {
    this.list.setAttribute('aria-busy', 'true');
    this.list.classList.add('old');
    this.count.textContent = this.say('searching');
  }

  done() {
    this.list.setAttribute('aria-busy', 'false');
  }

  clear() {
    this.cards.clear();
    this.head = null;
    this.list.replaceChildren();
    this.list.classList.remove('old');
    this.notes.replaceChildren();
    this.foot.replaceChildren();
    this.count.textContent = '';
  }

  /** @param {Head} head @param {Study} study */
  begin(head, study) {
    this.clear();
    this.head = head;
    const values = { count: head.count, candidates: head.candidates };
    this.count.textContent = head.count ? this.say(head.finding === null ? 'found' : 'found_with_finding', values) : '';
    const { ask, reset } = this.actions;
    this.notes.replaceChildren(...answerNotices(head, { study, say: this.say, onAsk: ask, onReset: reset() }));
    this.showFoot(head);
  }

  /** @param {Case} found @param {Study} study @param {Verdict | undefined} judged what this reader said before */
  add(found, study, judged) {
    if (!this.head) return;
    const card = new CaseCard(found, {
      say: this.say,
      url: this.url,
      reports: study.shows.includes('report'),
      judged,
      actions: {
        open: () => this.actions.open(found),
        copy: () => this.actions.copy(found),
        judge: (verdict, reason) => this.actions.judge(found, verdict, reason),
      },
    });
    this.cards.set(found.rank, card);
    this.list.append(card.element);
    if (this.cards.size === 1) card.element.tabIndex = 0;
  }

  /** @param {Head} head */
  showFoot(head) {
    const say = this.say;
    const method = say(head.exact ? 'exact' : 'approximate');
    const time = new Date(head.as_of).toLocaleString(this.language);
    const saved = h('p', { class: 'said', role: 'status' });
    const save = h('button', { type: 'button', class: 'save', onclick: () => void this.save(save, saved) }, say('save'));
    const more = h('button', { type: 'button', onclick: this.actions.more }, say('more'));
    this.foot.replaceChildren(
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

  /** @param {HTMLButtonElement} button @param {HTMLElement} said */
  async save(button, said) {
    button.disabled = true;
    said.textContent = this.say('saving');
    said.textContent = await this.actions.save((words) => {
      said.textContent = words;
      return said.isConnected;
    });
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
}
