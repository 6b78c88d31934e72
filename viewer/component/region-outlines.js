/**
 * The region's outline on the image that shows it, wherever OHIF draws that image and however it is moved or zoomed.
 *
 * Like the frames around other patients, the outlines lie over OHIF's viewports. They are not OHIF annotations, because
 * those are measurements that somebody made, and a schematic outline must never be taken for one.
 */
import { sopOf } from './comparison.js';
import { h, svg } from './dom.js';
import { outlineSheet } from './frame-styles.js';
import { Overlay, cover } from './overlay.js';

/** @typedef {{name: string, polygons: [number, number][][]}} Outline in fractions (column, row) of the stored image, a polygon per side */

export class RegionOutlines extends Overlay {
  /** @param {any} services OHIF's */
  constructor(services) {
    super(services, outlineSheet, { id: 'radir-outlines' });
    /** @type {Map<string, Outline>} by SOP Instance UID */
    this.outlines = new Map();
    this.visible = true;
    /** @type {Map<string, HTMLElement>} by viewport id */
    this.drawings = new Map();
  }

  /** Replace the outlines. @param {Map<string, Outline>} outlines by SOP Instance UID */
  show(outlines) {
    this.outlines = outlines;
  }

  draw() {
    const seen = new Set();
    for (const viewportId of this.services.viewportGridService.getState().viewports.keys()) {
      const viewport = this.services.cornerstoneViewportService.getCornerstoneViewport(viewportId);
      const imageId = viewport?.type === 'stack' ? viewport.getCurrentImageId?.() : null;
      const outline = imageId ? this.outlines.get(sopOf(imageId)) : undefined;
      const path = outline && pathOn(viewport, outline.polygons);
      if (!outline || !path) continue;
      seen.add(viewportId);
      this.place(viewportId, outline.name, path, viewport.canvas.getBoundingClientRect());
    }
    for (const [viewportId, drawing] of this.drawings) {
      if (seen.has(viewportId)) continue;
      drawing.remove();
      this.drawings.delete(viewportId);
    }
  }

  /** @param {string} viewportId @param {string} name @param {string} path @param {DOMRect} box */
  place(viewportId, name, path, box) {
    let drawing = this.drawings.get(viewportId);
    if (!drawing) {
      drawing = this.drawing();
      this.drawings.set(viewportId, drawing);
      this.root.append(drawing);
    }
    cover(drawing, box);
    drawing.classList.toggle('plain', !this.visible);
    for (const line of drawing.querySelectorAll('path')) {
      if (line.getAttribute('d') !== path) line.setAttribute('d', path);
    }
    const [words, toggle] = [drawing.querySelector('span'), drawing.querySelector('input')];
    const said = this.say('outline_of', { region: name });
    if (words && words.textContent !== said) words.textContent = said;
    if (toggle) toggle.checked = this.visible;
  }

  drawing() {
    const toggle = (/** @type {Event & {target: HTMLInputElement}} */ event) => (this.visible = event.target.checked);
    return h(
      'div',
      { class: 'drawing' },
      svg('svg', { 'aria-hidden': 'true' }, svg('path', { class: 'halo' }), svg('path')),
      h('label', {}, h('input', { type: 'checkbox', checked: true, onchange: toggle }), h('span', {}))
    );
  }
}

/** The polygons as a path in pixels of the canvas; null where the image is not drawn yet. @param {any} viewport @param {[number, number][][]} polygons */
function pathOn(viewport, polygons) {
  const image = viewport.getImageData?.();
  if (!image?.imageData) return null;
  const [columns, rows] = image.dimensions;
  return polygons
    .map((points) => {
      const drawn = points
        .map(([x, y]) => viewport.worldToCanvas(image.imageData.indexToWorld([x * columns - 0.5, y * rows - 0.5, 0])))
        .map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`);
      return `M${drawn.join(' ')}Z`;
    })
    .join('');
}
