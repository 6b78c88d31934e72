/**
 * What the server says (radir_pacs/web/sidebar/routes.py, cases.py).
 *
 * @typedef {object} Study
 * @property {string} study
 * @property {'RECEIVING' | 'STABLE' | 'ENCODED' | 'INDEXED' | 'SKIPPED' | 'QUARANTINED'} state
 * @property {string | null} reason
 * @property {number | null} step
 * @property {number} steps
 * @property {number} jobs_before
 * @property {number} instances
 * @property {string[]} modalities
 * @property {string[]} kinds
 * @property {Record<string, string[]>} modalities_of_kinds the values of Modality that images of each kind have
 * @property {boolean} replaced
 * @property {boolean} report
 * @property {string | null} patient
 * @property {string[]} shows
 * @property {boolean} destination
 * @property {boolean} ohif
 *
 * @typedef {object} Region
 * @property {string} key
 * @property {string} name
 * @property {string | null} parent
 * @property {string[]} synonyms
 * @property {boolean} known
 * @property {[number, number][]} outline
 *
 * @typedef {{key: string, name: string}} RegionName
 *
 * @typedef {object} Pictures
 * @property {string} [instance] SOP Instance UID of the picture that shows the region
 * @property {number} [frame] from 1
 * @property {[number, number] | null} [window] Window Center and Width in HU; null: as the file says
 * @property {string | null} thumbnail
 * @property {string | null} picture
 * @property {[number, number][][]} outlines on the picture as rendered, fractions (column, row), a polygon per side
 * @property {[number, number][][]} [stored_outlines] on the pixels as they are stored
 *
 * @typedef {object} Head
 * @property {'head'} type
 * @property {RegionName} region_asked
 * @property {RegionName} region_answered
 * @property {Pictures} query
 * @property {string} model
 * @property {string | null} generation
 * @property {string} as_of
 * @property {boolean} exact
 * @property {number} count
 * @property {number} candidates
 * @property {string | null} finding
 * @property {string[]} warnings
 *
 * @typedef {object} Note
 * @property {string} concept
 * @property {string} region
 * @property {boolean} absent
 * @property {string | null} severity
 *
 * @typedef {object} Case
 * @property {'case'} type
 * @property {number} rank
 * @property {number} score
 * @property {string} reference
 * @property {string} study
 * @property {string} series
 * @property {string} instance
 * @property {string[]} modalities
 * @property {number | null} age
 * @property {string | null} sex
 * @property {number | null} days
 * @property {string | null} thumbnail
 * @property {string | null} picture
 * @property {[number, number][][]} outlines
 * @property {Note[]} shared
 * @property {Note[]} contradicting
 *
 * @typedef {object} Excerpt
 * @property {'excerpt'} type
 * @property {number} rank
 * @property {string | null} text
 * @property {{start: number, end: number, mark: 'shared' | 'contradicting'}[]} marks
 *
 * @typedef {Head | Case | Excerpt | {type: 'end'}} Line
 *
 * @typedef {object} Filters
 * @property {string} modality
 * @property {string} from
 * @property {string} to
 * @property {string} youngest
 * @property {string} oldest
 * @property {string} sex
 * @property {boolean} scanner
 * @property {boolean} report
 * @property {boolean} others
 */
export {};
