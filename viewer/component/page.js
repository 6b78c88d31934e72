/** The page of its own: the component, which says itself what is missing. */
import './radir-similar-cases.js';
