/** The frame over another patient's images: conspicuous, and it lets clicks through except on its button. */
export const frameSheet = new CSSStyleSheet();
frameSheet.replaceSync(`
:host { position: fixed; inset: 0; z-index: 40; pointer-events: none; }
.frame {
  position: fixed; box-sizing: border-box; border: 8px solid #ff5a1f; display: flex; flex-direction: column;
  justify-content: space-between; font: 750 14px/1.3 system-ui, sans-serif; letter-spacing: 0.04em;
}
.head { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center; justify-content: center; background: #ff5a1f; }
button {
  pointer-events: auto; font: 600 13px/1.3 system-ui, sans-serif; color: #fff; background: #1a0a04; border: 1px solid #1a0a04;
  border-radius: 6px; padding: 4px 10px; cursor: pointer;
}
button:hover { background: #4a1c0a; }
:focus-visible { outline: 2px solid #fff; outline-offset: 1px; }
strong, em { background: #ff5a1f; color: #000; padding: 4px 10px; text-align: center; font-style: normal; }
em { align-self: center; border-radius: 6px 6px 0 0; padding-bottom: 0; }
@media (forced-colors: active) { .frame { outline: 6px dashed CanvasText; } }
`);

/** Outlines and reports over a viewport; only their controls and the report's text take clicks. */
export const outlineSheet = new CSSStyleSheet();
outlineSheet.replaceSync(`
:host { position: fixed; inset: 0; z-index: 30; pointer-events: none; font: 14px/1.45 system-ui, sans-serif; color: #f2f4f8; }
[hidden] { display: none !important; }
.drawing { position: fixed; overflow: hidden; }
svg { position: absolute; inset: 0; width: 100%; height: 100%; }
path { fill: none; stroke: #4fd1ff; stroke-width: 1.6; }
path.halo { stroke: #000; stroke-width: 4; opacity: 0.7; }
.plain svg { display: none; }
label {
  position: absolute; left: 50%; bottom: 70px; transform: translateX(-50%); white-space: nowrap; display: flex; gap: 6px; align-items: center;
  pointer-events: auto; background: rgb(0 0 0 / 75%); border-radius: 6px; padding: 2px 8px; font-size: 12px; cursor: pointer;
}
input { accent-color: #4fd1ff; margin: 0; }
.report { position: fixed; box-sizing: border-box; display: grid; grid-template-rows: auto minmax(0, 1fr); background: #05070f; pointer-events: auto; }
.again { position: fixed; pointer-events: auto; }
.report header { display: flex; justify-content: space-between; align-items: center; gap: 12px; padding: 10px 14px; border-bottom: 1px solid #3a4260; }
.report h2 { margin: 0; font-size: 1.05rem; }
.report .text { overflow: auto; padding: 6px 14px 14px; overflow-wrap: anywhere; }
.report ul { margin: 2px 0; padding-left: 16px; }
.report .text > ul { padding-left: 0; list-style: none; }
.report b { color: #a9b6cf; font-weight: 500; }
button { font: inherit; color: inherit; background: #1a2138; border: 1px solid #3a4260; border-radius: 6px; padding: 4px 12px; cursor: pointer; }
:focus-visible { outline: 2px solid #4fa8ff; outline-offset: 1px; }
`);
