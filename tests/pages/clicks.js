// Runs behind a page's own script: looks at pictures, sorts and filters tables, and says what it found.
(() => {
  const faults = [];
  const check = (holds, what) => { if (!holds) faults.push(what); };
  const figures = [...document.querySelectorAll('figure svg')];
  const wanted = document.querySelector('section.pictures') !== null;
  check(!wanted || figures.length > 0, 'a section of pictures without one');
  for (const svg of figures) {
    const box = svg.getBoundingClientRect();
    check(box.width > 100 && box.height > 100, 'a picture without size');
    check(box.right <= innerWidth + 1, 'a picture wider than the page');
  }
  const dots = [...document.querySelectorAll('figure circle')];
  for (const dot of dots) check(/: .* %/.test(dot.querySelector('title')?.textContent ?? ''), 'a dot that says nothing');
  let sorted = 0, filtered = 0;
  for (const table of document.querySelectorAll('table')) {
    const rows = () => [...table.tBodies[0].rows];
    const before = rows().length;
    const head = table.tHead.rows[0].cells[0];
    if (head.hasAttribute('aria-sort')) {
      head.click();
      const up = rows().map(row => row.cells[0].textContent);
      head.click();
      const down = rows().map(row => row.cells[0].textContent);
      check(head.getAttribute('aria-sort') === 'descending', 'a table that does not say how it is sorted');
      check(up.length === before && up[0] === down[down.length - 1], 'a table that cannot be turned round');
      sorted += 1;
    }
    const field = table.previousElementSibling;
    if (field?.matches('input.filter')) {
      const word = rows()[0].cells[0].textContent;
      field.value = word;
      field.dispatchEvent(new Event('input'));
      const shown = rows().filter(row => !row.hidden);
      check(shown.length > 0 && shown.every(row => row.textContent.includes(word)), 'a filter that leaves others');
      field.value = '';
      field.dispatchEvent(new Event('input'));
      check(rows().every(row => !row.hidden), 'a filter that cannot be taken back');
      filtered += 1;
    }
  }
  const all = document.querySelectorAll('article');
  if (all.length > 0) {
    const words = document.getElementById('words');
    words.value = 'no answer says this';
    words.dispatchEvent(new Event('input'));
    check([...all].every(article => article.hidden), 'answers that stay when nothing fits');
    words.value = '';
    words.dispatchEvent(new Event('input'));
    check([...all].every(article => !article.hidden), 'answers that do not come back');
  }
  const out = document.createElement('output');
  out.id = 'checked';
  const counts = `${figures.length} pictures, ${dots.length} dots, ${sorted} tables sorted, ${filtered} filtered, ${all.length} answers`;
  out.textContent = faults.length ? `${faults.join('; ')} (${counts})` : `ok: ${counts}`;
  document.body.append(out);
})();
