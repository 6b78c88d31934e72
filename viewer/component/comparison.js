/**
 * A case beside the current study in OHIF's grid: opened on the slice and in the window of its region, and closed again.
 * @typedef {import('./types.js').Shown} Shown
 * @typedef {import('./types.js').OpenedCase} OpenedCase
 */
const READY_TRIES = 100;

export class Comparison {
  /**
   * @param {object} options
   * @param {any} options.ohif its services and extension manager
   * @param {() => string} options.current Study Instance UID of the study being read
   * @param {Map<string, string>} options.opened studies opened as similar cases, with their references
   */
  constructor({ ohif, current, opened }) {
    this.ohif = ohif;
    this.services = ohif.servicesManager.services;
    this.current = current;
    this.opened = opened;
    /** @type {any} the grid before the first case was opened */
    this.before = null;
    /** The study on the right. */
    this.beside = '';
    /** @type {Element | null} what had the focus then */
    this.focused = null;
  }

  get isOpen() {
    return this.before !== null;
  }

  /**
   * Lay the grid out in two columns: the current study on the left, the case on the right.
   * @param {OpenedCase} found
   */
  async open(found) {
    const { viewportGridService } = this.services;
    const { study, series, instance, reference, window, current } = found;
    this.opened.set(study, reference);
    this.beside = study;
    if (!this.displaySetWith(study, series, instance)) {
      const [source] = this.ohif.extensionManager.getActiveDataSource();
      await source.retrieve.series.metadata({ StudyInstanceUID: study, madeInClient: true });
    }
    const other = await until(() => this.displaySetWith(study, series, instance));
    const own = this.displaySetWith(this.current(), current?.series ?? '', current?.instance ?? '') ?? this.displaySetShown(this.current());
    if (!this.before) {
      this.before = { ...gridOf(viewportGridService.getState()), shown: this.shownNow() };
      this.focused = focusedElement();
    }
    /** @type {{set: any, shown: Shown | undefined}[]} */
    const sides = [
      { set: own, shown: current },
      { set: other, shown: { instance, window } },
    ];
    viewportGridService.setLayout({
      numRows: 1,
      numCols: 2,
      layoutType: 'grid',
      findOrCreateViewport: (/** @type {number} */ position) => ({
        displaySetInstanceUIDs: sides[position]?.set ? [sides[position].set.displaySetInstanceUID] : [],
        viewportOptions: { viewportId: idOf(position), viewportType: 'stack', allowUnmatchedView: true },
        displaySetOptions: [{}],
      }),
    });
    viewportGridService.setActiveViewportId(idOf(0));
    await Promise.all(sides.map(({ shown }, position) => (shown ? this.goTo(idOf(position), shown) : null)));
  }

  /** Restore the grid as it was before the first case was opened. */
  close() {
    const { before, focused } = this;
    if (!before) return;
    this.before = null;
    const { viewportGridService } = this.services;
    viewportGridService.setLayout({
      numRows: before.numRows,
      numCols: before.numCols,
      layoutType: 'grid',
      activeViewportId: before.activeViewportId,
      findOrCreateViewport: (/** @type {number} */ position) => before.viewports[position] ?? {},
    });
    viewportGridService.setActiveViewportId(before.activeViewportId);
    const back = () => {
      const lost = document.activeElement === null || document.activeElement === document.body;
      if (lost && focused instanceof HTMLElement && focused.isConnected) focused.focus({ preventScroll: true });
    };
    // The button that was pressed disappears with its frame, and OHIF redraws its grid: restore the focus after that.
    void (before.shown ? this.goTo(before.activeViewportId, before.shown) : Promise.resolve()).then(back);
  }

