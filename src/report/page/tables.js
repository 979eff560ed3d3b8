// A click on a column's head sorts its table, by numbers where there are some; words in a field leave the rows with them.
function dress(root) {
  for (const table of root.querySelectorAll('table')) {
    const body = table.tBodies[0], rows = [...body.rows];
    if (rows.length < 3) continue;
    const heads = [...table.tHead.rows[0].cells];
    const value = (row, i) => {
      const text = row.cells[i].textContent.trim(), n = parseFloat(text.replace('\u2212', '-').replace(/^[+]/, ''));
      return isNaN(n) ? text : n;
    };
    heads.forEach((head, i) => {
      head.setAttribute('aria-sort', 'none');
      head.tabIndex = 0;
      const sort = () => {
        const up = head.getAttribute('aria-sort') !== 'ascending', sign = up ? 1 : -1;
        for (const other of heads) other.setAttribute('aria-sort', 'none');
        head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
        rows.sort((a, b) => {
          const x = value(a, i), y = value(b, i);
          const order = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === 'number' ? -1 : 1;
          return sign * order;
        });
        body.append(...rows);
      };
      head.addEventListener('click', sort);
      head.addEventListener('keydown', event => { if (event.key === 'Enter') sort(); });
    });
    if (rows.length > 9) {
      const field = document.createElement('input');
      field.type = 'search';
      field.className = 'filter';
      field.placeholder = 'filter rows';
      field.setAttribute('aria-label', 'filter rows');
      field.addEventListener('input', () => {
        const words = field.value.toLowerCase().split(/\s+/);
        for (const row of rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
      });
      table.before(field);
    }
  }
  // What a dot is stands beside the pointer, or where a finger was.
  for (const dot of root.querySelectorAll('figure circle')) {
    const title = dot.querySelector('title');
    if (!title) continue;
    const said = title.textContent;
    dot.setAttribute('aria-label', said);
    title.remove();
    const on = () => tell(dot, said), off = () => tell(null);
    dot.addEventListener('pointerenter', on);
    dot.addEventListener('pointerleave', off);
    dot.parentElement.addEventListener('focus', on);
    dot.parentElement.addEventListener('blur', off);
  }
}
function tell(dot, said) {
  let tip = document.getElementById('tip');
  if (!tip) {
    tip = document.createElement('div');
    tip.id = 'tip';
    tip.setAttribute('role', 'tooltip');
    document.body.append(tip);
  }
  tip.hidden = !dot;
  if (!dot) return;
  const [name, ...lines] = said.split('\n'), bold = document.createElement('b');
  bold.textContent = name;
  tip.replaceChildren(bold, lines.join('\n'));
  tip.style.left = '0';
  const at = dot.getBoundingClientRect(), box = tip.getBoundingClientRect();
  const left = Math.min(at.left + 14, document.documentElement.clientWidth - box.width - 6);
  const above = at.top - box.height - 8;
  tip.style.left = `${Math.max(4, left) + scrollX}px`;
  tip.style.top = `${(above > 4 ? above : at.bottom + 8) + scrollY}px`;
}
dress(document);
// What is folded away is made when it is opened for the first time.
for (const folded of document.querySelectorAll('details[data-kept]')) {
  folded.addEventListener('toggle', () => {
    const kept = document.getElementById(folded.dataset.kept);
    if (!folded.open || !kept) return;
    const inside = document.createElement('div');
    inside.innerHTML = kept.textContent;
    kept.remove();
    folded.append(inside);
    dress(inside);
  });
}
