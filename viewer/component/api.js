/**
 * The server's routes. Every failure becomes an `ApiError` with a code for which the panel has a text.
 * @typedef {import('./types.js').Study} Study
 * @typedef {import('./types.js').Region} Region
 * @typedef {import('./types.js').Finding} Finding
 * @typedef {import('./types.js').Slices} Slices
 * @typedef {import('./types.js').Line} Line
 */

export class ApiError extends Error {
  /**
   * @param {string} code "down", "forbidden", or the server's own
   * @param {string} message
   * @param {string[]} [nearest]
   */
  constructor(code, message, nearest = []) {
    super(message);
    this.code = code;
    this.nearest = nearest;
  }
}

export class Api {
  /**
   * @param {string} base what stands before /api and /dicom-web, without a slash at its end
   * @param {string} language in which regions, findings and notices are named
   * @param {boolean} byLink a link of the PACS opened the page: nobody who is signed in with this browser answers for it
   */
  constructor(base, language, byLink = false) {
    this.base = base;
    this.byLink = byLink;
    this.language = language;
    /** @type {Map<string, Promise<Region[]>>} */
    this.regionsOf = new Map();
    /** @type {Promise<Finding[]> | null} */
    this.findingsKnown = null;
  }

  /** @param {string | null} path */
  url(path) {
    return path === null ? '' : this.base + path;
  }

  /** @param {string} study @param {AbortSignal} signal @returns {Promise<Study>} */
  async study(study, signal) {
    return (await this.ask(`/api/studies/${encodeURIComponent(study)}`, { signal })).json();
  }

  /** Regions of such images, and which of them are known of a study. @param {string} kind @param {string} study @returns {Promise<Region[]>} */
  regions(kind, study) {
    let found = this.regionsOf.get(kind);
    if (!found) {
      found = this.ask(`/api/regions?${new URLSearchParams({ kind, study, lang: this.language })}`)
        .then((answer) => answer.json())
        .then((body) => body.regions);
      found.catch(() => this.regionsOf.delete(kind));
      this.regionsOf.set(kind, found);
    }
    return found;
  }

  /** The findings that can be asked for. @returns {Promise<Finding[]>} */
  findings() {
    if (!this.findingsKnown) {
      this.findingsKnown = this.ask(`/api/findings?${new URLSearchParams({ lang: this.language })}`)
        .then((answer) => answer.json())
        .then((body) => body.findings);
      this.findingsKnown.catch(() => (this.findingsKnown = null));
    }
    return this.findingsKnown;
  }

  /**
   * The slices of a CT from head to feet, of the study being read or of a case like it.
   * @param {string} study the one being read
   * @param {{case: string, series: string, region: string}} of
   * @returns {Promise<Slices>}
   */
  async slices(study, of) {
    return (await this.ask(`/api/studies/${encodeURIComponent(study)}/similar/slices?${new URLSearchParams(of)}`)).json();
  }

  /**
   * What a person means by words.
   * @param {string} text
   * @param {string} kind
   * @returns {Promise<{region: string, name: string, finding: {concept: string, present: boolean} | null}>}
   */
  async typed(text, kind) {
    return (await this.ask(`/api/typed?${new URLSearchParams({ text, kind, lang: this.language })}`)).json();
  }

  /**
   * The answer, line by line as it arrives.
   * @param {string} study
   * @param {URLSearchParams} query
   * @param {AbortSignal} signal
   * @returns {AsyncGenerator<Line>}
   */
  async *similar(study, query, signal) {
    const asked = new URLSearchParams([...query, ['lang', this.language]]);
    const answer = await this.ask(`/api/studies/${encodeURIComponent(study)}/similar?${asked}`, { signal });
    if (!answer.body) return;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { value, done } = await reader.read();
      const lines = (rest + (value ?? '')).split('\n');
      rest = done ? '' : (lines.pop() ?? '');
      for (const line of lines) if (line) yield JSON.parse(line);
      if (done) return;
    }
  }

  /** Whether the reader may open a study in an emergency; nothing of it tells of a study. @returns {Promise<boolean>} */
  async mayAskInEmergency() {
    return (await (await this.ask('/api/emergency')).json()).may_ask === true;
  }

  /** @param {string} study @param {Record<string, unknown>} feedback */
  async judge(study, feedback) {
    await this.post(`/api/studies/${encodeURIComponent(study)}/feedback`, feedback);
  }

  /**
   * @param {string} study
   * @param {string} reader
   * @returns {Promise<{case: string, region: string, verdict: 'UP' | 'DOWN', reason: string}[]>}
   */
  async judged(study, reader) {
    return (await this.ask(`/api/studies/${encodeURIComponent(study)}/feedback/${encodeURIComponent(reader)}`)).json();
  }

  /**
   * Save the answer as a structured report. The query is also in the body: Orthanc's plugins do not see the URL of a POST.
   * @param {string} study
   * @param {URLSearchParams} query
   * @returns {Promise<{stored: string, destination: string | null, job_url: string | null}>} with where to ask how it is sent
   */
  async save(study, query) {
    return (await this.post(`/api/studies/${encodeURIComponent(study)}/report?${query}`, Object.fromEntries(query))).json();
  }

  /** @param {string} url @returns {Promise<{state: string, reason_code: string | null, message: string | null}>} */
  async job(url) {
    return (await this.ask(url)).json();
  }

  /** @param {string} path @param {unknown} body */
  post(path, body) {
    return this.ask(path, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
  }

  /** @param {string} path @param {RequestInit} [options] @returns {Promise<Response>} */
  async ask(path, options = {}) {
    let answer;
    const headers = new Headers(options.headers);
    if (this.byLink) headers.set('X-Radir-Link', '1');
    try {
      answer = await fetch(this.url(path), { credentials: 'same-origin', ...options, headers });
    } catch (error) {
      if (error instanceof DOMException && error.name === 'AbortError') throw error;
      throw new ApiError('down', 'the server does not answer');
    }
    if (answer.ok) return answer;
    if (answer.status === 401 || answer.status === 403) throw new ApiError('forbidden', 'not allowed');
    if (answer.status === 502 || answer.status === 504) throw new ApiError('down', 'the server does not answer');
    const body = await answer.json().catch(() => null);
    const said = body?.error ?? {};
    throw new ApiError(said.code ?? 'failed', said.message ?? `status ${answer.status}`, said.nearest ?? []);
  }
}
