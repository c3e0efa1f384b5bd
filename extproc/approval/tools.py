"""Say what a call of a tool would do: which files it would change, and what it would do at GitHub. Pure.

Tools are known by their names, those of VS Code, Copilot CLI, opencode and GitHub's MCP server. A tool that nobody
knows edits every file that its arguments name; arguments that cannot be read may name any.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from extproc.approval.patch import patched
from extproc.approval.shell import effects_of
from extproc.approval.touch import Act, Touch
from extproc.conversation import ToolCall
from extproc.tool_paths import MAX_DEPTH, touched


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Names are compared in lower case with `_` for other separators, `readFile` as `read_file`.
_READ_ONLY: Final = _names(
    "view read read_file read_files open_file cat glob grep rg ls list_dir list_directory list_files find_files"
    " file_search grep_search text_search semantic_search semantic_code_search codebase search_codebase search"
    " search_files search_workspace_symbols list_code_usages usages get_errors problems get_changed_files"
    " get_search_view_results read_project_structure get_project_setup_info read_notebook_cell_output"
    " copilot_get_notebook_summary get_notebook_summary test_search test_failure get_terminal_output"
    " get_task_output terminal_last_command terminal_selection read_bash stop_bash list_bash read_powershell"
    " stop_powershell list_powershell view_image web_fetch web_search fetch_webpage webfetch websearch fetch"
    " github_repo get_vscode_api fetch_copilot_cli_documentation skill read_agent list_agents write_agent task"
    " run_subagent sql session_store_sql store_memory think ask_user ask_questions update_todo todo_write todowrite"
    " todoread todo_read manage_todo_list update_plan show_suggestions report_intent exit_plan_mode question"
    " lsp tool_search create_pull_request"
)
# The readers of GitHub's and of the file system's MCP server, behind whatever name the client gives the server.
_READ_ONLY_ENDINGS: Final = _names(
    "get_file_contents list_commits get_commit search_code list_branches get_pull_request pull_request_read issue_read"
    " read_text_file read_media_file read_multiple_files list_directory_with_sizes directory_tree get_file_info"
    " list_allowed_directories get_repository_tree"
)
_EDITS: Final = _names(
    "create edit insert str_replace write create_file edit_file edit_files insert_edit_into_file insert_edit multi_edit"
    " multiedit replace_string_in_file multi_replace_string_in_file edit_notebook_file notebook_edit delete_file"
    " create_new_jupyter_notebook create_directory create_new_workspace remove_file rename_file move_file write_file"
    " patch applypatch apply_patch str_replace_editor str_replace_based_edit_tool memory"
)
_PATCHES: Final = _names("apply_patch applypatch patch apply_diff git_apply_patch")
# One tool of several commands, this one of which reads.
_EDITORS: Final = _names("str_replace_editor str_replace_based_edit_tool memory edit_file_tool")
_SHELLS: Final = _names(
    "bash powershell pwsh sh zsh cmd shell local_shell shell_command terminal run_in_terminal run_terminal_cmd"
    " run_terminal_command run_command write_bash write_powershell send_to_terminal create_and_run_task run_task"
    " run_vscode_command exec exec_command execute execute_command unified_exec container_exec"
)
_POSIX: Final = _names("bash write_bash sh zsh")
# What is typed into a program that runs already, and commands of the editor itself, say nothing of what they do.
_UNDECIDED_SHELLS: Final = _names("write_bash write_powershell send_to_terminal write_stdin run_vscode_command")
_SHORT_ANSWER: Final = re.compile(r"(?:\{\w+\}|yes|no|[YyNnQq\d\s])*")
# In the arguments of a shell tool: what is told to people. Everything else may be run.
_PROSE: Final = _names("description explanation goal shellid sessionid session id mode name label timeout message")
_DIRECTORIES: Final = _names("cwd workdir workingdirectory workspacefolder directory")
_COMMANDS: Final = _names("command commands cmd commandline script shell shellcommand bash")

# Tools that run what they are given, and the beginnings of the names under which they get it.
_RUNS_CODE: Final = re.compile(r"exec|eval|run|python|javascript|node|repl|notebook|browser")
_CODE: Final = ("code", "script", "source", "expression", "function")

_AT_GITHUB: Final[dict[str, Act]] = {
    "merge_pull_request": Act.MERGE,
    "enable_auto_merge": Act.MERGE,
    "enable_pull_request_auto_merge": Act.MERGE,
    "merge_branch": Act.MERGE,
    "push_files": Act.PUSH,
    "create_or_update_file": Act.PUSH,
    "delete_file": Act.PUSH,
    "create_branch": Act.PUSH,
    "delete_branch": Act.PUSH,
    "update_ref": Act.PUSH,
    "create_commit": Act.PUSH,
    "create_release": Act.PUSH,
    "update_pull_request_branch": Act.PUSH,
    "report_progress": Act.PUSH,
    "git_push": Act.PUSH,
    "actions_run_trigger": Act.DISPATCH,
    "run_workflow": Act.DISPATCH,
    "trigger_workflow": Act.DISPATCH,
    "rerun_workflow_run": Act.DISPATCH,
    "rerun_failed_jobs": Act.DISPATCH,
    "create_workflow_dispatch": Act.DISPATCH,
}
_BRANCHES: Final = ("branch", "ref", "base")


def touches_of(call: ToolCall) -> list[Touch]:
    """Return what a call would do, each thing once; nothing where its tool only reads."""
    name = _plain(call.name)
    if _is_read_only(name):
        return []
    is_patch = name in _PATCHES
    try:
        arguments = _parse(call.arguments, is_patch=is_patch)
    except ValueError:
        return [_anything(call, name)]
    if name in _EDITORS and isinstance(arguments, dict) and arguments.get("command") == "view":
        return []
    found: list[Touch]
    if name in _SHELLS:
        found = _of_shell(call, name, arguments)
    elif act := _github_act(name, arguments):
        found = _of_github(call, act, arguments)
    else:
        found = _of_edit(call, name, arguments)
    return list(dict.fromkeys(found))


def _plain(name: str) -> str:
    # `functions.create_file`, `mcp__github__push_files`, `copilot_createFile`.
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", snake.lower().removeprefix("functions.").removeprefix("copilot_")).strip("_")


def _is_read_only(name: str) -> bool:
    return name in _READ_ONLY or any(name == one or name.endswith("_" + one) for one in _READ_ONLY_ENDINGS)


def _github_act(name: str, arguments: Any) -> Act | None:  # noqa: ANN401 - decoded JSON
    for tool, act in _AT_GITHUB.items():
        if name.endswith("_" + tool) or (name == tool and name not in _EDITS):
            return act
    # The file tools of an editor have no repository.
    if name in _AT_GITHUB and isinstance(arguments, dict) and {"owner", "repo"} <= arguments.keys():
        return _AT_GITHUB[name]
    return None


def _anything(call: ToolCall, name: str) -> Touch:
    act = Act.SHELL if name in _SHELLS else _github_act(name, None) or Act.EDIT
    return Touch(act, call.name)


def _parse(text: str, *, is_patch: bool) -> Any:  # noqa: ANN401 - decoded JSON
    """Return the arguments; raises ValueError where two readers could read them in two ways, or none can."""
    if not text.strip():
        return {}
    try:
        arguments = json.loads(text, parse_int=float, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except ValueError:
        # Custom tools get free text.
        if not is_patch and text.lstrip("\ufeff \t\r\n").startswith(("{", "[", '"')):
            raise
        return text
    if _is_deeper(arguments, MAX_DEPTH - 1):
        raise ValueError("nested too deeply")
    return arguments


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name is given twice")
    return fields


def _is_deeper(value: Any, depth: int) -> bool:  # noqa: ANN401 - decoded JSON
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deeper(one, depth - 1) for one in inner)


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - decoded JSON
    """Yield every string with the name it stands under, in lower case without separators."""
    if isinstance(value, str):
        # No lone surrogates: touches go into records, which are UTF-8.
        yield key, value.encode("utf-8", "replace").decode()
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one, key)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _strings(one, re.sub(r"[^a-z0-9]", "", name.lower()))


def _paths(call: ToolCall, strings: list[tuple[str, str]]) -> list[str]:
    # A path that `touched` takes for none (empty, too long, of several lines) may be one to the tool.
    odd = [text for key, text in strings if key.endswith(("path", "file", "filename", "uri"))]
    return list(dict.fromkeys([*touched(call), *odd]))


def _of_edit(call: ToolCall, name: str, arguments: Any) -> list[Touch]:  # noqa: ANN401 - decoded JSON
    strings = list(_strings(arguments))
    paths = _paths(call, strings)
    is_known = name in _EDITS or name in _PATCHES
    if name in _PATCHES or isinstance(arguments, str):
        paths += [path for _, text in strings for path in patched(text)]
    elif not is_known:
        paths += [text for _, text in strings if _is_path_like(text)]
    found = [Touch(Act.EDIT, call.name, path or None) for path in paths]
    if is_known:
        return found or [Touch(Act.EDIT, call.name)]
    if _RUNS_CODE.search(name) and any(key.startswith(_CODE) for key, _ in strings):
        found.append(Touch(Act.SHELL, call.name))
    commands = [text for key, text in strings if key in _COMMANDS]
    return found + [touch for text in commands for touch in _of_command(call, text, "", posix=False)]


def _is_path_like(text: str) -> bool:
    return len(text) <= 4096 and "\n" not in text and re.search(r"[/\\]|\.\w+\s*\Z|^\s*\.\w", text) is not None


def _of_shell(call: ToolCall, name: str, arguments: Any) -> list[Touch]:  # noqa: ANN401 - decoded JSON
    strings = [(key, text) for key, text in _strings(_with_joined_lists(arguments)) if key not in _PROSE]
    directory = next((text for key, text in strings if key in _DIRECTORIES), "")
    texts = [text for key, text in strings if key not in _DIRECTORIES and text.strip()]
    if name in _UNDECIDED_SHELLS:
        texts = [text for text in texts if not _SHORT_ANSWER.fullmatch(text)]
    # A program may have its arguments beside it.
    texts += [" ".join(texts)] if len(texts) > 1 else []
    found = [touch for text in texts for touch in _of_command(call, text, directory, posix=name in _POSIX)]
    return [*found, Touch(Act.SHELL, call.name)] if texts and name in _UNDECIDED_SHELLS else found


def _with_joined_lists(value: Any) -> Any:  # noqa: ANN401 - decoded JSON
    """Return arguments where a list of words is one command."""
    if isinstance(value, list):
        return " ".join(value) if all(isinstance(one, str) for one in value) else list(map(_with_joined_lists, value))
    return {key: _with_joined_lists(one) for key, one in value.items()} if isinstance(value, dict) else value


def _of_command(call: ToolCall, command: str, directory: str, *, posix: bool) -> list[Touch]:
    effects = effects_of(command, directory, posix=posix)
    found = [Touch(act, call.name) for act in effects.acts]
    found += [Touch(Act.SHELL, call.name)] if effects.undecided else []
    return found + [Touch(Act.SHELL, call.name, path) for path in effects.paths if path]


def _of_github(call: ToolCall, act: Act, arguments: Any) -> list[Touch]:  # noqa: ANN401 - decoded JSON
    fields = arguments if isinstance(arguments, dict) else {}
    owner, name = fields.get("owner"), fields.get("repo")
    repository = f"{owner}/{name}" if isinstance(owner, str) and isinstance(name, str) else None
    branch = next((fields[key] for key in _BRANCHES if isinstance(fields.get(key), str)), None)
    if act is Act.MERGE:
        # Which branch a pull request goes to, only GitHub knows.
        branch = None
    paths = [path or None for path in _paths(call, list(_strings(arguments)))] if act is Act.PUSH else []
    return [
        Touch(act, call.name, path, _utf8(repository), _utf8(branch and branch.removeprefix("refs/heads/")))
        for path in paths or [None]
    ]


def _utf8(text: str | None) -> str | None:
    return None if text is None else text.encode("utf-8", "replace").decode()
