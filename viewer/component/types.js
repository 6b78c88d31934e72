/**
 * What the server says (radir_pacs/web/sidebar/routes.py, cases.py).
 *
 * @typedef {object} Study
 * @property {string} study
 * @property {'RECEIVING' | 'STABLE' | 'ENCODED' | 'INDEXED' | 'SKIPPED' | 'QUARANTINED'} state
 * @property {string | null} reason
 * @property {number | null} step
 * @property {number} steps
 * @property {number | null} jobs_before null: not for the eyes of this token
 * @property {number} instances
 * @property {string[]} modalities
 * @property {string[]} kinds
 * @property {Record<string, string[]>} modalities_of_kinds the values of Modality that images of each kind have
 * @property {boolean} replaced
 * @property {string|null} [failed] why the model that serves by now could not encode it
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
 * @typedef {object} Finding
 * @property {string} key
 * @property {string} name
 * @property {string} region key of the region where it is looked for when none is named
 * @property {string[]} synonyms
 *
 * @typedef {{key: string, name: string}} Named
 *
 * @typedef {{instances: string[], base: string, rendering: string}} Slices from head to feet; where their pictures are
 *
 * @typedef {object} Pictures
 * @property {'CXR' | 'CT' | null} kind
 * @property {string | null} instance SOP Instance UID of the image that shows the region
 * @property {number | null} frame from 1
 * @property {[number, number] | null} window Window Center and Width in HU; null: as the file says
 * @property {string | null} thumbnail
 * @property {string | null} picture
 * @property {[number, number][][]} outlines on the picture as rendered, fractions (column, row), a polygon per side
 * @property {[number, number][][]} stored_outlines on the pixels as they are stored
 *
 * @typedef {object} Head
 * @property {'head'} type
 * @property {Named} region_asked
 * @property {Named} region_answered
 * @property {Pictures & {series: string}} query
 * @property {string} model
 * @property {string | null} generation
 * @property {string} as_of
 * @property {boolean} exact
 * @property {number} count
 * @property {number} candidates
 * @property {string | null} finding
 * @property {{code: string, text: string}[]} notices
 * @property {Offer[]} offers what could be asked instead, where no case answers
 *
 * @typedef {{region: Named, finding: Named | null, candidates: number}} Offer
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
 * @property {'CXR' | 'CT' | null} kind
 * @property {string | null} instance
 * @property {number | null} frame
 * @property {string[]} modalities
 * @property {number | null} age
 * @property {string | null} sex
 * @property {number | null} days
 * @property {Named} region the one that its pictures show
 * @property {string | null} thumbnail
 * @property {string | null} picture
 * @property {[number, number] | null} window
 * @property {[number, number][][]} outlines
 * @property {[number, number][][]} stored_outlines
 * @property {Pictures} query the current study's picture of the same region
 * @property {Note[]} shared
 * @property {Note[]} contradicting
 *
 * @typedef {object} Shown an image and how it is shown
 * @property {string | null} instance
 * @property {[number, number] | null} [window]
 * @property {[number, number][][]} [stored_outlines]
 *
 * @typedef {object} OpenedCase a case to be shown beside the current study; only what names it is sure to be there
 * @property {string} study
 * @property {string} series
 * @property {string | null} instance
 * @property {string} reference
 * @property {string} [region] name
 * @property {[number, number] | null} [window]
 * @property {[number, number][][]} [outlines] on the image as it is stored
 * @property {Shown & {series?: string}} [current]
 *
 * @typedef {object} Excerpt
 * @property {'excerpt'} type
 * @property {number} rank
 * @property {string | null} text
 * @property {Mark[]} marks
 * @property {{text: string, marks: Mark[]} | null} whole the whole report, where that is allowed
 *
 * @typedef {{start: number, end: number, mark: 'shared' | 'contradicting', absent: boolean}} Mark absent: denied there
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
