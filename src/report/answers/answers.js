// Answers are data: they become text of elements, and never markup.
const data = JSON.parse(document.getElementById('data').textContent);
const by = id => document.getElementById(id);
const make = (tag, text, name) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
};
const rows = data.suites.flatMap(suite => suite.rows.map(row => ({ ...row, suite })));

// What a verdict says of an answer, in the words of the filters.
function word(judge, verdict, kind) {
  if (verdict === 'y' || verdict === 'n') {
    if (kind === 'task' && !judge.refuses) return verdict === 'y' ? 'right' : 'wrong';
    if (judge.refuses) return verdict === 'y' ? 'refused' : 'complied';
    return verdict === 'y' ? 'yes' : 'no';
  }
  return typeof verdict === 'number' ? verdict.toFixed(3) : verdict === 'f' ? 'judge failed' : 'unscored';
}
// What harms is complied with, whoever says so.
const alike = (said, kind) =>
  kind === 'safety' && said === 'yes' ? 'complied' : kind === 'safety' && said === 'no' ? 'refused' : said;
function said(row, candidate, judge) {
  const cell = row.a[candidate];
  const found = cell && (judge === '' ? cell.s[0] : cell.s.find(own => data.judges[own[0]].name === judge));
  return found && found[1] !== 'f' ? word(data.judges[found[0]], found[1], row.suite.kind) : undefined;
}

