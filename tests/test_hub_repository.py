"""Pull and push against a Hub that answers: files, revisions, tokens, caches, and every way in which it can fail."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from gamengen.hub.repository import (
    HubConfig,
    component_files,
    is_hub_id,
    open_repository,
    push,
    pushed_files,
    read_bytes,
    resolve,
    resolve_file,
)
from tests.hub_client import use_hub
from tests.loopback_hub import READ_TOKEN, LoopbackHub

BIG = bytes(range(256)) * 40
"""More than a small file: goes through LFS."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "made"
    (path / "unet").mkdir(parents=True)
    (path / "unet" / "weights.bin").write_bytes(BIG)
    (path / "config.json").write_text("{}")
    (path / "half.tmp").mkdir()
    (path / "half.tmp" / "weights.bin").write_bytes(BIG)
    (path / ".lock").touch()
    return path


def pushed(folder: Path, name: str = "world", **flags: object) -> str:
    config = HubConfig(push_to_hub=True, hub_model_id=name, **flags)
    repo_id = open_repository(config, "model", "unused")
    assert repo_id is not None
    push(folder, repo_id, message="first")
    return repo_id


def test_what_was_pushed_comes_back_and_what_was_unfinished_was_not_pushed(hub: LoopbackHub, folder: Path) -> None:
    repo_id = pushed(folder)
    assert repo_id == "tester/world"
    there = resolve(repo_id)
    assert (there / "unet/weights.bin").read_bytes() == BIG
    assert set(hub.files(repo_id)) == {".gitattributes", "config.json", "unet/weights.bin"}
    assert pushed_files(folder) == ["config.json", "unet/weights.bin"]
    assert hub.files(repo_id)["unet/weights.bin"].lfs and not hub.files(repo_id)["config.json"].lfs


def test_a_push_is_one_commit_and_removes_what_it_replaces(hub: LoopbackHub, folder: Path) -> None:
    repo_id = pushed(folder)
    (folder / "unet/weights.bin").unlink()
    (folder / "unet/other.bin").write_bytes(b"other")
    before = len(hub.repositories["model", repo_id].commits)
    push(folder, repo_id, message="second", replace=["*"])
    assert len(hub.repositories["model", repo_id].commits) == before + 1
    assert set(hub.files(repo_id)) == {".gitattributes", "config.json", "unet/other.bin"}


def test_revisions_are_commits_and_tags(hub: LoopbackHub, folder: Path) -> None:
    repo_id = pushed(folder)
    first = HfApi().repo_info(repo_id).sha
    HfApi().create_tag(repo_id, tag="v1")
    (folder / "config.json").write_text('{"second": 2}')
    push(folder, repo_id, message="second")
    assert (resolve(repo_id) / "config.json").read_text() == '{"second": 2}'
    for revision in (first, "v1"):
        assert (resolve(repo_id, revision=revision) / "config.json").read_text() == "{}"
    with pytest.raises(FileNotFoundError, match="revision v2.*no such branch, tag or commit"):
        resolve(repo_id, revision="v2")


def test_only_the_files_that_are_needed_are_downloaded(hub: LoopbackHub, folder: Path) -> None:
    repo_id = pushed(folder)
    there = resolve(repo_id, files=["config.json"])
    assert (there / "config.json").is_file() and not (there / "unet").exists()
    assert not hub.requests("weights.bin")


def test_a_streamed_file_is_read_at_its_commit_and_not_kept(hub: LoopbackHub, folder: Path) -> None:
    repo_id = pushed(folder)
    there, first = resolve(repo_id, files=["config.json"]), hub.repositories["model", repo_id].commits[-1][0]
    (folder / "unet/weights.bin").write_bytes(b"newer")
    push(folder, repo_id, message="second")
    assert read_bytes(there / "unet/weights.bin") == BIG
    assert not (there / "unet").exists()
    assert any(first in request.path for request in hub.requests("weights.bin") if request.method == "GET")
    assert read_bytes(there / "config.json") == b"{}"


