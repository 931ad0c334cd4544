"""Errors of `huggingface_hub` in words that say what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from ostro.errors import ModelNotFoundError

_HTTP_LIBRARIES = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}


def hub_error(repo: str, revision: str | None, error: Exception) -> ModelNotFoundError:
    """What to tell the user about `error`, which a call for `repo` raised."""
    from huggingface_hub import errors

    status = _status(error)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return ModelNotFoundError(
            f"{repo}: access to this model is restricted. Accept its licence on https://huggingface.co/{repo}, then "
            "log in with `hf auth login` or set HF_TOKEN to a token that may read it."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFoundError(
            f"{repo}: there is no revision {revision!r}. Give a branch, a tag or a full commit hash."
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return ModelNotFoundError(
            f"{repo}: no such repository on the Hugging Face hub, or it is private. Check the spelling; for a private "
            "one log in with `hf auth login` or set HF_TOKEN."
        )
    if any(isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT) for e in _chain(error)):
        return ModelNotFoundError(
            f"{repo}: the disk is full. Make room, or choose another cache folder with HF_HOME; what was fetched is "
            "kept, and the next try goes on from there."
        )
    if is_network_error(error):
        because = f"the hub answered with status {status}" if status else "the hub cannot be reached"
        return ModelNotFoundError(
            f"{repo}: {because}, and the model is not in the local cache. Check the network and proxy settings (and "
            "HF_ENDPOINT if you set it), then try again; what was fetched is kept."
        )
    if isinstance(error, errors.HFValidationError):
        return ModelNotFoundError(f"{repo!r} is no valid name of a hub repository; it has the form OWNER/NAME.")
    return ModelNotFoundError(
        f"{repo}: the download failed: {type(error).__name__}: {error}. Try again; what was fetched is kept."
    )


def is_network_error(error: Exception) -> bool:
    """Whether the hub could not be reached, or is in trouble itself."""
    status = _status(error)
    if status is not None:
        return status == 429 or status >= 500
    return any(
        isinstance(e, ConnectionError | TimeoutError) or type(e).__module__.partition(".")[0] in _HTTP_LIBRARIES
        for e in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(error: Exception) -> int | None:
    """HTTP status of the answer that an error of the chain carries."""
    for e in _chain(error):
        status = getattr(getattr(e, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None
