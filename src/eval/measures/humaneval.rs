//! From a model's response to the program that the tests of `HumanEval` run on.
//!
//! Chen et al., "Evaluating Large Language Models Trained on Code", 2021, arXiv 2107.03374. Three published ways that
//! differ on the same response, since a base model continues the prompt and a chat model writes the function again; and
//! [`fenced`], ours, for chat models that open a fence where the harness has opened one already.

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

/// Our reading of what follows an open fence: as [`lm_eval_instruct`], unless the response opens a fence of its own.
///
/// Behind its mark, whatever language it names, stands the function anew, or the body that continues the prompt.
pub fn fenced(prompt: &str, response: &str) -> String {
    let harness = || lm_eval_instruct(prompt, response);
    let Some((before, rest)) = response.split_once(FENCE) else { return harness() };
    // Code before a fence is what the open one holds, and the fence ends it.
    if before.lines().any(is_code) {
        return harness();
    }
    let block = rest.split_once('\n').map_or("", |(_, block)| block);
    let block = block.split_once(FENCE).map_or(block, |(block, _)| block);
    match block.trim().is_empty() {
        true => harness(),
        // A function that stands behind its own prompt takes its place; the prompt's imports stay.
        false => format!("{prompt}\n{block}"),
    }
}

/// Whether a line is a program's and no sentence: it is indented, or begins a statement of a module.
fn is_code(line: &str) -> bool {
    let starts = ["def ", "async def ", "class ", "import ", "from ", "@", "#"];
    let is_indented = line.starts_with("    ") || line.starts_with('\t');
    !line.trim().is_empty() && (is_indented || starts.iter().any(|start| line.starts_with(start)))
}

/// The first fenced block of Python in a text, fences and language left out.
fn first_python_block(text: &str) -> Option<&str> {
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
    fn a_fence_of_the_models_own_is_read_where_the_harness_reads_nothing() {
        let prompt = "import math\n\ndef two():\n    \"\"\"Two.\"\"\"\n";
        let again = "def two():\n    return 2\n";
        let anew = format!("{prompt}\n{again}");
        for response in [
            format!("```python\n{again}```"),
            format!("```py\n{again}```\nIt returns 2."),
            format!("Here is the function:\n\n```\n{again}```"),
            format!("\n```python\n{again}"),
        ] {
            assert_eq!(fenced(prompt, &response), anew, "{response}");
        }
        assert_eq!(fenced(prompt, "```python\n    return 2\n```"), format!("{prompt}\n    return 2\n"));
        for response in [
            "    return 2\n```",
            "def two():\n    return 2\n```\nOr:\n```python\nx\n```",
            "    return 2",
            "return 2\n```",
            "I cannot.",
        ] {
            assert_eq!(fenced(prompt, response), lm_eval_instruct(prompt, response), "{response}");
        }
    }

    #[test]
    fn the_first_closed_block_counts() {
        let text = "So:\n```python\nx = 1\n```\nor\n```python\ny = 2\n```";
        assert_eq!(first_python_block(text), Some("x = 1\n"));
        assert_eq!(first_python_block("```python\nx = 1"), None);
        assert_eq!(first_python_block("```\nx = 1\n```"), None);
    }

    #[test]
    fn a_response_without_a_signature_loses_its_first_character() {
        assert_eq!(simple_evals("    return 1"), "   return 1");
        assert_eq!(simple_evals("é"), "");
        assert_eq!(simple_evals(""), "");
        assert_eq!(simple_evals("def f():\n    return 1"), "    return 1");
    }
}
