"""The ``graft`` command: verbs, exit codes, and nothing else. Verbs import their workflow when they are called."""

from __future__ import annotations

import os
import sys
import warnings

from cyclopts import App, CycloptsError
from cyclopts.exceptions import UnknownOptionError

from graftlm.errors import GraftError
from graftlm.reports.terminal import Terminal

app = App(
    name="graft",
    help="Fine-tune language models from a labelled file: checked before, proved after.",
    version=lambda: __import__("importlib.metadata", fromlist=["version"]).version("graftlm"),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    help_on_error=False,
)
# One line each, here and not in the verbs' files: `graft --help` must not import them.
VERBS = {
    "demo": "The whole road on sample messages, in under two minutes.",
    "check": "Examine labelled data without training.",
    "new": "Write a complete, commented recipe.",
    "options": "List recipe keys with type, default and meaning.",
    "pretrain": "Train a base model on raw text, from nothing or further, save it, prove it.",
    "finetune": "Train a model on labelled rows, evaluate it, save it, prove it.",
    "evaluate": "Score a finished model on labelled rows.",
    "predict": "Predict the labels of texts, one JSON object a line.",
    "minimal-pairs": "Measure a base model on pairs of an acceptable and an unacceptable sentence.",
    "import-checkpoint": "Make a base model of TensorFlow's BERT files or of pytorch_model.bin.",
    "export": "Write the network of a run for ONNX Runtime, also in int8, compared with the trained one.",
    "push": "Upload the model of a finished run to the Hugging Face hub, private unless asked.",
}
for _verb, _line in VERBS.items():
    _word = _verb.replace("-", "_")
    app.command(f"graftlm.cli.{_word}:{_word}", name=_verb, help=_line)


def main() -> None:
    """Run the command line and exit with 0, 2, 3, 4, 5, 130 or 143 (see `graftlm.errors`)."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; errors go to standard error as text, never as a traceback of ours."""
    errors = Terminal(stderr=True)
    # A library's remark about itself is not for our users; ours are printed by us.
    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        return int(app(arguments, exit_on_error=False, print_error=False) or 0)
    except CycloptsError as error:
        errors.print(f"graft: {error}")
        errors.print(f"  What to do: {_remedy(error)}")
        return 2
    except GraftError as error:
        errors.print(f"graft: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        errors.print("graft: interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output left, for instance `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _remedy(error: CycloptsError) -> str:
    """Return what to write instead: recipe keys are no options, and predict and evaluate begin with the run."""
    if isinstance(error, UnknownOptionError):
        from graftlm.composition import options
        from graftlm.recipe import Recipe
        from graftlm.settings import suggestion

        word = (error.token.keyword or error.token.value).lstrip("-").replace("-", "_")
        if hint := suggestion(word, [key for key, _, _ in options(Recipe, "")]):
            keys = "" if " the option --" in hint else "recipe keys are written without dashes, as key=value."
            return f"{keys}{hint}".strip()
    return "`graft --help`, or `graft VERB --help`"
