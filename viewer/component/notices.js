/**
 * What the panel says when there is no list to show: each state has a title, a reason and, where possible, a way out.
 * @typedef {import('./types.js').Study} Study
 * @typedef {import('./strings.js').Say} Say
 */
import { h } from './dom.js';

/**
 * @param {object} content
 * @param {'busy' | 'info' | 'warning' | 'error'} content.tone
 * @param {string} [content.title]
 * @param {string} content.text
 * @param {string} [content.hint]
 * @param {(Node | null)[]} [content.more]
 */
export function notice({ tone, title, text, hint, more = [] }) {
  return h(
    'div',
    { class: `notice ${tone}`, role: tone === 'error' ? 'alert' : 'status' },
    title ? h('h3', {}, title) : null,
    h('p', {}, h('bdi', {}, text)),
    ...more,
    hint ? h('p', { class: 'quiet' }, hint) : null
  );
}

/** Why a study cannot be asked about; null if it can. @param {Study} study @param {Say} say */
export function studyNotice(study, say) {
  const reason = say('state_skipped', { reason: study.reason ?? '' });
  if (study.state === 'SKIPPED') {
    return notice({ tone: 'info', title: say('state_title_skipped'), text: reason, hint: say('state_skipped_hint') });
  }
  if (study.state === 'QUARANTINED') {
    return notice({ tone: 'warning', title: say('state_title_quarantined'), text: reason, hint: say('state_quarantined_hint') });
  }
  if (study.failed) {
    return notice({ tone: 'warning', title: say('state_title_quarantined'), text: reason, hint: say('state_quarantined_hint') });
  }
  if (study.replaced) return notice({ tone: 'busy', title: say('state_title_replaced'), text: say('state_replaced'), hint: say('state_encoding_hint') });
  if (study.kinds.length) return null;
  const step = study.step ?? 1;
  const words = say('step', { step, steps: study.steps });
  return notice({
    tone: 'busy',
    title: say('state_title_encoding'),
    text: progressText(study, say),
    hint: say('state_encoding_hint'),
    more: [h('progress', { value: step, max: study.steps, 'aria-label': words }, words)],
  });
}

/** Whether the study will change by itself. @param {Study} study */
export function isUnderWay(study) {
  return study.replaced || ['RECEIVING', 'STABLE', 'ENCODED'].includes(study.state);
}

/** @param {Study} study @param {Say} say */
function progressText(study, say) {
  if (study.state === 'RECEIVING') return say('state_receiving', { instances: study.instances });
  if (study.state === 'STABLE' && study.jobs_before) return say('state_waiting', { count: study.jobs_before });
  return say(study.state === 'STABLE' ? 'state_stable' : 'state_encoded');
}

/**
 * A failure, with a button to try again where that can help.
 * @param {{code: string, message: string}} error
 * @param {Say} say
 * @param {object} options
 * @param {() => void} options.retry
 * @param {number} options.seconds until the next try by itself
 */
export function failureNotice(error, say, { retry, seconds }) {
  const again = h('button', { type: 'button', onclick: retry }, say('retry'));
  if (error.code === 'down') {
    return notice({ tone: 'error', title: say('state_title_down'), text: say('state_down', { seconds }), more: [again] });
  }
  if (error.code === 'forbidden') {
    return notice({ tone: 'warning', title: say('state_title_forbidden'), text: say('state_forbidden') });
  }
  if (error.code === 'not_found') {
    return notice({ tone: 'info', title: say('state_title_not_found'), text: say('state_not_found'), more: [again] });
  }
  return notice({ tone: 'error', title: say('state_title_failed'), text: error.message, more: [again] });
}

/**
 * Notices to read before looking at the cases; where no case answers, what to ask instead.
 * @param {import('./types.js').Head} head
 * @param {object} options
 * @param {Study} options.study
 * @param {Say} options.say
 * @param {(region: string, finding: string | null) => void} options.onAsk something else is asked, by keys
 * @param {(() => void) | null} options.onReset removes the filters; null if there are none
 */
export function answerNotices(head, { study, say, onAsk, onReset }) {
  const shown = head.notices.map(({ text }) => notice({ tone: 'warning', text }));
  if (!study.report) shown.push(notice({ tone: 'info', text: say('no_query_report') }));
  if (!head.count) shown.push(nothingNotice(head, { say, onAsk, onReset }));
  return shown;
}

/**
 * @param {import('./types.js').Head} head
 * @param {object} options
 * @param {Say} options.say
 * @param {(region: string, finding: string | null) => void} options.onAsk
 * @param {(() => void) | null} options.onReset
 */
function nothingNotice(head, { say, onAsk, onReset }) {
  const text = say(head.finding === null ? 'nothing' : 'nothing_with_finding');
  const offers = head.offers.map(({ region, finding, candidates }) => {
    const words = finding ? `${finding.name} · ${region.name}` : say(head.finding ? 'offer_without' : 'offer_region', { region: region.name });
    const ask = () => onAsk(region.key, finding?.key ?? null);
    return h('button', { type: 'button', class: 'chip', onclick: ask }, words, h('small', {}, ` (${candidates})`));
  });
  if (onReset) offers.push(h('button', { type: 'button', class: 'chip', onclick: onReset }, say('offer_unfiltered')));
  if (!offers.length) return notice({ tone: 'info', text, hint: say('nothing_hint') });
  return notice({ tone: 'info', text, more: [h('p', { class: 'instead' }, say('instead')), h('div', { class: 'chips' }, ...offers)] });
}

/**
 * Words that name no region, with the nearest names to choose from.
 * @param {string} text
 * @param {string[]} nearest
 * @param {Say} say
 * @param {(name: string) => void} onChoose
 */
export function unknownRegionNotice(text, nearest, say, onChoose) {
  const offers = nearest.map((name) => h('button', { type: 'button', class: 'chip', onclick: () => onChoose(name) }, name));
  const more = offers.length ? [h('p', {}, say('did_you_mean'), ' ', ...offers)] : [];
  return notice({ tone: 'warning', text: say('unknown_region', { text }), more });
}
