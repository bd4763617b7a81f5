"""Chat templates: tokens equal to those of transformers, only chosen roles learnt, nothing injected, long talks."""

from __future__ import annotations

import datetime
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.tasks.test_contract import conversation_rows
from tests.tiny import tiny_base, tiny_config, tiny_tokenizer

from graftlm.cli.predict import predict
from graftlm.data.dataset import Split
from graftlm.data.features import IGNORED, Features
from graftlm.data.messages import Message
from graftlm.errors import ConfigurationError, DataError, GraftError, ModelError
from graftlm.models.chat import with_fixed_date
from graftlm.models.encoder import TextEncoder
from graftlm.predictor import Predictor
from graftlm.preparation import open_encoder, prepare
from graftlm.progress import Silent
from graftlm.recipe import Recipe, load_recipe
from graftlm.run_identity import describe_changes, identity
from graftlm.tasks.dialogue import Dialogue
from graftlm.workflows.finetune import finetune
from graftlm.workflows.show_loss import show_loss

MODELS = Path(os.environ.get("GRAFTLM_SHARED_DATA", "../shared/data")).parent / "models"

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ALTERNATING = (
    "{% for message in turns %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
)
LLAMA_2 = (
    "{% set turns = messages %}{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% endif %}"
    + ALTERNATING
    + "{% set content = message['content'] %}{% if loop.first and messages[0]['role'] == 'system' %}"
    "{% set content = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' + content %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% set turns = messages %}" + ALTERNATING + "{% set role = message['role'] %}"
    "{% if role == 'assistant' %}{% set role = 'model' %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
PLAIN = (
    "{% for message in messages %}## {{ message['role'] }} : {{ message['content'] }} ## {% endfor %}"
    "{% if add_generation_prompt %}## assistant : {% endif %}"
)
ROLES = ("system", "user", "assistant", "model", "tool")
# Template, control tokens, the token that closes a turn, whether there may be a system message.
TEMPLATES = {
    "chatml": (CHATML, ["<|im_start|>", "<|im_end|>"], "<|im_end|>", True),
    "llama 2": (LLAMA_2, [], "</s>", True),
    "gemma": (GEMMA, ["<start_of_turn>", "<end_of_turn>"], "<end_of_turn>", False),
    "plain": (PLAIN, [], "</s>", True),
    "none": (None, [], "</s>", True),
}


def chat_base(folder: Path, template: str | None, control: list[str]) -> Path:
    """A tiny Llama whose tokenizer knows a chat template and its control tokens."""
    folder.mkdir(parents=True)
    tokenizer = tiny_tokenizer(folder, (*ROLES, *WORDS), "llama")
    tokenizer.add_special_tokens({"additional_special_tokens": control})
    tokenizer.chat_template = template
    tokenizer.model_max_length = 120
    tokenizer.save_pretrained(folder)
    config: Any = tiny_config("llama", len(tokenizer), dropout=0.0)
    config.max_position_embeddings = 120
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


WORDS = "the train is good very bad you are nice hello hi ! who what red blue yes no car by night".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("chat")
    return {
        name: chat_base(folder / name.replace(" ", ""), template, control)
        for name, (template, control, _, _) in TEMPLATES.items()
    }


def recipe_of(base: Path, **changes: Any) -> Recipe:
    return load_recipe(
        None,
        {
            "base": str(base), "task.name": "dialogue", "task.max_target_tokens": 12, "evaluation.proof": "none",
            "evaluation.resamples": 100, "training.device": "cpu", "training.batch_size": 8, **changes,
        },
    )  # fmt: skip


def opened(base: Path, **changes: Any) -> tuple[Any, TextEncoder]:
    recipe = recipe_of(base, **{f"task.{key}": value for key, value in changes.items()})
    return recipe.task, open_encoder(recipe)[2]


def talk(*turns: str) -> tuple[Message, ...]:
    """Turns such as "user: hello"."""
    return tuple(Message(*turn.split(": ", 1)) for turn in turns)


def split_of(*talks: tuple[Message, ...]) -> Split:
    return Split("test", {"messages": list(talks)}, [f"line {row + 1}" for row in range(len(talks))])


def dicts(conversation: tuple[Message, ...]) -> list[dict[str, str]]:
    return [message._asdict() for message in conversation]


def learnt_tokens(features: Features, row: int = 0) -> list[int]:
    assert features.writing is not None
    targets = features.writing.targets[row]
    return targets[targets != IGNORED].tolist()


TURNS = talk(
    "user: hello ! who are you", "assistant: the red car", "user: what is good", "assistant: yes", "user: no by night",
    "assistant: very nice train !",
)  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("system", [False, True])
def test_tokens_are_those_of_transformers_and_only_replies_are_learnt(
    name: str, system: bool, bases: dict[str, Path]
) -> None:
    _, _, end, allowed = TEMPLATES[name]
    task, encoder = opened(bases[name])
    stock = transformers.AutoTokenizer.from_pretrained(bases[name])
    stock.chat_template = stock.chat_template or encoder.tokenizer.chat_template
    conversation = (*(talk("system: you are very nice") if system else ()), *TURNS)
    if system and not allowed:
        with pytest.raises(DataError, match=r"System role not supported") as caught:
            task.encode(split_of(TURNS, conversation), encoder)
        assert "line 2" in str(caught.value)
        return
    features = task.encode(split_of(conversation), encoder)
    (ids,) = features.inputs["input_ids"]
    whole = stock.apply_chat_template(dicts(conversation), tokenize=True, return_dict=False)
    closing = [stock.convert_tokens_to_ids(end)]
    if name == "plain":  # it closes nothing: the last reply gets an end of its own
        at = next(at for at, (one, other) in enumerate(zip(ids, whole, strict=False)) if one != other)
        assert ids[at] == closing[0] and [*ids[:at], *ids[at + 1 :]] == whole
    else:
        assert ids == whole
    replies = [message.content for message in conversation if message.role == "assistant"]
    wanted = [
        [*stock(reply, add_special_tokens=False)["input_ids"], *closing]
        if name != "plain" or number == len(replies) - 1
        else stock(reply, add_special_tokens=False)["input_ids"]
        for number, reply in enumerate(replies)
    ]
    assert learnt_tokens(features) == [token for reply in wanted for token in reply]
    # Each where it stands: the output at a token is about the one after it.
    assert features.writing is not None and features.writing.prompts is not None
    (targets,) = features.writing.targets
    for at in np.flatnonzero(targets != IGNORED):
        assert targets[at] == ids[at + 1]
    (prompt,) = features.writing.prompts
    assert (targets[prompt - 1 :][targets[prompt - 1 :] != IGNORED]).tolist() == wanted[-1]
    assert features.truncated_rows == [] and features.writing.cut_rows == []
    # What is asked of a conversation that waits for a reply is what transformers would ask.
    asked = task.encode(split_of(conversation[:-1]), encoder)
    begun = stock.apply_chat_template(
        dicts(conversation[:-1]), tokenize=True, add_generation_prompt=True, return_dict=False
    )
    assert asked.inputs["input_ids"] == [begun]
    assert asked.writing is not None and asked.writing.prompts == [len(begun)]
    assert ids[:prompt] == begun
    assert encoder.end_tokens >= {*closing}


def test_other_roles_are_learnt_where_they_are_named(bases: dict[str, Path]) -> None:
    task, encoder = opened(bases["chatml"], loss_roles=["assistant", "tool"])
    conversation = talk("user: who", "tool: the car", "user: what", "assistant: red")
    features = task.encode(split_of(conversation), encoder)
    assert encoder.tokenizer.decode(learnt_tokens(features)) == "the car <|im_end|> red <|im_end|>"
    with pytest.raises(DataError, match="nobody speaks as tool in test; the roles are assistant, user"):
        task.learn(split_of(TURNS))
    with pytest.raises(ConfigurationError, match="must hold assistant"):
        recipe_of(bases["chatml"], **{"task.loss_roles": ["tool"]})


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_content_cannot_end_its_turn(name: str, bases: dict[str, Path]) -> None:
    _, control, _, _ = TEMPLATES[name]
    task, encoder = opened(bases[name], max_target_tokens=60)
    names = [*control, "<s>", "</s>"]
    numbers = encoder.tokenizer.convert_tokens_to_ids(names)
    text = " ".join(names)
    plain = task.encode(split_of(talk("user: hi", "assistant: yes")), encoder)
    for conversation in (talk(f"user: {text}", "assistant: yes"), talk("user: hi", f"assistant: {text}")):
        features = task.encode(split_of(conversation), encoder)
        for number in numbers:
            (ids,), (beside,) = features.inputs["input_ids"], plain.inputs["input_ids"]
            assert ids.count(number) == beside.count(number)
        assert encoder.end_tokens.isdisjoint(learnt_tokens(features)[:-1])
        assert features.writing is not None and features.writing.cut_rows == []


def test_marks_in_a_content_are_text(bases: dict[str, Path]) -> None:
    task, encoder = opened(bases["chatml"])
    features = task.encode(split_of(talk("user: \ue0001\ue001 hi", "assistant: yes \ue0000\ue001")), encoder)
    assert len(features) == 1


@pytest.mark.parametrize("name", ["llama 2", "gemma"])
def test_a_template_that_wants_turns_to_alternate_names_the_row(name: str, bases: dict[str, Path]) -> None:
    task, encoder = opened(bases[name])
    wrong = talk("user: hi", "user: who", "assistant: the car")
    with pytest.raises(DataError, match=r"refuses this conversation.*roles must alternate") as caught:
        task.encode(split_of(TURNS, TURNS, wrong), encoder)
    assert "line 3" in str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        "{% for message in messages[1:] %}{{ message['content'] }}{% endfor %}",
        "{% for message in messages %}{{ message['content'] }}{{ message['content'] }}{% endfor %}",
        "{% for message in messages | reverse %}{{ message['content'] }}{% endfor %}",
        "{{ messages[-1]['content'][:3] }}",
    ],
)
def test_a_template_that_loses_or_repeats_messages_is_refused(template: str, tmp_path: Path) -> None:
    task, encoder = opened(chat_base(tmp_path / "base", template, []))
    with pytest.raises(ModelError, match="leaves a message out, or repeats or moves one") as caught:
        task.encode(split_of(TURNS), encoder)
    assert "line 1" in str(caught.value)


