/**
 * A conspicuous frame and banner over every viewport that shows a patient other than the one being read.
 *
 * A frame follows the patient of the images in the viewport, so it stays with them wherever they are dragged.
 */
import { h } from './dom.js';
import { frameSheet } from './frame-styles.js';
import { Overlay, cover } from './overlay.js';
import { languageOf, sayIn } from './strings.js';

export class OtherPatientFrames extends Overlay {
  /**
   * @param {object} options
   * @param {any} options.services OHIF's
   * @param {() => string} options.current Study Instance UID of the study being read
   * @param {Map<string, string>} options.opened studies opened as similar cases, with their references
   * @param {() => (() => void) | null} options.closing closes the comparison; null if there is none
   */
  constructor({ services, current, opened, closing }) {
    const label = sayIn(languageOf(null))('other_patient');
    super(services, frameSheet, { id: 'radir-other-patients', role: 'region', 'aria-label': label });
    this.closing = closing;
    this.current = current;
    this.opened = opened;
    /** @type {Map<string, HTMLElement>} by viewport id */
    this.frames = new Map();
  }

  stop() {
    super.stop();
    this.frames.clear();
    this.root.replaceChildren();
  }

  /** Move the frames to where the other patients' viewports are now. */
  draw() {
    const seen = new Set();
    for (const [viewportId, viewport] of this.services.viewportGridService.getState().viewports) {
      const reference = this.otherPatientIn(viewport);
      const pane = reference === null ? null : paneOf(viewportId);
      if (reference === null || !pane) continue;
      seen.add(viewportId);
      this.place(viewportId, reference, pane.getBoundingClientRect());
    }
    for (const [viewportId, frame] of this.frames) {
      if (seen.has(viewportId)) continue;
      frame.remove();
      this.frames.delete(viewportId);
    }
  }

  /** The case's reference where a viewport shows another patient ("" when it has none), else null. @param {any} viewport */
  otherPatientIn(viewport) {
    const current = this.current();
    const sets = this.services.displaySetService;
    for (const uid of viewport.displaySetInstanceUIDs ?? []) {
      const set = sets.getDisplaySetByUID(uid);
      const study = set?.StudyInstanceUID;
      if (!study || !current || study === current) continue;
      if (this.opened.has(study) || patientOf(set) !== this.patientOfStudy(current)) return this.opened.get(study) ?? '';
    }
    return null;
  }

  /** @param {string} study */
  patientOfStudy(study) {
    const sets = this.services.displaySetService.getActiveDisplaySets();
    return patientOf(sets.find((/** @type {any} */ set) => set.StudyInstanceUID === study));
  }

  /** @param {string} viewportId @param {string} reference @param {DOMRect} box */
  place(viewportId, reference, box) {
    let frame = this.frames.get(viewportId);
    if (!frame) {
      const close = h('button', { type: 'button', onclick: () => this.closing()?.() }, this.say('close_comparison'));
      const head = h('div', { class: 'head' }, h('strong', {}), close);
      frame = h('div', { class: 'frame' }, head, h('em', { 'aria-hidden': 'true' }, this.say('other_patient')));
      this.frames.set(viewportId, frame);
      this.root.append(frame);
    }
    const words = reference ? this.say('other_patient_banner', { reference }) : this.say('other_patient');
    const [banner, close] = [frame.querySelector('strong'), frame.querySelector('button')];
    if (close) close.hidden = this.closing() === null;
    if (banner && banner.textContent !== words) banner.textContent = words;
    cover(frame, box);
  }
}

/** The element in which OHIF shows a viewport. @param {string} viewportId */
function paneOf(viewportId) {
  const inner = document.querySelector(`[data-viewportid="${CSS.escape(viewportId)}"]`);
  return inner?.closest('[data-cy="viewport-pane"], .viewport-wrapper') ?? inner;
}

/** Who is in a display set: Patient ID with its issuer. @param {any} set */
function patientOf(set) {
  const image = set?.instances?.[0] ?? set?.images?.[0] ?? set?.instance;
  return image ? `${image.IssuerOfPatientID ?? ''} ${image.PatientID ?? ''}` : '';
}
