/**
 * A layer over OHIF's viewports, drawn again with every frame of the browser: OHIF may redraw its own elements at any
 * time, and a viewport may be moved, resized or zoomed.
 */
import { h } from './dom.js';
import { languageOf, sayIn } from './strings.js';

export class Overlay {
  /**
   * @param {any} services OHIF's
   * @param {CSSStyleSheet} sheet
   * @param {Record<string, string>} attributes of the layer
   */
  constructor(services, sheet, attributes) {
    this.services = services;
    this.say = sayIn(languageOf(null));
    this.layer = h('div', attributes);
    this.root = this.layer.attachShadow({ mode: 'open' });
    this.root.adoptedStyleSheets = [sheet];
    this.request = 0;
  }

  start() {
    document.body.append(this.layer);
    const each = () => {
      this.draw();
      this.request = requestAnimationFrame(each);
    };
    each();
  }

  stop() {
    cancelAnimationFrame(this.request);
    this.layer.remove();
  }

  /** Put the elements where they belong now. */
  draw() {}
}

/** Lay an element over a part of the page. @param {HTMLElement} element @param {DOMRect} box */
export function cover({ style }, box) {
  for (const side of /** @type {const} */ (['left', 'top', 'width', 'height'])) style.setProperty(side, `${box[side]}px`);
}
