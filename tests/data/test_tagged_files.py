"""Files of words and tags: the right words at the right lines, and refusals that name the place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graftlm.checking.findings import check_dataset
from graftlm.data.assembling import assemble
from graftlm.data.loading import read_file, read_tables
from graftlm.data.options import DataOptions
from graftlm.data.roles import ENTITIES, LABEL, TAGS, TEXT, WORDS
from graftlm.errors import ConfigurationError, DataError
from graftlm.opening import infer_task

CONLL = """-DOCSTART- -X- O

EU NNP B-ORG
rejects VBZ O
# NN O

# id 7 domain=en
Bonn NNP B-LOC

"""
CONLLU = """# sent_id = 1
# text = Vámonos al mar
1-2	Vámonos	_	_	_	_	_	_	_	_
1	Vamos	ir	VERB	V	Number=Plur|Person=1	0	root	_	_
2	nos	nosotros	PRON	P	Number=Plur	1	obj	_	_
2.1	ghost	_	X	_	_	_	_	_	_
3	mar	mar	NOUN	N	_	1	obl	_	_

1	Sí	sí	INTJ	I	_	0	root	_	_
"""


@pytest.fixture
def rows(in_folder: Path):
    """Read rows or a file as one split with the sentences that were said."""

    def rows(data: object, role=ENTITIES, **options: object):
        chosen = DataOptions.model_validate({"validation_share": 0.0, "test_share": 0.0, **options})
        dataset = assemble(read_tables(data, chosen), (WORDS, role), chosen, 0)
        return dataset.splits["train"], dataset.decisions

    return rows


def lines(name: str, *records: object) -> str:
    Path(name).write_text("".join(json.dumps(record) + "\n" for record in records))
    return name


def test_conll_columns(rows):
    Path("a.conll").write_text(CONLL)
    split, said = rows("a.conll")
    assert split.columns["tokens"] == [("EU", "rejects", "#"), ("Bonn",)]
    assert split.columns["tags"] == [("B-ORG", "O", "O"), ("B-LOC",)]
    assert split.row_ids == ["a.conll:3", "a.conll:8"]
    assert "a.conll: 1 -DOCSTART- line skipped." in said
    assert "a.conll: 1 comment line skipped." in said


def test_a_comment_has_another_number_of_columns(rows):
    Path("a.conll").write_text("# id 7 domain=en\nBonn\t_\tB-LOC\r\n\t\r\n#\t_\tO\r\n")
    split, said = rows("a.conll")
    assert split.columns["tokens"] == [("Bonn",), ("#",)]
    assert split.row_ids == ["a.conll:2", "a.conll:4"]
    assert "a.conll: 1 comment line skipped." in said


def test_a_no_break_space_is_a_word(rows):
    Path("a.conll").write_text("a O\n\u00a0 O\nb B-X\n", encoding="utf-8")
    split, _ = rows("a.conll")
    assert split.columns["tokens"] == [("a", "\u00a0", "b")]


def test_ragged_lines_are_refused_with_their_places(rows):
    Path("a.conll").write_text("a O\nb\n\nc O O\n")
    with pytest.raises(DataError, match=r"2 lines without the 2 columns.*a\.conll:2 \(1\), a\.conll:4 \(3\)"):
        rows("a.conll")


def test_a_format_is_named_where_the_suffix_tells_nothing(rows):
    Path("emerging.test.annotated").write_text("a\tO\nb\tB-X\n")
    with pytest.raises(DataError, match=r"data\.format=csv \(known: .*conll, conllu"):
        rows("emerging.test.annotated")
    split, _ = rows("emerging.test.annotated", format="conll")
    assert split.columns["tags"] == [("O", "B-X")]
    with pytest.raises(ValueError, match="Did you mean 'conll'"):
        DataOptions(format="conl")
    Path("folder").mkdir()
    for name in ("train.txt", "test.txt"):
        Path("folder", name).write_text("a O\n")
    assert set(read_tables("folder", DataOptions(format="conll")).splits) == {"train", "test"}


def test_words_alone_are_enough_to_predict(in_folder: Path):
    Path("a.conll").write_text("a\nb\n\nc\n")
    table = read_file("a.conll", DataOptions())
    assert table.columns == {"tokens": [["a", "b"], ["c"]]}


def test_universal_dependencies(rows):
    Path("a.conllu").write_text(CONLLU, encoding="utf-8")
    split, said = rows("a.conllu", TAGS)
    assert split.columns["tokens"] == [("Vamos", "nos", "mar"), ("Sí",)]
    assert split.columns["tags"] == [("VERB", "PRON", "NOUN"), ("INTJ",)]
    assert split.row_ids == ["a.conllu:4", "a.conllu:9"]
    assert "a.conllu: 1 multiword range skipped." in said and "a.conllu: 1 empty node skipped." in said
    split, _ = rows("a.conllu", TAGS, columns={"tags": "feats.Number"})
    assert split.columns["tags"] == [("Plur", "Plur", "_"), ("_",)]
    _, said = rows("a.conllu", TAGS, columns={"tags": "feats.Nubmer"})
    assert "a.conllu: no word has the feature Nubmer; features there are: Number, Person." in said
    with pytest.raises(DataError, match=r"4 tags of the column 'upos' .*\n.*task\.name=word_tagging"):
        rows("a.conllu", ENTITIES, columns={"tags": "upos"})


def test_tokens_and_tags_in_json_lines(rows):
    name = lines(
        "a.jsonl", {"tokens": ["a", "b"], "ner_tags": ["O", "I-X"]}, {"tokens": ["c"], "ner_tags": ["I-X"]}
    )
    split, said = rows(name)
    assert split.columns["tags"] == [("O", "B-X"), ("B-X",)]
    assert "Tags of a.jsonl (column 'ner_tags') are IOB1; they become IOB2." in said


def test_misplaced_tags_are_read_aloud(rows):
    name = lines(
        "a.jsonl", {"tokens": ["a", "b"], "tags": ["B-X", "I-Y"]}, {"tokens": ["c"], "tags": ["B-X"]}
    )
    _, said = rows(name)
    (sentence,) = [each for each in said if "1 tag against the scheme IOB2" in each]
    assert "a.jsonl:1 (word 2: 'I-Y' after 'B-X')" in sentence


def test_another_number_of_tags_is_refused(rows):
    name = lines("a.jsonl", {"tokens": ["a"], "tags": ["O"]}, {"tokens": ["a", "b"], "tags": ["O"]})
    with pytest.raises(DataError, match=r"1 row of the column 'tags'.*a\.jsonl:2 \(2 words, 1 tag\)"):
        rows(name)
    with pytest.raises(
        DataError, match="list of tag names for each row, and does not in 1 row, for instance None"
    ):
        rows([{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["a"], "tags": None}])
    with pytest.raises(DataError, match="none of which is empty"):
        rows([{"tokens": ["a", ""], "tags": ["O", "O"]}])
    with pytest.raises(DataError, match="mixes texts and lists"):
        rows([{"tokens": ["a"], "tags": ["O"]}, {"tokens": "a", "tags": ["O"]}])


@pytest.mark.parametrize("role", [ENTITIES, TAGS])
def test_numbers_of_tags_need_their_names(rows, role):
    given = [
        {"tokens": ["a", "b"], "tags": [0, 2]},
        {"tokens": ["a"], "tags": [1]},
        {"tokens": [], "tags": []},
    ]
    split, _ = rows(given, role, tag_names=["O", "B-X", "B-Y"])
    assert split.columns["tags"] == [("O", "B-Y"), ("B-X",), ()]
    with pytest.raises(
        DataError, match=r"numbers of tags, whose names.*\n.*data\.tag_names=\[O,B-PER,I-PER\]"
    ):
        rows(given, role)
    with pytest.raises(DataError, match=r"numbers from 0 to 1, .* does not in 1 row, .*list of dicts, row 1"):
        rows(given, role, tag_names=["O", "B-X"])
    named = [{"tokens": ["a"], "tags": ["B-Z"]}]
    assert rows(named, role, tag_names=["O"])[0].columns["tags"] == [("B-Z",)]


def test_names_of_tags_are_refused_where_nothing_reads_them():
    chosen = DataOptions(tag_names=["O", "B-X"])
    with pytest.raises(ConfigurationError, match=r"data\.tag_names: only a task that tags words"):
        assemble(read_tables([{"text": "a", "label": "b"}], chosen), (TEXT, LABEL), chosen, 0)


@pytest.mark.parametrize(
    ("names", "task"), [(["O", "B-X"], "token_classification"), (["NOUN", "VERB"], "word_tagging")]
)
def test_names_of_tags_tell_the_task(names, task):
    chosen = DataOptions(tag_names=names)
    given = read_tables([{"tokens": ["a", "b"], "tags": [0, 1]}], chosen)
    assert infer_task(given, chosen)[0] == task


def test_character_spans(rows):
    text = "Tom Sawyer left New York."
    spans = [{"start": 16, "end": 24, "label": "LOC", "id": 3}, [0, 11, "PER"]]
    split, _ = rows(lines("a.jsonl", {"text": text, "entities": spans}, {"text": "No one", "entities": []}))
    assert split.columns["tokens"] == [text, "No one"]
    assert split.columns["tags"] == [("B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"), ("O", "O")]


def test_spans_that_tags_cannot_say_are_refused_or_left_out_aloud(rows):
    text = "New Yorkers  ate"
    bad = [[0, 8, "A"], [0, 99, "B"], [5, 5, "C"], [11, 13, "D"], [0, 11, "E"], [4, 11, "F"], [-1, 3, "G"]]
    name = lines("a.jsonl", {"text": text, "spans": [[13, 16, "OK"]]}, {"text": text, "spans": bad})
    with pytest.raises(
        DataError, match=r"6 spans .*a\.jsonl:2 \(.*and 1 more\n.*drop_misfit_spans=true"
    ) as caught:
        rows(name)
    assert "(0-8 'A' begins or ends inside a word)" in str(caught.value)
    assert "(0-99 'B' lies outside the 16 characters)" in str(caught.value)
    assert text not in str(caught.value)
    split, said = rows(name, drop_misfit_spans=True)
    assert split.columns["tags"] == [("O", "O", "B-OK"), ("B-E", "I-E", "O")]
    assert any(each.startswith("a.jsonl: 6 spans left out") for each in said)
    with pytest.raises(DataError, match="must hold lists of spans"):
        rows([{"text": "a", "spans": [{"start": 0, "end": "1", "label": "X"}]}])


def test_a_span_that_says_another_text_does_not_fit(rows):
    def spans(quote: str):
        return {"text": "Anna  met\tTom.", "entities": [{"start": 0, "end": 9, "label": "X", "text": quote}]}

    split, _ = rows([spans("anna met"), spans("Anna  met\t")])
    assert split.columns["tags"] == [("B-X", "I-X", "O", "O")] * 2
    with pytest.raises(
        DataError, match=r"1 span .*row 2 \(0-9 'X' holds another text than it says\)"
    ) as caught:
        rows([spans("Anna met"), spans("Zebra")])
    assert "Zebra" not in str(caught.value)
    _, said = rows([spans("Anna met"), spans("Zebra")], drop_misfit_spans=True)
    assert any("1 span left out" in each for each in said)


@pytest.mark.parametrize(
    ("start", "end", "hint"),
    [(0, -1, "ends look inclusive: add 1 to each end"), (1, 1, "counted from 1: subtract 1 from each start and each"),
     (1, 0, "from 1, the ends inclusive: subtract 1 from each start;"), (2, 2, "correct them, or leave them out")],
)  # fmt: skip
def test_spans_counted_in_another_way_are_told(rows, start, end, hint):
    given = [[4 + start, 8 + end, "A"], [9 + start, 14 + end, "B"]]
    with pytest.raises(DataError, match=hint):
        rows([{"text": "The Anna Smith met Tom.", "spans": given}] * 3)


@pytest.mark.parametrize("key", ["label", "type", "entity_group", "class"])
def test_the_label_of_a_span_has_several_names(rows, key):
    split, _ = rows([{"text": "Anna met", "spans": [{"start": 0, "end": 4, key: "A"}]}])
    assert split.columns["tags"] == [("B-A", "O")]
    with pytest.raises(DataError, match=r"does not in 1 row: list of dicts, row 1 \(a span has no label\)"):
        rows([{"text": "Anna met", "spans": [{"start": 0, "end": 4, "kind": "A"}]}])


def findings(data: object, role, **options: float):
    chosen = DataOptions.model_validate(options)
    found = check_dataset(assemble(read_tables(data, chosen), (WORDS, role), chosen, 0), (WORDS, role))
    return {each.kind: each for each in found}


def test_findings_about_tags():
    rows = [{"tokens": ["w", str(number)], "tags": ["B-A", "I-A"]} for number in range(8)]
    test = [{"tokens": ["x"], "tags": ["B-Z"]}, {"tokens": [], "tags": []}]
    found = findings({"train": rows, "validation": rows[:1], "test": test}, ENTITIES)
    assert "one_class" not in found  # a word is an entity of the one type, or none
    assert found["unseen_label"].places == ["list of dicts (test), row 1"]
    assert "'Z'" in found["unseen_label"].message
    assert found["empty_text"].places == ["list of dicts (test), row 2"]
    assert found["empty_text"].message.endswith("1 row with no tokens")
    assert found["same_text_in_two_splits"].count == 1
    assert found["label_counts"].message == "train: 1 tag: 'A' 8"
    plain = {"train": [{"tokens": ["w"], "tags": ["N"]}]}
    assert "one_class" in findings(plain, TAGS, validation_share=0.0, test_share=0.0)


def test_conflicting_tags_are_shown_where_they_differ():
    long = ["B-A"] * 30
    rows = [{"tokens": ["w"] * 31, "tags": [*long, tag]} for tag in ("O", "B-B")]
    found = findings({"train": rows}, ENTITIES, validation_share=0.0, test_share=0.0)
    assert found["conflicting_labels"].places == [
        "list of dicts (train), row 1 ('O') and list of dicts (train), row 2 ('B-B')"
    ]


def test_class_numbers_of_a_hub_dataset_become_names(rows):
    datasets = pytest.importorskip("datasets")
    kinds = {"tokens": datasets.Value("string"), "ner_tags": datasets.ClassLabel(names=["O", "B-X"])}
    features = datasets.Features({name: datasets.List(kind) for name, kind in kinds.items()})
    data = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "ner_tags": [[0, 1]]}, features=features)
    split, _ = rows(data)
    assert split.columns["tags"] == [("O", "B-X")]
