"""R(2+1)D as published: a ResNet whose 3D convolutions are one over space and one over time."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cf_lightning.models.base import TrunkRecipe

if TYPE_CHECKING:
    from cf_lightning.models.trunk import Trunk

BLOCKS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3]}  # of two convolutions each, in four stages


class R2Plus1D(TrunkRecipe):
    """R(2+1)D (Tran et al. 2018, "A Closer Look at Spatiotemporal Convolutions for Action Recognition").

    Every convolution of the blocks has the middle width of section 3.5 (``middle_width``). torchvision's
    ``r2plus1d_18`` has not: the second convolution in the first block of stages 2 to 4 gets the width of the
    block's first one there (230 in place of 288, 460 for 576, 921 for 1152), so that it has 31.5 M weights
    and not the 33.3 M of R3D-18. Names of the weights are torchvision's, and those of the public IG-65M
    weights of R(2+1)D-34.

    Two things are not the rule's but the authors' code's (VMZ): the stem, 3x7x7 of 3 to 64 channels, has 45
    middle channels (torchvision's stem, too; the rule says 83), and batch normalisation has eps=0.001.
    Mean and std are those of torchvision's R(2+1)D-18, Kinetics'.

    Attributes:
        depth: 18 or 34 layers; the paper's video experiments have 34.
    """

    TAKES: ClassVar[str] = "clips"

    depth: Literal[18, 34] = 34

    def build(self) -> "Trunk":
        """The trunk with random weights from torch's global generator; D = 512."""
        from torch import nn
        from torchvision.models.video import R2Plus1D_18_Weights
        from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet

        from cf_lightning.models.trunk import Trunk

        class Factorised(Conv2Plus1D):  # type: ignore[misc]
            """Of the width that its own channels give, not the one that the block proposes."""

            def __init__(self, before: int, after: int, proposed: int, stride: int = 1) -> None:
                super().__init__(before, after, middle_width(before, after), stride)

        network = VideoResNet(BasicBlock, [Factorised] * 4, BLOCKS[self.depth], R2Plus1dStem)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eps = 1e-3
        feature_dim = network.fc.in_features
        network.fc = nn.Identity()
        preset = R2Plus1D_18_Weights.DEFAULT.transforms()
        return Trunk(network, feature_dim, preset.mean, preset.std, clips=True)


def middle_width(before: int, after: int, t: int = 3, d: int = 3) -> int:
    """Channels between 1 x d x d and t x 1 x 1 that give both the weights of one t x d x d (section 3.5).

    Args:
        before: channels of the input, N_{i-1}.
        after: channels of the output, N_i.
        t: frames of the kernel.
        d: height and width of the kernel.
    """
    return t * d**2 * before * after // (d**2 * before + t * after)
