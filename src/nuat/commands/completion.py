"""``nuat completion``."""

import contextlib
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import tyro

from nuat.campaign.definition import built_in
from nuat.commands.analyse import analyse
from nuat.commands.campaign import campaign
from nuat.commands.compare import compare
from nuat.commands.diagnose import diagnose
from nuat.commands.evaluate import evaluate
from nuat.commands.export import export
from nuat.commands.models import models
from nuat.commands.new import new
from nuat.commands.plan import plan
from nuat.commands.predict import predict
from nuat.commands.recipes import recipes
from nuat.commands.report import report
from nuat.commands.train import train
from nuat.config.arguments import parse
from nuat.figures.catalogue import FIGURES
from nuat.listing import summaries
from nuat.records.named_weights import NAMED

_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "diagnose": diagnose,
    "compare": compare,
    "analyse": analyse,
    "report": report,
    "export": export,
    "plan": plan,
    "campaign": campaign,
    "recipes": recipes,
    "models": models,
    "new": new,
}
_SCRIPT = """\
_nuat() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} first= options= words=
  case ${{COMP_WORDS[1]}} in
{cases}
  esac
  if ((COMP_CWORD == 1)); then words="{commands} completion --help --version"
  elif [[ $word == -* ]]; then words=$options
  elif ((COMP_CWORD == 2)); then words=$first
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _nuat nuat
"""
"""Where nothing of ours fits, the shell completes the names of files."""


@dataclass(frozen=True, kw_only=True)
class _Completion:
    """Print a script by which a shell completes commands, recipes, figures and options.

    Write it to a file that the shell reads: for bash ~/.local/share/bash-completion/completions/nuat, for zsh one that
    ~/.zshrc sources. Repeat it after an update of nuat.
    """

    shell: tyro.conf.Positional[Literal["bash", "zsh"]]
    """bash or zsh."""


def completion(arguments: list[str]) -> int:
    """``nuat completion bash|zsh``."""
    asked = parse(_Completion, arguments, prog="nuat completion")
    first: dict[str, Iterable[str]] = {
        **dict.fromkeys(("train", "plan"), summaries()),
        **dict.fromkeys(("evaluate", "predict", "diagnose", "export"), NAMED),
        "analyse": (*FIGURES, "redraw"),
        "new": ("defense", "attack"),
        "campaign": built_in(),
    }
    cases = "\n".join(
        f'    {name}) first="{" ".join(first.get(name, ()))}" options="{" ".join(_options(name))}" ;;'
        for name in _COMMANDS
    )
    if asked.shell == "zsh":
        print("autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit")
    print(_SCRIPT.format(cases=cases, commands=" ".join(_COMMANDS)), end="")
    return 0


def _options(command: str) -> list[str]:
    """Return the options that the help of a command lists."""
    kinds = [[figure] for figure in (*FIGURES, "redraw")] if command == "analyse" else [[]]
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        for kind in kinds:
            with contextlib.suppress(SystemExit):  # after its help
                _COMMANDS[command]([*kind, "--help-all"])
    more = ["--resume", "--config", "--defense"] if command == "train" else []
    entries = re.findall(r"^  (--\S+?)(?:, (--\S+))?(?= |$)", text.getvalue(), re.MULTILINE)
    return sorted({"--help", *more, *(option for names in entries for option in names if option)})
