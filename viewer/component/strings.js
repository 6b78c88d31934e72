/**
 * The panel's words in the reader's language. The server itself names regions, findings and notices in that language.
 * @typedef {keyof typeof en} Key
 * @typedef {(key: Key, values?: Record<string, string | number>) => string} Say
 */
import { de } from './strings/de.js';
import { en } from './strings/en.js';

/** @type {Record<string, Record<Key, string>>} */
const CATALOGUES = { en, de };

/** The language to speak, of those there are. @param {string | null} wanted @returns {string} */
export function languageOf(wanted) {
  const asked = wanted ? [wanted] : navigator.languages;
  return asked.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in CATALOGUES) ?? 'en';
}

/** @param {string} language @returns {Say} */
export function sayIn(language) {
  const catalogue = CATALOGUES[language] ?? en;
  return (key, values = {}) => catalogue[key].replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
