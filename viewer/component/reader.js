/** A random name for this browser, so that a reader's second verdict replaces the first. */
const READER = 'radir-reader';

export function readerName() {
  try {
    const known = localStorage.getItem(READER) ?? newName();
    localStorage.setItem(READER, known);
    return known;
  } catch {
    return 'anonymous'; // storage is switched off
  }
}

/** Not `crypto.randomUUID`, which a page that came over plain HTTP does not have. */
function newName() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
