"""array_statistics: equal to numpy over all rows at once, however they are parted."""

from __future__ import annotations

import numpy as np
import torch

from gamengen.latents.array_statistics import MEDIAN_ROWS, channel_statistics, median_array


def parts(lengths: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    scale, shift = torch.tensor([1.0, 20.0, 0.1]).view(3, 1, 1), torch.tensor([0.0, -300.0, 5.0]).view(3, 1, 1)
    return [(torch.randn((n, 3, 4, 5), generator=generator) * scale + shift).half() for n in lengths]


def test_mean_and_std_equal_numpys() -> None:
    split = parts((7, 1, 40))
    everything = torch.cat(split).double().numpy()
    mean, std = channel_statistics(split)
    np.testing.assert_allclose(mean.numpy(), everything.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std.numpy(), everything.std((0, 2, 3)), rtol=1e-6)
    assert mean.dtype == std.dtype == torch.float32
    again = channel_statistics([torch.cat(split)])
    assert torch.allclose(again[0], mean) and torch.allclose(again[1], std)


def test_a_channel_that_never_changes_divides_by_one() -> None:
    still = torch.full((3, 2, 4, 4), 7.0)
    still[:, 1] = torch.arange(16).view(4, 4)
    mean, std = channel_statistics([still])
    assert float(std[0]) == 1.0 and float(mean[0]) == 7.0 and float(std[1]) > 1


def test_bytes_are_counted_like_floats() -> None:
    frames = torch.randint(0, 256, (300, 3, 8, 8), dtype=torch.uint8)
    mean, std = channel_statistics([frames[:100], frames[100:]])
    np.testing.assert_allclose(mean.numpy(), frames.double().mean((0, 2, 3)).numpy(), rtol=1e-6)
    np.testing.assert_allclose(std.numpy(), frames.numpy().astype(float).std((0, 2, 3)), rtol=1e-6)


def test_the_median_is_over_evenly_spaced_rows_of_all_parts() -> None:
    split = parts((4, 9, 2))
    expected = torch.cat(split).float().median(dim=0).values
    assert torch.equal(median_array(split), expected)
    many = [torch.full((n, 1, 1, 1), float(k)) for k, n in enumerate((MEDIAN_ROWS, 3 * MEDIAN_ROWS))]
    assert float(median_array(many)) == 1.0, "the longer part has the say"
