/**
 * Saves the answer as a structured report, and follows how it is sent to the PACS.
 * @typedef {import('./strings.js').Key} Key
 * @typedef {import('./strings.js').Say} Say
 */

const FIRST_LOOK_MS = 300;
const LONGEST_LOOK_MS = 5000;

/** Why a PACS did not take a report. @type {Record<string, Key>} */
const WHY = {
  PEER_UNREACHABLE: 'why_unreachable',
  PEER_REJECTED: 'why_rejected',
  PEER_NOT_SUPPORTED: 'why_not_supported',
  PEER_REFUSED: 'why_refused',
  PEER_NO_ANSWER: 'why_no_answer',
  PEER_TOO_SLOW: 'why_too_slow',
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
      const error = job.reason_code && WHY[job.reason_code] ? say(WHY[job.reason_code]) : (job.message ?? '');
      if (job.state === 'DONE') return say('saved_sent', { destination });
      if (job.state === 'FAILED') return say('saved_not_sent', { destination, error });
      const words = job.reason_code ? say('sending_again', { destination, error }) : say('sending', { destination });
      if (!show(words)) return words;
      await new Promise((done) => setTimeout(done, pause));
    }
  } catch (error) {
    return say('save_failed', { error: error instanceof Error ? error.message : '' });
  }
}
