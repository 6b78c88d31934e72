/**
 * One similar case: its picture with the region outlined, why it is here, and what can be done with it.
 * @typedef {import('./types.js').Case} Case
 * @typedef {import('./types.js').Excerpt} Excerpt
 * @typedef {import('./types.js').Note} Note
 * @typedef {import('./strings.js').Say} Say
 */
import { h, pointsOf, spoken, svg } from './dom.js';

const HAND = 'M2 9h3v8H2zM7 9l3-7c1.6 0 2.3 1 2 2.5L11.5 7.5H16c1.2 0 1.9 1 1.7 2.1l-1.2 5.8C16.300 16.400 15.500 17 14.500 17H7z';

/**
 * @typedef {object} Actions
 * @property {() => void} open
 * @property {() => Promise<string>} copy resolves to what is on the clipboard now
 * @property {(verdict: 'UP' | 'DOWN' | '', reason: string) => Promise<void>} judge
 */

export class CaseCard {
  /**
   * @param {Case} found
   * @param {object} options
   * @param {Say} options.say
   * @param {(path: string | null) => string} options.url
   * @param {boolean} options.reports whether reports are shown here
   * @param {Actions} options.actions
   * @param {{verdict: 'UP' | 'DOWN', reason: string} | undefined} options.judged what this reader said before
   */
  constructor(found, { say, url, reports, actions, judged }) {
    this.found = found;
    this.say = say;
    this.actions = actions;
    /** @type {'UP' | 'DOWN' | ''} */
    this.verdict = judged?.verdict ?? '';
    const score = found.score.toFixed(3);
    this.excerptBox = h('div', { class: 'excerpt', 'aria-busy': String(reports) });
    this.status = h('p', { class: 'said', role: 'status' });
    this.up = this.thumb('UP', 'helpful');
    this.down = this.thumb('DOWN', 'not_helpful');
    this.reasonBox = h('div', { class: 'reason', hidden: true });
    this.element = h(
      'li',
      { class: 'case', tabindex: '-1', 'data-rank': found.rank, 'aria-label': say('case_label', { rank: found.rank, score }) },
      h(
        'button',
        { type: 'button', class: 'thumbnail', 'aria-label': say('open_label', { rank: found.rank }), onclick: actions.open },
        pictured(url(found.thumbnail), found.outlines, say('picture_of_case', { rank: found.rank, region: found.region.name }), say)
      ),
      h(
        'div',
        { class: 'about' },
        h(
          'p',
          { class: 'line' },
          h('span', { class: 'rank' }, h('span', { 'aria-hidden': 'true' }, String(found.rank)), spoken(say('rank', { rank: found.rank }))),
          meter(found.score),
          h('span', { class: 'score', title: say('score_meaning') }, score),
          ...found.modalities.map((modality) => h('span', { class: 'badge' }, modality))
        ),
        h('p', { class: 'who' }, this.who() || null),
        notes('shared', found.shared, say),
        notes('contradicting', found.contradicting, say),
        this.excerptBox,
        h(
          'div',
          { class: 'actions' },
          h('button', { type: 'button', class: 'primary', onclick: actions.open }, say('open')),
          h('button', { type: 'button', title: say('copy_label'), 'aria-label': say('copy_label'), onclick: () => this.copy() }, say('copy')),
          this.up,
          this.down
        ),
        this.reasonBox,
        this.status
      )
    );
    if (!reports) this.excerptBox.append(h('p', { class: 'quiet' }, say('report_not_shown')));
    this.showVerdict();
  }

  /** Age, sex and distance in time, as far as the server tells them. */
  who() {
    const { age, sex, days } = this.found;
    const said = [];
    if (sex === 'M' || sex === 'F' || sex === 'O') said.push(this.say(`sex_${sex}`));
    if (age !== null) said.push(this.say('years', { age: Math.floor(age) }));
    if (days !== null) said.push(offset(days, this.say));
    return said.join(' · ');
  }

  /** @param {Excerpt} excerpt */
  showExcerpt(excerpt) {
    this.excerptBox.setAttribute('aria-busy', 'false');
    if (excerpt.text === null) {
      this.excerptBox.replaceChildren(h('p', { class: 'quiet' }, this.say('no_report')));
      return;
    }
    const { text, marks, whole } = excerpt;
    this.excerptBox.replaceChildren(
      text
        ? h('blockquote', { 'aria-label': this.say('excerpt') }, marked({ text, marks }, this.say))
        : h('p', { class: 'quiet' }, this.say('report_silent'))
    );
    if (!whole || whole.text === text) return;
    this.excerptBox.append(
      h('details', { class: 'whole' }, h('summary', {}, this.say('whole_report')), h('blockquote', {}, marked(whole, this.say)))
    );
  }

  async copy() {
    this.status.textContent = this.say('copied', { text: await this.actions.copy() });
  }

  /** @param {'UP' | 'DOWN'} verdict @param {'helpful' | 'not_helpful'} key */
  thumb(verdict, key) {
    return h(
      'button',
      { type: 'button', class: 'thumb', title: this.say(key), 'aria-label': this.say(key), onclick: () => this.judge(verdict) },
      svg('svg', { viewBox: '0 0 20 20', class: verdict === 'UP' ? 'hand' : 'hand turned', 'aria-hidden': 'true' }, svg('path', { d: HAND }))
    );
  }

