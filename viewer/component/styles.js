/** The panel's looks. Colours are OHIF's where it defines them, so that the panel follows its theme. */
export const sheet = new CSSStyleSheet();
sheet.replaceSync(`
:host {
  --ground: hsl(var(--background, 230 60% 4%));
  --card: hsl(var(--muted, 230 42% 10%));
  --field: hsl(var(--popover, 228 40% 14%));
  --line: hsl(var(--input, 228 28% 28%));
  --text: hsl(var(--foreground, 0 0% 98%));
  --soft: hsl(var(--muted-foreground, 212 30% 74%));
  --accent: hsl(var(--primary, 212 96% 68%));
  --on-accent: #04101f;
  --good: #7ce0a3;
  --differs: #ffc45c;
  --alarm: #ff5a1f;
  display: block;
  width: 100%;
  min-width: 0;
  container-type: inline-size;
  color: var(--text);
  background: var(--ground);
  color-scheme: dark;
  font: 14px/1.45 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif;
}
:host([hidden]) { display: none; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
h2, h3, p, ol, ul, figure, blockquote { margin: 0; padding: 0; }
ol, ul { list-style: none; }
.panel { display: grid; gap: 12px; padding: 12px; min-width: 0; }
.top { display: flex; flex-wrap: wrap; align-items: baseline; justify-content: space-between; gap: 0 12px; }
.top h2 { font-size: 1.1rem; font-weight: 650; }
.quiet, small { color: var(--soft); font-size: 0.86em; }
.patient { padding: 6px 10px; border-left: 3px solid var(--accent); background: var(--card); overflow-wrap: anywhere; }
.patient b, .chosen b { color: var(--soft); font-weight: 500; margin-right: 6px; }

button, input, select {
  font: inherit; color: inherit; background: var(--field); border: 1px solid var(--line); border-radius: 6px;
  padding: 5px 10px; min-height: 32px; max-width: 100%;
}
button { cursor: pointer; white-space: nowrap; }
button:hover { border-color: var(--accent); }
button:disabled { opacity: 0.6; cursor: progress; }
button.primary { background: var(--accent); border-color: var(--accent); color: var(--on-accent); font-weight: 600; }
button[aria-pressed='true'], button[aria-expanded='true'] { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
summary { cursor: pointer; padding: 3px 0; color: var(--soft); border-radius: 4px; }
summary:hover { color: var(--text); }
.spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.badge, .chip {
  display: inline-block; border: 1px solid var(--line); border-radius: 999px; padding: 0 8px; font-size: 0.86em; line-height: 1.6;
}
.badge { border-radius: 4px; padding: 0 5px; color: var(--soft); }
button.chip { min-height: 26px; background: var(--field); }
.chip.strong { border-color: var(--accent); font-weight: 600; }

.controls { display: grid; gap: 8px; min-width: 0; }
.kinds { display: flex; gap: 6px; }
.ask { display: grid; gap: 6px; }
.askline { display: flex; flex-wrap: wrap; gap: 6px; }
.combobox { position: relative; flex: 1 1 190px; min-width: 0; }
.combobox input { width: 100%; }
.combobox input::placeholder { color: var(--soft); opacity: 1; }
.chips { display: flex; flex-wrap: wrap; gap: 6px; }
.chips .chip { white-space: normal; text-align: left; }
.whole { margin-top: 6px; }
.whole blockquote { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 320px; overflow: auto; }
.read { background: #000; border: 1px solid var(--line); border-radius: 8px; padding: 8px; display: grid; justify-items: center; gap: 4px; }
.read .pictured { height: 300px; }
.read .fitted img { max-height: 300px; }
.offers {
  position: absolute; z-index: 5; inset: 100% 0 auto; margin-top: 4px; max-height: 280px; overflow: auto; padding: 4px;
  background: var(--field); border: 1px solid var(--accent); border-radius: 6px; box-shadow: 0 10px 30px rgb(0 0 0 / 60%);
}
.offers li { display: flex; flex-wrap: wrap; gap: 0 8px; justify-content: space-between; padding: 5px 8px; border-radius: 4px; cursor: pointer; }
.offers li[aria-selected='true'], .offers li:hover { background: var(--accent); color: var(--on-accent); }
.offers li[aria-selected='true'] small, .offers li:hover small { color: inherit; }
.tree ul ul { margin-left: 10px; border-left: 1px solid var(--line); padding-left: 8px; }
.tree > ul { max-height: 300px; overflow: auto; border: 1px solid var(--line); border-radius: 6px; padding: 6px; background: var(--card); }
.tree button { background: none; border-color: transparent; min-height: 26px; padding: 1px 6px; text-align: left; white-space: normal; }
.tree button:hover, .tree button:focus-visible { background: var(--field); }
.tree button.coarser { color: var(--soft); font-style: italic; }
.tree button[aria-current] { border-color: var(--accent); font-weight: 600; }
.picture { display: grid; justify-items: center; gap: 4px; background: #000; border: 1px solid var(--line); border-radius: 6px; padding: 8px; }
.chest { width: min(100%, 260px); aspect-ratio: 1; cursor: crosshair; }
.chest .body { fill: #1b2130; stroke: #2c3650; }
.chest .shape { fill: none; stroke: none; }
.chest .landmark { fill: rgb(120 160 220 / 10%); stroke: rgb(150 185 235 / 55%); stroke-width: 0.5; }
.chest .lit { fill: rgb(120 190 255 / 40%); stroke: #cfe6ff; stroke-width: 0.9; }
.chest .chosen { fill: rgb(90 170 255 / 30%); stroke: var(--accent); stroke-width: 1.3; }
.chest .side { fill: var(--soft); font: 600 6px system-ui, sans-serif; }
figcaption { min-height: 1.5em; color: var(--soft); font-size: 0.86em; text-align: center; }
.chosen { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
.filters { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 136px), 1fr)); gap: 8px; padding: 8px 0 2px; align-items: end; }
.filters label { display: grid; gap: 2px; min-width: 0; }
.filters label > span { color: var(--soft); font-size: 0.86em; }
.filters input, .filters select { width: 100%; min-width: 0; }
.filters input[type='date'] { padding-inline: 6px; }
.filters .check { grid-column: 1 / -1; }
.check { display: flex !important; gap: 8px; align-items: center; }
.check span { color: var(--text) !important; }
.check input { width: auto; min-height: 0; accent-color: var(--accent); }

.messages { display: grid; gap: 8px; }
.messages:empty, .state:empty, .count:empty, .said:empty, .foot:empty, .who:empty { display: none; }
.notice { border: 1px solid var(--line); border-left: 4px solid var(--soft); border-radius: 6px; padding: 10px 12px; background: var(--card); display: grid; gap: 6px; justify-items: start; }
.notice p { overflow-wrap: anywhere; }
.notice h3 { font-size: 1rem; font-weight: 650; }
.notice.busy { border-left-color: var(--accent); }
.notice.warning { border-left-color: var(--differs); }
.notice.error { border-left-color: var(--alarm); }
progress { width: 100%; height: 8px; accent-color: var(--accent); }
.count { color: var(--soft); }

.cases { display: grid; gap: 10px; grid-template-columns: minmax(0, 1fr); transition: opacity 120ms; }
.cases.old { opacity: 0.55; }
.fitted:not(.drawn) .outline { visibility: hidden; }
.case {
  display: grid; grid-template-columns: 92px minmax(0, 1fr); gap: 4px 10px; align-content: start; padding: 10px;
  background: var(--card); border: 1px solid var(--line); border-radius: 8px;
}
.case:hover { border-color: color-mix(in srgb, var(--accent) 55%, var(--line)); }
.about { display: contents; }
.thumbnail { grid-row: 1 / span 3; padding: 0; min-height: 92px; background: #000; overflow: hidden; align-self: start; }
.pictured { display: grid; place-items: center; width: 100%; min-height: 90px; background: #000; }
.fitted { position: relative; display: inline-block; max-width: 100%; line-height: 0; }
.fitted img { display: block; max-width: 100%; height: auto; min-width: 40px; min-height: 40px; }
.missing { color: var(--soft); font-size: 0.8em; }
.outline { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.outline polygon { fill: none; stroke: #5fd0ff; stroke-width: 2px; vector-effect: non-scaling-stroke; }
.outline .halo { stroke: rgb(0 0 0 / 75%); stroke-width: 4px; }
.line { display: flex; flex-wrap: wrap; gap: 4px 8px; align-items: center; }
.rank { font-weight: 700; font-size: 1.15em; min-width: 1.1em; }
.meter { width: 48px; height: 7px; fill: var(--accent); }
.meter .track { fill: var(--line); }
.score { font-variant-numeric: tabular-nums; cursor: help; }
.who { color: var(--soft); }
.notes, .excerpt, .actions, .reason, .case > .about > .said { grid-column: 1 / -1; }
.notes { display: flex; flex-wrap: wrap; gap: 4px 6px; align-items: center; margin-top: 2px; }
.notes b { font-weight: 500; color: var(--soft); font-size: 0.86em; }
.notes.shared .chip { border-color: var(--good); color: var(--good); }
.notes.contradicting .chip { border: 1px dashed var(--differs); color: var(--differs); }
blockquote { white-space: pre-line; overflow-wrap: anywhere; border-left: 2px solid var(--line); padding: 0 0 4px 8px; max-height: 8.8em; overflow: auto; }
mark { background: none; color: inherit; text-decoration: underline; text-decoration-thickness: 2px; text-underline-offset: 3px; }
mark.shared { text-decoration-color: var(--good); color: var(--good); }
mark.contradicting { text-decoration-style: wavy; text-decoration-color: var(--differs); color: var(--differs); }
.actions { display: flex; flex-wrap: wrap; gap: 5px; margin-top: 4px; }
.actions button { padding: 3px 7px; min-height: 30px; font-size: 0.93em; }
.actions .primary { flex: 0 1 auto; }
.actions .thumb { min-width: 29px; padding: 3px 5px; color: var(--soft); }
.hand { width: 18px; height: 18px; display: block; fill: currentColor; }
.hand.turned { transform: rotate(180deg); }
.actions .thumb[aria-pressed='true'] { color: var(--on-accent); background: var(--accent); }
.reason { display: flex; gap: 6px; }
.reason input { flex: 1; min-width: 0; }
.said { color: var(--soft); font-size: 0.86em; overflow-wrap: anywhere; user-select: text; }
.foot { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
.foot .said { flex: 1 1 12em; }
.meaning { flex: 1 1 100%; }
.meaning p { max-width: 70ch; margin-top: 4px; }

@container (min-width: 640px) {
  .panel { padding: 20px; gap: 14px; }
  .cases { grid-template-columns: repeat(auto-fill, minmax(min(100%, 360px), 1fr)); }
  .case { grid-template-columns: 148px minmax(0, 1fr); }
  .thumbnail { grid-row: 1 / span 6; min-height: 148px; }
  .pictured { min-height: 146px; }
  .notes, .excerpt, .case > .about > .said { grid-column: 2; }
  .actions, .reason { grid-column: 1 / -1; }
  .controls { grid-template: 'kinds kinds' 'ask filters' 'chosen chosen' / minmax(0, 3fr) minmax(0, 2fr); align-items: start; gap: 8px 20px; }
  .kinds { grid-area: kinds; }
  .ask { grid-area: ask; }
  .filterbox { grid-area: filters; }
  .chosen { grid-area: chosen; }
}

@container (min-width: 900px) {
  .panel.alone { grid-template-columns: minmax(260px, 1fr) 3fr; align-items: start; }
  .panel.alone > * { grid-column: 2; }
  .panel.alone > .top, .panel.alone > .patient { grid-column: 1 / -1; }
  .panel.alone > .read { grid-column: 1; grid-row: 3 / span 6; position: sticky; top: 12px; }
  .read .pictured { height: auto; }
  .read .fitted img { max-height: calc(100vh - 140px); }
}

dialog.compare { width: min(100vw, 1500px); max-width: 100vw; max-height: 100vh; margin: auto; border: 1px solid var(--line); border-radius: 8px; padding: 12px; background: var(--ground); color: var(--text); }
dialog::backdrop { background: rgb(0 0 0 / 80%); }
.compare header { display: flex; flex-wrap: wrap; gap: 12px; justify-content: flex-end; align-items: center; margin-bottom: 10px; }
.compare.plain .outline { display: none; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 12px; }
.side { border: 8px solid var(--line); border-radius: 6px; background: #000; display: grid; align-content: space-between; min-width: 0; }
.side h2 { font-size: 1rem; padding: 6px 10px; background: var(--line); }
.stack { display: grid; align-content: start; }
.scroll { display: flex; gap: 10px; align-items: center; padding: 6px 10px; }
.scroll input { flex: 1; min-width: 0; padding: 0; accent-color: var(--accent); }
.scroll output { min-width: 6em; text-align: right; font-variant-numeric: tabular-nums; }
.elsewhere .outline { display: none; }
.side .fitted img { max-height: calc(100vh - 230px); }
.side.other { border-color: var(--alarm); }
.banner, .side h2.banner { background: var(--alarm); color: #000; font-weight: 750; letter-spacing: 0.04em; padding: 6px 10px; text-align: center; }
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
@media (forced-colors: active) { .side.other { outline: 8px dashed CanvasText; } }
`);
