"""``graft predict``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from graftlm.errors import ConfigurationError, MissingResource, RunError

if TYPE_CHECKING:
    from graftlm.predictor import Predictor


def predict(
    run: Path,
    source: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    *overrides: str,
    output: Path | None = None,
    quiet: Annotated[bool, Parameter(negative="")] = False,
    chat: Annotated[bool, Parameter(negative="")] = False,
    int8: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Predict rows: one JSON object a line, in the order of the rows.

    Parameters
    ----------
    run
        A run directory, a model folder or an exported folder.
    source
        A data file with a text column, or - for one text a line on standard input. Left out: standard input, which
        on a terminal asks for one text after the other.
    overrides
        Keys that say how rows are read and computed, for instance data.columns.text=review; any other is refused.
    output
        The file to write; by default standard output. It appears whole or not at all, and never replaces another.
    quiet
        No progress.
    chat
        Talk with a model of dialogue: what was said before is part of each turn. Goes with a device only.
    int8
        Of an exported folder, ask its quantised network.
    """
    from graftlm.rundir import require_folder

    if output is not None and output.exists():
        raise RunError("this file exists already", where=str(output), fix="choose another name")
    require_folder(run)  # before torch is loaded
    from graftlm.cli.words import split_words
    from graftlm.data.loading import read_tables
    from graftlm.recipe import load_part
    from graftlm.reports.display import Display
    from graftlm.workflows.unseen_rows import COMPUTING_KEYS, READING_KEYS

    source, overrides = split_words(source, overrides)
    talking = chat or (source is None and sys.stdin.isatty())
    if talking:
        _refuse_idle(chat, source, {"--output": output is not None, "--quiet": quiet})
        options = load_part("graft predict in a conversation", ("training.device",), overrides)
    elif source in (None, "-"):
        options = load_part("graft predict of standard input", COMPUTING_KEYS, overrides)
    else:
        options = load_part("graft predict", (*READING_KEYS, *COMPUTING_KEYS), overrides, source)
    file = not talking and source not in (None, "-")
    tables = read_tables(None, options.data) if file else None
    # Only now is torch loaded: a file that cannot be read is refused without it.
    from graftlm.predictor import Predictor
    from graftlm.progress import Silent
    from graftlm.workflows.predict import predict_file, predict_lines

    predictor = Predictor.open(run, options.training.device, "int8" if int8 else "fp32")
    if tables is None and not quiet:
        for note in predictor.notes:
            print(note, file=sys.stderr)
    if talking:
        return _chat(predictor) if chat or _replies(predictor) else _interactive(predictor)
    if tables is None:
        records = predict_lines(predictor, sys.stdin.buffer, options.evaluation.batch_tokens)
        _write(records, output)
        return 0
    with Display() as display:
        progress = Silent() if quiet else display
        _write(
            predict_file(predictor, options.data, options.evaluation.batch_tokens, progress, tables), output
        )
    return 0


def _write(records: Iterable[dict[str, Any]], output: Path | None) -> None:
    """Write records as JSON Lines, to standard output or atomically to a file."""
    if output is None:
        for record in records:
            print(json.dumps(record, ensure_ascii=False), flush=not sys.stdout.isatty())
        return
    partial = output.with_name(f".partial-{output.name}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            for record in records:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.rename(output)
    except OSError as error:
        raise MissingResource(f"cannot write the predictions: {error.strerror}", where=str(output)) from None
    finally:
        partial.unlink(missing_ok=True)


def _refuse_idle(chat: bool, source: str | None, given: dict[str, bool]) -> None:
    """Refuse what a conversation has no use for: it would be ignored silently.

    Raises:
        ConfigurationError: a file to read was named, or a flag given that says how rows are written.
    """
    if source not in (None, "-"):
        raise ConfigurationError(
            "a conversation is typed, not read from a file", where="--chat", fix="leave --chat out"
        )
    idle = [flag for flag, there in given.items() if there]
    if idle:
        raise ConfigurationError(
            "a conversation is shown as it goes; it has no use for this",
            where=", ".join(idle),
            fix="leave it out"
            + ("" if chat else ", or name the file of the rows to predict (- for standard input)"),
        )


def _replies(predictor: Predictor) -> bool:
    return [role.kind for role in predictor.roles] == ["messages"]


def _chat(predictor: Predictor) -> int:
    """Take turns with the user until an empty line or the end of the input."""
    from rich.text import Text

    from graftlm.reports.terminal import Terminal
    from graftlm.workflows.predict import decoded_lines

    if not _replies(predictor):
        raise ConfigurationError(
            "only a model of dialogue can talk, and only with somebody who types",
            where="--chat",
            fix="leave --chat out",
        )
    console = Terminal()
    typed = sys.stdin.isatty()
    if typed:
        console.print(
            "Write a message and press Enter; an empty line ends. A reply that ends with ... was cut at "
            f"{predictor.encoder.max_target_tokens} tokens.",
            style="dim",
        )
    messages: list[dict[str, str]] = []
    for said in _typed() if typed else decoded_lines(sys.stdin.buffer):
        if not said.strip():
            continue
        messages.append({"role": "user", "content": said})
        (prediction,) = predictor([messages])
        console.print(Text(predictor.task.phrase(prediction)))
        if prediction.text:
            messages.append({"role": "assistant", "content": prediction.text})
        else:  # an empty turn is no turn: the next message follows the one before
            messages.pop()
    return 0


def _typed() -> Iterator[str]:
    """Yield what is typed, until an empty line or Ctrl-D."""
    while True:
        try:
            said = input("you> ")
        except EOFError:
            return
        if not said.strip():
            return
        yield said


def _interactive(predictor: Predictor) -> int:
    """Ask for the parts of a row, show the answer, until an empty line or Ctrl-D."""
    from graftlm.reports.terminal import Terminal

    console = Terminal()
    names = [role.name for role in predictor.roles]
    console.print("Write a text and press Enter; an empty line ends.", style="dim")
    while True:
        row: dict[str, str] = {}
        for name in names:
            try:
                row[name] = input("> " if len(names) == 1 else f"{name}> ")
            except EOFError:
                return 0
            if not row[name].strip():
                return 0
        (prediction,) = predictor([row])
        console.print(f"  {predictor.task.phrase(prediction)}")
