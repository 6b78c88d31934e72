/**
 * `<radir-similar-cases study="1.2.3">`: the cases most similar to a study, beside any viewer.
 *
 * Attributes: `study` (Study Instance UID), `region` (name or key to begin with), `lang`, `base` (the path before
 * /api and /dicom-web; by default where this module was loaded from), `standalone` (a page of its own),
 * `link` (a link of the PACS opened it).
 * Events: `radir-open`, cancelable: show a case beside the current study. A viewer that does so calls
 * preventDefault(); otherwise the component shows both pictures itself. Its detail: {study, series, instance, reference,
 * region, window, outlines, current}; `window` [center, width], `outlines` in fractions (column, row) of the stored image,
 * `current` the current study's {instance, window, stored_outlines} of the same region.
 * `radir-asked`, detail {study, region, instance, window, stored_outlines …}: another region is asked for, and this image shows it.
 * `radir-answered`, detail {count, cases}: the list is complete.
 */
import { Panel } from './panel.js';
import { sheet } from './styles.js';

const KEYS = ['keydown', 'keypress', 'keyup'];
const HERE = new URL('..', import.meta.url).pathname.replace(/\/$/, '');

export class RadirSimilarCases extends HTMLElement {
  static observedAttributes = ['study', 'region', 'lang', 'base'];

  constructor() {
    super();
    this.root = this.attachShadow({ mode: 'open' });
    this.root.adoptedStyleSheets = [sheet];
    /** @type {Panel | null} */
    this.panel = null;
    this.queued = false;
    // Shortcuts of a viewer (letters, arrows and Enter in OHIF) do not notice that a field in here has the focus.
    for (const name of KEYS) this.root.addEventListener(name, (event) => event.stopPropagation());
  }

  connectedCallback() {
    this.restart();
  }

  disconnectedCallback() {
    this.panel?.stop();
  }

  attributeChangedCallback() {
    if (!this.isConnected || this.queued) return;
    this.queued = true; // several attributes set together are one change
    queueMicrotask(() => {
      this.queued = false;
      if (this.isConnected) this.restart();
    });
  }

  /** Start again with the present attributes. */
  restart() {
    this.panel?.stop();
    this.panel = new Panel(this, this.getAttribute('base') ?? HERE);
    this.root.replaceChildren(this.panel.element);
    void this.panel.load();
  }
}

if (!customElements.get('radir-similar-cases')) customElements.define('radir-similar-cases', RadirSimilarCases);
