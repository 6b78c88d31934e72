/**
 * The sidebar as an extension of an unmodified OHIF 3.13, loaded at run time by its URL (`window.config.extensions`).
 *
 * OHIF hands an extension its services but not React, so the panel is one bare element: React draws the custom
 * element's tag, and everything else happens inside it.
 *
 * `/ohif/viewer?StudyInstanceUIDs=…&beside=study,series,instance,reference` opens a case beside the study at once: only
 * so is it clear which of the two is being read. Two studies in OHIF's own parameter would be equals to it.
 */
import { OtherPatientFrames } from './other-patient.js';
import './radir-similar-cases.js';

const ID = 'radir.similar-cases';
const PANEL = `${ID}.panelModule.similarCases`;
const TAG = 'radir-similar-cases';
const READY_TRIES = 100;
const BESIDE = /^[0-9.]{1,64},[0-9.]{1,64},[0-9.]{1,64},SC-[0-9A-F]{5}-[0-9A-F]{5}$/;

/** @type {any} what OHIF gives to extensions: services, commands, data sources */
let ohif = null;
/** @type {OtherPatientFrames | null} */
let frames = null;
/** Studies that were opened beside the current one, as similar cases. @type {Map<string, string>} */
const opened = new Map();
/** The study that is being read. */
let current = '';
/** The case to be opened beside it as soon as it is drawn. @type {Found | null} */
let beside = asked(new URLSearchParams(window.location.search).get('beside') ?? '');
/** @type {{unsubscribe: () => void}[]} */
let subscriptions = [];

/** @typedef {{study: string, series: string, instance: string, reference: string}} Found */

/** The case that a link asks for; null where it is malformed. @param {string} text @returns {Found | null} */
function asked(text) {
  if (!BESIDE.test(text)) return null;
  const [study, series, instance, reference] = text.split(',');
  return { study, series, instance, reference };
}

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
  if (beside && displaySetShown(current)) {
    const found = beside;
    beside = null;
    void openBeside(found);
  }
}

/**
 * Show a case beside the current study: the grid gets two columns, the case goes to the right. On the left stays what
 * was there; on the right comes the very image that was found.
 * @param {Found} found
 */
async function openBeside({ study, series, instance, reference }) {
  const { viewportGridService, uiNotificationService } = ohif.servicesManager.services;
  const own = displaySetShown(current);
  opened.set(study, reference);
  try {
    if (!displaySetWith(study, series, instance)) {
      const [source] = ohif.extensionManager.getActiveDataSource();
      await source.retrieve.series.metadata({ StudyInstanceUID: study, madeInClient: true });
    }
    const other = await until(() => displaySetWith(study, series, instance));
    const shown = [own, other].map((set) => (set ? [set.displaySetInstanceUID] : []));
    viewportGridService.setLayout({
      numRows: 1,
      numCols: 2,
      layoutType: 'grid',
      findOrCreateViewport: (/** @type {number} */ position) => ({
        displaySetInstanceUIDs: shown[position] ?? [],
        viewportOptions: { viewportId: `radir-${position}`, allowUnmatchedView: true },
        displaySetOptions: [{}],
      }),
    });
    const first = [...viewportGridService.getState().viewports.keys()][0];
    viewportGridService.setActiveViewportId(first);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    uiNotificationService.show({ title: 'RadIR-PACS', message, type: 'error' });
  }
  frames?.draw();
}

/** The display set of a study that is on the screen. @param {string} study */
function displaySetShown(study) {
  const { viewportGridService, displaySetService } = ohif.servicesManager.services;
  const { activeViewportId, viewports } = viewportGridService.getState();
  const sets = [viewports.get(activeViewportId), ...viewports.values()]
    .flatMap((viewport) => viewport?.displaySetInstanceUIDs ?? [])
    .map((uid) => displaySetService.getDisplaySetByUID(uid));
  return sets.find((set) => set?.StudyInstanceUID === study);
}

/** The display set with an image. @param {string} study @param {string} series @param {string} instance */
function displaySetWith(study, series, instance) {
  const { displaySetService } = ohif.servicesManager.services;
  const sets = displaySetService
    .getActiveDisplaySets()
    .filter((/** @type {any} */ set) => set.StudyInstanceUID === study && set.SeriesInstanceUID === series);
  const holds = (/** @type {any} */ set) =>
    (set.instances ?? set.images ?? []).some((/** @type {any} */ image) => image.SOPInstanceUID === instance);
  return sets.find(holds) ?? sets[0];
}

/** @template T @param {() => T} found @returns {Promise<T>} */
async function until(found) {
  for (let tries = 0; tries < READY_TRIES; tries += 1) {
    const value = found();
    if (value) return value;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('The case could not be loaded.');
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
        iconLabel: 'Similar',
        label: 'Similar cases',
        component: () => reactElement(TAG, { study: current, lang: document.documentElement.lang || undefined }),
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
    frames = new OtherPatientFrames({ services: ohif.servicesManager.services, current: () => current, opened });
    frames.start();
    follow();
  },

  onModeExit() {
    subscriptions.forEach((subscription) => subscription.unsubscribe());
    subscriptions = [];
    document.removeEventListener('radir-open', /** @type {EventListener} */ (onOpen));
    frames?.stop();
    frames = null;
  },
};