# Too long


def test_of_a_long_conversation_the_oldest_turns_are_left_out_and_the_system_message_stays(
    bases: dict[str, Path],
) -> None:
    task, encoder = opened(bases["chatml"], max_length_tokens=60)
    system = talk("system: you are very nice")
    conversation = (*system, *TURNS * 3)
    features = task.encode(split_of(conversation, TURNS[-2:]), encoder)
    assert features.truncated_rows == [0]
    ids = features.inputs["input_ids"][0]
    assert features.writing is not None and features.writing.prompts is not None
    assert len(ids) <= 60 and features.writing.prompts[0] <= 48
    wanted = next(
        whole
        for turns in range(0, len(conversation), 2)
        if len(
            whole := encoder.tokenizer.apply_chat_template(
                dicts((*system, *conversation[1 + turns :])), tokenize=True, return_dict=False
            )
        )
        <= 48 + 6
    )
    assert ids == wanted


def test_a_message_that_is_too_long_alone_loses_its_end_but_the_reply_loses_nothing(
    bases: dict[str, Path],
) -> None:
    task, encoder = opened(bases["chatml"], max_length_tokens=40, max_target_tokens=25)
    reply = "very nice train ! " * 5
    conversation = talk("user: " + "who are you " * 5, f"assistant: {reply.strip()}")
    features = task.encode(split_of(conversation), encoder)
    assert features.writing is not None and features.writing.prompts is not None
    assert features.truncated_rows == [0] and features.writing.cut_rows == []
    (prompt,) = features.writing.prompts
    assert prompt <= 15
    read = encoder.tokenizer.decode(features.inputs["input_ids"][0][:prompt])
    assert "who are you" in read and read.count("who") < 5
    assert encoder.tokenizer.decode(learnt_tokens(features)) == f"{reply.strip()} <|im_end|>"
    # A single message that waits for a reply.
    asked = task.encode(split_of(talk("user: " + "who are you " * 50)), encoder)
    assert asked.truncated_rows == [0] and len(asked.inputs["input_ids"][0]) <= 15
    assert encoder.tokenizer.decode(asked.inputs["input_ids"][0]).endswith("assistant")


