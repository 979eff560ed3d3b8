//! Dots of a picture that say what they are, and lead somewhere.

/// Whose dot it is, and what is said of it where somebody points at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    pub candidate: String,
    /// Lines of text.
    pub said: String,
}

/// The picture whose every dot has a title, which a page shows where somebody points at it.
pub(super) fn told<'s>(svg: &str, spots: impl Iterator<Item = &'s Spot>) -> String {
    let mut spots = spots.map(|spot| escaped(&spot.said));
    each_circle(svg, |circle| {
        let title = spots.next().unwrap_or_default();
        format!("<circle {circle}><title>{title}</title></circle>")
    })
}

/// The picture in which each dot that has an address leads there.
pub fn linked(svg: &str, addresses: &[Option<String>]) -> String {
    let mut addresses = addresses.iter();
    let mut parts = svg.split("<circle ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (circle, rest) = part.split_once("</circle>").unwrap_or((part, ""));
        let circle = format!("<circle {circle}</circle>");
        match addresses.next().and_then(Option::as_deref) {
            Some(address) => text.extend(["<a href=\"", &escaped(address), "\">", &circle, "</a>", rest]),
            None => text.extend([circle.as_str(), rest]),
        }
    }
    text
}

/// The picture with each circle as `drawn` makes it of its attributes.
fn each_circle(svg: &str, mut drawn: impl FnMut(&str) -> String) -> String {
    let mut parts = svg.split("<circle ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (circle, rest) = part.split_once("/>").unwrap_or((part, ""));
        text.push_str(&drawn(circle));
        text.push_str(rest);
    }
    text
}

/// Text that cannot become markup, inside elements and quoted attributes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_says_what_it_is_and_leads_where_it_has_an_address() {
        let svg = "<svg><circle r=\"1\"/>\n<circle r=\"2\"/>\n</svg>";
        let spot = |said: &str| Spot { candidate: "c".to_owned(), said: said.to_owned() };
        let spots = [spot("<a>"), spot("b")];
        let told = told(svg, spots.iter());
        assert_eq!(told.matches("</circle>").count(), 2);
        let linked = linked(&told, &[None, Some("x?a=1&b=\"".to_owned())]);
        assert_eq!(
            linked,
            "<svg><circle r=\"1\"><title>&lt;a&gt;</title></circle>\n\
             <a href=\"x?a=1&amp;b=&quot;\"><circle r=\"2\"><title>b</title></circle></a>\n</svg>"
        );
    }
}
