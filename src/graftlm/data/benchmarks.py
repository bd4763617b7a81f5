"""Benchmarks by name: what each is for, its official columns, labels, metrics and sizes, and where its files are.

Adding one is adding an entry to `BENCHMARKS`; `graftlm.data.benchmark_reading` reads them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Layout:
    """One way in which the official files are handed out.

    Args:
        train: file names, as they are without ``.gz``.
        held_out: likewise; rows of several files follow each other.
        fields: official column -> its name in the header of a tab-separated file, or its position (from 0) where the
            files have no header. Empty where the format of the files names the columns.
        rows: official numbers of rows of train and held-out; None where they are those of the benchmark.
        note: what must be said about the held-out rows; empty where they are those of the benchmark.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    fields: Mapping[str, str | int] = field(default_factory=dict[str, "str | int"])
    rows: tuple[int, int] | None = None
    note: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A data set on which others publish numbers.

    Args:
        task: the task it is for.
        columns: role -> official column.
        metrics: by which it is told officially; the first is the primary one.
        rows: official numbers of rows of train and of the held-out split.
        repository: on the hub.
        configuration: of the repository; None where it has one only.
        held_out: the hub's name of the split that is reported; test labels are not public.
        folder: the sub-folder that holds the files where those of several benchmarks lie side by side.
        layouts: how the files may lie in a folder, in the order in which they are looked for.
        labels: official names by official number; files hold either. Empty where labels are no names.
        drops_broken_rows: whether official readers leave out rows with too few fields.
    """

    task: str
    columns: Mapping[str, str]
    metrics: tuple[str, ...]
    rows: tuple[int, int]
    repository: str
    configuration: str | None
    held_out: str
    folder: str
    layouts: tuple[Layout, ...]
    labels: tuple[str, ...] = ()
    drops_broken_rows: bool = False


_SINGLE = {"text": "sentence", "label": "label"}
_SENTENCES = {"text": "sentence1", "text_pair": "sentence2", "label": "label"}
_ENTAILMENT = ("entailment", "not_entailment")


def _files(train: str, held_out: str, **fields: str | int) -> Layout:
    return Layout((train,), (held_out,), fields)


def _zip(**fields: str | int) -> tuple[Layout, ...]:
    """Return the layout of the archives that GLUE hands out."""
    return (_files("train.tsv", "dev.tsv", **fields),)


def _glue(
    configuration: str,
    folder: str,
    columns: Mapping[str, str],
    labels: tuple[str, ...],
    metrics: tuple[str, ...],
    rows: tuple[int, int],
    layouts: tuple[Layout, ...],
) -> Benchmark:
    return Benchmark(
        "text_classification", columns, metrics, rows, "nyu-mll/glue", configuration, "validation", folder,
        layouts, labels,
    )  # fmt: skip


_COLA = {"sentence": 3, "label": 1}
_MRPC = {"sentence1": "#1 String", "sentence2": "#2 String", "label": "Quality"}
_MNLI = _glue(
    "mnli", "MNLI", {"text": "premise", "text_pair": "hypothesis", "label": "label"},
    ("entailment", "neutral", "contradiction"), ("accuracy",), (392_702, 9_815),
    (_files("train.tsv", "dev_matched.tsv", premise="sentence1", hypothesis="sentence2", label="gold_label"),),
)  # fmt: skip
_SQUAD = Benchmark(
    "question_answering", {"question": "question", "context": "context", "answers": "answers"}, ("f1", "exact_match"),
    (87_599, 10_570), "rajpurkar/squad", None, "validation", "",
    (Layout(("train-v1.1.json",), ("dev-v1.1.json",)),),
)  # fmt: skip

BENCHMARKS: Mapping[str, Benchmark] = {
    "glue:cola": _glue(
        "cola", "CoLA", _SINGLE, ("unacceptable", "acceptable"), ("matthews_correlation",), (8_551, 1_043),
        (
            Layout(("train.tsv",), ("dev.tsv",), _COLA),
            Layout(("in_domain_train.tsv",), ("in_domain_dev.tsv", "out_of_domain_dev.tsv"), _COLA),
        ),
    ),
    "glue:sst2": _glue(
        "sst2", "SST-2", _SINGLE, ("negative", "positive"), ("accuracy",), (67_349, 872),
        _zip(sentence="sentence", label="label"),
    ),
    "glue:mrpc": _glue(
        "mrpc", "MRPC", _SENTENCES, ("not_equivalent", "equivalent"), ("accuracy", "f1[equivalent]"), (3_668, 408),
        (
            Layout(("train.tsv",), ("dev.tsv",), _MRPC),
            Layout(
                ("msr_paraphrase_train.txt",), ("msr_paraphrase_test.txt",), _MRPC, (4_076, 1_725),
                "These are the files of the original release, so its test rows are told; GLUE tells 408 rows that it "
                "cut from train, and the others do not say which.",
            ),
        ),
    ),
    "glue:qqp": replace(
        _glue(
            "qqp", "QQP", {"text": "question1", "text_pair": "question2", "label": "label"},
            ("not_duplicate", "duplicate"), ("accuracy", "f1[duplicate]"), (363_846, 40_430),
            _zip(question1="question1", question2="question2", label="is_duplicate"),
        ),
        drops_broken_rows=True,
    ),
    "glue:stsb": replace(
        _glue(
            "stsb", "STS-B", {"text": "sentence1", "text_pair": "sentence2", "number": "label"}, (),
            ("pearson", "spearman"), (5_749, 1_500),
            (
                *_zip(sentence1="sentence1", sentence2="sentence2", label="score"),
                _files("sts-train.csv", "sts-dev.csv", sentence1=5, sentence2=6, label=4),
            ),
        ),
        task="text_regression",
    ),
    "glue:mnli": replace(_MNLI, held_out="validation_matched"),
    "glue:mnli_mismatched": replace(
        _MNLI, held_out="validation_mismatched", rows=(392_702, 9_832),
        layouts=tuple(replace(layout, held_out=("dev_mismatched.tsv",)) for layout in _MNLI.layouts),
    ),
    "glue:qnli": _glue(
        "qnli", "QNLI", {"text": "question", "text_pair": "sentence", "label": "label"}, _ENTAILMENT,
        ("accuracy",), (104_743, 5_463), _zip(question="question", sentence="sentence", label="label"),
    ),
    "glue:rte": _glue(
        "rte", "RTE", _SENTENCES, _ENTAILMENT, ("accuracy",), (2_490, 277),
        _zip(sentence1="sentence1", sentence2="sentence2", label="label"),
    ),
    "glue:wnli": _glue(
        "wnli", "WNLI", _SENTENCES, ("not_entailment", "entailment"), ("accuracy",), (635, 71),
        _zip(sentence1="sentence1", sentence2="sentence2", label="label"),
    ),
    "squad:v1": _SQUAD,
    "squad:v2": replace(
        _SQUAD, rows=(130_319, 11_873), repository="rajpurkar/squad_v2",
        layouts=(Layout(("train-v2.0.json",), ("dev-v2.0.json",)),),
    ),
}  # fmt: skip
