"""Makes templates.json: our own chat templates rendered by transformers.

    pip install transformers==5.23.0 jinja2==3.1.6
    python tests/golden/make_templates.py            write templates.json
    python tests/golden/make_templates.py --check    say whether it would be another

Each template is written for this test and uses what published ones use: those below, those in the
manner of a family (template_families.py) and small ones for a feature each (template_features.py).
`raise_exception` is recorded as {"raises": message}; the date is pinned to 2024-07-26. Templates
that fail otherwise, be it when parsed, stand as {"fails": message} in `errors` instead of `cases`.
"""

import datetime
import json
import pathlib
import sys

import jinja2
import template_families
import template_features
import transformers
from transformers.utils import chat_template_utils

DATE = "2024-07-26"


class Pinned(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(DATE)


chat_template_utils.datetime = Pinned

TEMPLATES = {
    "chatml": """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
    "chatml-default-system": """
{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\nYou help.<|im_end|>\n' }}
{%- endif %}
{% for message in messages %}
    {% if loop.first and message.role == 'system' %}
<|im_start|>system
{{ message.content | trim }}<|im_end|>
    {% else %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
""",
    "llama3": """{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}""",
    "llama3-date": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {{- raise_exception("no tool calls") }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "mistral": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("roles must alternate user/assistant after the system message") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- else %}
        {{- raise_exception("only user and assistant roles, not " ~ message["role"]) }}
    {%- endif %}
{%- endfor %}
""",
    "gemma": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}""",
    "qwen3-like": """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
""",
    "tojson": """{{ messages | tojson }}
{{ messages | tojson(indent=2) }}
{{ messages[0] | tojson(sort_keys=true) }}
{{ {"a": [1, 2.5, -0.0, 1e20, 1e-7, true, none], "b": {}, "c": [], "<&'>": "é\\u2028\\\\\\"/"} | tojson }}
{{ ["é😀", "tab\tnewline"] | tojson(ensure_ascii=true) }}
{{ [1, {"k": [true]}] | tojson(indent=4) }}
{{ {"a": 1, "b": 2} | tojson(separators=(",", ":")) }}""",
    "macros": """{%- macro turn(role, text, end='<end>') -%}
<{{ role }}>{{ text }}{{ end }}
{%- endmacro -%}
{%- for m in messages -%}
{{ turn(m.role, m.content) }}|
{%- if m.role == 'system' %}{% continue %}{% endif -%}
{{ turn(role=m['role'], text=m.content | upper, end='') }}
{% if loop.index >= 3 %}{% break %}{% endif %}
{%- endfor -%}
""",
    "items": """{% for message in messages %}{% for key, value in message.items() %}{{ loop.index }}:{{ key }}={{ value | length }};{% endfor %}{{ message.get('name', 'nobody') }},{{ message.get('name') }},{{ message.keys() | list }},{{ message.values() | map('length') | list }}
{% endfor %}{% for k, v in {'x': 1, 'y': none}.items() %}{{ k }}{{ v }}{% if not loop.last %}, {% endif %}{% endfor %}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages | map(attribute='role') | join('/') }}""",
    "slices": """{{ messages[::-1] | map(attribute='role') | join(',') }}
{{ messages[1:] | length }} {{ messages[:-1] | length }} {{ messages[-1].role }} {{ messages[-1]['content'][:5] }} {{ messages[-1].content[-3:] }} {{ messages[-1].content[::-1] }} {{ messages[0].content[1:8:2] }}
{% set x = 'abcdef' %}{{ x[2] }}{{ x[-1] }}{{ x[10:] }}""",
    "strings": """{% for m in messages %}
{% set c = m.content %}
[{{ c.strip() }}][{{ c.lstrip() }}][{{ c.rstrip() }}][{{ c.strip('.? ') }}]
[{{ c.upper() }}][{{ c.lower() }}][{{ c.title() }}][{{ c.capitalize() }}]
[{{ c.split() }}][{{ c.split(' ') | length }}][{{ c.split(None, 1) }}][{{ c.split(maxsplit=2) }}][{{ c.rsplit(' ', 1) }}][{{ c.rsplit(None, 1) }}][{{ c.splitlines() }}]
[{{ c.replace('a', 'A') }}][{{ c.replace('e', '', 1) }}][{{ c.find('e') }}][{{ c.count('e') }}][{{ c.rfind('e') }}]
[{{ c.startswith('W') }}][{{ c.endswith(('?', '.')) }}][{{ c.removeprefix('What') }}][{{ c.removesuffix('.') }}][{{ c.partition(' ') }}][{{ c.rpartition(' ') }}]
[{{ 'x'.isdigit() }}{{ '12'.isdigit() }}{{ c.isupper() }}{{ ' '.isspace() }}][{{ ', '.join(['a', 'b']) }}][{{ '{}-{}'.format(1, 'z') }}][{{ '%s=%d' | format('k', 3) }}]
{% endfor %}""",
    "values": """{{ true }} {{ none }} {{ 1.0 }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ -7 % 3 }} {{ [1, 'a', none, true] }} {{ {'k': 'v', 'n': 1.5} }} {{ (1, 2) }} {{ undefined_name }} {{ undefined_name is defined }} {{ 'a' ~ 1 ~ true }} {{ 'it' "s" }} {{ "it's" | list }} {{ ["it's"] }} {{ '<b>&' }} {{ 'x' if false }} {{ messages is iterable }} {{ messages is sequence }} {{ messages[0] is mapping }} {{ messages is string }} {{ 'role' in messages[0] }} {{ range(3) | list }} {{ messages | length > 1 and not false }} {{ dict(a=1) }} {{ 3 | string + 'x' }} {{ '5' | int + 1 }} {{ [3, 1, 2] | sort }} {{ [1, 2] + [3] }} {{ 'ab' * 2 }} {{ [1, 2, 3] | first }} {{ [1, 2, 3] | last }} {{ '' | default('d', true) }} {{ 1 == 1.0 }} {{ loop is defined }}""",
    "generation": """{% for message in messages %}
{% if message.role == 'assistant' %}
<a>
{% generation %}
{{ message.content }}<e>
{% endgeneration %}
{% else %}
<u>{{ message.content }}<e>
{%- endif %}

{% endfor %}
{%- if add_generation_prompt %}<a>
{% endif %}""",
    "whitespace": """
  {% if true %}
    a
  {% endif %}
  {%+ if true %}b{% endif +%}
  {# a comment #}
  c {{ 'd' }}   {{- 'e' -}}
   f
  {%- set g = 1 -%}
  g{% set h %}block {{ messages[0].role }}{% endset %}{{ h }}
  {% raw %}{{ raw }}{% endraw %}

{% filter upper %}filtered{% endfilter %}


""",
    "exclusive": """{% set ns = namespace(found=false, last='') %}{% for m in messages if m.role != 'system' %}{% if loop.previtem is defined and loop.previtem.role == m.role %}{{ raise_exception('two in a row: ' + m.role) }}{% endif %}{{ loop.index }}/{{ loop.length }} {{ loop.revindex0 }} {{ loop.cycle('x', 'y') }} {{ m.role }} {{ loop.nextitem.role if loop.nextitem is defined else 'end' }}
{% set ns.last = m.content %}{% else %}none{% endfor %}{{ ns.last }}{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}""",
}

CONVERSATIONS = {
    "one": [{"role": "user", "content": "What is 2 + 2?"}],
    "pair": [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "It is 4."}],
    "system": [
        {"role": "system", "content": "  You are terse. "},
        {"role": "user", "content": "Name a colour\nand a shape."},
        {"role": "assistant", "content": " Blue; a square.\n"},
    ],
    "long": [
        {"role": "user", "content": "Hi  there, é 😀 \"quoted\" <b>&amp;</b> it's"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello\r\nyou."},
        {"role": "user", "content": "\tAnd 'now'?\x1f "},
        {"role": "assistant", "content": "Nothing more."},
        {"role": "user", "content": "thanks. bye"},
        {"role": "assistant", "content": "Bye"},
    ],
    "odd": [
        {"role": "user", "content": "one"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "three"},
    ],
}


CONVERSATIONS |= template_families.CONVERSATIONS


def render(template, messages, prompt):
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            conversations=[messages],
            chat_template=template,
            add_generation_prompt=prompt,
            bos_token="<s>",
            eos_token="</s>",
        )
    except Exception as error:
        # Only `raise_exception` raises the class itself.
        return {"raises" if type(error) is jinja2.exceptions.TemplateError else "fails": str(error)}
    return {"text": rendered[0]}


def plan():
    """Names, templates, conversations, and whether an answer is to follow."""
    for name, template in TEMPLATES.items():
        for conversation in ("one", "pair", "system", "long", "odd"):
            yield from ((name, template, conversation, prompt) for prompt in (False, True))
    for name, (template, conversations) in template_families.FAMILIES.items():
        for conversation in conversations:
            yield from ((name, template, conversation, prompt) for prompt in (False, True))
    for group in (template_features.FEATURES, template_features.ERRORS):
        for name, feature in group.items():
            template, conversation = (feature, "system") if isinstance(feature, str) else feature
            yield name, template, conversation, False


def main():
    templates, cases, errors = {}, [], []
    for name, template, conversation, prompt in plan():
        assert templates.setdefault(name, template) == template, name
        messages = json.loads(json.dumps(CONVERSATIONS[conversation]))
        outcome = render(template, messages, prompt)
        assert ("fails" in outcome) == (name in template_features.ERRORS), (name, conversation, outcome)
        case = {"template": name, "conversation": conversation, "prompt": prompt, **outcome}
        (errors if "fails" in outcome else cases).append(case)
    golden = {
        "made_by": f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}",
        "date": DATE,
        "templates": templates,
        "conversations": CONVERSATIONS,
        "cases": cases,
        "errors": errors,
    }
    text = json.dumps(golden, ensure_ascii=False, indent=1) + "\n"
    path = pathlib.Path(__file__).parent / "templates.json"
    counts = {key: sum(key in case for case in cases + errors) for key in ("text", "raises", "fails")}
    print(f"{path}: {len(templates)} templates, {counts}, {len(text.encode())} bytes")
    if "--check" not in sys.argv:
        path.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        sys.exit("it differs")


if __name__ == "__main__":
    main()