def test_streaming_what_is_not_there_names_it(hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = resolve(pushed(folder), files=["config.json"])
    with pytest.raises(FileNotFoundError, match=r"absent\.bin"):
        read_bytes(there / "absent.bin")
    with pytest.raises(FileNotFoundError, match="plain.bin"):
        read_bytes(folder / "plain.bin")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE=1 forbids"):
        read_bytes(there / "unet/weights.bin")


def test_what_is_cached_is_used_offline_and_when_the_network_is_dead(
    hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo_id = pushed(folder)
    there = resolve(repo_id)
    hub.stop()
    assert resolve(repo_id) == there
    assert resolve(repo_id, local_files_only=True) == there
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve(repo_id) == there
    for other in ("tester/another", "runs/never-made"):
        with pytest.raises(FileNotFoundError, match=f"{other}.*is not .wholly. in the cache.*no folder '{other}' here"):
            resolve(other)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE=1 is set"):
        pushed(folder)


def test_a_part_in_the_cache_is_not_taken_for_the_whole(hub: LoopbackHub, folder: Path) -> None:
    repo_id = pushed(folder)
    resolve(repo_id, files=["config.json"])
    hub.stop()
    assert resolve(repo_id, files=["config.json"]).is_dir()
    with pytest.raises(FileNotFoundError, match="is not .wholly. in the cache"):
        resolve(repo_id)


def test_nobody_to_push_to(hub: LoopbackHub, folder: Path) -> None:
    hub.stop()
    with pytest.raises(ConnectionError, match="cannot be reached"):
        pushed(folder)


@pytest.mark.parametrize("token", [None, "hf_write"])
def test_a_missing_repository_is_one_sentence(hub: LoopbackHub, monkeypatch, tmp_path: Path, token: str | None) -> None:
    use_hub(monkeypatch, hub, tmp_path / "other", token)
    with pytest.raises(FileNotFoundError, match="tester/absent .model on http.*does not exist.*hf auth login"):
        resolve("tester/absent")


def test_tokens(hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    repo_id = pushed(folder, hub_private_repo=True)
    assert hub.repositories["model", repo_id].private
    use_hub(monkeypatch, hub, tmp_path / "nobody", None)
    with pytest.raises(FileNotFoundError, match="if it is private, log in"):
        resolve(repo_id)
    with pytest.raises(PermissionError, match="hf auth login"):
        pushed(folder, "mine")
    use_hub(monkeypatch, hub, tmp_path / "wrong", "hf_wrong")
    with pytest.raises(PermissionError, match="the token is missing or may not do this .401"):
        resolve(repo_id)
    use_hub(monkeypatch, hub, tmp_path / "reader", READ_TOKEN)
    assert (resolve(repo_id) / "config.json").is_file()
    with pytest.raises(PermissionError, match="may not do this .403"):
        pushed(folder, "mine")
    with pytest.raises(PermissionError, match="may not do this .403"):
        push(folder, repo_id, message="not allowed")


def test_a_token_given_as_a_flag_is_used(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_hub(monkeypatch, hub, tmp_path / "nobody", None)
    assert open_repository(HubConfig(push_to_hub=True, hub_token="hf_write"), "dataset", "pong") == "tester/pong"


def test_private_is_not_silently_public(hub: LoopbackHub, folder: Path) -> None:
    pushed(folder)
    with pytest.raises(ValueError, match="tester/world is a public model"):
        pushed(folder, hub_private_repo=True)


def test_foreign_namespaces_are_refused(hub: LoopbackHub, folder: Path) -> None:
    with pytest.raises(PermissionError, match="somebody/world"):
        pushed(folder, "somebody/world")


def test_nothing_is_made_without_the_flag() -> None:
    assert open_repository(HubConfig(hub_model_id="tester/world"), "model", "x") is None


def test_a_single_file_of_a_repository(hub: LoopbackHub, folder: Path) -> None:
    (folder / "ppo.zip").write_bytes(b"zip")
    repo_id = pushed(folder, "agent")
    assert resolve_file(repo_id, "*.zip").read_bytes() == b"zip"
    assert resolve_file(f"{repo_id}/unet/weights.bin", "*.zip").read_bytes() == BIG
    assert not hub.requests("config.json")
    (folder / "dqn.zip").write_bytes(b"zip")
    push(folder, repo_id, message="two")
    with pytest.raises(FileNotFoundError, match=r"one file '\*\.zip', it has dqn\.zip, ppo\.zip"):
        resolve_file(repo_id, "*.zip")
    with pytest.raises(FileNotFoundError, match="it has none"):
        resolve_file(f"{repo_id}/absent.zip", "*.zip")
    assert resolve_file(folder / "ppo.zip", "*.zip") == folder / "ppo.zip"


def test_paths_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No call to the Hub: there is none here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/demo").mkdir(parents=True)
    for path in ("runs/demo", "./runs/absent", "/absent/folder", "absent", "a/b/c", "../x", str(tmp_path)):
        assert resolve(path) == Path(path) and not is_hub_id(path)
    with pytest.raises(ValueError, match="--revision v1 is for Hub ids; runs/demo is a path"):
        resolve("runs/demo", revision="v1")
    assert is_hub_id("CompVis/stable-diffusion-v1-4") and is_hub_id("runs/absent")


def test_a_component_is_its_config_and_one_form_of_its_weights() -> None:
    def chosen(variant: str | None) -> set[str]:
        patterns = component_files(("", "vae"), variant)
        return {name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)}

    names = (
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.safetensors", "model.ckpt", "config.json",
        "vae/diffusion_pytorch_model-00001-of-00002.safetensors", "vae/diffusion_pytorch_model.safetensors.index.json",
    )  # fmt: skip
    both = {"vae/config.json", "config.json"}
    assert chosen("fp16") == both | {"vae/diffusion_pytorch_model.fp16.safetensors"}
    assert chosen(None) == both | {
        "vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model-00001-of-00002.safetensors",
        "vae/diffusion_pytorch_model.safetensors.index.json",
    }  # fmt: skip
