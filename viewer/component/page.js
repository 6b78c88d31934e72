/** The stand-alone page: only the component, which itself says what is missing. */
import './radir-similar-cases.js';