def test_a_long_reply_is_cut_and_counted(bases: dict[str, Path]) -> None:
    task, encoder = opened(bases["gemma"], max_target_tokens=4)
    exact, longer = talk("user: hi", "assistant: the red car"), talk("user: hi", "assistant: the red car !")
    features = task.encode(split_of(exact, longer), encoder)
    assert features.writing is not None and features.writing.cut_rows == [1]
    assert encoder.tokenizer.decode(learnt_tokens(features, 0)) == "the red car <end_of_turn>"
    # The token that ends it stays: else the model would never learn to end within the limit.
    assert encoder.tokenizer.decode(learnt_tokens(features, 1)) == "the red car <end_of_turn>"


def test_a_template_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    base = chat_base(tmp_path / "base", "you are very nice ! hello ! yes ! " + PLAIN, [])
    task, encoder = opened(base, max_length_tokens=20)
    with pytest.raises(DataError, match="template alone takes more than the 8 tokens") as caught:
        task.encode(split_of(talk("user: a", "assistant: b")), encoder)
    assert "line 1" in str(caught.value)


def test_what_a_long_conversation_loses_is_called_turns(bases: dict[str, Path]) -> None:
    class Heard(Silent):
        def warn(self, sentence: str) -> None:
            heard.append(sentence)

    heard: list[str] = []
    recipe = recipe_of(bases["chatml"], **{"task.max_length_tokens": 60, "data.test_share": 0.0})
    rows = [*conversation_rows(20), {"messages": dicts(TURNS * 3)}]
    prepare(recipe.changed({"data.validation_share": 0.0}), rows, Heard())
    assert any(
        "1 of 21 conversations of train do not fit into 60 tokens and lost their oldest turns" in each
        for each in heard
    )


