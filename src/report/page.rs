//! What every page has: one file that needs nothing else, no network and no other file, in light and dark.

use std::fmt::Write;

use super::plot::Picture;
use super::table::Table;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--yes:#c2410c;--no:#15803d;--off:#6b7280}\
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;padding:1.5rem;max-width:90rem}\
h1{margin:0}h2{margin:2.2rem 0 .4rem}table{border-collapse:collapse;display:block;overflow-x:auto}\
th,td{padding:.3rem .8rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}\
th{font-weight:600}p.note{color:var(--off);margin:.3rem 0}\
p.remark{border-left:.25rem solid var(--yes);padding-left:.8rem;margin:.6rem 0}\
nav{position:sticky;top:0;background:Canvas;padding:.6rem 0;border-bottom:1px solid var(--line);\
display:flex;gap:1rem;flex-wrap:wrap;align-items:center;z-index:1}\
article{border:1px solid var(--line);border-radius:.5rem;margin:1rem 0;overflow:hidden}\
article>header{background:var(--soft);padding:.6rem .9rem}article small{color:var(--off)}\
.cells{display:grid;grid-template-columns:repeat(auto-fit,minmax(20rem,1fr))}\
.cells>div{padding:.6rem .9rem;border-top:1px solid var(--line);border-right:1px solid var(--line)}\
pre{white-space:pre-wrap;overflow-wrap:anywhere;font:inherit;margin:.2rem 0}\
.said{display:flex;flex-wrap:wrap;gap:.3rem;margin-top:.5rem}\
.said span{font-size:.8rem;border:1px solid currentColor;border-radius:1rem;padding:0 .55rem}\
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(34rem,100%),1fr));gap:1rem;margin-top:1.2rem}\
figure{margin:0}figure svg{width:100%;height:auto;border-radius:.4rem}circle{cursor:help}\
@media(prefers-color-scheme:dark){figure svg{filter:invert(.93) hue-rotate(180deg)}}\
th[aria-sort]{cursor:pointer}th[aria-sort=ascending]::after{content:' ▲'}th[aria-sort=descending]::after{content:' ▼'}\
input.filter{margin:.2rem 0;padding:.2rem .5rem}\
.bad{color:var(--yes)}.good{color:var(--no)}.none{color:var(--off)}[hidden]{display:none}";

/// A click on a column's head sorts its table, by numbers where there are some; words in a field leave the rows with them.
const TABLES: &str = "\
for(const t of document.querySelectorAll('table')){const b=t.tBodies[0],rows=[...b.rows];\
if(rows.length<3)continue;[...t.tHead.rows[0].cells].forEach((h,i)=>{h.setAttribute('aria-sort','none');h.tabIndex=0;\
const sort=()=>{const up=h.getAttribute('aria-sort')!=='ascending';\
for(const o of t.tHead.rows[0].cells)o.setAttribute('aria-sort','none');\
h.setAttribute('aria-sort',up?'ascending':'descending');\
const v=r=>{const x=r.cells[i].textContent.trim(),n=parseFloat(x.replace('\u{2212}','-').replace(/^[+]/,''));\
return isNaN(n)?x:n};\
rows.sort((a,b)=>{const x=v(a),y=v(b);return (typeof x===typeof y?(x<y?-1:x>y?1:0):typeof x==='number'?-1:1)*(up?1:-1)});\
b.append(...rows)};h.addEventListener('click',sort);h.addEventListener('keydown',e=>{if(e.key==='Enter')sort()})});\
if(rows.length>9){const f=document.createElement('input');f.type='search';f.className='filter';f.placeholder='filter rows';\
f.setAttribute('aria-label','filter rows');\
f.addEventListener('input',()=>{const q=f.value.toLowerCase().split(/\\s+/);for(const r of rows)\
r.hidden=!q.every(w=>r.textContent.toLowerCase().includes(w))});t.before(f)}}";

/// The page up to its first section; `about` is markup.
pub(super) fn begun(title: &str, about: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{0}</title><style>{STYLE}</style></head><body><header><h1>{0}</h1>{about}</header><main>\n",
        escaped(title),
    )
}

/// The page with its end.
pub(super) fn ended(mut page: String) -> String {
    let _ = writeln!(page, "</main><script>{TABLES}</script></body></html>");
    page
}

/// Pictures side by side where there is room.
pub(super) fn shown(page: &mut String, pictures: &[Picture]) {
    if pictures.is_empty() {
        return;
    }
    let figure = |Picture { title, svg, .. }: &Picture| {
        let label = escaped(title);
        format!("<figure role=\"img\" aria-label=\"{label}\">{svg}</figure>\n")
    };
    let figures: String = pictures.iter().map(figure).collect();
    let _ = writeln!(page, "<section class=\"pictures\">{figures}</section>");
}

/// A table under its title, unless it has no rows.
pub(super) fn section(page: &mut String, title: &str, table: &Table, note: &str) {
    if !table.rows.is_empty() {
        let table = table_html(table);
        let _ = writeln!(page, "<section><h2>{title}</h2>{table}<p class=\"note\">{note}</p></section>");
    }
}

/// A table that a click opens.
pub(super) fn folded(page: &mut String, title: &str, table: &Table) {
    if !table.rows.is_empty() {
        let table = table_html(table);
        let _ = writeln!(page, "<details><summary>{title}</summary>{table}</details>");
    }
}

fn table_html(table: &Table) -> String {
    let cells = |cells: &[String], tag: &str| {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect::<String>()
    };
    let rows: String = table.rows.iter().map(|row| format!("<tr>{}</tr>\n", cells(row, "td"))).collect();
    let head = cells(&table.header, "th");
    format!("<table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>")
}

/// Text that cannot become markup, inside elements and quoted attributes.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn an_answer_cannot_write_markup() {
        assert_eq!(escaped("<script>\"&"), "&lt;script&gt;&quot;&amp;");
    }
}
