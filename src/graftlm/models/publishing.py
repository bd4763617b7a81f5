"""A model folder goes to the hub: in one commit, private unless asked otherwise."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    validate_repo_id,
)

from graftlm.errors import ConfigurationError, GraftError, MissingResource, clip
from graftlm.models.locating import is_model_file

_LOG_IN = (
    "`hf auth login` with a token that may write (https://huggingface.co/settings/tokens), or set HF_TOKEN"
)


@dataclass(frozen=True)
class Published:
    """What lies on the hub now.

    Args:
        url: the page of the repository.
        name: ``org/name``.
        commit: the commit that holds the model; ``base=name@commit`` loads it.
        private: whether only those with access can see it.
        changed: False where exactly these files lay there before.
    """

    url: str
    name: str
    commit: str
    private: bool
    changed: bool


def check_repository_name(name: str) -> None:
    """Raise `ConfigurationError` unless ``name`` is ``org/name`` as the hub allows it."""
    try:
        if name.count("/") != 1:
            raise HFValidationError("it is written with one slash")
        validate_repo_id(name)
    except HFValidationError as problem:
        raise ConfigurationError(
            f"{clip(name)} is no name of a repository: {' '.join(str(problem).split())[:200]}",
            fix="write your account or organisation, a slash and the name of the model, for instance acme/reviews",
        ) from None


def publish(
    files: Mapping[str, Path | bytes], name: str, public: bool, branch: str | None, bars: bool
) -> Published:
    """Upload files as one commit; a model file of an earlier push that is not among them is removed.

    The contents of large files go first and are kept by the hub, the commit that shows them comes last. Whatever
    interrupts an upload, nothing of it is visible, and the next one sends only what is missing.

    Args:
        files: name in the repository -> a file here, or the content itself.
        name: of the repository, made if there is none.
        public: whether a new repository is for everybody; one that is there keeps what it is.
        branch: made if there is none; None is ``main``.
        bars: whether the hub client may show its progress bars.

    Raises:
        ConfigurationError: the name is none, or the repository is public and ``public`` is False.
        MissingResource: no login, no right to write, no network.
    """
    check_repository_name(name)
    if get_token() is None:
        raise MissingResource("you are not logged in to the hub", fix=_LOG_IN)
    api = HfApi()
    try:
        info = _repository(api, name, public)
        if branch is not None:
            api.create_branch(name, branch=branch, exist_ok=True)
            info = api.model_info(name, revision=branch)
        there = {sibling.rfilename for sibling in info.siblings or []}
        old = [file for file in there - files.keys() if is_model_file(file)]
        with _progress_bars(bars):
            commit = api.create_commit(
                name,
                [
                    *(CommitOperationAdd(file, content) for file, content in sorted(files.items())),
                    *(CommitOperationDelete(file) for file in sorted(old)),
                ],
                commit_message="Model made with GraftLM",
                revision=branch,
                parent_commit=info.sha,  # somebody else's commit in between is not overwritten
            )
    except GraftError:
        raise
    except Exception as problem:
        # The hub client raises the errors of whichever transport it uses.
        raise _explained(problem, name) from problem
    return Published(
        f"{api.endpoint}/{name}" + (f"/tree/{branch}" if branch else ""),
        name,
        commit.oid,
        bool(info.private),
        commit.oid != info.sha,
    )


@contextmanager
def _progress_bars(shown: bool) -> Generator[None]:
    if shown or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _repository(api: HfApi, name: str, public: bool) -> ModelInfo:
    """Return the repository, new or as it is, once it is known to be as private as it was wanted."""
    try:
        info, new = api.model_info(name), False
    except RepositoryNotFoundError:
        api.create_repo(name, private=not public)
        info, new = api.model_info(name), True
    if not public and info.private is not True:
        raise ConfigurationError(
            f"{name} is public{', although a private repository was asked for' if new else ' already'}; "
            "nothing was uploaded",
            where=f"{api.endpoint}/{name}",
            fix="make it private on its settings page, choose another name, or add --public (public=True) if "
            "everybody may have the model",
        )
    return info


def _explained(problem: Exception, name: str) -> GraftError:
    status = problem.response.status_code if isinstance(problem, HfHubHTTPError) else None
    if isinstance(problem, OfflineModeIsEnabled):
        return MissingResource("the hub client is set to offline", where="HF_HUB_OFFLINE", fix="unset it")
    if isinstance(problem, RevisionNotFoundError):
        return ConfigurationError(f"{name} has no such branch", where="--revision", fix="name a branch")
    if status == 401:
        return MissingResource("the hub does not accept your login", where=name, fix=_LOG_IN)
    if status == 403:
        return MissingResource(
            f"your login may not write to {name}",
            fix=f"{_LOG_IN}; or choose a name under an account or organisation of yours",
        )
    cause = problem.__cause__ or problem  # the client says which file, its cause says why
    reason = " ".join(str(cause).split())[:300].rstrip(".")
    return MissingResource(
        f"the upload did not end: {type(cause).__name__}: {reason}. Nothing of it is visible",
        where=name,
        fix="check the network and push again: only what is missing will be sent",
    )
