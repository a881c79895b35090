"""Pull from and push to the Hugging Face Hub: one way for worlds, autoencoders, policies and datasets alike.

Whatever takes a path also takes `owner/name`. `resolve` makes a folder on disk of it, which everything else reads as
if it had been there always; so no other module knows that there is a Hub. What is cached is used when the Hub cannot be
reached or HF_HUB_OFFLINE=1 is set.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["model", "dataset"]
NEVER_PUSHED = ("*.tmp", "*.tmp/*", ".lock", "*/.lock", "*.replaced/*", ".cache/*")
"""What a run leaves beside its results: unfinished files, locks, the Hub client's own notes."""
DATASET_INDEX = ("contract.json", "README.md", "streams/*")
"""Of an episode dataset: everything but the frames."""
WEIGHTS = "diffusion_pytorch_model"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w][\w.-]*")
_SNAPSHOT = re.compile(r"/(model|dataset)s--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})/(.+)$")
"""The Hub client's documented cache: kind, owner, name, commit, file."""


@dataclass(frozen=True, kw_only=True)
class HubConfig:
    """Flags of every stage that makes something, spelled as in the training scripts of diffusers."""

    push_to_hub: bool = False
    """Also upload the result to the Hugging Face Hub."""
    hub_model_id: str | None = None
    """Repository to upload to, `owner/name` or `name` (a dataset's too); the output folder's name when not given."""
    hub_private_repo: bool = False
    """Make the repository a private one; one that is there and public is refused."""
    hub_token: str | None = field(default=None, metadata={"secret": True})
    """Instead of HF_TOKEN or `hf auth login`. It is not written to run.json."""


def is_hub_id(path_or_id: str | os.PathLike[str]) -> bool:
    """Whether this names a repository on the Hub: `owner/name`, and nothing of that name is here."""
    text = os.fspath(path_or_id)
    return _HUB_ID.fullmatch(text) is not None and ".." not in text and not Path(text).exists()


