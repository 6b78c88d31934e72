/**
 * The sidebar as an extension of an unmodified OHIF 3.13, loaded at run time by its URL (`window.config.extensions`).
 *
 * OHIF gives an extension its services but not React, so the panel is a single custom element: React renders its tag,
 * and everything else happens inside it.
 *
 * `/ohif/viewer?StudyInstanceUIDs=…&beside=study,series,instance,reference,region` opens a case beside the study: this
 * makes clear which of the two is being read, whereas OHIF treats all studies of its own parameter alike.
 */
import { Comparison, until } from './comparison.js';
import { OtherPatientFrames } from './other-patient.js';
import './radir-similar-cases.js';
import { RegionOutlines } from './region-outlines.js';
import { ReportViews } from './report-view.js';
import { languageOf, sayIn } from './strings.js';

const ID = 'radir.similar-cases';
const PANEL = `${ID}.panelModule.similarCases`;
const TAG = 'radir-similar-cases';
const WHOLE = 'chest';
const ANSWER_S = 8; // how long a linked case waits for the slice and window of its region
const BESIDE = /^[0-9.]{1,64},[0-9.]{1,64},[0-9.]{1,64},SC-[0-9A-F]{5}-[0-9A-F]{5}(,[a-z_]{1,64})?$/;

/** @typedef {import('./types.js').OpenedCase} OpenedCase */

/** @type {any} what OHIF gives to extensions: services, commands, data sources */
let ohif = null;
/** @type {OtherPatientFrames | null} */
let frames = null;
/** @type {Comparison | null} */
let comparison = null;
/** @type {RegionOutlines | null} */
let outlines = null;
/** @type {ReportViews | null} */
let reports = null;
/** Studies that were opened beside the current one, as similar cases. @type {Map<string, string>} */
const opened = new Map();
/** The study that is being read. */
let current = '';
/** The case to be opened beside it as soon as it is drawn. */
let beside = asked(new URLSearchParams(window.location.search).get('beside') ?? '');
/** The outlines on the current study for the answer on the screen. @type {[string, import('./region-outlines.js').Outline][]} */
let outlined = [];
/** @type {{unsubscribe: () => void}[]} */
let subscriptions = [];

/** The case that a link asks for, and the region; null where it is malformed. @param {string} text */
function asked(text) {
  if (!BESIDE.test(text)) return null;
  const [study, series, instance, reference, region] = text.split(',');
  return { study, series, instance, reference, region };
}

/** The browser's language: OHIF marks its page as English whatever language it speaks. */
const language = languageOf(null);
const say = sayIn(language);

/** A React 18 element, made without React. @param {string} type @param {Record<string, unknown>} props */
function reactElement(type, props) {
  return { $$typeof: Symbol.for('react.element'), type, key: null, ref: null, props, _owner: null, _store: {} };
}

/** The study in a viewport; the one in the active viewport without an id. @param {string} [viewportId] */
function studyIn(viewportId) {
  const { viewportGridService, displaySetService } = ohif.servicesManager.services;
  const { activeViewportId, viewports } = viewportGridService.getState();
  const viewport = viewports.get(viewportId ?? activeViewportId);
  const uid = viewport?.displaySetInstanceUIDs?.[0];
  return (uid && displaySetService.getDisplaySetByUID(uid)?.StudyInstanceUID) || '';
}

/** The panel follows the active viewport, but never to a study that is only shown for comparison. */
function follow() {
  const { displaySetService } = ohif.servicesManager.services;
  const active = studyIn() || displaySetService.getActiveDisplaySets()[0]?.StudyInstanceUID || '';
  if (!active || opened.has(active)) return;
  current = active;
  for (const panel of document.querySelectorAll(TAG)) {
    if (panel.getAttribute('study') !== current) panel.setAttribute('study', current);
  }
  if (beside && comparison?.displaySetShown(current)) {
    const { region, ...found } = beside;
    beside = null;
    void openLinked(found, region);
  }
}

/**
 * A link names a case; the panel's answer for the region tells which image and window to show. Where it is late, the
 * case is opened without it, and outlined when it comes.
 * @param {OpenedCase} found
 * @param {string | undefined} region
 */
async function openLinked(found, region) {
  const answer = answerWith(found.study, region);
  const told = await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, ANSWER_S * 1000))]);
  await openBeside(told ?? found);
  if (told) return;
  const late = await answer;
  if (comparison?.isOpen && comparison.beside === late.study) outlineBoth(late);
}

/** The case in the panel's answer for a region. @param {string} study @param {string | undefined} region @returns {Promise<OpenedCase>} */
function answerWith(study, region) {
  return new Promise((resolve) => {
    const heard = (/** @type {Event} */ event) => {
      const cases = /** @type {CustomEvent} */ (event).detail.cases;
      const found = cases.find((/** @type {OpenedCase} */ each) => each.study === study);
      if (!found) return;
      document.removeEventListener('radir-answered', heard, true);
      resolve(found);
    };
    document.addEventListener('radir-answered', heard, true); // it does not bubble
    const ask = () => document.querySelectorAll(TAG).forEach((panel) => panel.setAttribute('region', region ?? WHOLE));
    void until(() => document.querySelector(TAG)).then(ask, () => {});
  });
}

