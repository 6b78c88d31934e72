/**
 * Our structured report as text, over the viewport in which OHIF was asked to show it: OHIF itself draws only the
 * outlines of a report. The text is the report's content tree (PS3.3 C.17.3), item by item.
 */
import { h } from './dom.js';
import { outlineSheet } from './frame-styles.js';
import { Overlay, cover } from './overlay.js';

const OURS = 'RadIR-PACS';
const TRACKING_IDENTIFIER = '112039';
const SAID = new Set(['CONTAINER', 'TEXT', 'NUM', 'CODE', 'DATE', 'DATETIME', 'TIME', 'PNAME']);

export class ReportViews extends Overlay {
  /** @param {any} services OHIF's */
  constructor(services) {
    super(services, outlineSheet, { id: 'radir-reports' });
    /** @type {Map<string, {uid: string, element: HTMLElement, again: HTMLElement}>} by viewport id */
    this.views = new Map();
  }

  /** Hide the reports; false if none was shown. */
  close() {
    const open = [...this.views.values()].filter(({ element }) => !element.hidden);
    open.forEach((view) => fold(view, true));
    return open.length > 0;
  }

  draw() {
    const { viewportGridService, displaySetService } = this.services;
    for (const [viewportId, viewport] of viewportGridService.getState().viewports) {
      const set = (viewport.displaySetInstanceUIDs ?? [])
        .map((/** @type {string} */ uid) => displaySetService.getDisplaySetByUID(uid))
        .find((/** @type {any} */ each) => each?.Modality === 'SR' && each.instance?.Manufacturer === OURS);
      const shown = this.views.get(viewportId);
      if (shown && shown.uid !== set?.displaySetInstanceUID) this.forget(viewportId);
      if (!set) continue;
      if (!this.views.has(viewportId)) this.open(viewportId, set);
      const pane = document.querySelector(`[data-viewportid="${CSS.escape(viewportId)}"]`);
      const view = this.views.get(viewportId);
      if (pane && view) place(view, pane.getBoundingClientRect());
    }
    for (const viewportId of this.views.keys()) {
      if (!viewportGridService.getState().viewports.has(viewportId)) this.forget(viewportId);
    }
  }

  /** @param {string} viewportId */
  forget(viewportId) {
    const view = this.views.get(viewportId);
    view?.element.remove();
    view?.again.remove();
    this.views.delete(viewportId);
  }

  /** @param {string} viewportId @param {any} set */
  open(viewportId, set) {
    const { instance } = set;
    const element = h(
      'section',
      { class: 'report', 'aria-label': this.say('report_title') },
      h(
        'header',
        {},
        h('h2', {}, this.say('report_title')),
        h('button', { type: 'button', onclick: () => fold(view, true) }, this.say('close'))
      ),
      h('div', { class: 'text', tabindex: 0 }, items(listOf(instance.ContentSequence)))
    );
    const again = h('button', { type: 'button', class: 'again', hidden: true, onclick: () => fold(view, false) }, this.say('report_title'));
    const view = { uid: set.displaySetInstanceUID, element, again };
    this.views.set(viewportId, view);
    this.root.append(element, again);
  }
}

/** Hide or show a report; while it is hidden, a button brings it back. @param {{element: HTMLElement, again: HTMLElement}} view @param {boolean} away */
function fold({ element, again }, away) {
  element.hidden = away;
  again.hidden = !away;
}

/** @param {{element: HTMLElement, again: HTMLElement}} view @param {DOMRect} box */
function place({ element, again }, box) {
  cover(element, box);
  again.style.setProperty('left', `${box.left + 8}px`);
  again.style.setProperty('top', `${box.top + 72}px`);
}

/** OHIF may give a sequence of one item as the item itself. @param {any} sequence @returns {any[]} */
function listOf(sequence) {
  if (!sequence) return [];
  return Array.isArray(sequence) ? sequence : [sequence];
}

/** @param {any[]} sequence @returns {HTMLElement} */
function items(sequence) {
  const said = sequence.filter((item) => SAID.has(item.ValueType));
  return h(
    'ul',
    {},
    ...said.map((item) => {
      const below = listOf(item.ContentSequence);
      const name = trackingOf(below) || meaningOf(item.ConceptNameCodeSequence);
      const value = valueOf(item);
      return h('li', {}, name ? h('b', {}, value ? `${name}: ` : name) : null, h('bdi', {}, value), below.length ? items(below) : null);
    })
  );
}

/** The tracking identifier (TID 1501) by which a group is known, "" where it has none. @param {any[]} sequence */
function trackingOf(sequence) {
  const item = sequence.find((each) => listOf(each.ConceptNameCodeSequence)[0]?.CodeValue === TRACKING_IDENTIFIER);
  return String(item?.TextValue ?? '');
}

/** What a content item says, without its name. @param {any} item @returns {string} */
function valueOf(item) {
  const [measured] = listOf(item.MeasuredValueSequence);
  switch (item.ValueType) {
    case 'CODE':
      return meaningOf(item.ConceptCodeSequence);
    case 'NUM':
      return measured ? `${measured.NumericValue} ${unitOf(measured)}`.trim() : '';
    case 'PNAME':
      return String(item.PersonName?.Alphabetic ?? item.PersonName ?? '');
    default:
      return String(item.TextValue ?? item.Date ?? item.DateTime ?? item.Time ?? '');
  }
}

/** @param {any} measured */
function unitOf(measured) {
  const [unit] = listOf(measured.MeasurementUnitsCodeSequence);
  return !unit || unit.CodeValue === '1' || unit.CodeValue?.startsWith('{') ? '' : unit.CodeValue;
}

/** @param {any} sequence */
function meaningOf(sequence) {
  return String(listOf(sequence)[0]?.CodeMeaning ?? '');
}
