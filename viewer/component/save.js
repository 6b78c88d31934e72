/**
 * Saves the answer as a structured report, and follows how it is sent to the PACS.
 * @typedef {import('./strings.js').Key} Key
 * @typedef {import('./strings.js').Say} Say
 */

const FIRST_LOOK_MS = 300;
const LONGEST_LOOK_MS = 5000;

/** Why a PACS did not take a report. @type {Record<string, Key>} */
const WHY = {
  peer_unreachable: 'why_unreachable',
  peer_rejected_association: 'why_rejected',
  peer_does_not_support_object: 'why_not_supported',
  peer_refused: 'why_refused',
  peer_did_not_answer: 'why_no_answer',
  peer_too_slow: 'why_too_slow',
};

/**
 * @param {import('./api.js').Api} server
 * @param {string} study
 * @param {URLSearchParams} query
 * @param {Say} say
 * @param {(words: string) => boolean} show what happens meanwhile; false when nobody looks any more
 * @returns {Promise<string>} what happened, in words
 */
export async function saveReport(server, study, query, say, show) {
  try {
    const { destination, job_url: url } = await server.save(study, query);
    if (!destination) return say('saved_here');
    if (!url) return say('saved_sent', { destination });
    for (let pause = FIRST_LOOK_MS; ; pause = Math.min(pause * 1.5, LONGEST_LOOK_MS)) {
      const job = await server.job(url);
      const error = job.reason && WHY[job.reason] ? say(WHY[job.reason]) : (job.message ?? '');
      if (job.state === 'DONE') return say('saved_sent', { destination });
      if (job.state === 'FAILED') return say('saved_not_sent', { destination, error });
      const words = job.reason ? say('sending_again', { destination, error }) : say('sending', { destination });
      if (!show(words)) return words;
      await new Promise((done) => setTimeout(done, pause));
    }
  } catch (error) {
    return say('save_failed', { error: error instanceof Error ? error.message : '' });
  }
}
