//! What every page has: one file that needs nothing else, no network and no other file, in light and dark.
//!
//! Markup is put together here and not by templates: a page is a dozen lines of it around tables and pictures that
//! exist as values, and whether text is escaped shows at the place where it is written.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::plot::{Picture, linked};
use super::table::Table;

const STYLE: &str = include_str!("style.css");

/// The script of every page of tables and pictures.
pub(super) const TABLES: &str = include_str!("tables.js");

/// The page up to its first section; `about` is markup, `style` stands behind that of all pages. Only `script` may run,
/// whatever else is written into the page, and nothing is fetched.
pub(super) fn begun(title: &str, about: &str, style: &str, script: &str) -> String {
    let allowed = STANDARD.encode(Sha256::digest(script));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; \
         style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; script-src 'sha256-{allowed}'\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"referrer\" content=\"no-referrer\">\
         <title>{0}</title><style>{STYLE}{style}</style></head><body><header><h1>{0}</h1>{about}</header><main>\n",
        escaped(title),
    )
}

/// The page with its end.
pub(super) fn ended(mut page: String, script: &str) -> String {
    let _ = writeln!(page, "</main><script>{script}</script></body></html>");
    page
}

/// Where the dots of a candidate lead; none for nowhere.
pub(super) type Address<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Pictures side by side where there is room.
pub(super) fn shown(page: &mut String, pictures: &[Picture], address: Address<'_>) {
    if pictures.is_empty() {
        return;
    }
    let figure = |Picture { title, svg, dots, .. }: &Picture| {
        let label = escaped(title);
        let addresses: Vec<_> = dots.iter().map(|candidate| address(candidate)).collect();
        format!("<figure><figcaption>{label}</figcaption>{}</figure>\n", linked(svg, &addresses))
    };
    let figures: String = pictures.iter().map(figure).collect();
    let _ = writeln!(page, "<section class=\"pictures\">{figures}</section>");
}

/// Pictures that lie in files, which may hold anything: shown as images, in which no script runs.
pub(super) fn quoted(page: &mut String, title: &str, pictures: &[(String, String)]) {
    if pictures.is_empty() {
        return;
    }
    let figure = |(title, svg): &(String, String)| {
        let (label, bytes) = (escaped(title), STANDARD.encode(svg));
        format!("<figure><img alt=\"{label}\" src=\"data:image/svg+xml;base64,{bytes}\"></figure>\n")
    };
    let figures: String = pictures.iter().map(figure).collect();
    let _ = writeln!(page, "<section><h2>{title}</h2><div class=\"pictures\">{figures}</div></section>");
}

/// A table under its title, unless it has no rows.
pub(super) fn section(page: &mut String, title: &str, table: &Table, note: &str) {
    if !table.rows.is_empty() {
        let table = table_html(table, None);
        let _ = writeln!(page, "<section><h2>{title}</h2>{table}<p class=\"note\">{note}</p></section>");
    }
}

/// A table under its title whose every row can be led to by its name.
pub(super) fn named_rows(page: &mut String, title: &str, table: &Table, names: &[&str], note: &str) {
    let table = table_html(table, Some(names));
    let _ = writeln!(page, "<section><h2>{title}</h2>{table}<p class=\"note\">{note}</p></section>");
}

/// Where a row of [`named_rows`] is found on its page.
pub(super) fn row_address(name: &str) -> String {
    format!("#{}", in_address(&row_id(name)))
}

fn row_id(name: &str) -> String {
    format!("row-{}", name.replace(char::is_whitespace, "_"))
}

/// A table that a click opens.
pub(super) fn folded(page: &mut String, title: &str, table: &Table) {
    if !table.rows.is_empty() {
        let table = table_html(table, None);
        let _ = writeln!(page, "<details><summary>{title}</summary>{table}</details>");
    }
}

/// Markup that is made into a page's part when a click opens it for the first time; `id` is a word.
///
/// It stands in a script of no language: a hundred tables and pictures cost no time while nobody looks at them.
pub(super) fn kept(page: &mut String, id: &str, title: &str, markup: &str) {
    debug_assert!(!markup.contains("<script") && !markup.contains("</script"), "our markup has none");
    let _ = writeln!(
        page,
        "<details data-kept=\"{id}\"><summary>{title}</summary></details>\
         <script type=\"text/plain\" id=\"{id}\">{markup}</script>"
    );
}

fn table_html(table: &Table, names: Option<&[&str]>) -> String {
    let cells = |cells: &[String], tag: &str| {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect::<String>()
    };
    let row = |(nth, row): (usize, &Vec<String>)| {
        let name = names.and_then(|names| names.get(nth));
        let id = name.map(|name| format!(" id=\"{}\"", escaped(&row_id(name)))).unwrap_or_default();
        format!("<tr{id}>{}</tr>\n", cells(row, "td"))
    };
    let rows: String = table.rows.iter().enumerate().map(row).collect();
    let head = cells(&table.header, "th");
    format!("<table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>")
}

/// Text that cannot become markup, inside elements and quoted attributes.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text as a part of an address: all but plain letters and digits as the hexadecimals of its bytes.
pub(super) fn in_address(text: &str) -> String {
    let mut address = String::new();
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            true => address.push(char::from(byte)),
            false => {
                let _ = write!(address, "%{byte:02X}");
            }
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_cannot_write_markup() {
        assert_eq!(escaped("<script>\"&"), "&lt;script&gt;&quot;&amp;");
    }

    #[test]
    fn a_page_runs_its_own_script_alone_and_fetches_nothing() {
        let page = ended(begun("<t>", "", "", "let x=1"), "let x=1");
        // printf 'let x=1' | openssl dgst -sha256 -binary | base64
        assert!(
            page.contains("script-src 'sha256-jPCBnli0nkBekoULt7L8mFz6rvqpR5EcTWHznZRuEvs='\""),
            "{page}"
        );
        assert!(page.contains("default-src 'none'") && page.contains("<h1>&lt;t&gt;</h1>"));
        assert!(page.trim_end().ends_with("<script>let x=1</script></body></html>"));
    }

    #[test]
    fn an_address_leads_to_the_row_of_its_name() {
        assert_eq!(row_address("ties:0.5,density=0.2 a"), "#row-ties%3A0.5%2Cdensity%3D0.2_a");
        let table = Table { header: vec!["a".to_owned()], rows: vec![vec!["b".to_owned()]] };
        let mut page = String::new();
        named_rows(&mut page, "T", &table, &["linear:0.5 \"x\""], "");
        assert!(page.contains("<tr id=\"row-linear:0.5_&quot;x&quot;\">"), "{page}");
        assert_eq!(in_address("λ/ä"), "%CE%BB%2F%C3%A4");
    }
}