  /** @param {'UP' | 'DOWN'} verdict */
  async judge(verdict) {
    const before = this.verdict;
    this.verdict = before === verdict ? '' : verdict;
    this.showVerdict();
    try {
      await this.actions.judge(this.verdict, '');
    } catch (error) {
      this.verdict = before;
      this.showVerdict();
      this.status.textContent = this.say('save_failed', { error: error instanceof Error ? error.message : '' });
      return;
    }
    this.status.textContent = this.say(this.verdict ? 'kept' : 'withdrawn');
    this.askReason();
  }

  showVerdict() {
    this.up.setAttribute('aria-pressed', String(this.verdict === 'UP'));
    this.down.setAttribute('aria-pressed', String(this.verdict === 'DOWN'));
  }

  askReason() {
    this.reasonBox.hidden = !this.verdict;
    if (!this.verdict) return;
    const input = h('input', { type: 'text', maxlength: 500, 'aria-label': this.say('reason'), placeholder: this.say('reason') });
    const keep = async () => {
      try {
        await this.actions.judge(this.verdict, input.value.trim());
        this.status.textContent = this.say('kept');
        this.reasonBox.hidden = true;
      } catch (error) {
        this.status.textContent = this.say('save_failed', { error: error instanceof Error ? error.message : '' });
      }
    };
    input.addEventListener('keydown', (event) => event.key === 'Enter' && keep());
    this.reasonBox.replaceChildren(input, h('button', { type: 'button', onclick: keep }, this.say('reason_save')));
  }
}

/**
 * A picture with outlines over it; they are drawn in the picture's own box, whatever its proportions.
 * @param {string} source
 * @param {[number, number][][]} outlines
 * @param {string} label
 * @param {Say} say
 */
export function pictured(source, outlines, label, say) {
  const frame = h('span', { class: 'pictured' });
  const image = h('img', { src: source, alt: label, decoding: 'async', loading: 'lazy' });
  image.addEventListener('error', async () => {
    const missing = h('span', { class: 'missing' }, say('picture_missing'));
    frame.replaceChildren(missing);
    if (await isAway(image.src)) missing.textContent = say('picture_away');
  });
  const box = h('span', { class: 'fitted' }, image);
  image.addEventListener('load', () => box.classList.add('drawn')); // no outline without its picture
  if (outlines.length) {
    box.append(
      svg(
        'svg',
        { viewBox: '0 0 100 100', preserveAspectRatio: 'none', class: 'outline', 'aria-hidden': 'true' },
        ...outlines.map((outline) => svg('polygon', { points: pointsOf(outline), class: 'halo' })),
        ...outlines.map((outline) => svg('polygon', { points: pointsOf(outline) }))
      )
    );
  }
  frame.append(box);
  return frame;
}

/** Whether a picture that did not come is kept by a PACS that does not give it now. @param {string} source */
async function isAway(source) {
  try {
    const answer = await fetch(source);
    return answer.status === 503 && ['picture_away', 'blob_away'].includes((await answer.json()).error.code);
  } catch {
    return false;
  }
}

/** The score as a bar; the number stands beside it. @param {number} score */
function meter(score) {
  const width = Math.max(0, Math.min(1, score)) * 40;
  return svg(
    'svg',
    { viewBox: '0 0 40 6', class: 'meter', 'aria-hidden': 'true' },
    svg('rect', { x: 0, y: 0, width: 40, height: 6, rx: 3, class: 'track' }),
    svg('rect', { x: 0, y: 0, width: width.toFixed(2), height: 6, rx: 3 })
  );
}

/** @param {number} days @param {Say} say */
function offset(days, say) {
  const distance = Math.abs(days);
  if (!distance) return say('same_day');
  const side = days < 0 ? 'before' : 'after';
  if (distance < 60) return say(`days_${side}`, { days: distance });
  if (distance < 730) return say(`months_${side}`, { months: Math.round(distance / 30.44) });
  return say(`years_${side}`, { years: Math.round(distance / 365.25) });
}

/** @param {'shared' | 'contradicting'} kind @param {Note[]} found @param {Say} say */
function notes(kind, found, say) {
  const words = new Set(
    found.map((note) => {
      const concept = note.severity ? `${note.concept} (${note.severity})` : note.concept;
      return note.absent ? say('absent', { concept }) : concept;
    })
  );
  if (!words.size) return null;
  return h('p', { class: `notes ${kind}` }, h('b', {}, say(kind)), ...[...words].map((word) => h('span', { class: 'chip' }, word)));
}

/**
 * A report's text, verbatim, with its marks. Offsets count code points.
 * @param {{text: string, marks: import('./types.js').Mark[]}} said
 * @param {Say} say
 */
function marked(said, say) {
  const text = [...said.text];
  const whole = h('bdi', {});
  let at = 0;
  for (const { start, end, mark, absent } of [...said.marks].sort((a, b) => a.start - b.start)) {
    if (start < at) continue;
    whole.append(text.slice(at, start).join(''), h('mark', { class: mark, title: say(absent ? `${mark}_absent_mark` : `${mark}_mark`) }, text.slice(start, end).join('')));
    at = end;
  }
  whole.append(text.slice(at).join(''));
  return whole;
}
