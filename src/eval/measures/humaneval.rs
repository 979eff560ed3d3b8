//! From a model's response to the program that the tests of `HumanEval` run on.
//!
//! Chen et al., "Evaluating Large Language Models Trained on Code", 2021, arXiv 2107.03374. Three published ways that
//! differ on the same response: a base model continues the prompt, a chat model writes the function again.

const FENCE: &str = "```";

/// lm-eval `humaneval`: the response continues the prompt as it is.
pub fn lm_eval(prompt: &str, response: &str) -> String {
    format!("{prompt}{response}")
}

/// lm-eval `humaneval_instruct`, whose assistant turn begins with an open fence: the response up to the next fence.
///
/// A chat model that opens a fence of its own leaves nothing.
pub fn lm_eval_instruct(prompt: &str, response: &str) -> String {
    let code = response.split_once(FENCE).map_or(response, |(code, _)| code);
    format!("{prompt}{code}")
}

/// Whether a response puts its program into a fence of its own, which neither of lm-eval's rules reads.
///
/// In an `opened` fence the first one that follows closes it, and others come in pairs.
pub fn has_own_fence(response: &str, opened: bool) -> bool {
    let n_fences = response.matches(FENCE).count();
    n_fences > 0 && (!opened || n_fences.is_multiple_of(2))
}

/// The first fenced block of Python in a text, fences and language left out.
pub fn first_python_block(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("```python\n")?;
    rest.split_once(FENCE).map(|(code, _)| code)
}

/// openai/simple-evals: the body that continues the prompt, cut from the first fenced block or, without one, from the
/// whole response.
///
/// The body starts at the first line indented behind a colon. Where there is none, upstream's arithmetic drops the
/// first character instead: a bare body loses a blank and no longer parses.
pub fn simple_evals(response: &str) -> &str {
    let code = first_python_block(response).unwrap_or(response);
    match code.find(":\n    ") {
        Some(colon) => &code[colon + 2..],
        None => code.char_indices().nth(1).map_or("", |(second, _)| &code[second..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_closed_block_counts() {
        let text = "So:\n```python\nx = 1\n```\nor\n```python\ny = 2\n```";
        assert_eq!(first_python_block(text), Some("x = 1\n"));
        assert_eq!(first_python_block("```python\nx = 1"), None);
        assert_eq!(first_python_block("```\nx = 1\n```"), None);
    }

    #[test]
    fn a_fence_that_closes_the_opened_one_is_not_the_responses_own() {
        let own =
            ["```python\nreturn 1\n```", "So:\n\n```\nreturn 1\n```\nThat is all.", "```py\nreturn 1\n```"];
        let opened = ["    return 1\n", "    return 1\n```", "    return 1\n```\nTry it:\n```\nf()\n```"];
        assert!(own.iter().all(|response| has_own_fence(response, true) && has_own_fence(response, false)));
        assert!(opened.iter().all(|response| !has_own_fence(response, true)));
        assert!(!has_own_fence(opened[0], false) && has_own_fence(opened[1], false));
    }

    #[test]
    fn a_response_without_a_signature_loses_its_first_character() {
        assert_eq!(simple_evals("    return 1"), "   return 1");
        assert_eq!(simple_evals("é"), "");
        assert_eq!(simple_evals(""), "");
        assert_eq!(simple_evals("def f():\n    return 1"), "    return 1");
    }
}
