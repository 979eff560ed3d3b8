//! The chat templates that mergekit's YAML knows by name, in our own words: they render what
//! mergekit 0.1.5's render, its oddities included.

/// The names and their Jinja.
pub const TEMPLATES: &[(&str, &str)] =
    &[("alpaca", ALPACA), ("chatml", CHATML), ("exaone", EXAONE), ("llama3", LLAMA3), ("mistral", MISTRAL)];

/// The Jinja that `chat_template` means, unless it is `auto`.
///
/// # Errors
///
/// It is no name and no template.
pub fn chat_template(asked: &str) -> Result<&str, String> {
    if let Some((_, text)) = TEMPLATES.iter().find(|(name, _)| *name == asked) {
        return Ok(text);
    }
    // What mergekit takes for Jinja.
    if asked.len() >= 20 && asked.contains('{') {
        return Ok(asked);
    }
    let names: Vec<&str> = TEMPLATES.iter().map(|(name, _)| *name).collect();
    Err(format!("chat_template `{asked}` is not `auto`, {} or Jinja text", names.join(", ")))
}

/// The last system message stands first; a prompt for the answer follows without a line break.
const ALPACA: &str = r"{%- set head = namespace(text='') -%}
{%- for message in messages if message['role'] == 'system' -%}
{%- set head.text = message['content'] | trim -%}
{%- endfor -%}
{{- head.text + '\n\n' -}}
{%- set titles = {'user': 'Instruction', 'user_context': 'Input', 'assistant': 'Response'} -%}
{%- for message in messages if message['role'] != 'system' -%}
{%- if message['role'] in titles -%}
{{- '### ' + titles[message['role']] + ':\n' + message['content'] | trim -}}
{%- endif -%}
{%- if not loop.last -%}{{- '\n\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and messages[-1]['role'] != 'assistant' -%}{{- '### Response:\n' -}}{%- endif -%}";

const CHATML: &str = r"{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}";

/// Every turn is indented, as mergekit's file is.
const EXAONE: &str = r"{%- for message in messages -%}
{%- if loop.first and message['role'] != 'system' -%}
{{- '        [|system|][|endofturn|]\n\n' -}}
{%- endif -%}
{{- '    [|' + message['role'] + '|]' + message['content'] + '\n        ' -}}
{{- '\n\n' if message['role'] == 'user' else '[|endofturn|]\n\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '    [|assistant|]\n' -}}{%- endif -%}";

const LLAMA3: &str = r"{%- for message in messages -%}
{%- if loop.first -%}{{- bos_token + '' -}}{%- endif -%}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' -}}
{{- message['content'] | trim + '<|eot_id|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}";

/// The system message is part of the first question.
const MISTRAL: &str = r"{{- bos_token -}}
{%- set state = namespace(system='', turn=0) -%}
{%- for message in messages -%}
{%- if loop.first and message['role'] == 'system' -%}
{%- set state.system = message['content'] + '\n\n' -%}
{%- elif message['role'] != ['user', 'assistant'][state.turn % 2] -%}
{{- raise_exception('after an optional system message, user and assistant take turns') -}}
{%- else -%}
{%- if message['role'] == 'user' -%}
{{- ' [INST] ' + (state.system if state.turn == 0 else '') + message['content'] + ' [/INST]' -}}
{%- else -%}
{{- ' ' + message['content'] + eos_token -}}
{%- endif -%}
{%- set state.turn = state.turn + 1 -%}
{%- endif -%}
{%- endfor -%}";

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::TEMPLATES;
    use crate::snapshot::template::ChatTemplate;

    #[test]
    fn every_name_renders_what_mergekit_renders() {
        let text = include_str!("../../../tests/golden/merge/chat_templates.json");
        let all: Value = serde_json::from_str(text).unwrap();
        for (name, template) in TEMPLATES {
            for row in all[name].as_array().unwrap() {
                let token = |key: &str| row[key].as_str().map(ToOwned::to_owned);
                let (bos, eos) = (token("bos_token"), token("eos_token"));
                let template = ChatTemplate::new(name, (*template).to_owned(), bos, eos, None).unwrap();
                let messages = row["messages"].as_array().unwrap();
                let found = template.render(messages, row["add_generation_prompt"].as_bool().unwrap());
                match row["text"].as_str() {
                    Some(expected) => assert_eq!(found.unwrap(), expected, "{name} {row}"),
                    None => assert!(found.is_err(), "{name} {row}: {found:?}"),
                }
            }
        }
    }
}
