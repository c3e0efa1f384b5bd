"""The masking section of the policy file: its shape, its faults, and the checked `MaskingPolicy`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from extproc.masking.finding import Action
from extproc.masking.policy import PERSONAL_DATA, SECRETS, Allowance, MaskingPolicy, RuleSetPolicy, file_glob
from extproc.yaml_file import Fault, as_written


def _file_glob(glob: str) -> str:
    file_glob(glob)
    return glob


def _regex(text: str) -> str:
    try:
        with warnings.catch_warnings():
            # What Python only warns of may mean something else in its next version.
            warnings.simplefilter("error")
            found = re.compile(text).search("")
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise ValueError(f"expected a regular expression of Python: {error}") from None
    if found is not None:
        raise ValueError("expected an expression that does not match the empty text: this one could allow every secret")
    return text


def _not_built_in(name: str) -> str:
    if name in {SECRETS, PERSONAL_DATA}:
        raise ValueError("a set of rules that is built in has this name; expected another one")
    return name


Text = Annotated[str, Field(min_length=1)]
# YAML 1.1 takes `off` for a boolean; here it is a word.
ActionWord = Annotated[Action, BeforeValidator(as_written)]
SetName = Annotated[str, Field(pattern="^[a-z0-9-]+$", max_length=64), AfterValidator(_not_built_in)]
FileGlob = Annotated[Text, AfterValidator(_file_glob)]
Regex = Annotated[Text, AfterValidator(_regex)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-"))


class SecretsModel(_Model):
    """What is done with secrets; left out, they are masked."""

    prompts: ActionWord = Action.MASK
    answers: ActionWord = Action.MASK


class PersonalDataModel(_Model):
    """What is done with personal data; left out, nobody looks for it."""

    prompts: ActionWord = Action.OFF
    answers: ActionWord = Action.OFF


class RuleFileModel(_Model):
    """A file of rules of your own, in the YAML of kingfisher or the TOML of gitleaks."""

    name: SetName = Field(description="Unique name.")
    file: Text = Field(description="Path, relative to the policy file.")
    prompts: ActionWord = Action.MASK
    answers: ActionWord = Action.MASK


class AllowanceModel(_Model):
    """What may pass although a rule finds it: all conditions given must hold, and one is `regex` or `paths`."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["regex"]}, {"required": ["paths"]}]})

    rules: list[Text] = Field(default_factory=list, min_length=1, description="Globs of rule ids; left out, any rule.")
    regex: Regex = Field(default_factory=str, description="A regular expression of Python, searched in the secret.")
    paths: list[FileGlob] = Field(
        default_factory=list, min_length=1, description="Globs of the files that the tool call touches; all must match."
    )

    @model_validator(mode="after")
    def _is_narrow(self) -> Self:
        if not self.regex and not self.paths:
            raise ValueError("expected regex or paths: without both the rule would find nothing at all")
        return self


class MaskingModel(_Model):
    """What is looked for in prompts and answers, and what is done about it."""

    secrets: SecretsModel = Field(default_factory=SecretsModel)
    personal_data: PersonalDataModel = Field(default_factory=PersonalDataModel)
    rule_files: list[RuleFileModel] = Field(default_factory=list, min_length=1, description="Rules of your own.")
    allow: list[AllowanceModel] = Field(default_factory=list, min_length=1, description="What may pass all the same.")


def faults(model: MaskingModel, base: Path) -> Iterator[Fault]:
    """Yield what is wrong with the rule files, whose paths begin at `base`; places start at the section."""
    first: dict[str, int] = {}
    for index, entry in enumerate(model.rule_files):
        loc = ("rule-files", index)
        if first.setdefault(entry.name, index) != index:
            yield (*loc, "name"), f"the name is already that of rule-files[{first[entry.name]}]; expected a unique one"
        try:
            with (base / entry.file).open("rb"):
                pass
        except OSError as error:
            yield (*loc, "file"), f"{base / entry.file} cannot be read: {error.strerror}"
        except ValueError:
            yield (*loc, "file"), "expected a path"


def masking_policy(model: MaskingModel, base: Path) -> MaskingPolicy:
    """Return what the section says, checked; paths of rule files begin at `base`."""
    return MaskingPolicy(
        sets=(
            RuleSetPolicy(SECRETS, None, model.secrets.prompts, model.secrets.answers),
            RuleSetPolicy(PERSONAL_DATA, None, model.personal_data.prompts, model.personal_data.answers),
            *(RuleSetPolicy(one.name, base / one.file, one.prompts, one.answers) for one in model.rule_files),
        ),
        allow=tuple(
            Allowance(tuple(one.rules), re.compile(one.regex) if one.regex else None, tuple(one.paths))
            for one in model.allow
        ),
    )
