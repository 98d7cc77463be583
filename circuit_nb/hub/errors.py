"""What went wrong at the Hub, in one sentence, and what to do about it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from circuit_nb.hub.http_client import httpx
from circuit_nb.hub.watch import Stalled

_TOKEN_PLACES = (
    "the Colab secret HF_TOKEN, the environment variable HF_TOKEN, or `hf auth login` "
    "(tokens: https://huggingface.co/settings/tokens)"
)


@dataclass(frozen=True)
class Place:
    """A repository on the Hub, and a folder or file in it."""

    repo: str
    """`owner/name`."""
    path: str = ""
    """Within the repository; empty for all of it."""
    revision: str | None = None
    """Branch, tag or commit; None for the main branch."""

    def __str__(self) -> str:
        path = f"/{self.path}" if self.path else ""
        return self.repo + path + (f"@{self.revision}" if self.revision else "")


_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError)
"""What the client raises where a reply is not what it takes for granted."""


@contextmanager
def explained(place: Place) -> Generator[None, None, None]:
    """Say in one sentence what went wrong at the Hub and what to do.

    Within it there is to be nothing but calls of the client.
    """
    from huggingface_hub import constants, errors

    page = f"https://huggingface.co/{place.repo}"
    try:
        yield
    except errors.GatedRepoError:
        raise PermissionError(
            f"{place.repo} is gated: accept its terms at {page} and give a token of that account "
            f"as {_TOKEN_PLACES}."
        ) from None
    except errors.RevisionNotFoundError:
        raise FileNotFoundError(
            f"{place.repo} has no revision {place.revision!r}; see {page}/commits/main."
        ) from None
    except errors.RepositoryNotFoundError:
        raise FileNotFoundError(
            f"The Hub shows no repository {place.repo}: check the name at {page}, or, if it is "
            f"private, give a token that may read it as {_TOKEN_PLACES}."
        ) from None
    except errors.EntryNotFoundError as error:  # LocalEntryNotFoundError is one too.
        raise _not_here(place, error) from None
    except errors.OfflineModeIsEnabled:
        raise ConnectionError(_offline(place)) from None
    except errors.HfHubHTTPError as error:
        raise _refused(place, error) from None
    except errors.HFValidationError:
        raise ValueError(
            f"{place.repo!r} is no name that the Hub allows; check it at {page}."
        ) from None
    except Stalled as error:
        raise ConnectionError(
            f"The Hub does not answer in time for {place} ({error}): check the network and run "
            "this again; finished files are kept, and HF_HUB_OFFLINE=1 takes what is complete."
        ) from None
    except httpx().DecodingError:
        raise _not_the_hub(place, constants.ENDPOINT) from None
    except httpx().HTTPError as error:
        raise ConnectionError(
            f"The Hub cannot be reached for {place} ({type(error).__name__}): check the network "
            "and run this again; finished files are kept."
        ) from None
    except _UNREADABLE:
        raise _not_the_hub(place, constants.ENDPOINT) from None


def _not_the_hub(place: Place, endpoint: str) -> ConnectionError:
    return ConnectionError(
        f"What answers at {endpoint} for {place} is not the Hub: a proxy, or a page to log in to "
        "this network, may stand in between. Open the address in a browser, then run this again."
    )


def _offline(place: Place) -> str:
    return (
        f"{place} is not complete in the cache and HF_HUB_OFFLINE is set; unset it once to "
        "download, or give a local folder."
    )


def _not_here(place: Place, error: Exception) -> OSError:
    from huggingface_hub import constants, errors

    if not isinstance(error, errors.LocalEntryNotFoundError):
        return FileNotFoundError(f"{place} lacks a file that was asked for.")
    if constants.HF_HUB_OFFLINE:
        return ConnectionError(_offline(place))
    cause = error.__cause__
    if isinstance(cause, errors.HfHubHTTPError):
        return _refused(place, cause)
    return ConnectionError(
        f"The Hub cannot be reached and {place} is not complete in the cache: check the network "
        "and run this again; finished files are kept."
    )


def _refused(place: Place, error: Any) -> OSError:
    """An HTTP status that has no exception of its own."""
    status = error.response.status_code
    if status == 401:
        return PermissionError(
            f"The Hub does not accept the token it was given for {place.repo}: put a valid one in "
            f"{_TOKEN_PLACES}."
        )
    if status == 403:
        return PermissionError(
            f"The token may not read {place.repo}: give it read access, or accept the terms at "
            f"https://huggingface.co/{place.repo}."
        )
    if status == 429:
        return ConnectionError("The Hub says there were too many requests; try again in a while.")
    return ConnectionError(
        f"The Hub answers with an error ({status}) for {place}; try again later."
    )
