// Button and panel in Orthanc Explorer. Nothing from an answer becomes HTML: all of it is text.
// Runs inside Orthanc and is therefore offered under the AGPL v3 or later; see README.md beside this file.
(function () {
  'use strict';

  const PRIVATE = { score: '00991001', rank: '00991002', region: '00991005' };

  function element(tag, text) {
    const made = document.createElement(tag);
    if (text !== undefined) {
      made.textContent = text;
    }
    return made;
  }

  function value(row, tag) {
    const found = row[tag] && row[tag].Value && row[tag].Value[0];
    return found === undefined ? '' : found;
  }

  function table(rows) {
    const made = element('table');
    made.setAttribute('aria-label', 'Similar cases');
    made.style.cssText = 'width:100%;text-align:left';
    made.createCaption().textContent = 'Other patients, by likeness in the ' + value(rows[0], PRIVATE.region);
    const head = made.createTHead().insertRow();
    for (const title of ['Rank', 'Score', 'Kind', 'Study']) {
      head.appendChild(element('th', title));
    }
    const body = made.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      line.title = value(row, '0020000D');
      const modalities = (row['00080061'] && row['00080061'].Value || []).join(' ');
      for (const text of [value(row, PRIVATE.rank), Number(value(row, PRIVATE.score)).toFixed(3), modalities,
        value(row, '00081030')]) {
        line.insertCell().textContent = text;
      }
    }
    return made;
  }

  async function ask(study, region, method) {
    const route = '../radir/similar/' + encodeURIComponent(study);
    const answer = method === 'GET'
      ? await fetch(route + '?anatomy=' + encodeURIComponent(region))
      : await fetch(route, { method: method, body: JSON.stringify({ anatomy: region }) });
    if (answer.status === 204) {
      return [];
    }
    const body = await answer.json();
    if (!answer.ok) {
      throw new Error((body.error && body.error.message) || 'no answer (' + answer.status + ')');
    }
    return body;
  }

  function panel(study) {
    const form = element('form');
    form.id = 'radir-panel';
    form.style.cssText = 'border:1px solid #888;border-radius:0.5em;padding:0.8em;margin:0.8em 0';
    const label = element('label', 'Region ');
    const region = element('input');
    region.value = 'chest';
    region.setAttribute('data-role', 'none');
    region.setAttribute('placeholder', 'right lower lobe, LLL, heart …');
    label.appendChild(region);
    const search = element('button', 'Find similar cases');
    search.type = 'submit';
    const save = element('button', 'Save a report');
    save.type = 'button';
    for (const button of [search, save]) {
      button.setAttribute('data-role', 'none');
      button.style.marginLeft = '0.6em';
    }
    const result = element('div');
    result.setAttribute('role', 'status');
    result.setAttribute('aria-live', 'polite');
    const note = element('p', 'Decision support, not diagnosis. ');
    const link = element('a', 'Open in RadIR');
    link.target = '_blank';
    link.rel = 'noopener';
    note.appendChild(link);

    async function run(method, show) {
      result.textContent = 'Searching …';
      try {
        result.replaceChildren(show(await ask(study, region.value, method)));
      } catch (error) {
        result.textContent = error.message;
      }
    }
    form.addEventListener('submit', function (event) {
      event.preventDefault();
      run('GET', function (rows) {
        return rows.length ? table(rows) : element('p', 'No similar case of another patient yet.');
      });
    });
    save.addEventListener('click', function () {
      run('POST', function () { return element('p', 'The report was added to this study.'); });
    });
    form.append(label, search, save, result, note);
    fetch('../studies/' + encodeURIComponent(study)).then(function (answer) { return answer.json(); })
      .then(function (found) {
        link.href = RADIR_PUBLIC_URL + '/sidebar?StudyInstanceUID=' +
          encodeURIComponent(found.MainDicomTags.StudyInstanceUID);
      });
    return form;
  }

  $('#study').live('pagebeforecreate', function () {
    const button = $('<a>').attr('id', 'radir-open').attr('data-role', 'button').attr('href', '#')
      .attr('data-icon', 'search').attr('data-theme', 'e').text('Similar cases');
    button.insertBefore($('#study-delete').parent().parent());
    button.click(function () {
      const study = $.mobile.pageData && $.mobile.pageData.uuid;
      $('#radir-panel').remove();
      if (study) {
        $(panel(study)).insertAfter(button);
      }
      return false;
    });
  });
  $('#study').live('pagebeforeshow', function () { $('#radir-panel').remove(); });
})();
