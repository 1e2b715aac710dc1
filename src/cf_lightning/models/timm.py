"""Any timm network as a trunk, by name."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from cf_lightning.errors import ConfigError
from cf_lightning.models.base import TrunkRecipe, unfetched

if TYPE_CHECKING:
    from torch import nn

    from cf_lightning.models.trunk import Trunk

FILE = "model.safetensors"  # the file of the hub that holds a network's weights


class TimmTrunk(TrunkRecipe):
    """A network of ``timm`` without its classifier, convolutional or a transformer.

    Transformers take images of any size where timm can give them that: position embeddings are
    interpolated, and images that are no multiple of the patch are padded.

    Attributes:
        name: as in ``timm.list_models()``, such as ``vit_small_patch16_224``; a tag of weights may
            follow, as in ``resnet50.a1_in1k``.
        pool: ``auto`` is what the network's own classifier reads; of a transformer, ``cls`` is its class
            token and ``mean`` the mean of its patch tokens, after its last normalisation.
        image_size: that a network is built for which takes one size only; null is its own.
    """

    name: str = "resnet50"
    pool: Literal["auto", "cls", "mean"] = "auto"
    image_size: int | None = Field(default=None, ge=1)

    def build(self) -> "Trunk":
        """The trunk with random weights from torch's global generator; mean and std are the network's.

        Raises:
            ConfigError: no such network, or it has not the tokens that ``pool`` asks for.
        """
        return self._trunk()

    def pretrained(self, weights: str) -> "tuple[Trunk, str]":
        """The trunk with the weights that its name says: the name's tag, or timm's choice where it has none.

        They are looked for in the hub's cache (``HF_HOME``) first.
        """
        import timm

        self._check_name()
        architecture, _, tag = self.name.partition(".")
        tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
        if weights != "DEFAULT":
            raise ConfigError(
                f"teacher.weights={weights}: timm has tags in the name: {architecture}.{weights}"
            )
        if not timm.is_model_pretrained(self.name) or (tag and tag not in tags):
            raise ConfigError(f"model.name={self.name}: timm has weights {', '.join(tags) or 'none'}")
        cfg: Any = timm.get_pretrained_cfg(self.name)
        loading = {"file": _fetched(self.name, cfg.hf_hub_id), "custom_load": False}
        return self._trunk(pretrained=True, pretrained_cfg_overlay=loading), cfg.tag

    def _check_name(self) -> None:
        import difflib

        import timm

        if not timm.is_model(self.name):
            names = timm.list_models()
            close = difflib.get_close_matches(self.name.partition(".")[0], names, n=3) or names[:3]
            raise ConfigError(f"model.name={self.name}: not a network of timm; near: {close}")

    def _trunk(self, **loading: Any) -> "Trunk":
        import timm
        import torch

        from cf_lightning.models.input_size import watch_size
        from cf_lightning.models.trunk import Trunk

        self._check_name()
        with torch.device("meta"):
            settings = self._sizes(timm.create_model(self.name))
        network: Any = timm.create_model(self.name, num_classes=0, **settings, **loading)
        if not hasattr(network, "reset_classifier"):
            raise ConfigError(f"model.name={self.name}: an encoder without a pooled feature")
        self._choose_pool(network)
        cfg = network.pretrained_cfg
        if cfg["fixed_input_size"]:
            made_for = (self.image_size,) * 2 if self.image_size else cfg["input_size"][1:]
            watch_size(
                network,
                made_for,
                lambda: timm.create_model(self.name, num_classes=0, **settings),
                f"set image_size of {self.name} or, where timm cannot, data.view.crop={made_for[0]}",
            )
        return Trunk(network, network.head_hidden_size, cfg["mean"], cfg["std"])

    def _sizes(self, network: "nn.Module") -> dict[str, Any]:
        """The settings for images of other sizes that the class of ``network`` has."""
        import inspect

        has = {name for kind in type(network).__mro__ for name in inspect.signature(kind).parameters}
        sizes: dict[str, Any] = {
            name: True for name in ("dynamic_img_size", "dynamic_img_pad") if name in has
        }
        if self.image_size is not None:
            if "img_size" not in has:
                raise ConfigError(
                    f"model.image_size={self.image_size}: {self.name} is of one size or of any; leave it null"
                )
            sizes["img_size"] = self.image_size
        return sizes

    def _choose_pool(self, network: Any) -> None:
        if self.pool == "auto":
            return
        has_tokens = (
            isinstance(getattr(network, "global_pool", None), str)
            and getattr(network, "num_prefix_tokens", None) is not None
            and not hasattr(network, "head_dist")  # two class tokens, whatever global_pool says
        )
        if not has_tokens or (self.pool == "cls" and getattr(network, "cls_token", None) is None):
            kind = "class token" if self.pool == "cls" else "patch tokens"
            raise ConfigError(f"model.pool={self.pool}: {self.name} has no {kind} to take; pool=auto works")
        if getattr(network, "attn_pool", None) is not None:
            network.attn_pool = None
        network.global_pool = "token" if self.pool == "cls" else "avg"


def _fetched(name: str, repository: str | None) -> str:
    """The file of safetensors, from the hub's cache or the hub."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    if repository is None:
        raise ConfigError(f"model.name={name}: timm has no safetensors of it; use teacher=file")
    cached = try_to_load_from_cache(repository, FILE)
    if isinstance(cached, str):
        return cached
    try:
        get_hf_file_metadata(hf_hub_url(repository, FILE))  # fails at once; the download tries for a minute
        return hf_hub_download(repository, FILE)
    except Exception as error:  # of whichever HTTP library the client has
        raise unfetched(f"{name} of timm", error) from error
