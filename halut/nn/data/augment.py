"""Training images, varied."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Shifts"]


@dataclass(frozen=True, kw_only=True)
class Shifts:
    """Augmentation: images move by whole pixels, what comes in is black; and are mirrored.

    Parameters
    ----------
    pixels : int, default 0
        Largest shift in each direction.
    flip : bool, default False
        Mirror every second image, at random, left to right.

    Examples
    --------
    >>> images = torch.ones(2, 1, 4, 4)
    >>> moved = Shifts(pixels=1)(images, torch.Generator().manual_seed(0), torch.zeros(1))
    >>> moved.shape
    torch.Size([2, 1, 4, 4])
    """

    pixels: int = 0
    flip: bool = False

    def __call__(
        self, images: Tensor, generator: torch.Generator, black: Tensor, part: slice = slice(None)
    ) -> Tensor:
        """Return changed copies of ``images[part]``.

        The random numbers are those of the whole batch, so that processes that share a batch draw
        alike.

        Parameters
        ----------
        images : Tensor of shape (n_images, n_channels, height, width)
            Of any other shape where nothing is to be changed.
        generator : torch.Generator
            On the processor; drawn from even when nothing is changed.
        black : Tensor of shape (n_channels,)
            What comes in.
        part : slice
            Images to return.
        """
        n_images = len(images)
        numbers = torch.randint(0, 2 * self.pixels + 1, (2, n_images, 1), generator=generator)
        mirrored = torch.randint(0, 2, (n_images, 1), generator=generator).bool()
        images = images[part]
        if not self.pixels and not self.flip:
            return images
        height, width = images.shape[2:]
        device = images.device
        down, right = (number[part].to(device) for number in numbers)
        columns = torch.arange(width, device=device).expand(len(images), width)
        if self.flip:
            columns = torch.where(mirrored[part].to(device), width - 1 - columns, columns)
        pad = self.pixels
        size = (*images.shape[:2], height + 2 * pad, width + 2 * pad)
        padded = black.to(images).view(1, -1, 1, 1).expand(size).contiguous()
        padded[:, :, pad : pad + height, pad : pad + width] = images
        rows = torch.arange(height, device=device) + down  # (n_images, height)
        columns = columns + right  # (n_images, width)
        first = torch.arange(len(images), device=device).view(-1, 1, 1)
        # Indices around the slice put the channels last: (n_images, height, width, n_channels).
        moved = padded[first, :, rows.unsqueeze(2), columns.unsqueeze(1)]
        return moved.permute(0, 3, 1, 2).contiguous()
