/** Replaces the pieces of a page that change, every few seconds, as long as somebody looks at it. */

for (const piece of document.querySelectorAll('[data-live]')) watch(piece);

async function watch(piece) {
  let shown = '';
  for (;;) {
    await new Promise((done) => setTimeout(done, Number(piece.dataset.every) * 1000));
    if (document.hidden || isInUse(piece)) continue;
    const answer = await ask(piece.dataset.live);
    document.querySelector('.offline').hidden = answer !== null;
    if (answer === null) continue;
    const state = answer.headers.get('X-Radir-State');
    if (answer.type === 'opaqueredirect' || (state !== null && state !== piece.dataset.state)) {
      location.reload(); // signed out, or what can be done has changed
      return;
    }
    const html = await answer.text();
    if (html === shown) continue;
    shown = html;
    const open = [...piece.querySelectorAll('details')].map((details) => details.open);
    piece.innerHTML = html;
    piece.querySelectorAll('details').forEach((details, number) => (details.open = open[number] ?? false));
  }
}

/** The answer; null where the service does not answer as it should. */
async function ask(address) {
  try {
    const answer = await fetch(address, { redirect: 'manual', headers: { Accept: 'text/html' }, signal: AbortSignal.timeout(10_000) });
    return answer.ok || answer.type === 'opaqueredirect' ? answer : null;
  } catch {
    return null;
  }
}

/** Whether the keyboard or a selection is in it: what somebody reads or is about to press does not move away. */
function isInUse(piece) {
  const selection = getSelection();
  const selects = selection !== null && !selection.isCollapsed && piece.contains(selection.anchorNode);
  return selects || (piece.contains(document.activeElement) && document.activeElement.matches(':focus-visible'));
}