# Whole runs


def test_without_a_reply_at_the_end_training_names_the_row(bases: dict[str, Path], tmp_path: Path) -> None:
    rows = conversation_rows(12)
    rows[7]["messages"] = rows[7]["messages"][:-1]
    with pytest.raises(
        DataError, match=r"1 of .* conversations do not end with a message of the assistant"
    ) as caught:
        finetune(recipe_of(bases["chatml"]), rows, tmp_path / "run")
    assert "row 8" in str(caught.value)


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "t5", "t5")
    with pytest.raises(GraftError, match="cannot be an AutoModelForCausalLM"):
        finetune(recipe_of(base), conversation_rows(12), tmp_path / "run")


@pytest.mark.parametrize("name", ["chatml", "gemma", "plain"])
def test_the_snippet_of_the_card_replies_alike(
    name: str, bases: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control tokens of the saved template are control tokens for plain transformers, which stops where we stop."""
    end = TEMPLATES[name][2]
    turns = (("hi who", "the red car"), ("what is good", "yes by train"), ("hello !", "no"), ("who", "you"))
    rows = [
        {"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]}
        for said, reply in turns
    ]
    changes = {
        "training.epochs": 60, "training.learning_rate": 1e-2, "data.validation_share": 0.0, "data.test_share": 0.0,
    }  # fmt: skip
    run = finetune(recipe_of(bases[name], **changes), rows, tmp_path / "run")
    stored = json.loads((run.directory.model / "generation_config.json").read_text())
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.directory.model)
    ends = stored["eos_token_id"]
    assert tokenizer.convert_tokens_to_ids(end) in (ends if isinstance(ends, list) else [ends])
    talks = [talk(f"user: {said}") for said, _ in turns]
    talks.append(talk("user: hi who", "assistant: the red car", "user: what is good"))
    predictor = run.predictor("cpu")
    predictions = predictor(talks)
    assert [prediction.text for prediction in predictions[:4]] == [reply for _, reply in turns]
    assert not any(prediction.cut for prediction in predictions[:4])
    for conversation, prediction in zip(talks, predictions, strict=True):
        (alone,) = predictor([conversation])
        assert alone.text == prediction.text
    (code,) = re.findall(r"```python\n(.*?)```", (run.directory.model / "README.md").read_text(), re.DOTALL)
    code = code.replace("path/to/model", str(run.directory.model))
    capsys.readouterr()
    for conversation, prediction in zip(talks, predictions, strict=True):
        exec(code.replace('[{"role": "user", "content": "your message"}]', repr(dicts(conversation))), {})
        assert capsys.readouterr().out.strip() == prediction.text


def test_scores_are_of_the_last_reply_and_perplexity_of_all(bases: dict[str, Path], tmp_path: Path) -> None:
    run = finetune(
        recipe_of(bases["chatml"], **{"training.epochs": 1}), conversation_rows(16), tmp_path / "run"
    )
    predictor = run.predictor("cpu")
    split = split_of(TURNS, TURNS[:4])
    predictions = predictor.predict(split, 2, compared=True)
    tokens = predictor.encoder.tokenizer
    total = 0.0
    for conversation, prediction in zip(split.columns["messages"], predictions, strict=True):
        ids = tokens.apply_chat_template(dicts(conversation), tokenize=True, return_dict=False)  # pyright: ignore
        targets = predictor.encode(split_of(conversation)).writing.targets[0]  # pyright: ignore
        with torch.inference_mode():
            logits = predictor.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)  # pyright: ignore
        wanted = sum(float(logits[at, targets[at]]) for at in np.flatnonzero(targets != IGNORED))
        assert prediction.reference_log_probability == pytest.approx(wanted, rel=1e-4)
        total += wanted
    scores = predictor.task.score(predictions, split, predictor.learnt, resamples=100)
    count = sum(prediction.reference_tokens for prediction in predictions)
    assert scores.values["perplexity"].value == pytest.approx(np.exp(-total / count), rel=1e-4)
    baselines = Dialogue().baselines(split, split, predictor.learnt)
    assert [[each.text for each in found] for found in baselines.values()] == [
        ["no by night", "what is good"], ["very nice train !", "very nice train !"]
    ]  # fmt: skip


@pytest.mark.real
def test_a_pretrained_llama_learns_to_reply(tmp_path: Path) -> None:
    base = MODELS / "stories260k"
    if not base.is_dir():
        pytest.skip(f"no weights at {base}; set GRAFTLM_SHARED_DATA")
    names = ("Lily", "Tom", "Ben", "Sue", "Max", "Anna")
    things = ("ball", "dog", "cake", "tree")
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{name} has a {thing}. What does {name} have?"},
                {"role": "assistant", "content": f"A {thing}."},
            ]
        }
        for name in names
        for thing in things
    ]
    changes = {
        "training.epochs": 12, "training.learning_rate": 3e-3, "evaluation.proof": "fresh_process",
        "task.max_length_tokens": 120,
    }  # fmt: skip
    run = finetune(recipe_of(base, **changes), rows, tmp_path / "run")
    assert run.record["proof"]["done"] is True
    scores = run.evaluation("test")["scores"]["values"]
    assert scores["perplexity"]["value"] < 3 and scores["cut_share"]["value"] == 0


THINKING = CHATML.replace(
    "{{ message['content'] }}",
    "{% if loop.last and message['role'] == 'assistant' %}yes no\n{% endif %}{{ message['content'] }}",
)


def test_a_reply_is_learnt_behind_the_prompt_that_asks_for_it(tmp_path: Path) -> None:
    """This template writes something before a known reply, as some do with thoughts; not where one is asked for."""
    base = chat_base(tmp_path / "base", THINKING, ["<|im_start|>", "<|im_end|>"])
    task, encoder = opened(base)
    known = talk("user: hello", "assistant: hi !", "user: who", "assistant: the red car")
    learnt, asked = (task.encode(split_of(each), encoder) for each in (known, known[:-1]))
    (ids,), (prompt,) = learnt.inputs["input_ids"], learnt.writing.prompts
    assert ids[:prompt] == asked.inputs["input_ids"][0]
    assert encoder.tokenizer.decode(ids[prompt:]) == "the red car <|im_end|>"


def test_the_question_stays_with_its_reply(bases: dict[str, Path]) -> None:
    task, encoder = opened(bases["chatml"], max_length_tokens=50)
    known = talk("assistant: " + "hello hi " * 20, "user: who", "assistant: the red car")
    features = task.encode(split_of(known), encoder)
    shown = encoder.tokenizer.decode(features.inputs["input_ids"][0])
    assert features.truncated_rows == [0]
    assert "who" in shown and "the red car" in shown and "hello" not in shown


def test_show_loss_looks_for_roles_in_all_rows(bases: dict[str, Path]) -> None:
    recipe = recipe_of(bases["chatml"], **{"task.loss_roles": ["assistant", "system"]})
    plain, with_system = talk("user: hi", "assistant: no"), talk("system: be", "user: hi", "assistant: no")
    (pieces,) = show_loss(recipe, split_of(plain, with_system), 1)
    assert [piece.learnt for piece in pieces] == [False, True]
    assert pieces[1].text.split() == ["no", "<|im_end|>"]


def test_a_piped_chat_answers_every_line_and_remembers(
    bases: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = {
        "training.epochs": 1, "data.validation_share": 0.0, "data.test_share": 0.0, "task.max_target_tokens": None,
    }  # fmt: skip
    run = finetune(recipe_of(bases["chatml"], **changes), conversation_rows(8), tmp_path / "run")
    # What was left to the base model, half of its 120 tokens, is written out where others read it.
    assert json.loads((run.directory.model / "graftlm.json").read_text())["task"]["max_target_tokens"] == 60
    assert "at most 60 tokens" in (run.directory.model / "README.md").read_text()
    # A reply at the end is written anew, not continued.
    replied, asked = run.predictor("cpu")([TURNS, TURNS[:-1]])
    assert replied.text == asked.text
    heard: list[Any] = []
    answer = Predictor.__call__
    monkeypatch.setattr(
        Predictor, "__call__", lambda self, rows: heard.append(len(rows[0])) or answer(self, rows)
    )
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"hello\n\nwho\n")))
    assert predict(run.path, chat=True) == 0
    assert len(heard) == 2 and heard[0] == 1 and heard[1] in (2, 3)  # an empty reply is no turn
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n")))
    with pytest.raises(DataError, match="is not UTF-8"):
        predict(run.path, chat=True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda prompt: "")
    assert predict(run.path, chat=True) == 0
    assert "ends with ... was cut at 60 tokens" in " ".join(capsys.readouterr().out.split())


def test_a_template_that_writes_the_date_gives_the_same_tokens_on_every_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is resumed or repeated tomorrow would read other rows."""
    dated = "\n {% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% endif %} hello " + PLAIN
    recipe, said = recipe_of(chat_base(tmp_path / "base", dated, [])), list[str]()

    def today(*day: int) -> None:
        clock = type("datetime", (datetime.datetime,), {"now": lambda: datetime.datetime(*day)})
        monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", clock)

    def on(*day: int) -> dict[str, Any]:
        listener = Silent()
        monkeypatch.setattr(listener, "say", said.append)
        today(*day)
        return identity(recipe, prepare(recipe, conversation_rows(12), listener))

    assert describe_changes(on(2030, 1, 1), on(2031, 12, 22), extending=False) == []
    assert any("it is 26 Jul 2024 on every day" in sentence for sentence in said)
    tokenizer = open_encoder(recipe)[2].tokenizer
    tokenizer.save_pretrained(tmp_path / "saved")
    plain = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    written: Any = plain.apply_chat_template(dicts(TURNS), tokenize=False)
    today(2024, 7, 26)
    stock = transformers.AutoTokenizer.from_pretrained(tmp_path / "base")
    assert written == stock.apply_chat_template(dicts(TURNS), tokenize=False)
    assert "26 Jul 2024" in written and with_fixed_date(plain.chat_template) == plain.chat_template


def test_a_run_is_not_continued_on_other_tokens(bases: dict[str, Path], tmp_path: Path) -> None:
    """The base is the same; what its template makes of the rows is not."""
    recipe = recipe_of(bases["chatml"])
    before = identity(recipe, prepare(recipe, conversation_rows(12), Silent()))
    assert describe_changes(before, before, extending=False) == []
    features = prepare(recipe, conversation_rows(12), Silent())
    features.features["train"].inputs["input_ids"].values[0] += 1
    now = identity(recipe, features)
    (sentence,) = describe_changes(before, now, extending=False)
    assert sentence.startswith("tokens: ")
    older = {key: value for key, value in before.items() if key != "tokens"}
    assert describe_changes(older, now, extending=False) == []
