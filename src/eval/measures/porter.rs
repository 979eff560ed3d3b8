//! Porter's stemmer, with the additions of NLTK.
//!
//! Porter, "An algorithm for suffix stripping", 1980. `nltk.stem.PorterStemmer` in its default mode departs from the
//! paper: a list of irregular words, short words in `-ies`, `-ied` and `-y`, and a few more suffixes. `rouge-score`
//! stems with it.

/// Words that no rule gets right, and their stems.
const IRREGULAR: &[(&str, &str)] = &[
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// A suffix, what replaces it, and what the rest of the word must be for that.
type Rule = (&'static str, &'static str, fn(&str) -> bool);

const STEP_1A: &[Rule] =
    &[("sses", "ss", always), ("ies", "i", always), ("ss", "ss", always), ("s", "", always)];

const STEP_2: &[Rule] = &[
    ("ational", "ate", measured),
    ("tional", "tion", measured),
    ("enci", "ence", measured),
    ("anci", "ance", measured),
    ("izer", "ize", measured),
    ("bli", "ble", measured),
    ("alli", "al", measured),
    ("entli", "ent", measured),
    ("eli", "e", measured),
    ("ousli", "ous", measured),
    ("ization", "ize", measured),
    ("ation", "ate", measured),
    ("ator", "ate", measured),
    ("alism", "al", measured),
    ("iveness", "ive", measured),
    ("fulness", "ful", measured),
    ("ousness", "ous", measured),
    ("aliti", "al", measured),
    ("iviti", "ive", measured),
    ("biliti", "ble", measured),
    ("fulli", "ful", measured),
    // The `l` counts with the rest, so that `geo` and `theo` are long enough.
    ("logi", "log", |rest| measure(&format!("{rest}l")) > 0),
];

const STEP_3: &[Rule] = &[
    ("icate", "ic", measured),
    ("ative", "", measured),
    ("alize", "al", measured),
    ("iciti", "ic", measured),
    ("ical", "ic", measured),
    ("ful", "", measured),
    ("ness", "", measured),
];

const STEP_4: &[Rule] = &[
    ("al", "", long),
    ("ance", "", long),
    ("ence", "", long),
    ("er", "", long),
    ("ic", "", long),
    ("able", "", long),
    ("ible", "", long),
    ("ant", "", long),
    ("ement", "", long),
    ("ment", "", long),
    ("ent", "", long),
    ("ion", "", |rest| long(rest) && rest.ends_with(['s', 't'])),
    ("ou", "", long),
    ("ism", "", long),
    ("ate", "", long),
    ("iti", "", long),
    ("ous", "", long),
    ("ive", "", long),
    ("ize", "", long),
];

const STEP_5B: &[Rule] = &[("ll", "l", |rest| measure(&format!("{rest}l")) > 1)];

/// The stem of a word, in lower case.
pub fn stem(word: &str) -> String {
    let lower = word.to_lowercase();
    if let Some((_, stem)) = IRREGULAR.iter().find(|(form, _)| *form == lower) {
        return (*stem).to_owned();
    }
    if word.chars().count() <= 2 {
        return lower;
    }
    let word = step_1c(step_1b(&step_1a(&lower)));
    let word = replaced(&step_2(&word), STEP_3);
    replaced(&step_5a(replaced(&word, STEP_4)), STEP_5B)
}

/// The first rule whose suffix the word has decides, and no other is tried.
fn replaced(word: &str, rules: &[Rule]) -> String {
    for (suffix, replacement, condition) in rules {
        if let Some(rest) = word.strip_suffix(suffix) {
            return if condition(rest) { format!("{rest}{replacement}") } else { word.to_owned() };
        }
    }
    word.to_owned()
}

fn step_1a(word: &str) -> String {
    match word.strip_suffix("ies") {
        Some(rest) if rest.chars().count() == 1 => format!("{rest}ie"),
        _ => replaced(word, STEP_1A),
    }
}

fn step_1b(word: &str) -> String {
    if let Some(rest) = word.strip_suffix("ied") {
        return format!("{rest}{}", if rest.chars().count() == 1 { "ie" } else { "i" });
    }
    if let Some(rest) = word.strip_suffix("eed") {
        return if measured(rest) { format!("{rest}ee") } else { word.to_owned() };
    }
    let rest =
        ["ed", "ing"].iter().find_map(|suffix| word.strip_suffix(suffix).filter(|rest| has_vowel(rest)));
    let Some(rest) = rest else { return word.to_owned() };
    if rest.ends_with("at") || rest.ends_with("bl") || rest.ends_with("iz") {
        return format!("{rest}e");
    }
    if ends_double(rest) {
        let kept = if rest.ends_with(['l', 's', 'z']) { rest } else { without_last(rest) };
        return kept.to_owned();
    }
    if measure(rest) == 1 && ends_short(rest) { format!("{rest}e") } else { rest.to_owned() }
}

/// `y` to `i` behind a consonant that is not the whole rest.
fn step_1c(word: String) -> String {
    match word.strip_suffix('y') {
        Some(rest) if rest.chars().count() > 1 && consonants(rest).last() == Some(&true) => {
            format!("{rest}i")
        }
        _ => word,
    }
}

fn step_2(word: &str) -> String {
    // Other than in the paper `-alli` goes first, and what is left runs through the step again.
    match word.strip_suffix("alli").filter(|rest| measured(rest)) {
        Some(rest) => step_2(&format!("{rest}al")),
        None => replaced(word, STEP_2),
    }
}

fn step_5a(word: String) -> String {
    match word.strip_suffix('e') {
        Some(rest) if long(rest) || (measure(rest) == 1 && !ends_short(rest)) => rest.to_owned(),
        _ => word,
    }
}

/// For each letter whether it is a consonant: a `y` is one where the letter before it is not.
fn consonants(word: &str) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for c in word.chars() {
        flags.push(match c {
            'a' | 'e' | 'i' | 'o' | 'u' => false,
            'y' => flags.last() != Some(&true),
            _ => true,
        });
    }
    flags
}