  /**
   * Show the image in the window. OHIF resets a stack when its images have arrived, so both are set again until they
   * have stayed for a moment.
   * @param {string} viewportId
   * @param {Shown} shown
   */
  async goTo(viewportId, { instance, window }) {
    let held = 0;
    for (let tries = 0; tries < READY_TRIES && held < 5; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      const viewport = this.services.cornerstoneViewportService.getCornerstoneViewport(viewportId);
      const index = imageIdsOf(viewport).findIndex((id) => sopOf(id) === instance);
      if (index < 0) continue;
      if (viewport.getCurrentImageIdIndex() === index && isIn(window, viewport)) {
        held += 1;
        continue;
      }
      held = 0;
      await viewport.setImageIdIndex(index);
      if (window) viewport.setProperties({ voiRange: rangeOf(window) });
      viewport.render();
    }
  }

  /** What the active viewport shows, to be restored later. @returns {Shown | null} */
  shownNow() {
    const { viewportGridService, cornerstoneViewportService } = this.services;
    const viewport = cornerstoneViewportService.getCornerstoneViewport(viewportGridService.getActiveViewportId());
    const imageId = viewport?.type === 'stack' ? viewport.getCurrentImageId?.() : null;
    const range = viewport?.getProperties?.().voiRange;
    if (!imageId || !range) return null;
    return { instance: sopOf(imageId), window: [(range.lower + range.upper) / 2, range.upper - range.lower] };
  }

  /** The display set of a study that is on the screen. @param {string} study */
  displaySetShown(study) {
    const { viewportGridService, displaySetService } = this.services;
    const { activeViewportId, viewports } = viewportGridService.getState();
    const sets = [viewports.get(activeViewportId), ...viewports.values()]
      .flatMap((viewport) => viewport?.displaySetInstanceUIDs ?? [])
      .map((uid) => displaySetService.getDisplaySetByUID(uid));
    return sets.find((set) => set?.StudyInstanceUID === study && imagesOf(set).length);
  }

  /** The display set with an image. @param {string} study @param {string} series @param {string | null} instance */
  displaySetWith(study, series, instance) {
    const sets = this.services.displaySetService
      .getActiveDisplaySets()
      .filter((/** @type {any} */ set) => set.StudyInstanceUID === study && set.SeriesInstanceUID === series);
    return sets.find((/** @type {any} */ set) => imagesOf(set).some((image) => image.SOPInstanceUID === instance)) ?? sets[0];
  }
}

/** SOP Instance UID in the image id of a DICOMweb image. @param {string} imageId */
export function sopOf(imageId) {
  return /\/instances\/([0-9.]+)/.exec(imageId)?.[1] ?? '';
}

/** @param {any} viewport @returns {string[]} */
function imageIdsOf(viewport) {
  return viewport?.getImageIds?.() ?? [];
}

/** @param {any} set @returns {any[]} */
function imagesOf(set) {
  return set.images ?? set.instances ?? [];
}

/** @param {[number, number]} window center, width @returns {{lower: number, upper: number}} */
function rangeOf([center, width]) {
  return { lower: center - width / 2, upper: center + width / 2 };
}

/** @param {[number, number] | null | undefined} window @param {any} viewport */
function isIn(window, viewport) {
  if (!window) return true;
  const shown = viewport.getProperties?.().voiRange;
  const wanted = rangeOf(window);
  return shown && Math.abs(shown.lower - wanted.lower) < 2 && Math.abs(shown.upper - wanted.upper) < 2;
}

/** @param {number} position */
function idOf(position) {
  return `radir-${position}`;
}

/** What is needed to restore the grid. @param {any} state */
function gridOf({ layout, activeViewportId, viewports }) {
  const kept = [...viewports.values()].map(({ displaySetInstanceUIDs, viewportOptions, displaySetOptions }) => ({
    displaySetInstanceUIDs,
    viewportOptions,
    displaySetOptions,
  }));
  return { numRows: layout.numRows, numCols: layout.numCols, activeViewportId, viewports: kept };
}

/** The element with the focus, inside of components too. */
function focusedElement() {
  let at = document.activeElement;
  while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  return at;
}

/** @template T @param {() => T} found @returns {Promise<T>} */
export async function until(found) {
  for (let tries = 0; tries < READY_TRIES; tries += 1) {
    const value = found();
    if (value) return value;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('The case could not be loaded.');
}
