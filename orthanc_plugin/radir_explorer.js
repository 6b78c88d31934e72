// The button in Orthanc Explorer's page of a study. The panel that it opens is RadIR's own component, see viewer/.
// Runs inside Orthanc and is therefore offered under the AGPL v3 or later; see README.md beside this file.
(function () {
  'use strict';

  const COMPONENT = new URL('../radir/viewer/radir-similar-cases.js', document.baseURI).href;
  const PANEL = 'radir-panel';

  function close() {
    const panel = document.getElementById(PANEL);
    if (panel) panel.remove();
    const button = document.getElementById('radir-open');
    if (button) button.setAttribute('aria-expanded', 'false');
  }

  async function open(orthancId, button) {
    const panel = document.createElement('section');
    panel.id = PANEL;
    panel.setAttribute('role', 'status');
    panel.style.textShadow = 'none'; // jQuery Mobile's would be inherited
    panel.textContent = 'RadIR is asked …';
    button.after(panel);
    button.setAttribute('aria-expanded', 'true');
    try {
      const answer = await fetch('../studies/' + encodeURIComponent(orthancId));
      const study = await answer.json();
      await import(COMPONENT);
      const component = document.createElement('radir-similar-cases');
      component.setAttribute('study', study.MainDicomTags.StudyInstanceUID);
      panel.removeAttribute('role'); // the component speaks for itself
      panel.replaceChildren(component);
    } catch (error) {
      panel.textContent = 'RadIR cannot be reached. Everything else works; reload this page to try again.';
    }
  }

  $('#study').live('pagebeforecreate', function () {
    const button = $('<a>').attr('id', 'radir-open').attr('data-role', 'button').attr('href', '#')
      .attr('role', 'button').attr('aria-expanded', 'false').attr('aria-controls', PANEL)
      .attr('data-icon', 'search').attr('data-theme', 'e').text('Similar cases');
    button.insertBefore($('#study-delete').parent().parent());
    button.click(function () {
      const study = $.mobile.pageData && $.mobile.pageData.uuid;
      const wasOpen = document.getElementById(PANEL);
      close();
      if (study && !wasOpen) open(study, button[0]);
      return false;
    });
  });
  $('#study').live('pagebeforeshow', close);
})();