/** @param {OpenedCase} found */
function outlineBoth(found) {
  const { instance, region = '', current: own } = found;
  const sides = [...outlineOf(own?.instance, region, own?.stored_outlines), ...outlineOf(instance, region, found.outlines)];
  outlines?.show(new Map([...outlined, ...sides]));
}

/** @param {OpenedCase} found */
async function openBeside(found) {
  try {
    outlineBoth(found);
    await comparison?.open(found);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    ohif.servicesManager.services.uiNotificationService.show({ title: 'RadIR-PACS', message, type: 'error' });
  }
  frames?.draw();
}

/** An entry of the outlines; none where there is no outline. @param {string | null | undefined} instance @param {string} name @param {[number, number][][] | undefined} polygons @returns {[string, import('./region-outlines.js').Outline][]} */
function outlineOf(instance, name, polygons) {
  return instance && polygons?.length ? [[instance, { name, polygons }]] : [];
}

/** Another region is asked for: outline it on the current study, unless it is the whole chest. @param {Event} event */
function onAsked(event) {
  const { region, study, instance, stored_outlines } = /** @type {CustomEvent} */ (event).detail;
  outlined = region.key === WHOLE || study !== current ? [] : outlineOf(instance, region.name, stored_outlines);
  outlines?.show(new Map(outlined));
}

/** Escape closes suggestions and dialogs first, then a report, then the comparison. @param {KeyboardEvent} event */
function onKey(event) {
  if (event.key !== 'Escape' || event.defaultPrevented) return;
  const inList = event.composedPath().some((part) => part instanceof Element && part.getAttribute('aria-expanded') === 'true' && part.role === 'combobox');
  if (inList || document.querySelector('[role="dialog"]')) return;
  if (reports?.close()) event.stopPropagation();
  else if (comparison?.isOpen) {
    event.stopPropagation();
    closeComparison();
  }
}

function closeComparison() {
  comparison?.close();
  outlines?.show(new Map(outlined));
  frames?.draw();
}

/** Open the panel as soon as OHIF has drawn the side that it stands in. */
async function showPanel() {
  const { panelService } = ohif.servicesManager.services;
  await until(() => {
    if (!document.querySelector(TAG)) panelService.activatePanel(PANEL, true);
    return document.querySelector(TAG);
  }).catch(() => {}); // the reader finds it by its tab
}

/** @param {CustomEvent} event */
function onOpen(event) {
  event.preventDefault();
  void openBeside(event.detail);
}

export default {
  id: ID,
  version: '1',

  getPanelModule() {
    return [
      {
        name: 'similarCases',
        iconName: 'tab-studies',
        iconLabel: say('title'),
        label: say('title'),
        component: () => reactElement(TAG, { study: current, lang: language }),
      },
    ];
  },

  /** @param {any} app */
  preRegistration(app) {
    ohif = app;
  },

  /** @param {any} app */
  onModeEnter(app) {
    ohif = { ...ohif, ...app };
    const { panelService, viewportGridService, displaySetService } = ohif.servicesManager.services;
    opened.clear();
    outlined = [];
    current = '';
    panelService.addPanel('right', PANEL);
    void showPanel();
    subscriptions = [
      ...[
        viewportGridService.EVENTS.ACTIVE_VIEWPORT_ID_CHANGED,
        viewportGridService.EVENTS.GRID_STATE_CHANGED,
        viewportGridService.EVENTS.VIEWPORTS_READY,
      ]
        .filter(Boolean)
        .map((name) => viewportGridService.subscribe(name, follow)),
      displaySetService.subscribe(displaySetService.EVENTS.DISPLAY_SETS_ADDED, follow),
    ];
    document.addEventListener('radir-open', /** @type {EventListener} */ (onOpen));
    document.addEventListener('radir-asked', onAsked, true);
    window.addEventListener('keydown', onKey, true);
    const { services } = ohif.servicesManager;
    comparison = new Comparison({ ohif, current: () => current, opened });
    const closing = () => (comparison?.isOpen ? closeComparison : null);
    frames = new OtherPatientFrames({ services, current: () => current, opened, closing });
    outlines = new RegionOutlines(services);
    reports = new ReportViews(services);
    for (const layer of [outlines, reports, frames]) layer.start();
    follow();
  },

  onModeExit() {
    subscriptions.forEach((subscription) => subscription.unsubscribe());
    subscriptions = [];
    document.removeEventListener('radir-open', /** @type {EventListener} */ (onOpen));
    document.removeEventListener('radir-asked', onAsked, true);
    window.removeEventListener('keydown', onKey, true);
    for (const layer of [outlines, reports, frames]) layer?.stop();
    frames = outlines = reports = comparison = null;
  },
};
