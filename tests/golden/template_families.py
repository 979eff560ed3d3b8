"""Chat templates in the manner of published families, and conversations for them.

The texts and the structure are our own; the constructs are those of the families they are named after. What
transformers would pass as a keyword (`tools`, `documents`, ...) comes with the first message, for a case is only
messages and whether an answer is to follow.
"""

LLAMA = r"""{{- bos_token }}
{%- set tools = messages[0].get('tools') %}
{%- set builtin = messages[0].builtin_tools %}
{%- if today is not defined %}
    {%- if strftime_now is defined %}
        {%- set today = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set today = "1 Jan 2000" %}
    {%- endif %}
{%- endif %}
{#- A system text leaves the list of messages. #}
{%- set preamble = "" %}
{%- if messages[0]['role'] == 'system' %}
    {%- set preamble = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- endif %}

{%- macro turn(role) %}
    {{- '<|start_header_id|>' + role + '<|end_header_id|>\n\n' }}
{%- endmacro %}

{{- turn("system") }}
{%- if builtin is defined or tools is not none %}
    {{- "Shell: ipython\n" }}
{%- endif %}
{%- if builtin is defined %}
    {{- "At hand: " + builtin | reject('equalto', 'interpreter') | join(", ") + ".\n\n"}}
{%- endif %}
{{- "Today: " + today + "\n" + preamble + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if tools is not none and loop.first %}
        {{- turn(message.role) }}
        {{- 'Call as {"name": ..., "parameters": {...}}:' + "\n\n" }}
        {%- for tool in tools %}
            {{- tool | tojson(indent=4) }}
            {{- "\n\n" }}
        {%- endfor %}
        {{- message.content | trim ~ "<|eot_id|>" }}
    {%- elif not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- turn(message['role']) + message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One call in a turn, not " ~ message.tool_calls|length) }}
        {%- endif %}
        {%- set wanted = message.tool_calls[0].function %}
        {{- turn('assistant') -}}
        {%- if builtin is defined and wanted.name in builtin %}
            {{- "<|python_tag|>" + wanted.name + ".call(" }}
            {%- for key, value in wanted.arguments | items %}
                {{- key + '="' ~ value ~ '"' }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- endif %}
            {%- endfor %}
            {{- ")<|eom_id|>" }}
        {%- else %}
            {{- '{"name": "' + wanted.name + '", "parameters": ' }}
            {{- wanted.arguments | tojson }}
            {{- "}<|eot_id|>" }}
        {%- endif %}
    {%- else %}
        {{- turn('ipython') }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- turn('assistant') }}
{%- endif %}
"""

