"""Any torchvision video network as a trunk, by name."""

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from cf_lightning.errors import ConfigError
from cf_lightning.models.torchvision import TorchvisionTrunk, check_name, remove_classifier

if TYPE_CHECKING:
    from torch import nn

    from cf_lightning.models.trunk import Trunk


class TorchvisionVideoTrunk(TorchvisionTrunk):
    """A network of ``torchvision.models.video`` without its classifier.

    R3D, MC3, R(2+1)D and Video Swin take clips of any length and size, S3D at least 14 frames of 224 px.
    MViT is built for one shape: its position embeddings belong to one grid.

    Attributes:
        name: ``r3d_18``, ``mc3_18``, ``r2plus1d_18``, ``s3d``, ``swin3d_t``, ``swin3d_s``, ``swin3d_b``,
            ``mvit_v1_b`` or ``mvit_v2_s``.
        image_size: height and width that an MViT is built for, in pixels; null is its own, 224.
        frames: length of the clips that an MViT is built for; null is its own, 16.
    """

    TAKES: ClassVar[str] = "clips"

    name: str = "r2plus1d_18"
    image_size: int | None = Field(default=None, ge=32, multiple_of=4)  # an MViT's tokens are 2x4x4
    frames: int | None = Field(default=None, ge=2, multiple_of=2)

    def build(self) -> "Trunk":
        """The trunk with random weights from torch's global generator, mean and std of the published ones.

        Raises:
            ConfigError: no such network, or a size for a network that has no use for it.
        """
        from torch import nn
        from torchvision import models

        from cf_lightning.models.input_size import watch_size
        from cf_lightning.models.trunk import Trunk

        check_name(self.name, models.video)
        published = models.get_model_weights(self.name).DEFAULT
        shape = (published.meta.get("min_temporal_size", 1), *published.meta["min_size"])
        if self.name.startswith("mvit"):
            frames, side = self.frames or shape[0], self.image_size or shape[1]
            network = _mvit(self.name, frames, side)
            advice = f"set frames and image_size of {self.name}, or data.view.frames and data.view.crop"
            watch_size(network, (frames, side, side), None, advice)
        else:
            self._refuse_sizes()
            network = models.get_model(self.name)
        # the classifier of S3D is a convolution of 1x1x1, which the mean over the map follows
        feature_dim = remove_classifier(network, nn.Conv3d if self.name == "s3d" else nn.Linear)
        if self.name == "s3d":
            advice = "set data.view.frames and data.view.crop to these or more"
            watch_size(network, shape, lambda: models.get_model(self.name), advice)
        preset = published.transforms()
        return Trunk(network, feature_dim, preset.mean, preset.std, clips=True)

    def _refuse_sizes(self) -> None:
        for setting in ("image_size", "frames"):
            value = getattr(self, setting)
            if value is not None:
                raise ConfigError(
                    f"model.{setting}={value}: {self.name} is not built for one size; leave it null"
                )


def _mvit(name: str, frames: int, side: int) -> "nn.Module":
    """An MViT for clips of a shape: torchvision's functions know its blocks, but take no shape."""
    import torch
    from torchvision import models
    from torchvision.models.video.mvit import MultiscaleBlock

    blocks: list[dict[str, Any]] = []

    def listed(**settings: Any) -> "nn.Module":
        blocks.append(settings)
        block: nn.Module = MultiscaleBlock(**settings)
        return block

    with torch.device("meta"):
        models.get_model(name, block=listed)
    same = ("residual_pool", "residual_with_cls_embed", "rel_pos_embed", "proj_after_attn")
    network: nn.Module = models.video.MViT(
        (side, side),
        frames,
        [block["cnf"] for block in blocks],
        stochastic_depth_prob=blocks[-1]["stochastic_depth_prob"],  # grows up to the network's
        **{setting: blocks[-1][setting] for setting in same},
    )
    return network
