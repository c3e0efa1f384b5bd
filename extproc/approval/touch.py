"""The vocabulary of what an exchange would do: every file it would change, every action at GitHub."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Act(StrEnum):
    """What would be done."""

    EDIT = "edit"  # a file would be made, changed, moved or removed by a tool of the client
    SHELL = "shell"  # a command would run that names the file, or could write any (path None)
    MERGE = "merge"  # a pull request
    PUSH = "push"  # commits, refs, trees or contents at GitHub
    DISPATCH = "dispatch"  # a workflow run


class Touch(msgspec.Struct, frozen=True):
    """One thing that would be done, by a tool of the model's choice or by the request itself.

    `tool` is the name of the tool, or of the operation (`PUT /repos/{owner}/{repo}/pulls/{number}/merge`,
    `mutation mergePullRequest`). `path` is the file as it was written there, None where the act is about none, or about
    any. `repository` is `OWNER/NAME`, `branch` without `refs/heads/`; None where they are not said.
    """

    act: Act
    tool: str
    path: str | None = None
    repository: str | None = None
    branch: str | None = None