/// The paper's m: how often a consonant follows a vowel.
fn measure(word: &str) -> usize {
    consonants(word).windows(2).filter(|pair| !pair[0] && pair[1]).count()
}

fn always(_: &str) -> bool {
    true
}

fn measured(word: &str) -> bool {
    measure(word) > 0
}

fn long(word: &str) -> bool {
    measure(word) > 1
}

fn has_vowel(word: &str) -> bool {
    consonants(word).contains(&false)
}

/// The paper's *d: the last letter twice, a consonant.
fn ends_double(word: &str) -> bool {
    let mut ends = word.chars().rev();
    let last = ends.next();
    last.is_some() && last == ends.next() && consonants(word).last() == Some(&true)
}

/// The paper's *o: consonant, vowel, consonant other than w, x and y; here also a word of a vowel and a consonant.
fn ends_short(word: &str) -> bool {
    match consonants(word).as_slice() {
        [false, true] => true,
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        _ => false,
    }
}

fn without_last(word: &str) -> &str {
    let mut chars = word.chars();
    chars.next_back();
    chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nltks_additions_are_applied() {
        for (word, expected) in [
            ("dies", "die"),
            ("died", "die"),
            ("tried", "tri"),
            ("enjoy", "enjoy"),
            ("spy", "spi"),
            ("theologically", "theolog"),
            ("geology", "geolog"),
            ("Skies", "sky"),
            ("yyyy", "yyyi"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
    }

    #[test]
    fn any_text_has_a_stem() {
        for word in ["", "s", "ss", "ed", "ing", "éed", "ßing", "żżed", "ies", "ied", "e", "ly", "100", "y"]
        {
            stem(word);
        }
    }
}