def resolve(
    path_or_id: str | os.PathLike[str],
    *,
    kind: Kind = "model",
    revision: str | None = None,
    files: Sequence[str] | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder (or file) of what a user names.

    Args:
        path_or_id: a path, which is given back unchanged, or a Hub id, whose files are downloaded into the cache.
        revision: branch, tag or commit on the Hub.
        files: patterns of the files that are needed, such as `vae/*`; all when None.
        local_files_only: ask the cache alone.
    Raises:
        FileNotFoundError: no such repository or revision, or not in the cache while the Hub cannot be reached.
        PermissionError: the token is missing, wrong or not allowed to read this.
        ValueError: a revision of something that is not on the Hub.
    """
    if not is_hub_id(path_or_id):
        if revision is not None and Path(path_or_id).exists():
            raise ValueError(f"--revision {revision} is for Hub ids; {path_or_id} is a path of this machine")
        return Path(path_or_id)
    from huggingface_hub import HfApi

    repo_id = os.fspath(path_or_id)
    with clear_errors(repo_id, kind, revision):
        folder = HfApi(token=token).snapshot_download(
            repo_id, repo_type=kind, revision=revision, allow_patterns=None if files is None else list(files),
            cache_dir=cache_dir, local_files_only=local_files_only,
        )  # fmt: skip
    return Path(folder)


def resolve_file(
    path_or_id: str | os.PathLike[str], pattern: str, *, revision: str | None = None, token: str | None = None
) -> Path:
    """A single file: a path, `owner/name/file`, or `owner/name` of a repository with one file of this pattern.

    Raises:
        FileNotFoundError, PermissionError: as `resolve`; also none or several files of the pattern.
    """
    text = os.fspath(path_or_id)
    repo_id, file = "/".join(text.split("/")[:2]), "/".join(text.split("/")[2:])
    if Path(text).exists() or not is_hub_id(repo_id):
        return resolve(text, revision=revision)
    folder = resolve(repo_id, revision=revision, files=[file or pattern], token=token)
    found = [folder / file] if file else sorted(folder.glob(pattern))
    found = [path for path in found if path.is_file()]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise FileNotFoundError(
            f"{repo_id} on the Hub: expected one file {file or pattern!r}, it has {names}; name one as {repo_id}/<file>"
        )
    return found[0]


def resolve_dataset(
    path_or_id: str | os.PathLike[str],
    *,
    revision: str | None = None,
    streaming: bool = False,
    token: str | None = None,
) -> Path:
    """The folder of an episode dataset.

    Args:
        streaming: of a dataset on the Hub download the index alone; episodes are then fetched file by file as they are
            read, checked and not kept (`read_bytes`).
    Raises:
        FileNotFoundError, PermissionError: as `resolve`.
    """
    files = DATASET_INDEX if streaming else None
    return resolve(path_or_id, kind="dataset", revision=revision, files=files, token=token)


def component_files(folders: Sequence[str], variant: str | None = None) -> list[str]:
    """Patterns of a diffusers component's config and weights in one of `folders` (`""` is the top), of one variant.

    Repositories such as Stable Diffusion's hold the same weights in many forms; these are the ones that are read.
    """
    suffix = "" if variant is None else f".{variant}"
    names = (
        "config.json", f"{WEIGHTS}{suffix}.safetensors", f"{WEIGHTS}{suffix}-*.safetensors",
        f"{WEIGHTS}.safetensors.index{suffix}.json",
    )  # fmt: skip
    return [f"{folder}/{name}" if folder else name for folder in folders for name in names]


def read_bytes(path: Path) -> bytes:
    """A file's bytes; one that a downloaded snapshot lacks is fetched from the Hub, and not kept.

    So a dataset of which `resolve` was asked for the index alone streams: file by file, each when it is needed, of the
    very commit that the index is of.

    Raises:
        FileNotFoundError: not here, and not there or not to be reached.
    """
    match = None if path.is_file() else _SNAPSHOT.search(path.as_posix())
    if match is None:
        return path.read_bytes()
    from huggingface_hub import HfFileSystem, constants

    kind, owner, name, commit, file = match.groups()
    repo_id = f"{owner}/{name}"
    if constants.HF_HUB_OFFLINE:
        raise FileNotFoundError(f"{repo_id}: {file} is not in the cache, and HF_HUB_OFFLINE=1 forbids to fetch it")
    where = f"{'datasets/' if kind == 'dataset' else ''}{repo_id}@{commit}/{file}"
    with clear_errors(repo_id, "dataset" if kind == "dataset" else "model", commit):
        data: bytes = HfFileSystem(skip_instance_cache=True).cat_file(where)
    return data


def open_repository(config: HubConfig, kind: Kind, fallback_name: str) -> str | None:
    """Make the repository before hours of work go into what shall stand there; None when nothing is to be pushed.

    Args:
        fallback_name: of the repository where the config names none.
    Returns:
        Its full id, `owner/name`.
    Raises:
        PermissionError: no token, or one that may not write there.
        ValueError: the repository is public and a private one was asked for.
        ConnectionError: the Hub cannot be reached.
    """
    if not config.push_to_hub:
        return None
    from huggingface_hub import HfApi

    api = HfApi(token=config.hub_token)
    wanted = config.hub_model_id or fallback_name
    with clear_errors(wanted, kind, None):
        repo_id = str(api.create_repo(wanted, repo_type=kind, private=config.hub_private_repo, exist_ok=True).repo_id)
        if config.hub_private_repo and not api.repo_info(repo_id, repo_type=kind).private:
            raise ValueError(
                f"{repo_id} is a public {kind} on the Hub: --hub_private_repo needs another --hub_model_id"
            )
    return repo_id


def push(
    folder: str | Path,
    repo_id: str,
    *,
    kind: Kind = "model",
    message: str,
    only: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    replace: Sequence[str] = (),
    token: str | None = None,
) -> str:
    """Upload a folder in one commit: all of it or nothing.

    Args:
        only: patterns of files to upload; all when None.
        ignore: patterns of files to leave out, besides `NEVER_PUSHED`.
        replace: patterns of files there that are removed when they are not here any more.
    Returns:
        The commit's address.
    Raises:
        FileNotFoundError, PermissionError, ConnectionError: in one sentence.
    """
    from huggingface_hub import HfApi

    with clear_errors(repo_id, kind, None), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
        commit = HfApi(token=token).upload_folder(
            repo_id=repo_id, repo_type=kind, folder_path=folder, commit_message=message,
            allow_patterns=None if only is None else list(only), ignore_patterns=[*NEVER_PUSHED, *ignore],
            delete_patterns=list(replace) or None,
        )  # fmt: skip
    return str(commit.commit_url)


def pushed_files(folder: str | os.PathLike[str], ignore: Sequence[str] = ()) -> list[str]:
    """Names of the files that `push` would upload, relative to the folder."""
    names = sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
    return [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in (*NEVER_PUSHED, *ignore))]


@contextlib.contextmanager
def clear_errors(repo_id: str, kind: Kind, revision: str | None) -> Iterator[None]:
    """Turn the Hub client's errors into one sentence: what was asked for, what is wrong, what to do."""
    from huggingface_hub import constants, errors

    what = f"{repo_id} ({kind} on {constants.ENDPOINT}{f', revision {revision}' if revision else ''})"
    unreachable: type[Exception] = errors.HfHubHTTPError.__bases__[0]  # of the HTTP client, whichever that is
    login = "log in with `hf auth login`, set HF_TOKEN or give --hub_token"
    try:
        yield
    except errors.GatedRepoError as error:
        raise PermissionError(f"{what}: accept its conditions on its page first, and {login}") from error
    except errors.RepositoryNotFoundError as error:
        hint = f"; there is no such folder here either. Check the spelling; if it is private, {login}"
        raise FileNotFoundError(f"{what} does not exist{hint}") from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f"{what}: the repository has no such branch, tag or commit") from error
    except errors.LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"{what} is not (wholly) in the cache and the Hub was not asked or could not be reached: connect, or unset "
            f"HF_HUB_OFFLINE; there is no folder {repo_id!r} here either"
        ) from error
    except errors.EntryNotFoundError as error:
        raise FileNotFoundError(f"{what} lacks a file that is needed: {_first_line(error)}") from error
    except errors.LocalTokenNotFoundError as error:
        raise PermissionError(f"{what}: no token was found; {login}") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise PermissionError(f"{what}: the token is missing or may not do this ({status}); {login}") from error
        raise ConnectionError(f"{what}: the Hub answered {status}: {_first_line(error)}") from error
    except errors.OfflineModeIsEnabled as error:
        raise ConnectionError(f"{what}: HF_HUB_OFFLINE=1 is set; unset it to reach the Hub") from error
    except unreachable as error:
        raise ConnectionError(f"{what}: the Hub cannot be reached: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