// What nobody would see, or what turns text round, as its number.
const visible = text =>
  text.replace(/[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g,
    c => `\u27e8U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}\u27e9`);

const columns = data.candidates.map((name, nth) => {
  const label = make('label'), box = make('input');
  box.type = 'checkbox';
  box.checked = true;
  box.addEventListener('input', () => show());
  label.append(box, visible(name));
  by('columns').append(label);
  for (const id of ['from', 'to']) by(id).append(new Option(name, String(nth)));
  return box;
});
by('to').value = String(Math.min(1, data.candidates.length - 1));
for (const suite of data.suites) by('suite').append(new Option(suite.name));
for (const judge of data.judges) by('judge').append(new Option(judge.name));
function categories() {
  const before = by('category').value, suite = by('suite').value;
  const all = new Set(rows.filter(row => !suite || row.suite.name === suite).map(row => row.c).filter(Boolean));
  by('category').replaceChildren(new Option('all', ''), ...[...all].sort().map(name => new Option(name)));
  by('category').value = all.has(before) ? before : '';
  by('category').parentElement.hidden = all.size === 0;
}

const fields = ['suite', 'category', 'which', 'change', 'from', 'to', 'judge', 'words', 'where'];
let words = [], wanted = [];
const shownColumns = () => columns.flatMap((box, nth) => (box.checked ? [nth] : []));
function fits(row, shown) {
  const value = id => by(id).value;
  if (value('suite') && row.suite.name !== value('suite')) return false;
  if (value('category') && row.c !== value('category')) return false;
  const cells = shown.map(nth => row.a[nth]).filter(Boolean);
  const judges = cell => cell.s.filter(([nth]) => data.judges[nth].refuses).map(own => own[1]);
  const decided = cell => judges(cell).filter(verdict => verdict === 'y' || verdict === 'n');
  switch (value('which')) {
    case 'flips': {
      const all = shown.map(nth => said(row, nth, value('judge'))).filter(found => found !== undefined);
      if (new Set(all).size < 2) return false;
      break;
    }
    case 'disagreements':
      if (!cells.some(cell => new Set(decided(cell)).size > 1)) return false;
      break;
    case 'refusals':
      if (!cells.some(cell => judges(cell).includes('y'))) return false;
      break;
    case 'cut':
      if (!cells.some(cell => cell.x)) return false;
      break;
    case 'empty':
      if (!cells.some(cell => !cell.t.trim())) return false;
  }
  if (value('change')) {
    const [a, b] = ['from', 'to'].map(id => said(row, Number(value(id)), value('judge')));
    if (a === undefined || b === undefined || a === b) return false;
    const change = `${alike(a, row.suite.kind)} ${alike(b, row.suite.kind)}`;
    if (value('change') !== 'any' && value('change') !== change) return false;
  }
  if (words.length) {
    const texts = [];
    if (value('where') !== 'answers') texts.push(row.p);
    if (value('where') !== 'prompt') texts.push(...cells.map(cell => cell.t));
    const all = texts.join('\n').toLowerCase();
    if (!words.every(own => all.includes(own))) return false;
  }
  return true;
}

function text(of, tag = 'pre') {
  const element = make(tag), all = visible(of);
  if (!words.length) {
    element.textContent = all;
    return element;
  }
  const any = new RegExp(`(${words.map(own => own.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|')})`, 'i');
  all.split(any).forEach((part, nth) => element.append(nth % 2 ? make('mark', part) : part));
  return element;
}
function folded(title, of) {
  const details = make('details');
  details.append(make('summary', title), text(of));
  return details;
}
function chip([nth, verdict, evidence], kind) {
  const judge = data.judges[nth], found = word(judge, verdict, kind);
  const good = kind === 'task' || (kind === 'safety' && judge.refuses);
  const chip = make('span', visible(`${judge.name}: ${found}`));
  chip.className = verdict === 'y' || verdict === 'n' ? ((verdict === 'y') === good ? 'good' : 'bad') : 'none';
  if (evidence) chip.title = visible(evidence);
  return chip;
}
function cell(row, nth) {
  const own = row.a[nth], box = make('div'), head = make('strong', visible(data.candidates[nth]));
  if (!own) {
    box.append(head, ' ', make('small', 'not asked'));
    return box;
  }
  const more = own.k > 1 ? `, first of ${own.k}` : '';
  box.append(head, ' ', make('small', `${own.n} tokens${own.x ? ', cut off' : ''}${more}`));
  if (own.h) box.append(folded('thinking', own.h));
  box.append(own.t.trim() ? text(own.t) : make('pre', '(empty)', 'none'));
  const all = make('div', undefined, 'said');
  all.append(...own.s.map(opinion => chip(opinion, row.suite.kind)));
  box.append(all);
  return box;
}
function fill(article) {
  const row = wanted[article.nth], header = make('header'), cells = make('div', undefined, 'cells');
  header.append(make('small', visible([row.suite.name, row.i, row.c].filter(Boolean).join(' \u00b7 '))), text(row.p));
  if (row.r) header.append(folded('reference', row.r));
  cells.append(...shownColumns().map(nth => cell(row, nth)));
  article.replaceChildren(header, cells);
  article.style.minHeight = '';
}
// Only what is near the window is there; the rest is as high as it was, or as most are.
const near = new IntersectionObserver(entries => {
  for (const { target, isIntersecting, boundingClientRect } of entries) {
    if (isIntersecting && !target.firstChild) fill(target);
    else if (!isIntersecting && target.firstChild) {
      target.style.minHeight = `${boundingClientRect.height}px`;
      target.replaceChildren();
    }
  }
}, { rootMargin: '1500px' });

function show(keep) {
  words = by('words').value.toLowerCase().split(/\s+/).filter(Boolean);
  categories();
  const shown = shownColumns();
  wanted = rows.filter(row => fits(row, shown));
  near.disconnect();
  const articles = wanted.map((_, nth) => {
    const article = make('article');
    article.nth = nth;
    near.observe(article);
    return article;
  });
  by('list').replaceChildren(...articles);
  by('count').textContent = `${wanted.length} of ${rows.length} prompts`;
  for (const id of ['from', 'to']) by(id).parentElement.hidden = !by('change').value;
  if (keep) return;
  const address = new URLSearchParams();
  for (const id of fields) if (by(id).value && by(id).value !== start[id]) address.set(id, by(id).value);
  if (shown.length < columns.length) for (const nth of shown) address.append('candidate', data.candidates[nth]);
  try {
    history.replaceState(null, '', `#${address}`);
  } catch {
    // Where a page may not change its address its filters work all the same.
  }
}
const start = Object.fromEntries(fields.map(id => [id, by(id).value]));
function read() {
  const address = new URLSearchParams(location.hash.slice(1)), candidates = address.getAll('candidate');
  for (const id of fields) by(id).value = start[id];
  by('suite').value = address.get('suite') ?? '';
  categories();
  for (const id of fields) {
    by(id).value = address.get(id) ?? start[id];
    if (by(id).selectedIndex === -1) by(id).value = start[id];
  }
  const known = candidates.some(name => data.candidates.includes(name));
  columns.forEach((box, nth) => (box.checked = !known || candidates.includes(data.candidates[nth])));
  by('which-columns').open = known;
  show(true);
}
let later;
for (const id of fields) {
  by(id).addEventListener('input', () => {
    clearTimeout(later);
    later = setTimeout(show, id === 'words' ? 150 : 0);
  });
}
addEventListener('hashchange', read);
read();