QWEN25 = r"""{%- set tools = messages[0].tools %}
{%- set clerk = 'You are a careful clerk.' %}
{%- if tools or messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\n' }}
    {{- messages[0]['content'] if messages[0]['role'] == 'system' else clerk }}
    {%- if tools %}
        {{- "\n\n# Functions\n\nOne in each line:\n<tools>" }}
        {%- for tool in tools %}
            {{- "\n" }}
            {{- tool | tojson }}
        {%- endfor %}
        {{- "\n</tools>\n\nCall: {\"name\": <name>, \"arguments\": <object>}" }}
    {%- endif %}
    {{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- set before = messages[loop.index0 - 1] if loop.index0 else none %}
    {%- if (message.role == "user") or (message.role == "system" and not (loop.first and tools)) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for wanted in message.tool_calls %}
            {%- if wanted.function is defined %}
                {%- set wanted = wanted.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' }}
            {{- wanted.name }}
            {{- '", "arguments": ' }}
            {{- wanted.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if before is none or before.role != "tool" %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' ~ message.content ~ '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

QWEN3 = r"""{%- set tools = messages[0].tools %}
{%- if messages[-1].enable_thinking is defined %}
    {%- set enable_thinking = messages[-1].enable_thinking %}
{%- endif %}
{%- if messages[0].role == 'system' or tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + ('\n\n' if tools else '') }}
    {%- endif %}
    {%- if tools %}
        {{- "# Functions" }}
        {%- for tool in tools %}
            {{- "\n" }}
            {{- tool | tojson }}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, question=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set at = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string and not(message.content.startswith('<result>') and message.content.endswith('</result>')) %}
        {%- set ns.searching = false %}
        {%- set ns.question = at %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\n' }}
        {%- if loop.index0 > ns.question and (loop.last or (not loop.last and thought)) %}
            {{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- content }}
        {%- endif %}
        {%- for wanted in message.tool_calls or [] %}
            {%- if (loop.first and content) or (not loop.first) %}
                {{- '\n' }}
            {%- endif %}
            {%- set wanted = wanted.function or wanted %}
            {{- '<tool_call>\n{"name": "' + wanted.name + '", "arguments": ' }}
            {%- if wanted.arguments is string %}
                {{- wanted.arguments }}
            {%- else %}
                {{- wanted.arguments | tojson }}
            {%- endif %}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<result>\n' + content + '\n</result>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- elif not (loop.first and message.role == "system") %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"""

GEMMA2 = r"""{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('A system text has no place here') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Turn ' ~ loop.index ~ ' is the ' + message['role'] + "'s, out of order…") }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '
' + message['content'] | trim + '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model
'}}{% endif %}"""

GEMMA3 = r"""{{ bos_token }}
{%- set rest = messages -%}
{%- set lead = "" -%}
{%- if messages[0]['role'] == 'system' -%}
    {%- set lead = messages[0]['content'] if messages[0]['content'] is string else messages[0]['content'][0]['text'] -%}
    {%- set lead = lead + '

' -%}
    {%- set rest = messages[1:] -%}
{%- endif -%}
{%- for message in rest -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("User and assistant take turns") }}
    {%- endif -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '
' + (lead if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'text' -%}
                {{ part['text'] | trim }}
            {%- elif part['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Content of another type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""

MISTRAL_V1 = r"""{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('First the user, then the assistant, and so on') }}{% endif %}{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}{% elif message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ raise_exception('Nobody but user and assistant speaks') }}{% endif %}{% endfor %}"""

MISTRAL_V3 = r"""{%- set tools = messages[0].tools | default(none) %}
{%- set turns = messages %}
{%- if messages[0]["role"] == "system" %}
    {%- set instruction = messages[0]["content"] %}
    {%- set turns = messages[1:] %}
{%- endif %}
{%- set questions = turns | selectattr("role", "equalto", "user") | list %}
{%- set spoken = turns | rejectattr("role", "in", ["tool", "tool_results"]) | rejectattr("tool_calls") | list %}

