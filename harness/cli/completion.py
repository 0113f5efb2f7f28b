"""``spyre-cb completion``: print a shell script that completes the subcommands, options and values of spyre-cb."""

import argparse
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.cli.arguments import Parser, Subparsers, add_command
from spyre_cb.options import OPTIONS

SHELLS = ("bash", "zsh", "fish")
_EXAMPLES = """\
  spyre-cb completion bash > ~/.local/share/bash-completion/completions/spyre-cb
  spyre-cb completion zsh >> ~/.zshrc
  spyre-cb completion fish > ~/.config/fish/completions/spyre-cb.fish
"""


@dataclass(frozen=True)
class Completed:
    """The words that the shell can complete after a subcommand: options, and values of options with fixed choices."""

    about: str
    options: tuple[str, ...]
    values: dict[str, tuple[str, ...]]
    words: tuple[str, ...] = ()
    """Words that are not options, such as ``fetch`` after ``spyre-cb models``."""


def add_to(subparsers: Subparsers, whole: Callable[[], Parser]) -> None:
    """Add this subcommand. ``whole`` returns the parser with all subcommands, from which the script is generated."""
    about = "print a shell script that completes commands and options"
    parser = add_command(subparsers, "completion", lambda arguments: run(arguments, whole()), about, _EXAMPLES)
    parser.add_argument("shell", choices=SHELLS, help="bash, zsh or fish")


def run(arguments: Namespace, parser: Parser) -> int:
    """Print the completion script for the shell that the user named."""
    commands = dict(_commands(parser))
    if arguments.shell == "fish":
        print("\n".join(_fish(commands)))
        return 0
    start = ["autoload -U +X bashcompinit && bashcompinit"] if arguments.shell == "zsh" else []
    print("\n".join([*start, *_bash(commands)]))
    return 0


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, Completed]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            about = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, sub in action.choices.items():
                yield name, _completed(sub, about.get(name, ""))


def _completed(parser: argparse.ArgumentParser, about: str) -> Completed:
    options: list[str] = []
    values: dict[str, tuple[str, ...]] = {}
    words: tuple[str, ...] = ()
    chosen_in_run = {f"--{option.name}": tuple(option.choices()) for option in OPTIONS if option.choices}
    of_run = parser.prog.endswith(" run")
    for action in parser._actions:
        long = [each for each in action.option_strings if each.startswith("--")]
        options += long
        choices = tuple(map(str, action.choices or ()))
        if not action.option_strings and choices:
            words = choices
        for each in long:
            known = choices or (chosen_in_run.get(each, ()) if of_run else ())
            if known:
                values[each] = known
    return Completed(about, tuple(options), values, words)


def _bash(commands: dict[str, Completed]) -> Iterator[str]:
    yield "_spyre_cb() {"
    yield '  local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words=""'
    yield '  if [ "$before" = "=" ]; then before="${COMP_WORDS[COMP_CWORD-2]}"; fi'
    yield '  if [ "$current" = "=" ]; then before="${COMP_WORDS[COMP_CWORD-1]}"; current=""; fi'
    yield '  if [ "$COMP_CWORD" -eq 1 ]; then'
    yield f'    COMPREPLY=($(compgen -W "{" ".join([*commands, "--help", "--version"])}" -- "$current")); return'
    yield "  fi"
    yield '  case "${COMP_WORDS[1]} $before" in'
    for name, completed in commands.items():
        for option, values in completed.values.items():
            yield f'    "{name} {option}") COMPREPLY=($(compgen -W "{" ".join(values)}" -- "$current")); return;;'
    yield "  esac"
    yield '  case "${COMP_WORDS[1]}" in'
    for name, completed in commands.items():
        yield f'    {name}) words="{" ".join([*completed.words, *completed.options])}";;'
    yield "  esac"
    yield '  case "$current" in'
    yield '    -*) COMPREPLY=($(compgen -W "$words" -- "$current"));;'
    yield '    *) COMPREPLY=($(compgen -W "$words" -- "$current" | grep -v "^-") $(compgen -f -- "$current"));;'
    yield "  esac"
    yield "}"
    yield "complete -o filenames -F _spyre_cb spyre-cb"


def _fish(commands: dict[str, Completed]) -> Iterator[str]:
    about = _quoted("versions of the packages that affect results")
    yield f"complete -c spyre-cb -n __fish_use_subcommand -l version -d {about}"
    for name, completed in commands.items():
        yield f"complete -c spyre-cb -f -n __fish_use_subcommand -a {name} -d {_quoted(completed.about)}"
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        if completed.words:
            yield f"complete -c spyre-cb -f {seen} -a {_quoted(' '.join(completed.words))}"
        for option in completed.options:
            values = completed.values.get(option)
            more = f" -x -a {_quoted(' '.join(values))}" if values else ""
            yield f"complete -c spyre-cb {seen} -l {option.removeprefix('--')}{more}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
