/** The frame over another patient's images: it lets every click through and cannot be overlooked. */
export const frameSheet = new CSSStyleSheet();
frameSheet.replaceSync(`
:host { position: fixed; inset: 0; z-index: 40; pointer-events: none; }
.frame {
  position: fixed; box-sizing: border-box; border: 8px solid #ff5a1f; display: flex; flex-direction: column;
  justify-content: space-between; font: 750 14px/1.3 system-ui, sans-serif; letter-spacing: 0.04em;
}
strong, em { background: #ff5a1f; color: #000; padding: 4px 10px; text-align: center; font-style: normal; }
em { align-self: center; border-radius: 6px 6px 0 0; padding-bottom: 0; }
@media (forced-colors: active) { .frame { outline: 6px dashed CanvasText; } }
`);