{#- Turns alternate, but for those of tools. #}
{%- set ns = namespace() %}
{%- set ns.even = true %}
{%- for message in spoken %}
    {%- if (message["role"] == "user") != ns.even %}
        {{- raise_exception("User and assistant alternate, not so in turn " + loop.index|string) }}
    {%- endif %}
    {%- set ns.even = not ns.even %}
{%- endfor %}

{{- bos_token }}
{%- for message in turns %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == questions[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.function.items() if key != "return" %}
                    {{- '"' + key + '": ' }}
                    {{- '"' + val + '"' if val is string else val|tojson }}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" + ("]" if loop.last else ", ") }}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and instruction is defined %}
            {{- "[INST] " + instruction + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for wanted in message.tool_calls %}
            {%- if not wanted.id is defined or wanted.id|length != 9 %}
                {{- raise_exception("An id of a call has nine characters!") }}
            {%- endif %}
            {%- set out = wanted.function|tojson %}
            {{- out[:-1] + ', "id": "' + wanted.id + '"}' }}
            {{- "]" + eos_token if loop.last else ", " }}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- set content = message.content.content if message.content is defined and message.content.content is defined else message.content %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Not a role of this model: " + message["role"]) }}
    {%- endif %}
{%- endfor %}
"""

NEMO = r"""{{- bos_token }}
{%- set last_user = namespace(index=-1) %}
{%- for message in messages %}
    {%- if message.role != "user" %}{% continue %}{% endif %}
    {%- set last_user.index = loop.index0 %}
{%- endfor %}
{%- for message in messages -%}
    {%- if loop.index0 == 0 and message.role == "system" -%}
        {%- continue -%}
    {%- endif -%}
    {%- if message.role == "user" -%}
        [INST]
        {%- if loop.index0 == last_user.index and messages[0].role == "system" -%}
            {{ messages[0].content ~ "\n\n" }}
        {%- endif -%}
        {{ message.content }}[/INST]
    {%- elif message.role == "assistant" and message.content is string -%}
        {{ message.content ~ eos_token }}
    {%- else -%}
        {% break %}
    {%- endif -%}
{%- endfor -%}
"""

CHATML = r"""{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}
{% for message in messages %}
{{ '<|im_start|>' ~ message.role }}
{% if message.role == 'assistant' %}
{% generation %}
{{ message.content ~ '<|im_end|>' }}
{% endgeneration %}
{% else %}
{{ message.content ~ '<|im_end|>' }}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\n' }}
{%- endif %}
"""

PHI3 = r"""{% for message in messages %}{% if message['role'] in ['system', 'user', 'assistant'] and message['content'] %}{{'<|' + message['role'] + '|>
' + message['content'] + '<|end|>
'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>
' }}{% else %}{{ eos_token }}{% endif %}"""

ZEPHYR = r"""{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

COMMAND_R = r"""{%- macro kind(schema) -%}
    {%- if schema.type == 'array' and schema['items'] -%}
        List[{{ kind(schema['items']) }}]
    {%- elif schema.type is iterable and schema.type is not string -%}
        {{ schema.type | join(' | ') }}
    {%- else -%}
        {{ {'string': 'str', 'integer': 'int', 'number': 'float', 'boolean': 'bool'}.get(schema.type, 'Any') }}
    {%- endif -%}
{%- endmacro -%}
{%- macro signature(tool, indent='    ') -%}
def {{ tool.name }}(
{%- for name, schema in tool.parameters.properties.items() -%}
    {%- if not loop.first %}, {% endif -%}
    {{ name }}: {{ kind(schema) }}
    {%- if name not in tool.parameters.required %} = None{% endif -%}
{%- endfor -%}
):
{{ indent }}'''{{ tool.description }}'''
{%- endmacro -%}
{%- set tools = messages[0].tools or [] -%}
{%- set documents = messages[0].documents or [] -%}
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set rest = messages[1:] %}{% set style = messages[0]['content'] -%}
{%- else -%}
    {%- set rest = messages %}{% set style = 'You answer with sources.' -%}
{%- endif -%}
{%- set head -%}
## Style
{{ style | trim }}
{%- endset -%}
{{ '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>' ~ head ~ '<|END_OF_TURN_TOKEN|>' }}
{%- for message in rest -%}
    {%- if loop.first and tools -%}
<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>## Tools{% for tool in tools %}{{ '\n\n' }}```python
{{ signature(tool.function) }}
    pass
```
{%- endfor %}<|END_OF_TURN_TOKEN|>
    {%- endif -%}
    {%- if message.role == 'user' -%}
        {{ '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + message.content.strip() + '<|END_OF_TURN_TOKEN|>' }}
    {%- elif message.tool_calls -%}
        {{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Action: ```json\n[' }}
        {%- for call in message.tool_calls %}
    {
        "tool_name": {{ call.function.name | tojson }},
        "parameters": {{ call.function.arguments | tojson(indent=4) | indent(8) }}
    }{{ ',' if not loop.last }}
        {%- endfor %}
]```<|END_OF_TURN_TOKEN|>
    {%- elif message.role == 'assistant' -%}
        {{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' + message.content | trim + '<|END_OF_TURN_TOKEN|>' }}
    {%- else -%}
        {{ '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|><results>\n' ~ message.content ~ '</results><|END_OF_TURN_TOKEN|>' }}
    {%- endif -%}
{%- endfor -%}
{%- if documents -%}
    {{ '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|><results>' }}
    {%- for document in documents %}
Document: {{ loop.index0 }}
        {%- for key, value in document.items() %}
{{ key | title }}: {{ value }}
        {%- endfor -%}
        {{ '\n' if not loop.last else '' }}
    {%- endfor -%}
    {{ '</results><|END_OF_TURN_TOKEN|>' }}
{%- endif -%}
{%- if add_generation_prompt -%}
    {{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}
{%- endif -%}
"""

DEEPSEEK = r"""{% set ns = namespace(lead='', any_lead=false, after_tool=false, is_first=true) %}{%- for m in messages %}{%- if m['role'] == 'system' %}{%- if ns.any_lead %}{% set ns.lead = ns.lead + '\n\n' %}{%- endif %}{% set ns.lead = ns.lead + m['content'] %}{% set ns.any_lead = true %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.lead }}{%- for m in messages %}{%- if m['role'] == 'user' %}{%- set ns.after_tool = false -%}{{'<｜User｜>' + m['content']}}{%- elif m['role'] == 'assistant' and 'tool_calls' in m %}{%- set ns.is_first = true -%}{%- for c in m['tool_calls'] %}{%- if ns.is_first %}{{'<｜Assistant｜>' + (m['content'] or '') + '<｜calls▁begin｜>'}}{%- set ns.is_first = false -%}{%- else %}{{'\n'}}{%- endif %}{{'<｜call▁begin｜>' + c['type'] + '<｜sep｜>' + c['function']['name'] + '\n' + '```json' + '\n' + c['function']['arguments'] | tojson + '\n' + '```'}}{%- endfor %}{{'<｜calls▁end｜>' ~ eos_token}}{%- elif m['role'] == 'assistant' %}{%- set text = m['content'] %}{%- if '</think>' in text %}{%- set text = text.split('</think>')[-1] %}{%- endif %}{{ ('<｜outputs▁end｜>' if ns.after_tool else '<｜Assistant｜>') + text + eos_token }}{%- set ns.after_tool = false -%}{%- elif m['role'] == 'tool' %}{{ '<｜outputs▁begin｜>' if not ns.after_tool else '\n' }}{{'<｜output▁begin｜>' ~ m['content'] ~ '<｜output▁end｜>'}}{%- set ns.after_tool = true -%}{%- endif %}{%- endfor -%}{% if ns.after_tool %}{{'<｜outputs▁end｜>'}}{% endif %}{% if add_generation_prompt and not ns.after_tool %}{{'<｜Assistant｜><think>\n'}}{% endif %}"""

HARMONY = r"""{%- macro kind(spec, needed=[], nullable=false) -%}
    {%- if spec.type is defined and spec.type is iterable and spec.type is not string and spec.type is not mapping and spec.type[0] is defined -%}
        {{- spec.type | join(" | ") }}
    {%- elif spec.oneOf -%}
        {%- for option in spec.oneOf -%}
            {{- kind(option, nullable=spec.oneOf | selectattr("type", "equalto", "number") | list | length > 0) -}}
            {%- if not loop.last %} | {% endif -%}
        {%- endfor -%}
    {%- elif spec.enum -%}
        {{- '"' + spec.enum|join('" | "') + '"' -}}
    {%- elif spec.type == "array" -%}
        {{- kind(spec['items']) if spec['items'] else "any" }}[]
        {%- if spec.nullable or nullable -%} | null {%- endif -%}
    {%- elif spec.type in ("number", "integer") -%}
        number{{ " | null" if nullable }}
    {%- elif spec.type == "object" and spec.properties -%}
        {{- "{\n" }}
        {%- for name, inner in spec.properties.items() -%}
            {{- name }}{{ "" if name in (spec.required or needed) else "?" }}: {{ kind(inner, inner.required) }}
            {%- if not loop.last %}, {% endif -%}
        {%- endfor -%}
        {{- "\n}" }}
    {%- else -%}
        {{- spec.type or "any" -}}
    {%- endif -%}
{%- endmacro -%}
{%- macro module(name, tools) -%}
    {{- "module " + name + " {\n" }}
    {%- for tool in tools | map(attribute="function") %}
        {{- "// " + tool.description + "\ntype " + tool.name + " = (_: {\n" }}
        {%- set parameters = tool.parameters %}
        {%- for name, spec in parameters.properties.items() %}
            {%- if spec.description %}
                {{- "// " + spec.description + "\n" }}
            {%- endif %}
            {{- name ~ ("?" if name not in (parameters.required or [])) }}
            {{- ": " + kind(spec, spec.required or []) }}
            {%- if spec.default is defined %}
                {{- ", // default: " + (spec.default|tojson if spec.default is not string else spec.default) }}
            {%- else %}
                {{- "," }}
            {%- endif %}
            {{- "\n" }}
        {%- endfor %}
        {{- "}) => any;\n\n" }}
    {%- endfor %}
    {{- "} // " + name }}
{%- endmacro -%}
{{- "<|start|>system<|message|>Date: " + strftime_now("%Y-%m-%d") + "\nEffort: " + (effort | default("medium")) + "<|end|>" }}
{%- set has_lead = messages[0].role in ["developer", "system"] %}
{%- if has_lead or messages[0].tools %}
    {{- "<|start|>developer<|message|>" ~ (messages[0].content if has_lead) }}
    {%- if messages[0].tools -%}
        {{- "\n\n# Tools\n\n" + module("functions", messages[0].tools) }}
    {%- endif -%}
    {{- "<|end|>" }}
{%- endif %}
{%- set last = namespace(name=none) %}
{%- for message in (messages[1:] if has_lead else messages) -%}
    {%- if message.role == 'assistant' -%}
        {%- if "tool_calls" in message %}
            {%- set wanted = message.tool_calls[0].function or message.tool_calls[0] %}
            {%- if message.content and message.thinking %}
                {{- raise_exception("Either content or thinking stands beside a call") }}
            {%- elif message.content or message.thinking %}
                {{- "<|start|>assistant<|channel|>analysis<|message|>" + (message.content or message.thinking) + "<|end|>" }}
            {%- endif %}
            {{- "<|start|>assistant to=functions." + wanted.name + "<|channel|>commentary " }}
            {{- (wanted.content_type if wanted.content_type is defined else "json") + "<|message|>" }}
            {{- wanted.arguments|tojson }}
            {{- "<|call|>" }}
            {%- set last.name = wanted.name %}
        {%- else %}
            {%- set final = loop.last and not add_generation_prompt %}
            {%- if final and message.reasoning_content %}
                {{- "<|start|>assistant<|channel|>analysis<|message|>" + message.reasoning_content + "<|end|>" }}
            {%- endif %}
            {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + ("<|return|>" if final else "<|end|>") }}
            {%- set last.name = none %}
        {%- endif %}
    {%- elif message.role == 'tool' -%}
        {%- if last.name is none %}
            {{- raise_exception("A result without a call") }}
        {%- endif %}
        {{- "<|start|>functions." + last.name }}
        {{- " to=assistant<|channel|>commentary<|message|>" + message.content|tojson + "<|end|>" }}
    {%- else -%}
        {{- "<|start|>" ~ message.role ~ "<|message|>" + message.content + "<|end|>" }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|start|>assistant
{%- endif -%}
"""

GRANITE = r"""{%- set tools, documents = messages[0].tools, messages[0].documents -%}
{%- macro block(role, text) -%}
    {{ '<|start_of_role|>' + role + '<|end_of_role|>' + text + '<|end_of_text|>
' }}
{%- endmacro -%}
{%- set loop_messages = messages[1:] if messages[0]['role'] == 'system' else messages -%}
{%- if messages[0]['role'] == 'system' -%}
    {{ block('system', messages[0]['content']) }}
{%- else -%}
    {%- set lead = "It is " + strftime_now('%B %d, %Y') + ".\nYou are a librarian" -%}
    {%- if tools and documents -%}
        {%- set lead = lead + " with books and tools" -%}
    {%- elif tools -%}
        {%- set lead = lead + " with tools" -%}
    {%- endif -%}
    {{ block('system', lead ~ '.') }}
{%- endif -%}
{%- if tools -%}
    {{ block('tools', tools | tojson(indent=4)) }}
{%- endif -%}
{%- if documents -%}
    {%- set shelf -%}
        {%- for document in documents -%}
            {{ 'Document ' + loop.index | string + ' (' ~ document.get('title', 'untitled') ~ ')\n' + document['text'] }}
            {%- if not loop.last -%}
                {{ '\n\n'}}
            {%- endif -%}
        {%- endfor -%}
    {%- endset -%}
    {{ block('documents', shelf) }}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if message['role'] == 'assistant' and message.tool_calls is defined -%}
        {{ block('assistant', '<|tool_call|>' ~ message.tool_calls | map(attribute='function') | list | tojson) }}
    {%- else -%}
        {{ block(message['role'], message['content']) }}
    {%- endif -%}
    {%- if loop.last and add_generation_prompt -%}
        {{ '<|start_of_role|>assistant' }}
            {%- if controls -%}{{ ' ' + controls | tojson }}{%- endif -%}
        {{ '<|end_of_role|>' }}
    {%- endif -%}
{%- endfor -%}"""

VICUNA = r"""{%- if not messages or messages[-1].role not in ['user', 'assistant'] -%}
    {{ raise_exception('It ends with a user or an assistant') }}
{%- endif -%}
{%- set sep = [' ', eos_token] -%}
{%- for role, label in {'user': 'USER', 'assistant': 'ASSISTANT'}.items() -%}
    {%- if loop.first -%}
        {%- set count = messages | selectattr('role', 'eq', role) | list | count -%}
        {{ label ~ '×' ~ count ~ '; ' }}
    {%- endif -%}
{%- endfor -%}
{%- for m in messages -%}
    {%- if m['role'] == 'system' -%}
        {{ m['content'].strip() + sep[0] }}
    {%- else -%}
        {{ m['role'].upper() + ': ' + m['content'].strip() + sep[0 if m['role'] == 'user' else 1] }}
    {%- endif -%}
{%- endfor -%}
{{ 'ASSISTANT:' if add_generation_prompt else '' }}
"""

ALPACA = r"""
{% for message in messages %}
    {% if message.role == 'system' %}
{{ message.content|trim -}}
{% if not loop.last %}


{% endif %}
    {% elif message.role == 'user' %}
### Ask:
{{ message.content|trim -}}
{% if not loop.last %}


{% endif %}
    {% elif message.role == 'assistant' %}
### Say:
{{ message.content|trim -}}
{% if not loop.last %}


{% endif %}
    {% endif %}
{% endfor %}
{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}


### Say:
{% endif %}"""

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'How "warm" it is <in> a town, in °C & °F',
        "parameters": {
            "type": "object",
            "properties": {
                "town": {"type": "string", "description": "A town’s name"},
                "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                "days": {"type": "array", "items": {"type": "integer"}},
            },
            "required": ["town"],
        },
    },
}

CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "The time",
        "parameters": {
            "type": "object",
            "properties": {
                "zone": {"type": ["string", "null"]},
                "at": {"oneOf": [{"type": "string", "nullable": True}, {"type": "number"}], "default": 1.5},
                "place": {
                    "type": "object",
                    "properties": {"lat": {"type": "number"}, "on": {"type": "boolean"}},
                    "required": ["lat"],
                },
            },
        },
        "return": {"type": "string"},
    },
}


def call(name, arguments, ident):
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = {
    "turns": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  One?\n"},
        {"role": "assistant", "content": "\n 1. "},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "2."},
        {"role": "user", "content": "Three? "},
    ],
    "unicode": [
        {"role": "user", "content": " Grüße, 世界! 👩‍👩‍👧 \u00a0"},
        {"role": "assistant", "content": "\u3000naïve ﬁ İ ß\u2028'q' \"d\" \\ {{ x }} {% y %}\t\n\n"},
    ],
    "blank": [
        {"role": "system", "content": ""},
        {"role": "user", "content": " \n\t "},
        {"role": "assistant", "content": ""},
    ],
    "thinking": [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "<think>\n\nfirst <think> a\n\n</think>\n\n\nBecause."},
        {"role": "user", "content": "Really?", "enable_thinking": False},
        {"role": "assistant", "content": "Yes.</think>\nNo.", "reasoning_content": "\nsecond\n\n"},
        {"role": "assistant", "content": "\n<think>third</think>So."},
    ],
    "no-thinking": [{"role": "user", "content": "Why?", "enable_thinking": False}],
    "tools": [
        {
            "role": "system",
            "content": "You may look.",
            "tools": [WEATHER, CLOCK],
            "builtin_tools": ["interpreter", "clock", "web"],
        },
        {"role": "user", "content": " Warm in \"Zürich\"? "},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                call(
                    "get_weather",
                    {"town": "Zürich <&> 'x'", "days": [1, 2.0, -0.5], "deep": {"a": None, "b": True}},
                    "abcdefghi",
                )
            ],
        },
        {"role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": '{"warm": true, "t": "21 °C"}'},
        {"role": "assistant", "content": "Yes: 21 °C."},
        {"role": "user", "content": "Time?"},
        {"role": "assistant", "content": None, "tool_calls": [call("clock", {"zone": "CET"}, "123456789")]},
        {"role": "tool", "name": "clock", "tool_call_id": "123456789", "content": "12:00"},
    ],
    "two-calls": [
        {
            "role": "user",
            "content": "Both?",
            "tools": [CLOCK],
            "documents": [{"title": "A book", "text": "Page\n1"}, {"text": "loose"}],
        },
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [call("clock", {}, "000000001"), call("get_weather", {"town": "Ur"}, "000000002")],
        },
        {"role": "tool", "tool_call_id": "000000001", "content": "noon"},
        {"role": "tool", "tool_call_id": "000000002", "content": "hot"},
        {"role": "assistant", "content": "Noon; hot."},
    ],
    "parts": [
        {"role": "system", "content": [{"type": "text", "text": "See. "}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What? "}, {"type": "audio"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
    ],
    "unknown-role": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "critic", "content": "c"},
    ],
}

PLAIN = ["system", "turns", "unicode", "blank"]

# The template and the conversations it is rendered with, some of which it refuses.
FAMILIES = {
    "llama": (LLAMA, ["one", *PLAIN, "tools", "two-calls"]),
    "qwen2.5": (QWEN25, ["one", *PLAIN, "tools", "two-calls"]),
    "qwen3": (QWEN3, [*PLAIN, "thinking", "no-thinking", "tools", "two-calls"]),
    "gemma2": (GEMMA2, ["pair", "turns", "unicode", "unknown-role"]),
    "gemma3": (GEMMA3, [*PLAIN, "odd", "parts"]),
    "mistral-v1": (MISTRAL_V1, ["pair", "unicode", "system", "unknown-role"]),
    "mistral-v3": (MISTRAL_V3, ["one", *PLAIN, "tools", "two-calls", "unknown-role"]),
    "nemo": (NEMO, [*PLAIN, "parts", "unknown-role"]),
    "chatml-generation": (CHATML, PLAIN),
    "phi3": (PHI3, PLAIN),
    "zephyr": (ZEPHYR, PLAIN),
    "command-r": (COMMAND_R, ["one", *PLAIN, "tools", "two-calls"]),
    "deepseek": (DEEPSEEK, ["one", *PLAIN, "thinking", "tools", "two-calls"]),
    "harmony": (HARMONY, ["system", "turns", "thinking", "tools", "two-calls"]),
    "granite": (GRANITE, ["one", "system", "two-calls"]),
    "vicuna": (VICUNA, ["system", "turns", "unicode", "tools"]),
    "alpaca": (ALPACA, ["system", "turns", "blank"]),
}
